import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO

from pixelkin.data.instances.coco_json import (
    CocoJson,
    coco_faults,
    image_name,
    polygons_rle,
    segmentation_rle,
)
from pixelkin.data.instances.yolo_seg import read_class_names, read_objects
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, encode_rle, paint_instances

SQUARE = [[2, 1, 6, 1, 6, 4, 2, 4]]


def dataset() -> dict[str, Any]:
    return {
        "images": [
            {"id": 7, "file_name": "b.png", "height": 8, "width": 10},
            {"id": 3, "file_name": "a.png", "height": 8, "width": 10},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "segmentation": SQUARE, "iscrowd": 0},
            {
                "id": 2,
                "image_id": 3,
                "category_id": 4,
                "segmentation": {"size": [8, 10], "counts": [0, 80]},
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 4, "name": "motorcycle"}],
    }


def write(root: Path, content: Any, images: str = "images") -> Path:
    (root / images).mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (10, 8), (9, 8, 7)).save(root / images / name)
    path = root / "instances_train.json"
    path.write_text(json.dumps(content))
    return path


def test_categories_in_id_order_crowd_and_empty_images(tmp_path: Path) -> None:
    data = CocoJson(write(tmp_path, dataset()))
    assert data.class_names == ("motorcycle", "toothbrush")
    assert data.names == ["b", "a"]
    assert len(data) == 2
    assert data[0].instances == ()
    assert data[0].image[0, 0].tolist() == [9, 8, 7]
    one, crowd = data[1].instances
    assert (one.category, one.crowd, one.key) == (1, False, "1")
    assert (crowd.category, crowd.crowd, crowd.key) == (0, True, "2")
    expected = np.zeros((8, 10), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(decode_rle(one.rle, (8, 10)), expected)
    assert decode_rle(crowd.rle, (8, 10)).all()
    painted = paint_instances(data[1])
    assert painted.categories == (1,)
    assert sorted(np.unique(painted.labels)) == [1, 255]


@pytest.mark.parametrize("folder", [".", "images", "train", "../images", "../images/train", ".."])
def test_images_are_found_around_the_json(tmp_path: Path, folder: str) -> None:
    (tmp_path / "annotations").mkdir()
    path = write(tmp_path / "annotations", dataset(), folder)
    assert CocoJson(path)[1].name == "a"


def test_images_of_another_machine_are_found_by_bare_name(tmp_path: Path) -> None:
    content = dataset()
    content["images"][0]["file_name"] = "C:\\data\\b.png"
    content["images"][1]["file_name"] = "../else/where/a.png"
    data = CocoJson(write(tmp_path, content, "photos"), tmp_path / "photos")
    assert data.names == ["data/b", "else/where/a"]
    assert data[1].size_hw == (8, 10)
    with pytest.raises(PixelkinError, match="give it as images_dir"):
        CocoJson(tmp_path / "instances_train.json")


def test_names_never_lead_out_of_a_folder() -> None:
    assert image_name("/etc/../../x.y.jpg") == "etc/x.y"
    assert image_name("..") == ""


polygons = st.lists(
    st.lists(
        st.tuples(st.floats(-13, 26), st.floats(-9, 18)).map(
            lambda point: (round(point[0], 2), round(point[1], 2))
        ),
        min_size=3,
        max_size=9,
    ),
    min_size=1,
    max_size=4,
)


@given(polygons)
@settings(max_examples=100)
def test_polygons_equal_pycocotools(parts: list[list[tuple[float, float]]]) -> None:
    flat = [[value for point in part for value in point] for part in parts]
    height, width = 9, 13
    outside = any(
        max(x) < 0 or max(y) < 0 or min(x) > width or min(y) > height
        for x, y in (zip(*part, strict=True) for part in parts)
    )
    if outside:
        with pytest.raises(PixelkinError, match="lies outside the image"):
            polygons_rle(flat, (height, width), where="x")
        return
    counts = polygons_rle(flat, (height, width), where="x")
    assert counts == reference.merge(reference.frPyObjects(flat, height, width))["counts"]


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_run_lengths_as_list_and_as_string_give_the_mask(
    height: int, width: int, data: st.DataObject
) -> None:
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = np.array(bits).reshape(height, width)
    lengths, value = [0], False
    for bit in mask.ravel(order="F"):
        if bit != value:
            lengths.append(0)
            value = bool(bit)
        lengths[-1] += 1
    string = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    for counts in (lengths, [float(n) for n in lengths], string):
        rle = segmentation_rle(
            {"size": [height, width], "counts": counts}, (height, width), where="x"
        )
        np.testing.assert_array_equal(decode_rle(rle, (height, width)), mask)
        assert rle == encode_rle(mask)


def test_parts_make_a_union_and_a_bare_polygon_is_one_part() -> None:
    inner = [3, 2, 5, 2, 5, 3, 3, 3]
    whole = segmentation_rle(SQUARE, (8, 10), where="x")
    assert segmentation_rle([*SQUARE, inner], (8, 10), where="x") == whole
    assert segmentation_rle(SQUARE[0], (8, 10), where="x") == whole


def test_a_polygon_too_thin_for_a_pixel_stays_an_instance(tmp_path: Path) -> None:
    content = dataset()
    content["annotations"][0]["segmentation"] = [[2.1, 2.1, 2.2, 2.1, 2.2, 2.2]]
    instance = CocoJson(write(tmp_path, content))[1].instances[0]
    assert not decode_rle(instance.rle, (8, 10)).any()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "annotation 1 has no segmentation: .* a box alone"),
        ([], "annotation 1 has no segmentation"),
        ([[1, 1, 5, 5]], "annotation 1, polygon 0 has 4 values: .* at least 3 points"),
        ([*SQUARE, [1, 1, 5, 5, 2]], "annotation 1, polygon 1 has 5 values"),
        ([[1, 1, 5, 5, 2, "x"]], "polygon 0 holds no plain list of numbers"),
        ([[[1, 1], [5, 5], [2, 5]]], "polygon 0 has 6 values: expected x and y"),
        ([[1, 1, 5, 5, 2, float("nan")]], "a point at 2, nan"),
        ([[1, 1, 5, 5, 1e9, 2]], r"outside the image of 10×8, with a point at 1e\+09, 2"),
        ([[-5, 1, -2, 5, -3, 2]], "outside the image of 10×8, with a point at -5, 1"),
        ({"size": [10, 8], "counts": [0, 80]}, r"run lengths of size \[10, 8\]: expected \[8, 10"),
        ({"size": [8, 10], "counts": [0, 79]}, "annotation 1 has run lengths .*decoded 79 pixels"),
        ({"size": [8, 10], "counts": [0, 81]}, "run lengths .*exceed the mask"),
        ({"size": [8, 10], "counts": [90, -10]}, "not all are whole numbers"),
        ({"size": [8, 10], "counts": [0, 79.5]}, "not all are whole numbers"),
        ({"size": [8, 10], "counts": ["x"]}, "run lengths that do not describe"),
        ({"size": [8, 10], "counts": "0Z"}, "run lengths that do not describe"),
        ({"size": [8, 10], "counts": "§"}, "run lengths that do not describe"),
        ({"size": [8, 10]}, "run lengths that do not describe"),
        ("abc", "a segmentation of type str"),
    ],
)
def test_a_bad_segmentation_is_named(tmp_path: Path, segmentation: Any, message: str) -> None:
    content = dataset()
    content["annotations"][0]["segmentation"] = segmentation
    data = CocoJson(write(tmp_path, content))
    assert data[0].instances == ()
    with pytest.raises(PixelkinError, match=message) as caught:
        data[1]
    assert "instances_train.json: annotation 1" in str(caught.value)
    assert "\n" not in str(caught.value)


