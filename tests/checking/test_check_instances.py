"""Instances of KITTI, BDD100K and ADE20K: sound sets pass, and planted faults are named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_instance_sets import INSTANCE_SETS, SIZE

from pixelkin.checking.check import check_data
from pixelkin.checking.report import Problem
from pixelkin.errors import PixelkinError

MASKS = {
    "kitti-instances": "training/instance/000000_10.png",
    "bdd-instances": "labels/ins_seg/bitmasks/train/a.png",
    "ade20k-instances": "images/ADE/training/urban/street/ADE_train_00000001_seg.png",
    "ade20k-part-instances": "images/ADE/training/urban/street/ADE_train_00000001_parts_1.png",
}
ADE = "images/ADE/training/urban/street/ADE_train_00000001"
IMAGES = {
    "kitti-instances": "training/image_2/000000_10.png",
    "bdd-instances": "images/10k/train/a.jpg",
    "ade20k-instances": f"{ADE}.jpg",
    "ade20k-part-instances": f"{ADE}.jpg",
}
SHAPE = SIZE[::-1]


def problems(name: str, root: Path) -> list[Problem]:
    return check_data(Path(f"{name}:{root}"))[1].problems


def told(name: str, root: Path) -> tuple[str, str]:
    """What is said of the mask, with its fix."""
    (problem,) = [p for p in problems(name, root) if p.where == MASKS[name]]
    assert problem.severity == "error"
    assert str(root) not in problem.what
    return problem.what, problem.fix


@pytest.mark.parametrize("name", MASKS)
def test_a_sound_set_has_no_problem_in_any_part(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    found, report = check_data(Path(f"{name}:{tmp_path}"))
    parts = 1 if name == "kitti-instances" else 2
    assert (found, report.problems, report.classes) == (name, [], None)
    assert (report.images, report.objects, report.empty_images) == (parts, parts, 0)
    if not name.startswith("ade20k"):
        assert check_data(tmp_path)[0] == name
    with pytest.raises(PixelkinError, match=f"format {name} knows where its images lie"):
        check_data(Path(f"{name}:{tmp_path}"), images=tmp_path)


@pytest.mark.parametrize("name", MASKS)
def test_faulty_files_are_named_each_with_its_fix(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    mask = tmp_path / MASKS[name]
    pixels = np.array(Image.open(mask))
    whole = mask.read_bytes()
    mask.write_bytes(b"")
    assert told(name, tmp_path)[0] == "cannot be read: the file is empty"
    Image.fromarray(pixels[1:]).save(mask)
    assert told(name, tmp_path) == ("is 6×3: expected 6×4 as its image", "make them the same size")
    Image.fromarray(np.zeros(SHAPE, np.uint8)).save(mask)
    what, fix = told(name, tmp_path)
    assert "expected" in what
    assert fix == "use the file that the data set ships"
    mask.write_bytes(whole)
    image = tmp_path / IMAGES[name]
    image.write_bytes(b"")
    (broken,) = problems(name, tmp_path)
    assert (broken.where, broken.what) == (IMAGES[name], "the file is empty (0 bytes)")


def test_bitmasks_that_contradict_themselves(tmp_path: Path) -> None:
    INSTANCE_SETS["bdd-instances"](tmp_path)
    pixels = np.zeros((*SHAPE, 4), np.uint8)
    pixels[1, 1], pixels[2, 2] = (3, 0, 1, 2), (4, 0, 1, 2)
    Image.fromarray(pixels).save(tmp_path / MASKS["bdd-instances"])
    what, fix = told("bdd-instances", tmp_path)
    assert what.startswith("pixels of id 258 have (category, attributes) (3, 0) and (4, 0)")
    assert fix == "use the file that the data set ships"


def test_missing_and_spare_masks_and_unpublished_parts(tmp_path: Path) -> None:
    INSTANCE_SETS["bdd-instances"](tmp_path)
    masks = tmp_path / "labels" / "ins_seg" / "bitmasks" / "train"
    (masks / "a.png").rename(masks / "b.png")
    (tmp_path / "images" / "10k" / "test").mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "images" / "10k" / "test" / "c.jpg")
    assert [(p.where, p.fix) for p in problems("bdd-instances", tmp_path)] == [
        ("images/10k/train/a.jpg", "add the label file, or remove the image"),
        ("labels/ins_seg/bitmasks/train/b.png", "add the image, or remove the label file"),
        ("images/10k/train", "check the folders"),
    ]
