import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.yolo_seg import YoloSeg, paint_polygons, read_polygons
from pixelkin.errors import PixelkinError


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


def test_traced_corners_are_inside(tmp_path: Path) -> None:
    data = write_set(tmp_path, {"a": rectangle(0.1, 0.2, 0.3, 0.5)})
    expected = np.zeros((10, 20), np.int64)
    expected[2:6, 2:7] = 1
    np.testing.assert_array_equal(data[0].labels, expected)
    assert data[0].labels.dtype == np.int64
    assert data[0].name == "a"


def test_a_large_polygon_after_a_small_one_does_not_swallow_it(tmp_path: Path) -> None:
    small, large = rectangle(0.2, 0.2, 0.4, 0.4), rectangle(0, 0, 1, 1)
    data = write_set(tmp_path, {"a": f"{small}\n\n{large}\n"})
    labels = data[0].labels
    assert labels[3, 6] == 1
    assert labels[9, 19] == 2
    assert sorted(np.unique(labels)) == [1, 2]


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
    assert not data[0].labels.any()
    assert (data[1].labels == 1).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.2 0.2", "line 2 is a box"),
        ("1 0.1 0.1 0.2 0.2 0.3", "has 6 values"),
        ("1 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 8 values"),
        ("1 0.1 0.1 0.2 x 0.3 0.3", "expected numbers only"),
        ("1 10 10 200 10 200 50", "expected 0 to 1; divide x"),
        ("1 0.1 0.1 0.2 nan 0.3 0.3", "expected 0 to 1"),
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
    data = YoloSeg(
        root / "images" / "train2017", root / "instance_segmentation" / "labels" / "train2017"
    )
    assert len(data) == 100
    assert "000000000508" in data.names
    overlaps = []
    for index in range(0, len(data), 5):
        sample = data[index]
        rgb = np.array(
            Image.open(folder / "panoptic_train2017" / f"{sample.name}.png"), dtype=np.int64
        )
        panoptic = rgb @ (1, 256, 65536)
        for instance in np.unique(sample.labels[sample.labels > 0]):
            mask = sample.labels == instance
            overlaps.append(
                max(
                    (mask & (panoptic == s)).sum() / (mask | (panoptic == s)).sum()
                    for s in segments[sample.name]
                )
            )
    assert len(overlaps) > 100
    assert np.median(overlaps) > 0.99
