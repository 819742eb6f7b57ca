"""`label_photos` from photos and tags to predictions: whole, in part, stopped, and gone on."""

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rendered_photos import SIZE_HW, TAGS, label, made, small_options, start_and_die, write_photos

from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.engine import loop
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, read_indexed_png
from pixelkin.pipelines.weak_labels import STAGES, Extent, Machine
from pixelkin.pipelines.weak_labels.run import ONCE_FIXED
from pixelkin.pipelines.weak_labels.workspace import Workspace
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.semantic import Balance

pytest.importorskip("lightning")

TAGGED = [*TAGS, "black"]


@pytest.fixture
def until(whole, tmp_path):
    """(stage) → a copy of the run, in which this stage and all after it are still to do."""

    def copied(stage: str) -> Path:
        out = tmp_path / "out"
        shutil.copytree(whole, out)
        Workspace(out).clear_from(stage)
        return out

    return copied


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


def test_what_would_contradict_or_cannot_be_is_said_before_anything_is_made(root, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(PixelkinError, match="--only walk and --until walk are two answers"):
        label(root, out, extent=Extent(only="walk", until="walk"))
    with pytest.raises(PixelkinError, match=r"device 'cdua' is not available .*--device cpu"):
        label(root, out, machine=Machine("cdua"))
    assert not out.exists()


# Stopped runs


def test_a_killed_run_goes_on_and_gives_the_same(whole, root, tmp_path):
    # Besides: a photo without tags that is another one, and one that cannot be read.
    write_photos(tmp_path)
    Image.fromarray(np.full((*SIZE_HW, 3), 200, np.uint8)).save(tmp_path / "photos" / "a8.jpg")
    (tmp_path / "photos" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out = tmp_path / "out"
    start_and_die(tmp_path, out, way="write", room="4_regions", after=4)
    assert len(list((out / "4_regions").rglob("[!.]*.png"))) >= 4
    assert not Workspace(out).is_done("regions")
    start_and_die(tmp_path, out, way="train", room="5_affinity", after=2)
    assert (out / "5_affinity" / "last.ckpt").is_dir()
    assert not Workspace(out).is_done("affinity")
    label(tmp_path, out)
    found, expected = made(out), made(whole)
    assert found.pop("predictions/a8.png") != b""
    del expected["predictions/a8.png"]
    found = {name: content for name, content in found.items() if "/." not in name}
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    text = (out / "problems.txt").read_text()
    assert "torn.png" in text
    assert "left out" in text


@pytest.fixture
def full_disk(monkeypatch):
    """(room, after) → a disk that is full when `after` more files below the folder are written."""
    replace_file = os.replace

    def fill(room: str, *, after: int) -> None:
        written = []

        def put(source, target):
            written.extend([target] if room in str(target) else [])
            if len(written) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            replace_file(source, target)

        monkeypatch.setattr(os, "replace", put)

    return fill


@pytest.mark.parametrize(
    ("stage", "room", "after", "kept"),
    [
        ("walk", "labels", 3, 3),
        ("affinity", "last.ckpt", 0, 0),
        ("predictions", "predictions", 4, 4),
    ],
)
def test_a_full_disk_stops_in_order(
    until, whole, root, full_disk, monkeypatch, stage, room, after, kept
):
    out = until(stage)
    with monkeypatch.context():
        full_disk(room, after=after)
        with pytest.raises(PixelkinError, match="no space is left on the disk") as caught:
            label(root, out, extent=Extent(until=stage))
        monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert not Workspace(out).is_done(stage)
    if kept:
        assert len(list((out / room).rglob("*.png"))) == kept
    assert not list(out.rglob(".*"))
    label(root, out, extent=Extent(until=stage))
    expected = made(whole)
    assert all(expected[name] == content for name, content in made(out).items())
    assert Workspace(out).is_done(stage)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 30 MB; skips where none can be made."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk(small_disk, root, whole):
    out = small_disk / "out"
    # The checkpoint with the optimiser's state takes 40 MB.
    with pytest.raises(PixelkinError, match="no space is left on the disk") as caught:
        label(root, out, extent=Extent(until="classifier"))
    assert "\n" not in str(caught.value)
    assert Workspace(out).is_done("photos")
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    label(root, out, extent=Extent(until="classifier"))
    assert Workspace(out).is_done("classifier")
    model = "2_classifier/model/model.safetensors"
    assert (out / model).read_bytes() == (whole / model).read_bytes()


def test_ctrl_c_in_a_training_saves_and_says_how_to_go_on(until, whole, root, monkeypatch):
    out, train_step = until("affinity"), loop.train_step

    def step(run, *arguments, **options):
        if run.progress.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(run, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        with pytest.raises(PixelkinError, match=r"stage affinity at step 2; run the same command"):
            label(root, out, extent=Extent(only="affinity"))
    label(root, out, extent=Extent(only="affinity"))
    model = "5_affinity/model/model.safetensors"
    assert (out / model).read_bytes() == (whole / model).read_bytes()


def test_a_damaged_file_of_a_stage_says_how_to_make_it_anew(until, root):
    out = until("regions")
    (out / "3_activations" / "a1.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(PixelkinError, match=r"a1.npz cannot be read .* --again activations"):
        label(root, out, extent=Extent(until="regions"))
    label(root, out, extent=Extent(again="activations", until="regions"))
    assert Workspace(out).is_done("regions")


@pytest.mark.parametrize(
    ("path", "maker", "asked"),
    [("1_photos/a1.png", "photos", Extent(again="affinity")),
     ("1_photos/index.json", "photos", Extent()),
     ("1_photos/faults.json", "photos", Extent()),
     ("2_classifier/model/model.safetensors", "classifier", Extent(again="activations")),
     ("2_classifier/model/config.json", "classifier", Extent(again="network")),
     ("4_regions/a1.png", "regions", Extent(again="affinity")),
     ("5_affinity/model/model.safetensors", "affinity", Extent(again="walk")),
     ("labels/a1.png", "walk", Extent(again="network")),
     ("labels/a1.png", "walk", Extent()),
     ("7_network/model/model.safetensors", "network", Extent(again="predictions")),
     ("predictions/a1.png", "predictions", Extent())],
)  # fmt: skip
def test_every_damaged_file_names_the_stage_that_makes_it(
    whole, root, tmp_path, path, maker, asked
):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    content = (out / path).read_bytes()
    (out / path).write_bytes(content[: len(content) // 2])
    with pytest.raises(PixelkinError, match=f"; give --again {maker} to make it anew$") as caught:
        label(root, out, extent=asked)
    assert Path(path).name in str(caught.value)
    assert "\n" not in str(caught.value)
