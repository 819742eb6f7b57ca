"""`label_photos` from photos and tags to predictions: whole and in part."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rendered_photos import SIZE_HW, TAGS, label, made, small_options, write_photos

from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, read_indexed_png
from pixelkin.pipelines.weak_labels import STAGES, Extent, Machine
from pixelkin.pipelines.weak_labels.run import ONCE_FIXED, write_problems
from pixelkin.pipelines.weak_labels.workspace import Workspace
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.semantic import Balance

pytest.importorskip("lightning")

TAGGED = [*TAGS, "black"]


# A whole run


def test_every_stage_tells_how_far_it_is(whole):
    told = [step for step in (whole / "told.txt").read_text().split("\n") if step]
    for stage, total in [("photos", 10), ("activations", 9), ("regions", 9), ("walk", 9),
                         ("predictions", 10)]:  # fmt: skip
        assert [step for step in told if step.split()[0] == stage] == [
            f"{stage} {done} {total}" for done in range(total + 1)
        ]


def test_all_stages_are_done(whole):
    assert all(Workspace(whole).is_done(stage) for stage in STAGES)
    found = set(made(whole))
    assert {f"labels/{name}.png" for name in TAGGED} <= found
    # A photo without tags is no label, but is predicted.
    assert "labels/a8.png" not in found
    assert {f"predictions/{name}.png" for name in [*TAGGED, "a8"]} <= found
    assert {f"{room}/model/model.safetensors" for room in
            ("2_classifier", "5_affinity", "7_network")} <= found  # fmt: skip
    assert not list(whole.rglob(".*"))
    text = (whole / "problems.txt").read_text()
    assert "image a5 has no tag" in text
    assert "image a8 is not listed" in text


def test_maps_are_of_the_photos_own_sizes_and_of_their_tags_alone(whole):
    numbers = {"disc": 1, "square": 2}
    for name in TAGGED:
        labels = read_indexed_png(whole / "labels" / f"{name}.png")
        assert labels.shape == ((96, 64) if name == "black" else SIZE_HW)
        allowed = {numbers[tag] for tag in TAGS.get(name, ("square",))}
        assert set(np.unique(labels)) <= {0, *allowed}
        regions = read_indexed_png(whole / "4_regions" / f"{name}.png")
        assert set(np.unique(regions)) <= {0, 255, *allowed}
        predicted = read_indexed_png(whole / "predictions" / f"{name}.png")
        assert predicted.shape == labels.shape
        assert set(np.unique(predicted)) <= {0, *allowed}
    assert read_indexed_png(whole / "predictions" / "a8.png").shape == SIZE_HW


def test_the_coco_file_opens_with_the_photos(whole, root):
    source = CocoJson(whole / "labels" / "labels.json", root / "photos")
    assert source.names == sorted(TAGGED)
    assert source.class_names == ("disc", "square")
    for index, name in enumerate(source.names):
        sample = source[index]
        own = np.array(Image.open(root / "photos" / f"{name}.png"))
        np.testing.assert_array_equal(sample.image, own)
        labels = np.zeros(sample.size_hw, np.uint8)
        for one in sample.instances:
            labels[decode_rle(one.rle, sample.size_hw)] = one.category + 1
        np.testing.assert_array_equal(labels, read_indexed_png(whole / "labels" / f"{name}.png"))


def test_the_models_run_alone(whole, root):
    from pixelkin.semantic.checkpoints import load_semantic_segmenter

    segmenter = load_semantic_segmenter(whole / "7_network" / "model", device="cpu")
    assert segmenter.class_names == ("background", "disc", "square")
    labels = segmenter.segment(np.array(Image.open(root / "photos" / "a0.png")))
    assert labels.shape == SIZE_HW


# Parts of a run


def test_one_stage_alone_and_until_one(until, root):
    out = until("regions")
    with pytest.raises(PixelkinError, match="walk needs the stage affinity, which is not comp"):
        label(root, out, extent=Extent(only="walk"))
    workspace = Workspace(out)
    label(root, out, extent=Extent(only="regions"))
    assert [workspace.is_done(stage) for stage in ("regions", "affinity")] == [True, False]
    label(root, out, extent=Extent(until="affinity"))
    assert [workspace.is_done(stage) for stage in ("affinity", "walk")] == [True, False]
    assert not (out / "labels").exists()
    for extent in (Extent(only="wlak"), Extent(until="x"), Extent(again="walked")):
        with pytest.raises(PixelkinError, match=r"there is no stage '.*': expected photos, cla"):
            label(root, out, extent=extent)


def test_again_makes_a_stage_and_all_after_it_anew(until, whole, root):
    out = until("network")
    before = {path.name: path.stat().st_ino for path in (out / "labels").glob("*.png")}
    fewer = small_options(walk=replace(small_options().walk, steps=1))
    extent = Extent(again="walk", until="walk")
    label(root, out, options=fewer, extent=extent)
    after = {path.name: path.stat().st_ino for path in (out / "labels").glob("*.png")}
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    maps, _ = Workspace(out).read_maps("walk", "a0")
    old, _ = Workspace(whole).read_maps("walk", "a0")
    assert not np.allclose(maps, old, atol=1e-3)
    # Its picture is another one too.
    pictures = [(folder / "report" / "00000_walk.jpg").read_bytes() for folder in (out, whole)]
    assert pictures[0] != pictures[1]
    # Another activation is no matter of the walk: what was kept would not fit.
    other = replace(fewer, long_side_px=96)
    with pytest.raises(PixelkinError, match=r"long_side_px 64, now it is 96; .* --again photos"):
        label(root, out, options=other, extent=extent)
    assert Workspace(out).is_done("walk")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, "seed 0, now it is 1; .* --again classifier"),
        ({"classes": ["square"]}, r"class_names \[\"disc\", .* --again classifier"),
        ({"options": small_options(crf=replace(small_options().crf, iterations=3))},
         "crf.iterations 1, now it is 3; .* --again regions"),
        ({"options": small_options(walk=replace(small_options().walk, radius=4))},
         "walk.radius 5, now it is 4; .* --again affinity"),
        ({"options": small_options(affinity=replace(small_options().affinity, steps=9))},
         "affinity.steps 3, now it is 9; .* --again affinity"),
        ({"options": small_options(affinity=replace(small_options().affinity, ema_decay=0.5))},
         "affinity.ema_decay 0.0, now it is 0.5; .* --again affinity"),
        ({"options": small_options(windows=Windows(crop_px=256, scale=(0.6, 1.1)))},
         r"network.scale \[0.5, 1.1\], now it is \[0.6, 1.1\]; .* --again network"),
        ({"options": small_options(balance=Balance(class_balance=0.5))},
         "network.class_balance 0.75, now it is 0.5; .* --again network"),
    ],
)  # fmt: skip
def test_changed_options_are_refused_by_name(whole, root, changes, says):
    before = made(whole)
    with pytest.raises(PixelkinError, match=f"holds a run with {says}"):
        label(root, whole, **changes)
    assert made(whole) == before


def forget(out: Path) -> None:
    """Make a run's run.json one of before the options that came later."""
    found = Workspace(out).description()
    for name in ONCE_FIXED:
        training, part = name.split(".")
        found.get(training, {}).pop(part, None)
    Workspace(out).describe(found)


