import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_sets import HEIGHT, WIDTH, only_problem, problems_of, write_picture

from pixelkin.checking.check import check_data

# Panoptic


def panoptic_content() -> dict[str, Any]:
    return {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "height": HEIGHT, "width": WIDTH} for n in (1, 2)
        ],
        "categories": [
            {"id": 1, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0},
        ],
        "annotations": [
            {"image_id": n, "file_name": f"{n}.png", "segments_info": [
                {"id": 500, "category_id": 1, "area": 100, "bbox": [5, 5, 10, 10], "iscrowd": 0},
                {"id": 70000, "category_id": 9, "area": 800, "bbox": [0, 50, 80, 10]},
            ]} for n in (1, 2)
        ],
    }  # fmt: skip


def segment_ids() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    ids[5:15, 5:15], ids[50:] = 500, 70000
    return ids


def write_ids(path: Path, ids: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    channels = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1)
    Image.fromarray(channels.astype(np.uint8)).save(path)


def write_panoptic(root: Path, content: dict[str, Any]) -> Path:
    for n in (1, 2):
        write_picture(root / "images" / f"{n}.jpg", n)
        write_ids(root / "panoptic" / f"{n}.png", segment_ids())
    path = root / "panoptic.json"
    path.write_text(json.dumps(content))
    return path


def segment(content: dict[str, Any], position: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = content["annotations"][1]["segments_info"][position]
    return found


PLANTED: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "area": (
        lambda c: segment(c).update(area=5),
        "panoptic/2.png, segment 70000", "has 800 pixels in the PNG, area 5"),
    "box": (
        lambda c: segment(c).update(bbox=[0, 0, 9, 9]),
        "panoptic/2.png, segment 70000", "the box [0, 0, 9, 9] is not that of the mask"),
    "pixels that nobody lists": (
        lambda c: c["annotations"][1]["segments_info"].pop(),
        "panoptic/2.png, segment 70000", "800 pixels of the PNG, not in the JSON"),
    "segment without pixels": (
        lambda c: c["annotations"][1]["segments_info"].append({"id": 3, "category_id": 1}),
        "panoptic/2.png, segment 3", "has no pixel in the PNG"),
    "category": (
        lambda c: segment(c).update(category_id=4),
        "panoptic/2.png, segment 70000", "has category 4, which 'categories' does not name"),
    "id out of range": (
        lambda c: segment(c).update(id=256**3),
        "panoptic/2.png, segment 16777216", "the id is out of range"),
    "id twice": (
        lambda c: segment(c).update(id=500), "panoptic/2.png, segment 500", "occurs 2 times"),
    "isthing": (lambda c: c["categories"][0].pop("isthing"), "category 1", "isthing is None"),
    "PNG missing": (
        lambda c: c["annotations"][1].update(file_name="3.png"),
        "annotation of image 2", "there is no PNG '3.png' in panoptic"),
    "image unknown": (
        lambda c: c["annotations"][1].update(image_id=9),
        "annotation of image 9", "the image is not listed"),
    "image twice": (
        lambda c: c["annotations"].append(c["annotations"][0]),
        "annotation of image 1", "occurs twice"),
    "no segments": (
        lambda c: c["annotations"][1].pop("segments_info"),
        "annotation of image 2", "has no sound segments_info"),
}  # fmt: skip


def test_a_sound_panoptic_set_has_no_problem(tmp_path: Path) -> None:
    name, report = check_data(write_panoptic(tmp_path, panoptic_content()))
    assert (name, report.images, report.objects, report.problems) == ("panoptic", 2, 4, [])


@pytest.mark.parametrize("fault", PLANTED)
def test_each_planted_panoptic_fault_is_found_once(fault: str, tmp_path: Path) -> None:
    plant, where, what = PLANTED[fault]
    content = panoptic_content()
    plant(content)
    found = only_problem(write_panoptic(tmp_path, content))
    assert found.where == where
    assert what in found.what
    assert found.severity == "error"


