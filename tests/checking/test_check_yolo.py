from pathlib import Path

import pytest
from small_sets import only_problem, problems_of, write_picture, write_yolo

from pixelkin.checking.check import check_data

GOOD = "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5"

PLANTED = {
    "box": ("0 0.5 0.5 0.2 0.2", "is a box", "error"),
    "two points": ("0 0.1 0.1 0.5", "3 coordinates, an odd number", "error"),
    "one point": ("0 0.1 0.1", "has 1 points, fewer than 3", "error"),
    "odd": (GOOD + " 0.1", "9 coordinates, an odd number", "error"),
    "beyond one": ("0 0.1 0.1 1.5 0.1 0.5 0.5", "the point (1.5, 0.1), beyond 0 … 1", "error"),
    "pixels": ("0 10 10 50 10 50 50", "the point (10, 10), beyond 0 … 1", "error"),
    "NaN": ("0 0.1 nan 0.5 0.1 0.5 0.5", "holds nan", "error"),
    "text": ("0 0.1 x 0.5 0.1 0.5 0.5", "holds 'x'", "error"),
    "class beyond names": ("2" + GOOD[1:], "class 2 has no name", "error"),
    "class is a name": ("cat" + GOOD[1:], "the class is 'cat'", "error"),
    "overlap": ("0 .1 .1 .6 .1 .6 .6 .1 .6 .2 .2 .5 .2 .5 .5 .2 .5", "crosses itself", "warning"),
    "tiny": ("0 0.1 0.1 0.101 0.1 0.101 0.101", "fewer than 4 pixels", "warning"),
    "twice": ("1 0.6 0.6 0.9 0.6 0.7 0.9", "the same as line 2", "warning"),
}


def test_a_sound_set_has_no_problem(tmp_path: Path) -> None:
    name, report = check_data(write_yolo(tmp_path))
    assert name == "yolo"
    assert report.problems == []
    assert (report.images, report.objects, report.empty_images) == (2, 2, 1)


@pytest.mark.parametrize("fault", PLANTED)
def test_each_planted_line_is_found_with_its_number(fault: str, tmp_path: Path) -> None:
    line, what, severity = PLANTED[fault]
    root = write_yolo(tmp_path)
    with (root / "labels" / "1.txt").open("a") as file:
        file.write(f"\n{line}\n")
    found = only_problem(root)
    assert found.where == "labels/1.txt, line 4"
    assert what in found.what
    assert found.severity == severity


def test_parts_joined_by_a_bridge_are_no_crossing(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    bow = "0 .1 .1 .2 .1 .2 .2 .3 .3 .4 .3 .4 .4 .3 .4 .3 .3 .2 .2 .1 .2"
    tie = "1 .5 .1 .9 .3 .9 .1 .5 .3"
    (root / "labels" / "2.txt").write_text(f"{bow}\n{tie}\n")
    assert problems_of(root) == []


def test_images_and_labels_without_each_other(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write_picture(root / "images" / "3.png", 3)
    (root / "labels" / "4.txt").write_text(GOOD)
    found = {p.where: (p.what, p.severity) for p in problems_of(root)}
    assert found == {
        "images/3.png": ("has no label file", "warning"),
        "labels/4.txt": ("has no image", "error"),
    }


def test_two_images_of_one_stem(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    write_picture(root / "images" / "1.bmp", 5)
    found = only_problem(root)
    assert (found.where, found.what) == ("images/1.png", "has the name of 1.bmp")


def test_label_files_without_a_line_are_no_annotation(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "labels" / "1.txt").write_text("\n")
    found = only_problem(root)
    assert (found.where, found.what) == ("labels", "holds no annotation")


def test_copies_across_splits_are_found(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("val", 1), ("val", 2)):
        name = f"{split}{seed}"
        write_picture(tmp_path / "images" / split / f"{name}.png", seed)
        (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / split / f"{name}.txt").write_text(GOOD)
    found = only_problem(tmp_path)
    assert found.where == "images/val/val1.png"
    assert found.what == "has the very pixels of images/train/train1.png"
    assert found.severity == "warning"


def test_the_real_set_has_only_what_is_known_of_it(shared_data: Path) -> None:
    root = shared_data / "coco_mini"
    name, report = check_data(root / "instance_segmentation", images=root / "images" / "train2017")
    assert (name, report.images, report.objects) == ("yolo", 100, 746)
    kinds = [p.what for p in report.problems]
    assert sum(what == "has no label file" for what in kinds) == 28
    assert sum("crosses itself" in what for what in kinds) == 15
    assert {p.severity for p in report.problems} == {"warning"}
