import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_sets import (
    HEIGHT,
    SQUARE,
    WIDTH,
    coco_content,
    only_problem,
    problems_of,
    rectangle,
    rle,
    write_coco,
    write_picture,
)

from pixelkin.checking.check import check_data
from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.errors import PixelkinError


def first(content: dict[str, Any], **changes: Any) -> None:
    content["annotations"][0].update(changes)


def second(content: dict[str, Any], **changes: Any) -> None:
    content["annotations"][1].update(changes)


def without(content: dict[str, Any], *keys: str) -> None:
    for key in keys:
        del content["annotations"][0][key]


RING = [10, 10, 50, 10, 50, 50, 10, 50, 20, 20, 40, 20, 40, 40, 20, 40]
FAR = rectangle(2, 2, 6, 6) | rectangle(50, 70, 6, 6)
A1, A2 = "annotation 11 (1.png)", "annotation 12 (2.png)"

PLANTED: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str, str]] = {
    "crowd as polygon": (
        lambda c: first(c, iscrowd=1), A1, "is a crowd, but stored as polygon", "warning"),
    "polygon of two points": (
        lambda c: first(c, segmentation=[[10, 10, 30, 30]]), A1, "2 points, fewer than 3", "error"),
    "odd coordinates": (
        lambda c: first(c, segmentation=[SQUARE[:-1]]), A1, "7 coordinates, an odd", "error"),
    "NaN": (
        lambda c: first(c, segmentation=[[float("nan"), *SQUARE[1:]]]), A1, "holds nan", "error"),
    "text among numbers": (
        lambda c: first(c, segmentation=[["x", *SQUARE[1:]]]), A1, "holds 'x'", "error"),
    "hole by self-intersection": (
        lambda c: (first(c, segmentation=[RING]), without(c, "bbox", "area")),
        A1, "crosses itself", "warning"),
    "hole as part inside": (
        lambda c: first(c, segmentation=[SQUARE, [15, 15, 20, 15, 20, 20, 15, 20]]),
        A1, "polygon 2 lies inside polygon 1", "warning"),
    "RLE of another size": (
        lambda c: second(c, segmentation=rle(rectangle(20, 40, 10, 20).T)),
        A2, "RLE is 60×80, the image 80×60", "error"),
    "RLE string that does not decode": (
        lambda c: second(c, segmentation={"size": [HEIGHT, WIDTH], "counts": "garbage"}),
        A2, "does not decode", "error"),
    "RLE list with a wrong sum": (
        lambda c: second(c, segmentation={"size": [HEIGHT, WIDTH], "counts": [5, 5]}),
        A2, "do not add up to 80×60 = 4800", "error"),
    "box outside": (
        lambda c: first(c, bbox=[70, 10, 20, 20]), A1, "leaves the 80×60 image", "error"),
    "box of no size": (lambda c: first(c, bbox=[10, 10, 0, 20]), A1, "the box is", "error"),
    "box of another object": (
        lambda c: first(c, bbox=[40, 30, 20, 20]),
        A1, "the box [40, 30, 20, 20] is not that of the mask, [10, 10, 20, 20]", "error"),
    "category without entry": (
        lambda c: second(c, category_id=99),
        "category 99", "used by annotation 12 (2.png), but 'categories' does not", "error"),
    "category without name": (
        lambda c: c["categories"][1].pop("name"), "category 7", "has no name", "error"),
    "annotation id twice": (
        lambda c: second(c, id=11), "annotation 11", "the id occurs 2 times", "error"),
    "annotation without id": (
        lambda c: without(c, "id"), "annotation at position 0", "its id is None", "error"),
    "image id twice": (
        lambda c: c["images"][2].update(id=2), "image 2", "the id occurs 2 times", "error"),
    "file name twice": (
        lambda c: c["images"].append({**c["images"][2], "id": 4}),
        "image 4 (3.png)", "has the file name of image 3", "error"),
    "size differs from the file": (
        lambda c: c["images"][2].update(height=61),
        "image 3 (3.png)", "annotated as 80×61, the image is 80×60", "error"),
    "unknown image id": (
        lambda c: first(c, image_id=99), "annotation 11", "image 99, which is not", "error"),
    "mask without a pixel": (
        lambda c: second(c, segmentation=rle(rectangle(0, 0, 0, 0))), A2, "no pixel", "error"),
    "tiny mask": (
        lambda c: second(c, segmentation=rle(rectangle(20, 40, 1, 2)), bbox=[40, 20, 2, 1], area=2),
        A2, "covers 2 pixels", "warning"),
    "area wrong by far": (
        lambda c: first(c, area=9.0), A1, "the area is 9, the mask has 400 pixels", "error"),
    "area zero": (lambda c: first(c, area=0), A1, "the area is 0", "error"),
    "two far parts": (
        lambda c: second(c, segmentation=rle(FAR), bbox=[2, 2, 74, 54], area=72),
        A2, "one object of 2 large parts", "warning"),
    "no segmentation": (lambda c: without(c, "segmentation"), A1, "has no segmentation", "error"),
    "segmentation of nothing known": (
        lambda c: first(c, segmentation=3), A1, "segmentation is a int", "error"),
    "polygon partly outside": (
        lambda c: (first(c, segmentation=[[60, 10, 90, 10, 90, 30, 60, 30]]),
                   without(c, "bbox", "area")),
        A1, "the point (90, 10) outside the 80×60 image", "warning"),
    "the same object twice": (
        lambda c: c["annotations"].append({**c["annotations"][0], "id": 14}),
        "annotation 14 (1.png)", "the very mask and category of annotation 11 (1.png)", "warning"),
    "no annotation at all": (
        lambda c: c.update(annotations=[]), "instances.json", "holds no annotation", "error"),
    "image without file name": (
        lambda c: c["images"][2].pop("file_name"), "image 3", "its file_name is None", "error"),
}  # fmt: skip