def test_a_run_of_before_the_later_options_goes_on(until, root):
    out = until("predictions")
    forget(out)
    assert Workspace(out).description()["network"].keys() == {
        "steps", "batch_size", "learning_rate", "backbone_rate", "weight_decay", "weights",
        "ema_decay", "validate_every",
    }  # fmt: skip
    before = made(out)
    label(root, out, extent=Extent(until="network"))
    assert made(out) == before
    # Now it names them.
    named = Workspace(out).description()
    assert (named["network"]["scale"], named["affinity"]["ema_decay"]) == ([0.5, 1.1], 0.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"windows": Windows(crop_px=256, scale=(0.5, 2))}, r"scale \[0.5, 1.1\], now it is \[0.5"),
        ({"balance": Balance(class_balance=0.25)}, "class_balance 0.75, now it is 0.25"),
        ({"balance": Balance(0.75, border_weight=10)}, "border_weight 0.0, now it is 10"),
        ({"architecture": "timm-fcn"}, 'architecture "light", now it is "timm-fcn"'),
    ],
)
def test_a_run_of_before_is_told_from_one_of_other_defaults(until, root, changes, says):
    out = until("predictions")
    forget(out)
    with pytest.raises(PixelkinError, match=f"a run with network.{says}.*--again network"):
        label(root, out, options=small_options(**changes))


def test_the_network_learns_from_the_windows_and_weights_asked_for(until, root):
    out = until("predictions")
    asked = small_options(
        windows=Windows(crop_px=64, scale=(0.9, 1.2)), balance=Balance(class_balance=0.25)
    )
    label(root, out, options=asked, extent=Extent(again="network", until="network"))
    trained = json.loads((out / "7_network" / "run.json").read_text())["config"]
    said = Workspace(out).description()["network"]
    for found in (trained, said):
        assert (found["crop_px"], found["scale"]) == (64, [0.9, 1.2])
        assert found["class_balance"] == 0.25


