"""`pixelkin predict`: files hold what the segmenter found, and mistakes are one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from cyclopts import App
from PIL import Image

from pixelkin.checkpoint import save_checkpoint
from pixelkin.cli.predict import Finding, at_least, list_images, predict
from pixelkin.data import reading
from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.data.instances.instance_png import index_instances
from pixelkin.data.instances.labelme import LabelMe
from pixelkin.data.instances.yolo_seg import YoloSeg
from pixelkin.data.reading import read_image, read_index_png
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import build_network, load_segmenter, save_instance_model
from pixelkin.instances.otsu import OtsuWatershed
from pixelkin.masks import decode_rle
from pixelkin.results import instance_overlay
from pixelkin.structures import Instances

CONFIG = {"architecture": "instance_boundary", "class_names": ["nucleus"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An instance model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "random"
    save_instance_model(build_network(CONFIG), folder, CONFIG, "")
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three pictures of blobs, of two sizes."""
    rng = np.random.default_rng(3)
    room = tmp_path / "photos"
    room.mkdir()
    for name, size_hw in {"b2.png": (64, 80), "b10.png": (64, 80), "a.jpg": (48, 50)}.items():
        picture = rng.integers(20, 40, (*size_hw, 3), dtype=np.uint8)
        for y, x in rng.integers(0, 36, (4, 2)):
            picture[y : y + 10, x : x + 8] = 220
        Image.fromarray(picture).save(room / name)
    return room


def masks_of(rles, size_hw) -> list[np.ndarray]:
    return [decode_rle(rle, size_hw) for rle in rles]


def test_files_hold_what_the_model_finds(model, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(str(model), photos, out=out, finding=Finding(0.0, tile=32), quiet=True) == 0
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in out.iterdir()] == ["instances.json"]
    written = CocoJson(out / "instances.json", photos)
    assert written.names == ["a", "b2", "b10"]
    assert written.class_names == ("nucleus",)
    segmenter = load_segmenter(model, tile_px=32)
    total = 0
    for sample, name in zip(written, ("a.jpg", "b2.png", "b10.png"), strict=False):
        found = segmenter.segment(read_image(photos / name))
        assert [one.rle for one in sample.instances] == list(found.rles)
        total += len(found)
    assert total > 0


def test_images_without_objects_are_counted(photos, tmp_path, capsys):
    """Blobs of the photos stand out; a grey picture holds none, and dents cost the score."""
    Image.fromarray(np.full((20, 20, 3), 9, np.uint8)).save(tmp_path / "grey.png")

    def summary(*images, min_score: float) -> list[str]:
        finding = Finding(min_score)
        assert predict("otsu", *images, out=tmp_path / "out", finding=finding) == 0
        return capsys.readouterr().out.splitlines()[1:]

    blobs, grey = photos / "b2.png", tmp_path / "grey.png"
    count = len(OtsuWatershed().segment(read_image(blobs)).scores)
    assert count > 1
    assert summary(blobs, min_score=0.1) == [f"{count} objects in 1 image (cpu)"]
    assert summary(grey, blobs, min_score=0.1) == [
        f"{count} objects in 2 images (cpu)",
        "no object of score 0.1 or more in 1 of them; --min-score lowers it",
    ]
    nothing = "no object of score 0.5 or more in 1 image (cpu); --min-score lowers it"
    assert summary(grey, min_score=0.5) == [nothing]
    # There is no lower one.
    assert summary(grey, min_score=0) == ["no object in 1 image (cpu)"]


