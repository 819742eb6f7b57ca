"""Every example, run in this process on a few frames, with a tiny model in place of the shipped."""

import argparse
import ast
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import TinyEmbedding, tiny_runtime

from pixelkin.engine import load_recipe, parse_recipe_options, train
from pixelkin.instances.checkpoints import build_network, save_instance_model
from pixelkin.masks import read_indexed_png, write_indexed_png
from pixelkin.media import open_clip
from pixelkin.models.mask_decoder import MaskDecoder
from pixelkin.models.retrieval_model import RetrievalModel
from pixelkin.video.embedding_ahead import AHEAD

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
RUN = [path for path in EXAMPLES if path.stem != "train_on_your_stills"]
"""Those with a function `main`: the other one is a recipe."""
HEIGHT, WIDTH = 144, 176
FACE = np.s_[20:90, 60:120]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def runtime(monkeypatch):
    runtime = tiny_runtime()
    monkeypatch.setattr("pixelkin.load", lambda: runtime)
    return runtime


@pytest.fixture(scope="module")
def frames(carphone_clip) -> list[np.ndarray]:
    with open_clip(carphone_clip) as clip:
        return list(clip.frames(0, 4))


@pytest.fixture
def mask(tmp_path) -> Path:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[FACE] = 3
    write_indexed_png(tmp_path / "mask.png", labels)
    return tmp_path / "mask.png"


@pytest.fixture(params=["yolo", "png"])
def stills(request, frames, tmp_path) -> Path:
    for index, frame in enumerate(frames[:2]):
        for kind in ("images", "labels" if request.param == "yolo" else "masks"):
            (tmp_path / "stills" / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "stills" / "images" / f"{index}.png")
        if request.param == "yolo":
            polygon = "0 .34 .14 .68 .14 .68 .62 .34 .62\n"
            (tmp_path / "stills" / "labels" / f"{index}.txt").write_text(polygon)
        else:
            labels = np.zeros((HEIGHT, WIDTH), np.uint8)
            labels[FACE] = 1
            write_indexed_png(tmp_path / "stills" / "masks" / f"{index}.png", labels)
    return tmp_path / "stills"


def test_cut_out_of_a_clip(carphone_clip, runtime, tmp_path):
    click = ["--click", "2:90,50", "--frames", "3"]
    example("cut_out_of_a_clip").main([str(carphone_clip), *click, "--out", str(tmp_path)])
    written = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert written == ["00002.png", "00003.png", "00004.png"]
    first = read_indexed_png(tmp_path / "masks" / "00002.png")
    assert first.shape == (HEIGHT, WIDTH)
    assert first[50, 90] == 1
    with av.open(tmp_path / "cutout.mov") as video:
        pictures = [frame.to_ndarray(format="rgba") for frame in video.decode(video=0)]
    assert len(pictures) == 3
    assert pictures[0][50, 90, 3] > 250
    # Coded with loss, but opaque where the mask is.
    assert np.mean((pictures[0][..., 3] > 127) == (first == 1)) > 0.99


def test_several_objects_any_frame(bikes_clip, runtime, tmp_path, capsys):
    module = example("several_objects_any_frame")
    labels = np.zeros((272, 640), np.uint8)
    labels[:, 180:380] = 1
    write_indexed_png(tmp_path / "mask.png", labels)
    out = tmp_path / "out.mp4"
    arguments = [str(bikes_clip), str(tmp_path / "mask.png"), "--frames", "7", "--out", str(out)]
    module.main(arguments)
    assert "objects [1, 2, 3]" in capsys.readouterr().out
    with open_clip(out) as clip:
        assert len(clip) == 7
        assert clip.size_hw == (272, 640)
    # Once per frame, and a few ahead: edits cost no pass of the network.
    assert len(runtime.embedded) <= module.VAN.frame - module.START + 1 + AHEAD


def test_one_photo(frames, runtime, tmp_path, capsys):
    Image.fromarray(frames[0]).save(tmp_path / "face.png")
    clicks = ["--click", "0:90,50", "--click", "0:20,20@-1"]
    example("one_photo").main([str(tmp_path / "face.png"), *clicks, "--out", str(tmp_path / "cut")])
    assert len(runtime.embedded) == 1
    told = capsys.readouterr().out
    assert re.findall(r"^after click (\d): \d+\.\d% of the photo$", told, re.M) == ["1", "2"]
    first, second = (np.asarray(Image.open(tmp_path / "cut" / f"{n}.png")) for n in (1, 2))
    assert first.shape == second.shape == (HEIGHT, WIDTH, 4)
    assert first[50, 90, 3] == 255
    assert second[20, 20, 3] == 0