numbers = st.one_of(st.integers(), st.floats(), st.just(10**400))
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=20,
)


@given(
    st.one_of(
        junk,
        st.lists(st.lists(numbers, min_size=6, max_size=8), min_size=1, max_size=2),
        st.fixed_dictionaries(
            {"size": st.just([8, 10]), "counts": junk | st.lists(numbers) | st.text()}
        ),
    )
)
@settings(max_examples=150)
def test_nonsense_is_refused_in_one_line_or_gives_a_mask_of_the_size(segmentation: Any) -> None:
    try:
        rle = segmentation_rle(segmentation, (8, 10), where="here")
    except PixelkinError as error:
        refusal = str(error)
    else:
        assert decode_rle(rle, (8, 10)).shape == (8, 10)
        return
    assert refusal.startswith("here")
    assert "\n" not in refusal


FAULTS: list[tuple[str, int, dict[str, Any], str]] = [
    ("annotations", 0, {"id": 2}, "annotation id 2 occurs twice"),
    ("annotations", 0, {"id": None}, "annotation at position 0 has id None"),
    ("annotations", 0, {"image_id": 99}, "annotation 1 is of image 99"),
    ("annotations", 0, {"image_id": [3]}, r"annotation 1 is of image \[3\]"),
    ("annotations", 0, {"category_id": 5}, "annotation 1 has category id 5, which has no name"),
    ("annotations", 0, {"category_id": None}, "annotation 1 has category id None"),
    ("annotations", 0, {"iscrowd": 3}, "annotation 1 has iscrowd 3"),
    ("images", 0, {"id": 3}, "image id 3 occurs twice"),
    ("images", 0, {"file_name": None}, "image 7 has file_name None"),
    ("images", 0, {"file_name": "a.jpg"}, "image 7 and image 3 are both named a"),
    ("images", 0, {"height": -1}, "image 7 has height -1"),
    ("images", 0, {"width": "10"}, "image 7 has width '10'"),
    ("categories", 0, {"id": 4}, "category id 4 occurs twice"),
    ("categories", 1, {"id": "x"}, "category id 'x' is no integer"),
    ("categories", 0, {"name": ""}, "category 90 has no name"),
]


