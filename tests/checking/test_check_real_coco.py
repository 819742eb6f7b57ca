"""Faults planted in real photos: a COCO JSON made of the polygons of a real YOLO-seg set."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from small_sets import problems_of

from pixelkin.checking.check import check_data

_STEMS = ("000000000025", "000000000034", "000000000036", "000000000042")


def convert(shared: Path, stems: list[str]) -> dict[str, Any]:
    images, annotations = [], []
    for number, stem in enumerate(stems, start=1):
        with Image.open(shared / f"coco_mini/images/train2017/{stem}.jpg") as image:
            width, height = image.size
        images.append({"id": number, "file_name": f"{stem}.jpg", "height": height, "width": width})
        text = shared / f"coco_mini/instance_segmentation/labels/train2017/{stem}.txt"
        for line in text.read_text().splitlines():
            category, *values = line.split()
            points = [float(v) * (width, height)[k % 2] for k, v in enumerate(values)]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": int(category),
                 "iscrowd": 0, "segmentation": [points]}
            )  # fmt: skip
    categories = [
        {"id": key, "name": f"c{key}"} for key in sorted({a["category_id"] for a in annotations})
    ]
    return {"images": images, "categories": categories, "annotations": annotations}


@pytest.fixture
def real(shared_data: Path, tmp_path: Path) -> Path:
    for stem in _STEMS:
        source = shared_data / f"coco_mini/images/train2017/{stem}.jpg"
        shutil.copy(source, tmp_path / source.name)
    (tmp_path / "real.json").write_text(json.dumps(convert(shared_data, list(_STEMS))))
    return tmp_path / "real.json"


def test_real_photos_as_they_are(real: Path) -> None:
    assert problems_of(real) == []


def test_twenty_faults_at_once_in_real_photos(real: Path) -> None:
    content = json.loads(real.read_text())
    rows = content["annotations"]
    template = dict(rows[0])
    size = [content["images"][0]["height"], content["images"][0]["width"]]
    square = [100, 100, 200, 100, 200, 200, 100, 200]

    def add(key: int, **changes: Any) -> None:
        rows.append({**template, "id": key, **changes})

    add(101, iscrowd=1, segmentation=[[10, 10, 90, 10, 90, 80]])
    add(102, segmentation=[[10, 10, 90, 90]])
    add(103, segmentation=[square[:-1]])
    add(104, segmentation=[[float("nan"), *square[1:]]])
    add(105, segmentation=[[100, 100, 200, 200, 200, 100, 100, 200]])
    add(106, segmentation=[square, [120, 120, 150, 120, 150, 150]])
    add(107, segmentation={"size": size[::-1], "counts": [size[0] * size[1]]})
    add(108, segmentation={"size": size, "counts": "garbage"})
    add(109, segmentation=[[5, 5, 60, 5, 60, 60]], bbox=[600, 5, 160, 55])
    add(110, segmentation=[[5, 5, 70, 5, 70, 70]], bbox=[300, 200, 65, 65])
    add(111, segmentation=[[5, 9, 70, 9, 70, 70]], category_id=999)
    add(112, segmentation=[[5, 8, 70, 8, 70, 70]])
    add(112, segmentation=[[5, 7, 70, 7, 70, 70]])
    add(113, segmentation=[[5, 6, 70, 6, 70, 70]], image_id=77)
    add(114, segmentation=[[5, 5, 50, 5, 50, 50]], area=9e6)
    add(115, segmentation=[[5, 5, 6, 5, 6, 6]])
    add(116, segmentation=[[5, 5, 20, 5, 20, 20], [500, 300, 520, 300, 520, 320]])
    content["images"].append({**content["images"][1]})
    content["images"][2]["height"] += 1
    content["images"].append({"id": 50, "file_name": "gone.jpg", "height": 9, "width": 9})
    for key, name in ((51, "empty.jpg"), (52, "copy.jpg"), (53, "huge.png")):
        content["images"].append({"id": key, "file_name": name})
    real.write_text(json.dumps(content))
    (real.parent / "empty.jpg").write_bytes(b"")
    shutil.copy(real.parent / f"{_STEMS[3]}.jpg", real.parent / "copy.jpg")
    Image.new("1", (20000, 15000)).save(real.parent / "huge.png")

    found = [f"{p.where}: {p.what}" for p in problems_of(real)]
    here = f"({_STEMS[0]}.jpg)"
    expected = [
        f"annotation 101 {here}: is a crowd, but stored as polygon",
        f"annotation 102 {here}: polygon has 2 points",
        f"annotation 103 {here}: polygon has 7 coordinates",
        f"annotation 104 {here}: polygon holds nan",
        f"annotation 105 {here}: polygon crosses itself",
        f"annotation 106 {here}: polygon 2 lies inside polygon 1",
        f"annotation 107 {here}: RLE is ",
        f"annotation 108 {here}: RLE does not decode",
        f"annotation 109 {here}: the box [600, 5, 160, 55] leaves the ",
        f"annotation 110 {here}: the box [300, 200, 65, 65] is not that of the mask",
        "category 999: ",
        "annotation 112: the id occurs 2 times",
        "annotation 113: is of image 77, which is not listed",
        f"annotation 114 {here}: the area is 9e+06",
        f"annotation 115 {here}: its mask covers",
        f"annotation 116 {here}: one object of 2 large parts",
        "image 2: the id occurs 2 times",
        f"image 2 ({_STEMS[1]}.jpg): has the file name of image 2",
        f"image 3 ({_STEMS[2]}.jpg): annotated as ",
        "image 50 (gone.jpg): there is no file gone.jpg",
        "empty.jpg: the file is empty",
        f"copy.jpg: has the very pixels of {_STEMS[3]}.jpg",
        "huge.png: the image has 300 megapixels",
    ]
    for start in expected:
        assert sum(line.startswith(start) for line in found) == 1, start
    assert len(found) == len(expected)


def test_all_real_photos_as_coco(shared_data: Path, tmp_path: Path) -> None:
    labels = shared_data / "coco_mini/instance_segmentation/labels/train2017"
    stems = sorted(path.stem for path in labels.iterdir())[:40]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(convert(shared_data, stems)))
    _, report = check_data(path, images=shared_data / "coco_mini/images/train2017")
    assert report.images == 40
    listed = [p for p in report.problems if "not list" not in p.what]
    assert {p.what.split(":")[0] for p in listed} <= {"polygon crosses itself"}
