"""Instances of KITTI, BDD100K and ADE20K on the command line, from files in their encodings."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.cli import main
from pixelkin.data.instances.sources import open_source
from pixelkin.instances.checkpoints import build_network, save_instance_model
from pixelkin.masks import decode_rle

SHAPE = (48, 64)
STILLS = 3


def squares() -> np.ndarray:
    """0 ground, 1 and 2 two things that touch, 3 what nobody knows."""
    ids = np.zeros(SHAPE, np.int64)
    ids[8:24, 8:24], ids[8:24, 24:40], ids[30:40, 30:60] = 1, 2, 3
    return ids


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*SHAPE, 3), np.uint8)


def write_kitti(root: Path) -> None:
    # Road, the first car, a person, an ego vehicle.
    values = np.array([7 * 256, 26 * 256 + 1, 24 * 256 + 1, 1 * 256])
    for n in range(STILLS):
        write(root / "training" / "image_2" / f"{n:06}_10.png", noise(n))
        write(root / "training" / "instance" / f"{n:06}_10.png", values[squares()].astype("uint16"))


def write_bdd(root: Path) -> None:
    # Background; an occluded car of id 258; a pedestrian; a bus to be ignored.
    values = np.array([(0, 0, 0, 0), (3, 0b100, 1, 2), (1, 0, 0, 9), (5, 0b1, 0, 10)])
    for n in range(STILLS):
        write(root / "images" / "10k" / "train" / f"{n}.jpg", noise(n))
        masks = root / "labels" / "ins_seg" / "bitmasks" / "train"
        write(masks / f"{n}.png", values[squares()].astype(np.uint8))


def write_ade(root: Path) -> None:
    # Numbers 2978 (sky), 401 and 312, their objects in blue; 0 is void. Of the car a door.
    values = np.array([(110, 162, 10), (10, 145, 20), (10, 56, 30), (0, 0, 0)])
    parts = np.array([(0, 0, 0), (110, 200, 10), (0, 0, 0), (0, 0, 0)])
    listed = [("sky", 2978, 0), ("car, auto", 401, 0), ("person", 312, 0), ("door", 3016, 1)]
    objects = [
        {"id": i, "name": name, "name_ndx": number, "parts": {"part_level": level}}
        for i, (name, number, level) in enumerate(listed)
    ]
    for n in range(STILLS):
        stem = root / "images" / "ADE" / "training" / "urban" / "street" / f"ADE_train_{n:08}"
        write(stem.with_suffix(".jpg"), noise(n))
        write(Path(f"{stem}_seg.png"), values[squares()].astype(np.uint8))
        write(Path(f"{stem}_parts_1.png"), parts[squares()].astype(np.uint8))
        stem.with_suffix(".json").write_text(json.dumps({"annotation": {"object": objects}}))


SETS = {
    "kitti-instances": (write_kitti, {"car": 1, "person": 2}),
    "bdd-instances": (write_bdd, {"car": 1, "pedestrian": 2}),
    "ade20k-instances": (write_ade, {"sky": 0, "car, auto": 1, "person": 2}),
    "ade20k-part-instances": (write_ade, {"door": 1}),
}
"""Format → its writer, and the classes of its objects with their ids in `squares`."""


@pytest.fixture(params=SETS)
def name(request, tmp_path: Path) -> str:
    SETS[request.param][0](tmp_path / "set")
    return request.param


def test_check_counts_the_objects(name: str, tmp_path: Path, capsys) -> None:
    assert main(["check", f"{name}:{tmp_path / 'set'}", "--json", "--quiet"]) == 0
    done = json.loads(capsys.readouterr().out)
    objects = STILLS * len(SETS[name][1])
    assert (done["format"], done["images"], done["objects"]) == (name, STILLS, objects)


def test_convert_writes_the_objects_with_their_classes(name: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    assert main(["convert", f"{name}:{tmp_path / 'set'}", f"coco:{out}", "--quiet"]) == 0
    source = open_source(f"coco:{out}")
    assert len(source) == STILLS
    for index in range(STILLS):
        found = {
            source.class_names[one.category]: decode_rle(one.rle, SHAPE)
            for one in source[index].instances
            if not one.crowd
        }
        assert found.keys() == SETS[name][1].keys()
        for kind, number in SETS[name][1].items():
            np.testing.assert_array_equal(found[kind], squares() == number)


def test_evaluate_asks_for_every_object(name: str, tmp_path: Path, capsys) -> None:
    spec = f"{name}:{tmp_path / 'set'}"
    known = [*open_source(spec).class_names][::-1]
    config = {"architecture": "instance_boundary", "class_names": known}
    save_instance_model(build_network(config), tmp_path / "model", config, "")
    command = ["evaluate", spec, "--model", str(tmp_path / "model"), "--json", "--quiet"]
    assert main([*command, "--device", "cpu"]) == 0
    (values,) = json.loads(capsys.readouterr().out).values()
    assert values["objects"] == STILLS * len(SETS[name][1])


@pytest.mark.parametrize("recipe", ["boundary", "light"])
def test_train_opens_them_as_objects_and_painted(
    name: str, recipe: str, tmp_path: Path, capsys
) -> None:
    pytest.importorskip("lightning")
    out = tmp_path / "run"
    command = ["train", recipe, f"{name}:{tmp_path / 'set'}", "--out", str(out), "--steps", "1"]
    command += ["--crop-px", "32", "--batch-size", "2", "--weights", "none", "--workers", "0"]
    assert main([*command, "--validation", "0", "--accelerator", "cpu"]) == 0
    config = json.loads((out / "run.json").read_text())["config"]
    classes = list(open_source(f"{name}:{tmp_path / 'set'}").class_names)
    assert config["class_names"] == (["background"] * (recipe == "light")) + classes