@pytest.mark.parametrize(("table", "row", "change", "message"), FAULTS)
def test_a_contradiction_is_named(
    tmp_path: Path, table: str, row: int, change: dict[str, Any], message: str
) -> None:
    content = dataset()
    content[table][row].update(change)
    path = write(tmp_path, content)
    with pytest.raises(PixelkinError, match=message) as caught:
        CocoJson(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_every_fault_is_found_not_the_first_alone() -> None:
    content = copy.deepcopy(dataset())
    assert list(coco_faults(content)) == []
    content["annotations"][0].update(id=2, category_id=5)
    content["images"][0]["width"] = 0
    assert len(list(coco_faults(content))) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ('{"images": [', "cannot read the annotation file"),
        ("[]", "holds a list: expected a COCO data set"),
        ('{"images": [], "annotations": []}', "no list of objects 'categories'"),
        ('{"images": [3], "annotations": [], "categories": []}', "no list of objects 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no image"),
    ],
)
def test_a_file_that_is_no_data_set_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(PixelkinError, match=message) as caught:
        CocoJson(path)
    assert "x.json" in str(caught.value)


def test_a_faulty_image_is_named_with_its_id(tmp_path: Path) -> None:
    content = dataset()
    content["images"][0]["width"] = 11
    data = CocoJson(write(tmp_path, content))
    with pytest.raises(PixelkinError, match=r"image 7 is listed as 11×8, but .*b\.png is 10×8"):
        data[0]
    (tmp_path / "images" / "a.png").unlink()
    with pytest.raises(PixelkinError, match=r"image 3 is missing: no file .*a\.png"):
        data[1]
    (tmp_path / "images" / "a.png").touch()
    with pytest.raises(PixelkinError, match=r"a\.png: the file is empty"):
        data[1]


def test_a_size_that_is_not_listed_is_that_of_the_file(tmp_path: Path) -> None:
    content = dataset()
    del content["images"][1]["width"]
    assert CocoJson(write(tmp_path, content))[1].size_hw == (8, 10)


def test_coco_mini_equals_pycocotools(shared_data: Path, tmp_path: Path) -> None:
    root = shared_data / "coco_mini"
    images_dir = root / "images" / "train2017"
    folder = root / "instance_segmentation"
    content: dict[str, Any] = {"images": [], "annotations": []}
    content["categories"] = [
        {"id": key, "name": name} for key, name in read_class_names(folder / "config.yaml").items()
    ]
    for path in sorted(images_dir.glob("*.jpg"))[::5]:
        with Image.open(path) as image:
            width, height = image.size
        image_id = int(path.stem)
        content["images"].append(
            {"id": image_id, "file_name": path.name, "height": height, "width": width}
        )
        labels = folder / "labels" / "train2017" / f"{path.stem}.txt"
        for one in read_objects(labels) if labels.is_file() else []:
            segmentation: Any = [(one.points * (width, height)).ravel().tolist()]
            # Every third as run lengths, alternately as list and as string.
            form = len(content["annotations"]) % 6
            if form in (2, 5):
                rle = reference.frPyObjects(segmentation, height, width)[0]
                segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            if form == 5:
                mask = reference.decode(rle).ravel(order="F")
                edges = np.flatnonzero(np.diff(mask, prepend=0)).tolist()
                segmentation["counts"] = np.diff([0, *edges, mask.size]).tolist()
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": one.class_id,
                    "segmentation": segmentation,
                    "iscrowd": int(form == 4),
                }
            )
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    data, oracle = CocoJson(path, images_dir), COCO(str(path))
    compared = 0
    for index, image in enumerate(content["images"]):
        sample = data[index]
        annotations = oracle.imgToAnns[image["id"]]
        assert [one.key for one in sample.instances] == [str(one["id"]) for one in annotations]
        for one, annotation in zip(sample.instances, annotations, strict=True):
            expected = oracle.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(decode_rle(one.rle, sample.size_hw), expected)
            assert data.class_names[one.category] == oracle.cats[annotation["category_id"]]["name"]
            assert one.crowd == bool(annotation["iscrowd"])
            compared += 1
    assert compared > 100
    assert any(not data[i].instances for i in range(len(data)))