def test_panoptic_pngs_of_another_size_mode_or_not_at_all(tmp_path: Path) -> None:
    path = write_panoptic(tmp_path, panoptic_content())
    png = tmp_path / "panoptic" / "2.png"
    write_ids(png, np.pad(segment_ids(), ((0, 0), (0, 4))))
    assert only_problem(path).what == "annotated as 84×60, the image is 80×60"
    Image.new("L", (WIDTH, HEIGHT)).save(png)
    assert only_problem(path).what == "the mask is PNG of mode L"
    png.write_bytes(b"")
    assert only_problem(path).what == "the file is empty (0 bytes)"


def test_the_real_panoptic_set_has_only_what_is_known_of_it(shared_data: Path) -> None:
    root = shared_data / "coco_mini"
    path = root / "panoptic_segmentation/annotations/panoptic_train2017.json"
    name, report = check_data(path, images=root / "images/train2017")
    assert (name, report.images, report.objects) == ("panoptic", 100, 1111)
    kinds = [p.what for p in report.problems]
    assert kinds.count("the JSON does not list this image") == 28
    assert kinds.count("covers 3 pixels") == 1
    assert len(kinds) == 29


# LabelMe


def labelme_content(n: int) -> dict[str, Any]:
    return {
        "version": "5.4.1", "imagePath": f"{n}.png", "imageData": None,
        "imageHeight": HEIGHT, "imageWidth": WIDTH,
        "shapes": [
            {"label": "cat", "shape_type": "polygon", "points": [[5, 5], [20, 5], [9, 30]]},
            {"label": "dog", "shape_type": "rectangle", "points": [[30, 5], [60, 30]]},
        ],
    }  # fmt: skip


def write_labelme(root: Path, change: Callable[[dict[str, Any]], Any] = lambda c: None) -> Path:
    for n in (1, 2):
        write_picture(root / f"{n}.png", n)
        content = labelme_content(n)
        if n == 2:
            change(content)
        (root / f"{n}.json").write_text(json.dumps(content))
    return root


def test_a_sound_labelme_set_has_no_problem(tmp_path: Path) -> None:
    name, report = check_data(write_labelme(tmp_path))
    assert (name, report.images, report.objects, report.problems) == ("labelme", 2, 4, [])


SHAPES: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "no label": (
        lambda c: c["shapes"][0].update(label=""), "2.json, shape 0", "its label is ''"),
    "two points": (
        lambda c: c["shapes"][0]["points"].pop(), "2.json, shape 0", "2 points, fewer than 3"),
    "a line": (
        lambda c: c["shapes"][1].update(shape_type="line"), "2.json, shape 1", "is a line"),
    "rectangle of one point": (
        lambda c: c["shapes"][1]["points"].pop(), "2.json, shape 1", "a rectangle of 1 points"),
    "point of three": (
        lambda c: c["shapes"][0]["points"][0].append(1), "2.json, shape 0", "no list of [x, y]"),
    "outside": (
        lambda c: c["shapes"][0].update(points=[[90, 5], [99, 5], [95, 30]]),
        "2.json, shape 0", "outside the 80×60 image"),
    "crossing": (
        lambda c: c["shapes"][0].update(points=[[5, 5], [40, 40], [40, 5], [5, 40]]),
        "2.json, shape 0", "crosses itself"),
    "size": (
        lambda c: c.update(imageWidth=70), "2.json", "annotated as 70×60, the image is 80×60"),
    "no shapes": (lambda c: c.pop("shapes"), "2.json", "has no list of objects 'shapes'"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SHAPES)
def test_each_planted_shape_is_found(fault: str, tmp_path: Path) -> None:
    change, where, what = SHAPES[fault]
    found = problems_of(write_labelme(tmp_path, change))
    assert (found[0].where, len({p.where for p in found})) == (where, 1)
    assert what in found[0].what
    # A shape outside the image has no pixel either.
    assert len(found) == (2 if fault == "outside" else 1)


def test_labelme_files_and_images_without_each_other(tmp_path: Path) -> None:
    root = write_labelme(tmp_path)
    write_picture(root / "3.png", 3)
    (root / "1.png").unlink()
    (root / "4.json").write_text("{")
    found = {p.where: p.what for p in problems_of(root)}
    assert found.pop("4.json, line 1").startswith("no JSON")
    assert found == {"1.json": "its image '1.png' is not there", "3.png": "has no JSON"}