@pytest.mark.parametrize("name", ["timm-fcn", "deeplab-v3-plus", "deeplab-v2"])
def test_another_network_starts_from_the_classifier_too(name, until, root):
    from pixelkin.checkpoint import load_state
    from pixelkin.semantic.checkpoints import load_semantic_segmenter

    out = until("predictions")
    still = replace(small_options().network, batch_size=2, learning_rate=1e-12, ema_decay=0.0)
    asked = small_options(architecture=name, network=still)
    label(root, out, options=asked, extent=Extent(again="network"))
    assert Workspace(out).is_done("predictions")
    assert Workspace(out).description()["network"]["architecture"] == name
    room = out / "7_network" / "model"
    config = json.loads((room / "config.json").read_text())
    assert config["architecture"] == f"semantic_{name.replace('-', '_')}"
    assert load_semantic_segmenter(room, device="cpu").class_names[1:] == ("disc", "square")
    known, started = load_state(out / "2_classifier" / "model"), load_state(room)
    weights = [key for key in known if key.endswith("conv_dw.weight")]
    assert len(weights) > 3
    for key in weights:
        (own,) = (one for one in started if one.endswith(key.removeprefix("backbone.")))
        torch.testing.assert_close(started[own], known[key], rtol=0, atol=1e-6)


def test_changed_photos_and_tags_are_refused(whole, root, tmp_path):
    shutil.copytree(root / "photos", tmp_path / "photos")
    lines = (root / "tags.csv").read_text().splitlines()
    (tmp_path / "tags.csv").write_text("\n".join(reversed(lines)) + "\n")
    # Another order is the same.
    label(tmp_path, whole, extent=Extent(only="photos"))
    (tmp_path / "tags.csv").write_text("\n".join([*lines, "a8,disc"]) + "\n")
    with pytest.raises(PixelkinError, match=r"tags .*of 9 photos.* now it is .*of 10 photos.*--ag"):
        label(tmp_path, whole)
    shutil.copy(root / "tags.csv", tmp_path)
    shutil.copy(root / "photos" / "a0.png", tmp_path / "photos" / "new.png")
    with pytest.raises(PixelkinError, match=r"photos .*10 .* now it is .*11 .*--again photos"):
        label(tmp_path, whole)


@pytest.mark.parametrize(
    "extent",
    [
        Extent(only="network", again="walk"),
        Extent(until="regions", again="walk"),
        Extent(only="walk", again="network"),
    ],
)
def test_a_stage_that_does_not_run_is_not_removed_either(whole, root, extent):
    before = made(whole)
    given = f"--only {extent.only}" if extent.only else "--until regions"
    says = f"--again {extent.again} asks for a stage that {given} does not run: expected [a-z, ]+;"
    with pytest.raises(PixelkinError, match=says) as caught:
        label(root, whole, extent=extent)
    assert "\n" not in str(caught.value)
    assert made(whole) == before


def test_what_would_contradict_or_cannot_be_is_said_before_anything_is_made(root, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(PixelkinError, match="--only walk and --until walk are two answers"):
        label(root, out, extent=Extent(only="walk", until="walk"))
    with pytest.raises(PixelkinError, match=r"device 'cdua' is not available .*--device cpu"):
        label(root, out, machine=Machine("cdua"))
    assert not out.exists()


# What is said


def test_problems_are_those_of_now_with_errors_first(tmp_path):
    said, path = [], tmp_path / "problems.txt"
    write_problems(path, ["warning: a; b", "error: c; d", "warning: e; f"], say=said.append)
    assert path.read_text() == "error: c; d\nwarning: a; b\nwarning: e; f\n"
    write_problems(path, ["warning: g; h"], say=said.append)
    assert path.read_text() == "warning: g; h\n"
    write_problems(path, [], say=said.append)
    assert not path.exists()
    assert said == [
        f"3 problems of tags and photos, the first: error: c; d; all in {path}",
        f"1 problem of tags and photos, the first: warning: g; h; all in {path}",
    ]


def test_a_photo_that_was_replaced_is_told_and_taken_in_where_asked(tmp_path):
    photos, _ = write_photos(tmp_path)
    whole_photo = (photos / "a8.jpg").read_bytes()
    (photos / "a8.jpg").write_bytes(whole_photo[:99])
    out, extent, said = tmp_path / "out", Extent(until="photos"), []
    run = label(tmp_path, out, extent=extent, say=said.append)
    assert "a8" not in run.photos.names
    assert said[0] == "stage 1 of 8: photos"
    assert re.match(r"\d+ problems of tags and photos, the first: error: .*a8.jpg", said[1])
    (photos / "a8.jpg").write_bytes(whole_photo)
    run = label(tmp_path, out, extent=extent, say=said.append)
    assert "a8" not in run.photos.names
    (line,) = [one for one in said if "can be read now" in one]
    assert line.startswith(
        f"photos that were left out, and can be read now: 1, the first {photos / 'a8.jpg'}; give "
        "--again photos"
    )
    text = (out / "problems.txt").read_text()
    assert "error: " not in text
    assert "a8.jpg: was left out, and can be read now" in text
    assert said.count("stage 1 of 8: photos") == 1
    run = label(tmp_path, out, extent=replace(extent, again="photos"))
    assert "a8" in run.photos.names
    assert "a8.jpg" not in (out / "problems.txt").read_text()
