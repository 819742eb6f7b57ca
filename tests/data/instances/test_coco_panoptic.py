import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.instances.coco_panoptic import CocoPanoptic, panoptic_faults, read_segment_ids
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances
from pixelkin.structures import IGNORE

PERSON, CROWD, GRASS = 70000, 300, 2
IDS = np.array([[0, PERSON, PERSON, GRASS], [0, CROWD, CROWD, GRASS]])


def dataset() -> dict[str, Any]:
    return {
        "images": [
            {"id": 5, "file_name": "a.jpg", "height": 2, "width": 4},
            {"id": 6, "file_name": "b.jpg", "height": 2, "width": 4},
        ],
        "annotations": [
            {
                "image_id": 5,
                "file_name": "a.png",
                "segments_info": [
                    {"id": GRASS, "category_id": 11, "iscrowd": 0, "area": 2},
                    {"id": PERSON, "category_id": 20, "iscrowd": 0, "area": 2},
                    {"id": CROWD, "category_id": 3, "iscrowd": 1, "area": 2},
                ],
            }
        ],
        "categories": [
            {"id": 20, "name": "person", "isthing": 1},
            {"id": 11, "name": "grass", "isthing": 0},
            {"id": 3, "name": "car", "isthing": 1},
        ],
    }


def write(root: Path, content: dict[str, Any], ids: np.ndarray = IDS) -> Path:
    (root / "images").mkdir()
    Image.new("RGB", (4, 2)).save(root / "images" / "a.jpg")
    (root / "panoptic_train").mkdir()
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(root / "panoptic_train" / "a.png")
    path = root / "panoptic_train.json"
    path.write_text(json.dumps(content))
    return path


def test_things_are_instances_stuff_is_left_out_and_void_ignored(tmp_path: Path) -> None:
    data = CocoPanoptic(write(tmp_path, dataset()))
    assert data.class_names == ("car", "person")
    assert data.semantic_names == ("car", "grass", "person")
    assert data.names == ["a"]
    assert len(data) == 1
    sample = data[0]
    person, crowd = sample.instances
    assert (person.category, person.crowd, person.key) == (1, False, str(PERSON))
    assert (crowd.category, crowd.crowd, crowd.key) == (0, True, str(CROWD))
    np.testing.assert_array_equal(decode_rle(person.rle, (2, 4)), IDS == PERSON)
    np.testing.assert_array_equal(decode_rle(crowd.rle, (2, 4)), IDS == CROWD)
    assert sample.ignore is not None
    np.testing.assert_array_equal(decode_rle(sample.ignore, (2, 4)), IDS == 0)
    assert paint_instances(sample).labels.tolist() == [[255, 1, 1, 0], [255, 255, 255, 0]]
    assert data.semantic(0).tolist() == [[IGNORE, 2, 2, 1], [IGNORE, 0, 0, 1]]


@given(st.lists(st.integers(0, 256**3 - 1), min_size=4, max_size=4))
@settings(max_examples=30)
def test_ids_come_back_from_the_colours(tmp_path_factory: Any, values: list[int]) -> None:
    root = tmp_path_factory.mktemp("ids")
    ids = np.array(values).reshape(2, 2)
    rgb = [[(v & 255, v >> 8 & 255, v >> 16) for v in row] for row in ids.tolist()]
    Image.fromarray(np.array(rgb, np.uint8)).save(root / "a.png")
    np.testing.assert_array_equal(read_segment_ids(root / "a.png"), ids)