def test_real_nuclei_by_otsu_in_every_format(shared_data, tmp_path, capsys):
    source = min((shared_data / "dsb2018").glob("*/images/*.png"))
    (tmp_path / "im").mkdir()
    image = Path(shutil.copy(source, tmp_path / "im" / "cells.png"))
    out = tmp_path / "out"
    formats = "coco,coco-results,yolo,labelme,png"
    finding = Finding(min_score=0.93)
    assert (
        predict("otsu", image, out=out, format=formats, overlays=True, finding=finding, json=True)
        == 0
    )
    done = json.loads(capsys.readouterr().out)
    everything = OtsuWatershed().segment(read_image(image))
    found = at_least(everything, 0.93)
    assert 5 < len(found) < len(everything)
    assert (done["objects"], done["images"], done["failed"]) == (len(found), 1, [])
    assert done["class_names"] == ["object"]
    assert all(Path(path).exists() for path in done["outputs"].values())
    assert set(done["outputs"]) == {*formats.split(","), "overlays"}
    truth = masks_of(found.rles, found.size_hw)
    assert all(score >= 0.93 for score in found.scores)
    ids, _ = index_instances(read_index_png(out / "masks" / "cells.png"), out, remedy="")
    for instances in (
        CocoJson(out / "instances.json", image.parent)[0].instances,
        LabelMe(out / "labelme")[0].instances,
        YoloSeg(image.parent, out / "yolo" / "labels")[0].instances,
        ids,
    ):
        for mask, back in zip(
            truth, masks_of([one.rle for one in instances], found.size_hw), strict=True
        ):
            assert np.array_equal(mask, back)
    assert len(json.loads((out / "results.json").read_text())) == len(found)
    drawn = np.array(Image.open(out / "overlays" / "cells.png"))
    assert np.array_equal(drawn, instance_overlay(read_image(image), found))


def test_bad_images_are_told_and_the_others_go_on(photos, tmp_path, capsys, monkeypatch):
    whole = (photos / "b10.png").read_bytes()
    (photos / "empty.png").touch()
    (photos / "short.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (100, 101)).save(photos / "large.png")
    monkeypatch.setattr(reading, "MAX_IMAGE_PIXELS", 10_000)
    out = tmp_path / "out"
    with pytest.raises(PixelkinError) as told:
        predict("otsu", photos, out=out, format="coco,yolo,png", json=True)
    line = str(told.value)
    assert "\n" not in line
    assert line.startswith("3 of 6 images gave no result (empty.png, large.png, short.png): ")
    shown = capsys.readouterr()
    done = json.loads(shown.out)
    assert [Path(one["image"]).name for one in done["failed"]] == [
        "empty.png",
        "large.png",
        "short.png",
    ]
    assert "the file is empty" in done["failed"][0]["reason"]
    assert "more than 10,000 pixels" in done["failed"][1]["reason"]
    assert shown.err.count("no result: ") == 3
    listed = json.loads((out / "instances.json").read_text())["images"]
    assert [one["file_name"] for one in listed] == ["a.jpg", "b2.png", "b10.png"]
    kept = {"a", "b2", "b10"}
    assert {path.stem for path in (out / "masks").iterdir()} == kept
    assert {path.stem for path in (out / "yolo" / "labels").iterdir()} == kept


def test_nothing_stays_where_no_image_can_be_read(tmp_path):
    (tmp_path / "empty.png").touch()
    out = tmp_path / "out"
    with pytest.raises(PixelkinError, match=r"^cannot read the image .*: the file is empty"):
        predict("otsu", tmp_path / "empty.png", out=out, format="coco,yolo,labelme,png", quiet=True)
    assert not out.exists()


def test_a_failure_to_write_ends_the_run_without_half_a_file(photos, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "masks").touch()
    with pytest.raises(PixelkinError, match=r"cannot write .*masks"):
        predict("otsu", photos, out=out, format="coco,png", quiet=True)
    assert [path.name for path in out.iterdir()] == ["masks"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "needs more memory than there is; give a smaller --tile"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "needs more memory"),
        (PixelkinError("too small"), "too small"),
    ],
)
def test_an_image_that_the_model_cannot_take_is_told(photos, tmp_path, monkeypatch, error, told):
    def fail(self, image):
        raise error

    monkeypatch.setattr(OtsuWatershed, "segment", fail)
    with pytest.raises(PixelkinError, match=told):
        predict("otsu", photos / "a.jpg", out=tmp_path / "out", quiet=True)


