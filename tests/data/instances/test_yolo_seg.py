import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.instances.yolo_seg import (
    YoloSeg,
    paint_polygons,
    polygon_rle,
    read_class_names,
    read_objects,
    read_polygons,
)
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances


def rectangle(x0: float, y0: float, x1: float, y1: float) -> str:
    return f"3 {x0} {y0} {x1} {y0} {x1} {y1} {x0} {y1}"


def write_set(
    root: Path, labels: dict[str, str | None], size: tuple[int, int] = (20, 10)
) -> YoloSeg:
    (root / "images").mkdir()
    (root / "labels").mkdir()
    for stem, text in labels.items():
        Image.new("RGB", size).save(root / "images" / f"{stem}.jpg")
        if text is not None:
            (root / "labels" / f"{stem}.txt").write_text(text)
    return YoloSeg(root / "images", root / "labels")


def labels_of(data: YoloSeg, index: int) -> np.ndarray:
    return paint_instances(data[index]).labels


def test_traced_corners_are_inside(tmp_path: Path) -> None:
    data = write_set(tmp_path, {"a": rectangle(0.1, 0.2, 0.3, 0.5)})
    expected = np.zeros((10, 20), bool)
    expected[2:6, 2:7] = True
    (one,) = data[0].instances
    np.testing.assert_array_equal(decode_rle(one.rle, (10, 20)), expected)
    assert (one.category, one.crowd, one.key) == (3, False, "line 1")
    assert data[0].name == "a"
    assert data[0].ignore is None


def test_overlapping_instances_stay_whole_in_the_order_of_lines(tmp_path: Path) -> None:
    small, large = rectangle(0.2, 0.2, 0.4, 0.4), rectangle(0, 0, 1, 1)
    data = write_set(tmp_path, {"a": f"{small}\n\n{large}\n"})
    first, second = data[0].instances
    assert (first.key, second.key) == ("line 1", "line 3")
    assert decode_rle(first.rle, (10, 20)).sum() == 5 * 3
    assert decode_rle(second.rle, (10, 20)).all()
    labels = labels_of(data, 0)
    assert labels[3, 6] == 1
    assert labels[9, 19] == 2


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=9))
@settings(max_examples=60)
def test_a_polygon_alone_equals_its_label_map(points: list[tuple[float, float]]) -> None:
    rle = polygon_rle(np.array(points), size_hw=(13, 17))
    painted = paint_polygons([np.array(points)], size_hw=(13, 17))
    np.testing.assert_array_equal(decode_rle(rle, (13, 17)), painted == 1)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 30), st.integers(1, 20)),
        min_size=1,
        max_size=8,
    )
)
def test_rectangles_equal_plain_loops(boxes: list[tuple[int, int, int, int]]) -> None:
    height, width = 24, 40
    corners = [(x, y, min(x + w, width - 1), min(y + h, height - 1)) for x, y, w, h in boxes]
    expected = np.zeros((height, width), np.int64)
    by_area = sorted(
        range(len(corners)),
        key=lambda i: -(corners[i][2] - corners[i][0]) * (corners[i][3] - corners[i][1]),
    )
    for i in by_area:
        x0, y0, x1, y1 = corners[i]
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                expected[y, x] = i + 1
    polygons = [
        np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) / (width, height)
        for x0, y0, x1, y1 in corners
    ]
    np.testing.assert_array_equal(paint_polygons(polygons, size_hw=(height, width)), expected)


def test_ids_skip_255() -> None:
    polygons = [
        np.array([(x, y), (x + 0.5, y), (x, y + 0.5)]) / (20, 20)
        for y in range(20)
        for x in range(13)
    ]
    labels = paint_polygons(polygons, size_hw=(20, 20))
    assert sorted(np.unique(labels)) == [*range(255), *range(256, 262)]


def test_unlabelled_images_are_skipped_and_empty_files_are_background(tmp_path: Path) -> None:
    data = write_set(tmp_path, {"a": None, "b": "", "c": rectangle(0, 0, 1, 1)})
    assert data.names == ["b", "c"]
    assert len(data) == 2
    assert data[0].instances == ()
    assert (labels_of(data, 1) == 1).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.2 0.2", "line 2 is a box"),
        ("1 0.1 0.1 0.2 0.2 0.3", "has 6 values"),
        ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 8 values"),
        ("1 0.1 0.1 0.2 x 0.3 0.3", "expected numbers only"),
        ("1 10 10 200 10 200 50", "expected 0 to 1; divide x"),
        ("1 0.1 0.1 0.2 nan 0.3 0.3", "expected 0 to 1"),
        ("1.5 0.1 0.1 0.2 0.2 0.3 0.3", "has class 1.5: expected a whole number"),
        ("-1 0.1 0.1 0.2 0.2 0.3 0.3", "has class -1"),
        ("nan 0.1 0.1 0.2 0.2 0.3 0.3", "has class nan"),
        ("99999999 0.1 0.1 0.2 0.2 0.3 0.3", "has class 99999999"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(f"{rectangle(0, 0, 1, 1)}\n{line}\n")
    with pytest.raises(PixelkinError, match=message) as caught:
        read_polygons(path)
    assert "a.txt, line 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_binary_label_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(PixelkinError, match=r"cannot read the label file .*a\.txt"):
        read_polygons(tmp_path / "a.txt")


def test_a_little_outside_is_clipped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 -0.000001 0 1.000001 0 1 1")
    assert read_polygons(tmp_path / "a.txt")[0].tolist() == [[0, 0], [1, 0], [1, 1]]


def test_folders_that_do_not_match_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match=r"expected names like a\.txt"):
        write_set(tmp_path, {"a": None})
    with pytest.raises(PixelkinError, match="no folder"):
        YoloSeg(tmp_path / "images", tmp_path / "nowhere")


