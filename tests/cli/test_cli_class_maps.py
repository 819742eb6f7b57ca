"""`pixelkin predict` and `pixelkin evaluate` with semantic models: the command line is the API."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pixelkin.cli.app import main
from pixelkin.cli.evaluate import evaluate
from pixelkin.cli.map_options import MapOptions
from pixelkin.cli.options import Machine
from pixelkin.cli.predict import Finding, predict
from pixelkin.cli.stills import Stills
from pixelkin.data.class_maps.sources import open_semantic_source
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle
from pixelkin.results.class_maps import class_key
from pixelkin.semantic.checkpoints import (
    build_network,
    load_semantic_segmenter,
    save_semantic_model,
)
from pixelkin.semantic.scoring import evaluate_semantic

CONFIG = {
    "architecture": "semantic_unet",
    "class_names": ["background", "disc", "ring"],
    "network": {"channels": 2},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small U-Net with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "random"
    save_semantic_model(build_network(CONFIG), folder, CONFIG, "")
    return folder


@pytest.fixture
def stills(tmp_path):
    """Two pictures, their maps, and the names of the classes; pictures are of two sizes."""
    rng = np.random.default_rng(0)
    for name, size_hw in {"a": (40, 50), "b": (64, 30)}.items():
        for kind in ("images", "masks"):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
        picture = rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "data" / "images" / f"{name}.png")
        labels = rng.integers(0, 3, size_hw, dtype=np.uint8)
        Image.fromarray(labels).save(tmp_path / "data" / "masks" / f"{name}.png")
    (tmp_path / "data" / "classes.txt").write_text("background\ndisc\nring\n")
    return tmp_path / "data"


def test_predict_writes_what_the_segmenter_gives(model, stills, tmp_path, capsys):
    out = tmp_path / "out"
    status = predict(
        str(model), stills / "images", out=out, format="png,coco,coco-results", overlays=True,
        averaging=MapOptions("1,0.5", flip=True), finding=Finding(tile=32), json=True, quiet=True,
    )  # fmt: skip
    assert status == 0
    done = json.loads(capsys.readouterr().out)
    assert sum(done["pixels"].values()) == 40 * 50 + 64 * 30
    segmenter = load_semantic_segmenter(model, tile_px=32, scales=(1.0, 0.5), flip=True)
    assert (out / "classes.txt").read_text().splitlines()[1] == "1: disc"
    regions = json.loads((out / "results.json").read_text())
    for name in "ab":
        image = np.asarray(Image.open(stills / "images" / f"{name}.png"))
        with Image.open(out / "masks" / f"{name}.png") as map_:
            assert map_.mode == "P"
            labels = np.asarray(map_)
        assert np.array_equal(labels, segmenter.segment(image))
        with Image.open(out / "overlays" / f"{name}.png") as shown:
            assert shown.size == image.shape[1::-1]
    with Image.open(out / "overlay_classes.png") as key:
        expected = class_key(("background", "disc", "ring"), background=0)
        assert np.array_equal(np.asarray(key), expected)
    there = {entry["category_id"] for entry in regions}
    assert there <= {2, 3}, "background is no region; COCO counts classes from 1"
    first = regions[0]
    rle = first["segmentation"]
    assert decode_rle(rle["counts"].encode(), tuple(rle["size"])).any()


def test_tagged_images_are_given_their_own_classes(model, stills, tmp_path, capsys):
    tags = tmp_path / "tags.csv"
    tags.write_text("b.png,ring\nb.png,hat\nc.png,disc\n")
    command = ["predict", str(model), str(stills / "images"), "--tags", str(tags)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "tags left out: 1, the first: error: " in told
    assert "tag 'hat' is unknown" in told
    segmenter = load_semantic_segmenter(model)
    for name, among in (("a", None), ("b", (0, 2))):
        image = np.asarray(Image.open(stills / "images" / f"{name}.png"))
        labels = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
        assert np.array_equal(labels, segmenter.segment(image, among=among))
        assert (1 in labels) == (name == "a")
    tags.write_text("z.png,disc\n")
    assert main([*command, "--out", str(tmp_path / "none")]) == 1
    assert "tags none of 2 images; check that names agree" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_tags_need_a_background(stills, tmp_path, capsys):
    config = {**CONFIG, "class_names": ["floor", "disc", "ring"]}
    save_semantic_model(build_network(config), tmp_path / "model", config, "")
    (tmp_path / "tags.csv").write_text("a.png,disc\n")
    command = ["predict", str(tmp_path / "model"), str(stills / "images")]
    options = ["--tags", str(tmp_path / "tags.csv"), "--out", str(tmp_path / "out")]
    assert main([*command, *options]) == 1
    assert "expected background among floor, disc, ring" in capsys.readouterr().err


def test_evaluate_gives_the_numbers_of_the_library(model, stills, tmp_path, capsys):
    out = tmp_path / "judged"
    data = f"pngs:{stills}"
    evaluate(data, machine=Machine(model=str(model)), out=out, json=True, quiet=True)
    done = json.loads(capsys.readouterr().out)[str(model)]
    expected = evaluate_semantic(load_semantic_segmenter(model), open_semantic_source(data))
    for name, value in expected.items():
        if name != "seconds_per_image":
            assert done[name] == pytest.approx(value, nan_ok=True), name
    assert json.loads((out / "measures.json").read_text())["data"] == data
    assert len(list(out.glob("confusion_*.png"))) == 1
    evaluate(data, machine=Machine(model=str(model)), quiet=True)
    assert "mIoU" in capsys.readouterr().out


def test_evaluate_tells_of_stills_that_the_model_may_have_seen(model, stills, tmp_path, capsys):
    run = tmp_path / "run"
    save_semantic_model(build_network(CONFIG), run / "model", CONFIG, "")
    config = {**CONFIG, "samples": 1, "held_out": 1, "validation": 0.5}
    (run / "run.json").write_text(json.dumps({"config": config}))
    evaluate(f"pngs:{stills}", machine=Machine(model=str(run / "model")))
    told = " ".join(capsys.readouterr().err.split())
    assert "judging all 2 images, 1 of which the model may have been trained on" in told
    assert "--validation 0.5" in told
    evaluate(f"pngs:{stills}", machine=Machine(model=str(model)))
    assert "may have been trained" not in capsys.readouterr().err


def test_options_of_the_other_kind_are_refused(model, stills, tmp_path):
    images, out = stills / "images", tmp_path / "out"
    with pytest.raises(PixelkinError, match="--min-score is for instance models"):
        predict(str(model), images, out=out, finding=Finding(0.3), quiet=True)
    with pytest.raises(PixelkinError, match="--flip is for semantic models"):
        predict("otsu", images, out=out, averaging=MapOptions(flip=True), quiet=True)
    with pytest.raises(PixelkinError, match="format"):
        predict(str(model), images, out=out, format="yolo", quiet=True)
    with pytest.raises(PixelkinError, match="--scales is 1,x"):
        predict(str(model), images, out=out, averaging=MapOptions("1,x"), quiet=True)
    both = Machine(model=f"{model},otsu")
    with pytest.raises(PixelkinError, match="judge them in two runs"):
        evaluate(f"pngs:{stills}", machine=both, quiet=True)
    with pytest.raises(PixelkinError, match="--classes is for semantic models"):
        evaluate(f"pngs:{stills}", machine=Machine(model="otsu"), stills=Stills(classes="a,b"))
    assert not out.exists()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_the_command_line_takes_every_way_to_look(command, model, stills, tmp_path, capsys):
    images = [model, stills / "images", "--out", tmp_path / "out"]
    given = images if command == "predict" else [f"pngs:{stills}", "--model", model]
    options = ["--scales", "1,0.5", "--flip", "--quiet"]
    status = main([command, *map(str, given), *options])
    assert (status, capsys.readouterr().err) == (0, "")