def test_find_objects(frames, tmp_path, capsys):
    module = example("find_objects")
    module.main(["--out", str(tmp_path / "coins")])
    lines = capsys.readouterr().out.splitlines()
    # The picture shows 24 coins, some of them too dark for one threshold.
    assert 18 <= len(lines) <= 30
    assert all(line.startswith("coins.png: object, ") for line in lines)
    with Image.open(tmp_path / "coins" / "coins.png") as overlay:
        assert overlay.size == (384, 303)

    config = {
        "architecture": "instance_seeds",
        "class_names": ["face"],
        "network": {"stride": 4, "dimensions": 4},
        "grouping": {"seeds": 3, "min_score": 0.0},
    }
    # Of other random weights some find nothing.
    torch.manual_seed(3)
    save_instance_model(build_network(config), tmp_path / "model", config, "# A model\n")
    Image.fromarray(frames[0]).save(tmp_path / "one.png")
    given = ["--model", str(tmp_path / "model"), "--min-score", "0", "--out", str(tmp_path / "out")]
    module.main([str(tmp_path / "one.png"), *given])
    found = json.loads((tmp_path / "out" / "objects.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["one.png"]
    assert found["categories"] == [{"id": 1, "name": "face"}]
    assert len(capsys.readouterr().out.splitlines()) == len(found["annotations"]) > 0


def test_plain_retrieval(carphone_clip, runtime, mask, tmp_path):
    where = ["--start", "1", "--frames", "2", "--out", str(tmp_path / "out")]
    example("plain_retrieval").main([str(carphone_clip), str(mask), *where])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00001.png", "00002.png"]
    found, given = read_indexed_png(tmp_path / "out" / "00001.png"), read_indexed_png(mask)
    assert set(np.unique(found)) == {0, 3}
    both, either = ((found > 0) & (given > 0)).sum(), ((found > 0) | (given > 0)).sum()
    # Mean colours of 16-pixel cells tell little; a random mask of this size would reach .09.
    assert both / either > 0.3


def test_judge_a_method(frames, tmp_path, capsys):
    for index, frame in enumerate(frames):
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[FACE] = 1
        for folder, picture in (("JPEGImages", frame), ("Annotations", labels)):
            room = tmp_path / folder / "480p" / "carphone"
            room.mkdir(parents=True, exist_ok=True)
            if folder == "JPEGImages":
                Image.fromarray(picture).save(room / f"{index:05}.jpg")
            else:
                write_indexed_png(room / f"{index:05}.png", picture)
    example("judge_a_method").main([str(tmp_path), "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert re.findall(r"^(\w+)$", shown, re.MULTILINE) == ["by_colour", "copy"]
    # The truth stands still here, so the copied mask is right.
    assert "1.000" in shown.partition("copy\n")[2]
    for name in ("by_colour", "copy"):
        assert (tmp_path / "out" / name / "masks" / "carphone" / "00003.png").is_file()
        assert (tmp_path / "out" / name / "worst.png").is_file()


def test_segment_a_volume(tmp_path, capsys):
    nibabel = pytest.importorskip("nibabel")
    found = []
    for window in (16, 48):
        example("segment_a_volume").main(["--window", str(window), "--out", str(tmp_path)])
        found.append(nibabel.load(tmp_path / "segmented_ball.nii"))
    # No window holds the ball; one holds all.
    assert np.array_equal(*(np.asarray(one.dataobj) for one in found))
    scan = nibabel.load(tmp_path / "ball.nii")
    assert np.array_equal(found[0].affine, scan.affine)
    inside = np.asarray(scan.dataobj) > 0
    assert (np.asarray(found[0].dataobj) == inside).mean() > 0.95
    assert "ball.nii: 8" in capsys.readouterr().out


def test_train_on_your_stills(stills, tmp_path, monkeypatch):
    pytest.importorskip("lightning")
    model = RetrievalModel(TinyEmbedding(), MaskDecoder())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr("pixelkin.loading.load_model", lambda: model)
    recipe = load_recipe(FOLDER / "train_on_your_stills.py")
    options = {"data": str(stills), "steps": "1", "batch_size": "2", "frames": "2"}
    training = recipe(**parse_recipe_options(recipe, options))
    result = train(training, out=tmp_path / "run", accelerator="cpu")
    assert result.step == 1
    logged = [value for key, value in result.metrics.items() if key.endswith(("bce", "jaccard"))]
    assert len(logged) == 2
    assert np.isfinite(logged).all()
    changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    assert any(name.startswith("embedding.") for name in changed)
    assert any(name.startswith("decoder.") for name in changed)
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


# The files themselves


def test_every_example_has_a_test_and_a_row():
    table = (FOLDER / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[(\w+\.py)\]\(\1\)", table, re.MULTILINE)
    assert sorted(rows) == [path.name for path in EXAMPLES]
    assert all(f"test_{path.stem}" in globals() for path in EXAMPLES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_they_are_run(path):
    text = path.read_text("utf-8")
    assert text.count("\n") < 60
    assert path.name in ast.get_docstring(ast.parse(text))
    private = re.findall(r"from pixelkin[\w.]* import .*\b_\w+|pixelkin\._\w+", text)
    assert private == []


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_help_of_examples(path, monkeypatch, capsys):
    parsers, real = [], argparse.ArgumentParser.parse_args

    def parse(parser, *arguments):
        parsers.append(parser)
        return real(parser, *arguments)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    with pytest.raises(SystemExit) as stopped:
        example(path.stem).main(["--help"])
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out
    (parser,) = parsers
    assert [action.dest for action in parser._actions if not action.help] == []


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.stem)
def test_a_path_where_nothing_is_ends_an_example_in_one_line(path, tmp_path, monkeypatch, runtime):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        example(path.stem).main(["nope.mp4"])
    # Python prints it on the standard error and exits with status 1.
    assert re.fullmatch(r"error: .*nope\.mp4.*", stopped.value.code)
    assert list(tmp_path.rglob("*")) == []