def test_without_names_the_class_is_the_category(tmp_path: Path) -> None:
    data = write_set(tmp_path, {"a": rectangle(0, 0, 1, 1), "b": ""})
    assert data.class_names == ("0", "1", "2", "3")
    assert data[0].instances[0].category == 3


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "train: images\nnames: [ant, bee, cow, dog]\n"),
        ("data.yaml", "names:\n  - ant\n  - bee\n  - cow\n  - dog\n"),
        ("dataset.yaml", "names:\n  0: ant\n  1: bee\n  2: cow\n  3: dog\n"),
        ("classes.txt", "ant\nbee\ncow\ndog\n"),
        ("labels/classes.txt", "\ufeffant\r\nbee\r\ncow\r\ndog"),
    ],
)
def test_names_are_found_near_the_labels(tmp_path: Path, file: str, text: str) -> None:
    write_set(tmp_path, {"a": rectangle(0, 0, 1, 1)})
    (tmp_path / file).write_text(text, encoding="utf-8", newline="")
    (tmp_path / "config.yaml").write_text("epochs: 3\n")
    data = YoloSeg(tmp_path / "images", tmp_path / "labels")
    assert data.class_names == ("ant", "bee", "cow", "dog")
    assert data.names == ["a"]
    assert data[0].instances[0].category == 3


def test_ids_of_names_may_have_gaps_and_a_class_without_a_name_is_an_error(tmp_path: Path) -> None:
    write_set(tmp_path, {"a": rectangle(0, 0, 1, 1)})
    folders = tmp_path / "images", tmp_path / "labels"
    data = YoloSeg(*folders, class_names={90: "cow", 3: "dog"})
    assert data.class_names == ("dog", "cow")
    assert data[0].instances[0].category == 0
    assert YoloSeg(*folders, class_names=("a", "b", "c", "d"))[0].instances[0].category == 3
    names = tmp_path / "two.yaml"
    names.write_text("names: [ant, bee]")
    with pytest.raises(PixelkinError, match=r"a\.txt, line 1 has class 3, which has no name") as e:
        YoloSeg(*folders, class_names=names)[0]
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("text", ["names: 3", "names: {a: b}", "names: [", "a: !!python/name:x 3"])
def test_names_that_are_none_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(PixelkinError, match=r"x\.yaml") as caught:
        read_class_names(tmp_path / "x.yaml")
    assert "\n" not in str(caught.value)


def test_lines_keep_class_and_number(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n2.0 0 0 1 0 1 1\n\n5 0 0 1 0 1 1")
    objects = read_objects(tmp_path / "a.txt")
    assert [(one.class_id, one.line) for one in objects] == [(2, 2), (5, 4)]


def test_coco_mini_against_the_panoptic_masks_it_was_made_from(shared_data: Path) -> None:
    root = shared_data / "coco_mini"
    folder = root / "panoptic_segmentation" / "annotations"
    content = json.loads((folder / "panoptic_train2017.json").read_text())
    things = {c["id"] for c in content["categories"] if c["isthing"]}
    segments = {
        Path(a["file_name"]).stem: [
            s["id"] for s in a["segments_info"] if s["category_id"] in things
        ]
        for a in content["annotations"]
    }
    name_of = {c["id"]: c["name"] for c in content["categories"]}
    name_of_segment = {
        s["id"]: name_of[s["category_id"]]
        for a in content["annotations"]
        for s in a["segments_info"]
    }
    data = YoloSeg(
        root / "images" / "train2017", root / "instance_segmentation" / "labels" / "train2017"
    )
    assert len(data) == 100
    assert "000000000508" in data.names
    assert len(data.class_names) == 80
    assert data.class_names[:2] == ("person", "bicycle")
    overlaps, agree = [], 0
    for index in range(0, len(data), 10):
        sample = data[index]
        rgb = np.array(
            Image.open(folder / "panoptic_train2017" / f"{sample.name}.png"), dtype=np.int64
        )
        panoptic = rgb @ (1, 256, 65536)
        for one in sample.instances:
            mask = decode_rle(one.rle, sample.size_hw)
            overlap, segment = max(
                ((mask & (panoptic == s)).sum() / (mask | (panoptic == s)).sum(), s)
                for s in segments[sample.name]
            )
            overlaps.append(overlap)
            agree += data.class_names[one.category] == name_of_segment[segment]
    assert len(overlaps) > 50
    assert agree / len(overlaps) > 0.98
    assert np.median(overlaps) > 0.99
