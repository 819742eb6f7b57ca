import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.instances.coco_json import polygons_rle
from pixelkin.data.instances.labelme import LabelMe
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances


def shape(label: str, points: Any, kind: str = "polygon", group: Any = None) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": group,
        "shape_type": kind,
        "flags": {},
    }


def write(root: Path, *shapes: Any, stem: str = "a", **change: Any) -> Path:
    root.mkdir(exist_ok=True)
    Image.new("RGB", (12, 8), (1, 2, 3)).save(root / f"{stem}.png")
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{stem}.png",
        "imageData": None,
        "imageHeight": 8,
        "imageWidth": 12,
    }
    (root / f"{stem}.json").write_text(json.dumps(content | change))
    return root


SQUARE = [[1, 1], [4, 1], [4, 3], [1, 3]]


def test_shapes_become_instances_and_groups_are_joined(tmp_path: Path) -> None:
    write(
        tmp_path,
        shape("dog", SQUARE, group=1),
        shape("cat", [[5, 0], [7, 2]], "rectangle", group=1),
        shape("dog", [[11, 8], [9, 6]], "rectangle", group=1),
        shape("dog", SQUARE),
    )
    write(tmp_path, stem="b")
    data = LabelMe(tmp_path)
    assert data.names == ["a", "b"]
    assert data.class_names == ("cat", "dog")
    assert data[1].instances == ()
    sample = data[0]
    assert sample.image[0, 0].tolist() == [1, 2, 3]
    assert [data.class_names[one.category] for one in sample.instances] == ["dog", "cat", "dog"]
    assert [one.key for one in sample.instances] == ["group 1", "group 1", "shape 3"]
    dog = np.zeros((8, 12), bool)
    dog[1:3, 1:4] = True
    np.testing.assert_array_equal(decode_rle(sample.instances[2].rle, (8, 12)), dog)
    dog[6:8, 9:11] = True
    np.testing.assert_array_equal(decode_rle(sample.instances[0].rle, (8, 12)), dog)
    cat = np.zeros((8, 12), bool)
    cat[0:2, 5:7] = True
    np.testing.assert_array_equal(decode_rle(sample.instances[1].rle, (8, 12)), cat)
    assert sample.ignore is None


@given(st.floats(0, 12), st.floats(0, 8), st.floats(0.8, 20))
@settings(max_examples=40)
def test_circles_equal_plain_loops(
    tmp_path_factory: Any, centre_x: float, centre_y: float, radius_px: float
) -> None:
    root = tmp_path_factory.mktemp("circle")
    rim = [centre_x, centre_y + radius_px]
    write(root, shape("dot", [[centre_x, centre_y], rim], "circle"))
    mask = decode_rle(LabelMe(root)[0].instances[0].rle, (8, 12))
    for row in range(8):
        for column in range(12):
            away = ((column + 0.5 - centre_x) ** 2 + (row + 0.5 - centre_y) ** 2) ** 0.5
            if abs(away - radius_px) > 1e-6:
                assert mask[row, column] == (away < radius_px)


corners = st.lists(
    st.tuples(st.floats(0, 12).map(lambda v: round(v, 2)), st.floats(0, 8)),
    min_size=3,
    max_size=8,
)


@given(st.lists(corners, min_size=1, max_size=3))
@settings(max_examples=40)
def test_grouped_polygons_equal_a_coco_polygon_of_their_parts(
    tmp_path_factory: Any, parts: list[list[tuple[float, float]]]
) -> None:
    root = tmp_path_factory.mktemp("polygons")
    write(root, *(shape("x", part, group="g") for part in parts))
    (one,) = LabelMe(root)[0].instances
    flat = [[value for point in part for value in point] for part in parts]
    assert one.rle == polygons_rle(flat, (8, 12), where="x")


def test_what_is_to_be_ignored_is_no_instance(tmp_path: Path) -> None:
    write(tmp_path, shape("dog", SQUARE), shape("__ignore__", [[0, 0], [12, 2]], "rectangle"))
    data = LabelMe(tmp_path)
    assert data.class_names == ("dog",)
    labels = paint_instances(data[0]).labels
    assert (labels[0] == 255).all()
    assert labels[1].tolist() == [255, 1, 1, 1] + [255] * 8
    assert not labels[3:].any()


def test_names_may_be_given_in_another_order(tmp_path: Path) -> None:
    write(tmp_path, shape("dog", SQUARE))
    data = LabelMe(tmp_path, class_names=("eel", "dog"))
    assert data[0].instances[0].category == 1
    with pytest.raises(PixelkinError, match=r"a\.json: shape 0 has label 'dog': expected one of"):
        LabelMe(tmp_path, class_names=("eel",))[0]


def test_the_image_lies_elsewhere_or_within(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", shape("dog", SQUARE), imagePath="..\\photos\\a.png")
    assert LabelMe(folder)[0].size_hw == (8, 12)
    buffer = io.BytesIO()
    (folder / "a.png").rename(tmp_path / "a.png")
    with pytest.raises(PixelkinError, match=r"a\.json has no image: .* add it"):
        LabelMe(folder)[0]
    assert LabelMe(folder, tmp_path)[0].image[0, 0].tolist() == [1, 2, 3]
    Image.new("RGB", (12, 8), (7, 7, 7)).save(buffer, format="PNG")
    content = json.loads((folder / "a.json").read_text())
    content["imageData"] = base64.b64encode(buffer.getvalue()).decode()
    (folder / "a.json").write_text(json.dumps(content))
    assert LabelMe(folder)[0].image[0, 0].tolist() == [7, 7, 7]
    content["imageData"] = "no base64"
    (folder / "a.json").write_text(json.dumps(content))
    with pytest.raises(PixelkinError, match=r"cannot read the imageData of .*a\.json"):
        LabelMe(folder)[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (shape("dog", SQUARE[:2]), "a polygon, has 2 points: expected at least 3"),
        (shape("dog", SQUARE, "rectangle"), "a rectangle, has 4 points: expected 2"),
        (shape("dog", SQUARE[:1], "circle"), "a circle, has 1 points: expected 2"),
        (shape("dog", SQUARE, "linestrip"), "is a linestrip: expected polygon, rectangle, circle"),
        (shape("dog", [[40, 40], [41, 40]], "circle"), "a circle without a pixel"),
        (shape("dog", [[4, 4], [5, 4], [400, 4]]), "lies outside the image of 12×8"),
        (shape("dog", [[4, 4], [5, 4], [5, None]]), "lies outside the image|has no points"),
        (shape("dog", [[4, 4], [5]]), "has no points: expected pairs"),
        (shape("", SQUARE), "has label ''"),
        (shape("dog", SQUARE, group=[1]), r"has group_id \[1\]"),
    ],
)
def test_a_bad_shape_is_named(tmp_path: Path, wrong: dict[str, Any], message: str) -> None:
    write(tmp_path, shape("dog", SQUARE), wrong)
    with pytest.raises(PixelkinError, match=message) as caught:
        LabelMe(tmp_path)[0]
    assert "a.json: shape 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match=r"holds no \.json"):
        LabelMe(tmp_path)
    with pytest.raises(PixelkinError, match="no folder"):
        LabelMe(tmp_path / "nowhere")
    write(tmp_path, imageWidth=13)
    with pytest.raises(PixelkinError, match=r"a\.json lists an image of 13×8, but .*a\.png is 12"):
        LabelMe(tmp_path)[0]
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(PixelkinError, match=r"a\.json has no list of objects 'shapes'"):
        LabelMe(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(PixelkinError, match=r"cannot read the annotation file .*a\.json"):
        LabelMe(tmp_path)