def test_an_error_of_ours_is_not_taken_for_the_image(photos, tmp_path, monkeypatch):
    def fail(self, image):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(OtsuWatershed, "segment", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        predict("otsu", photos, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_images_come_in_natural_order_and_once(photos):
    names = [path.name for path in list_images((photos, photos / "a.jpg"))]
    assert names == ["a.jpg", "b2.png", "b10.png"]


def test_equal_names_are_refused_before_any_work(photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "b2.png", other / "B2.jpeg")
    with pytest.raises(PixelkinError, match=r"b2.png and .*B2.jpeg share the name B2"):
        predict("no/model", photos, other, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ((), "no image is named"),
        (("nowhere.png",), "no image or folder at .*nowhere.png"),
        (("bare",), "folder .*bare holds no image"),
    ],
)
def test_missing_images_are_told(tmp_path, images, told):
    (tmp_path / "bare").mkdir()
    with pytest.raises(PixelkinError, match=told):
        predict("otsu", *(tmp_path / name for name in images), out=tmp_path / "out")


def test_a_model_for_clips_is_sent_to_track(photos, tmp_path):
    save_checkpoint(tmp_path / "clips", {}, {"architecture": "small"}, "")
    with pytest.raises(PixelkinError, match=r"is a model for clips.*; use pixelkin track") as told:
        predict(str(tmp_path / "clips"), photos, out=tmp_path / "out", quiet=True)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--format", "coc"], "format 'coc' is unknown; did you mean coco"),
        (["--min-score", "50"], "--min-score is 50, expected 0 to 1"),
        (["--tile", "-1"], "--tile is -1"),
    ],
)
def test_options_are_checked(photos, tmp_path, options, told):
    app = App(result_action="return_value", exit_on_error=False)
    app.command(predict)
    with pytest.raises(Exception, match=told):
        app(["predict", "otsu", str(photos), "--out", str(tmp_path / "out"), *options])
    assert not (tmp_path / "out").exists()


def test_options_that_a_model_does_not_use_are_refused(photos, tmp_path):
    torch.manual_seed(0)
    config = {"architecture": "instance_mask_rcnn", "class_names": ["a"]}
    config["network"] = {"channels": 8, "proposals": 20}
    boxes = tmp_path / "boxes"
    save_instance_model(build_network(config), boxes, config, "")
    for model in (str(boxes), "otsu"):
        with pytest.raises(PixelkinError, match=r"--tile is for .* seeds, .*leave it out"):
            predict(model, photos, out=tmp_path / "o", finding=Finding(tile=512), quiet=True)
    with pytest.raises(PixelkinError, match="--device cuda is for learned models; otsu runs on"):
        predict("otsu", photos, out=tmp_path / "o", finding=Finding(device="cuda"), quiet=True)
    assert not (tmp_path / "o").exists()
    # To take images whole is what it does.
    for finding in (Finding(tile=0), Finding(device="cpu")):
        assert predict("otsu", photos, out=tmp_path / "o", finding=finding, quiet=True) == 0


def test_the_command_line_takes_several_images(photos, tmp_path):
    app = App(result_action="return_value", exit_on_error=False)
    app.command(predict)
    files = [str(photos / "a.jpg"), str(photos / "b2.png")]
    done = app(["predict", "otsu", *files, "--out", str(tmp_path / "out"), "--overlays", "--quiet"])
    assert done == 0
    names = sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir())
    assert names == ["a.png", "b2.png"]


def test_scores_at_the_threshold_stay():
    found = Instances((2, 2), (b"04", b"13", b"04"), (0, 1, 2), (0.9, 0.5, 0.4))
    assert at_least(found, 0.5) == Instances((2, 2), (b"04", b"13"), (0, 1), (0.9, 0.5))