def test_a_sound_set_has_no_problem(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco_content())
    name, report = check_data(path)
    assert name == "coco"
    assert report.problems == []
    assert (report.images, report.objects, report.empty_images) == (3, 3, 1)


@pytest.mark.parametrize("fault", PLANTED)
def test_each_planted_fault_is_found_once_with_its_place(fault: str, tmp_path: Path) -> None:
    plant, where, what, severity = PLANTED[fault]
    content = coco_content()
    plant(content)
    path = write_coco(tmp_path, content)
    if fault == "image without file name":
        (tmp_path / "images" / "3.png").unlink()
    found = only_problem(path, format="coco")
    assert found.where == where
    assert what in found.what
    assert found.severity == severity


def test_all_faults_at_once_are_all_found(tmp_path: Path) -> None:
    content = coco_content()
    names = [
        "polygon of two points",
        "RLE string that does not decode",
        "size differs from the file",
    ]
    for name in names:
        PLANTED[name][0](content)
    found = problems_of(write_coco(tmp_path, content))
    assert sorted(p.where for p in found) == sorted(PLANTED[name][1] for name in names)


def test_files_that_are_listed_missing_empty_huge_or_unlisted(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco_content())
    images = tmp_path / "images"
    (images / "1.png").unlink()
    (images / "2.png").write_bytes(b"")
    content = coco_content()
    content["images"][2].update(height=15000, width=20000)
    path.write_text(json.dumps(content))
    Image.new("1", (20000, 15000)).save(images / "3.png")
    write_picture(images / "new.png", 9)
    found = {p.where: (p.what, p.severity) for p in problems_of(path)}
    assert found.pop("image 1 (1.png)") == ("there is no file images/1.png", "error")
    assert found.pop("images/2.png") == ("the file is empty (0 bytes)", "error")
    assert found.pop("images/3.png") == ("the image has 300 megapixels", "error")
    assert found.pop("images/new.png") == ("the JSON does not list this image", "warning")
    assert found == {}


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "instances.json", "the file is empty"),
        ('{"images": [],\n "annotations": [}', "instances.json, line 2", "no JSON"),
    ],
)
def test_a_broken_json_is_one_problem(text: str, where: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text)
    found = only_problem(path)
    assert found.where == where
    assert what in found.what


def test_a_list_of_results_is_no_data_set(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text("[]")
    assert [p.what for p in problems_of(path)] == [
        f"has no list '{name}'" for name in ("categories", "images", "annotations")
    ]


def test_exif_that_lays_the_image_on_its_side_is_told_from_a_wrong_size(tmp_path: Path) -> None:
    path = write_coco(tmp_path, coco_content())
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(tmp_path / "images" / "1.png") as image:
        image.save(tmp_path / "images" / "1.png", exif=exif)
    found = only_problem(path)
    assert found.where == "image 1 (1.png)"
    assert found.what == "annotated as 80×60, but its EXIF (orientation 6) turns the image to 60×80"


def read_all(path: Path) -> int:
    source = CocoJson(path)
    return len([source[i] for i in range(len(source))])


def test_the_loader_refuses_what_is_an_error_and_reads_what_is_a_warning(tmp_path: Path) -> None:
    """But for boxes, areas, and masks and tables that are empty: it makes do without them."""
    unread = ("box", "area", "mask without", "no annotation at all")
    for fault, (plant, _, _, severity) in PLANTED.items():
        content = coco_content()
        plant(content)
        path = write_coco(tmp_path, content)
        if severity == "warning" or fault.startswith(unread):
            assert read_all(path) == 3, fault
        else:
            with pytest.raises(PixelkinError):
                read_all(path)