@pytest.mark.parametrize(
    ("ids", "change", "message"),
    [
        (np.where(IDS == CROWD, 0, IDS), {}, "segment 300 has no pixel in the PNG"),
        (np.where(IDS == 0, 9, IDS), {}, "2 pixels of the PNG have the id 9, which the JSON"),
        (IDS, {"area": 3}, "segment 2 has 2 pixels in the PNG, area 3 in the JSON"),
        (IDS[:, :3], {}, "a.png is 3×2: expected 4×2 as its image"),
    ],
)
def test_png_and_json_that_disagree_are_named(
    tmp_path: Path, ids: np.ndarray, change: dict[str, Any], message: str
) -> None:
    content = dataset()
    content["annotations"][0]["segments_info"][0].update(change)
    data = CocoPanoptic(write(tmp_path, content, ids))
    with pytest.raises(PixelkinError, match=message) as caught:
        data[0]
    assert "a.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_rgb_png_is_read(tmp_path: Path) -> None:
    data = CocoPanoptic(write(tmp_path, dataset()))
    mask = tmp_path / "panoptic_train" / "a.png"
    Image.new("L", (4, 2)).save(mask)
    with pytest.raises(PixelkinError, match="PNG of mode L: expected an RGB PNG"):
        data[0]
    Image.new("RGB", (4, 2)).save(mask, format="JPEG")
    with pytest.raises(PixelkinError, match="JPEG of mode RGB: expected an RGB PNG"):
        data[0]
    mask.unlink()
    with pytest.raises(PixelkinError, match=r"no panoptic mask file .*a\.png"):
        data[0]


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("annotations", {"image_id": 9}, "the annotation of image 9 is of no image"),
        ("annotations", {"image_id": [5]}, r"the annotation of image \[5\] is of no image"),
        ("annotations", {"file_name": None}, "the annotation of image 5 has no file_name"),
        ("annotations", {"segments_info": None}, "no segments_info: .* is this a panoptic JSON"),
        (
            "annotations",
            {"segments_info": [{"id": 1, "category_id": 3}] * 2},
            "the annotation of image 5: segment id 1 occurs twice",
        ),
        (
            "annotations",
            {"segments_info": [{"id": 0, "category_id": 3}]},
            "segment id 0 is out of range",
        ),
        (
            "annotations",
            {"segments_info": [{"id": 1, "category_id": 8}]},
            "segment 1 has category id 8, which has no name",
        ),
        ("categories", {"isthing": None}, "category 20 has no isthing"),
        ("categories", {"id": 3}, "category id 3 occurs twice"),
        ("images", {"id": 6}, "image id 6 occurs twice"),
    ],
)
def test_a_contradiction_is_named(
    tmp_path: Path, table: str, change: dict[str, Any], message: str
) -> None:
    content = dataset()
    content[table][0].update(change)
    path = write(tmp_path, content)
    with pytest.raises(PixelkinError, match=message) as caught:
        CocoPanoptic(path)
    assert str(caught.value).startswith(str(path))


def test_an_image_annotated_twice_is_found() -> None:
    content = dataset()
    content["annotations"] *= 2
    assert [fault for fault in panoptic_faults(content) if "occurs twice" in fault]


def test_coco_mini_against_plain_reading(shared_data: Path) -> None:
    root = shared_data / "coco_mini"
    path = root / "panoptic_segmentation" / "annotations" / "panoptic_train2017.json"
    data = CocoPanoptic(path, root / "images" / "train2017")
    assert len(data) == 100
    assert (len(data.class_names), len(data.semantic_names)) == (80, 133)
    content = json.loads(path.read_text())
    name_of = {c["id"]: c["name"] for c in content["categories"]}
    things = {c["id"] for c in content["categories"] if c["isthing"]}
    compared = 0
    for index in range(0, 100, 8):
        annotation = content["annotations"][index]
        with Image.open(path.with_suffix("") / annotation["file_name"]) as image:
            red, green, blue = (np.asarray(band, np.int64) for band in image.split())
        ids = red + 256 * green + 256 * 256 * blue
        sample, classes = data[index], data.semantic(index)
        of_id = {int(one.key): one for one in sample.instances}
        for segment in annotation["segments_info"]:
            inside = ids == segment["id"]
            assert {data.semantic_names[c] for c in classes[inside]} == {
                name_of[segment["category_id"]]
            }
            if segment["category_id"] not in things:
                assert segment["id"] not in of_id
                continue
            one = of_id.pop(segment["id"])
            np.testing.assert_array_equal(decode_rle(one.rle, sample.size_hw), inside)
            assert data.class_names[one.category] == name_of[segment["category_id"]]
            assert one.crowd == bool(segment["iscrowd"])
            compared += 1
        assert not of_id
        assert ((classes == IGNORE) == (ids == 0)).all()
    assert compared > 50
