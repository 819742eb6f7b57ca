"""References: round trips, raster, cells and one-line errors."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pixelkin.errors import PixelkinError
from pixelkin.grouping.reference_text import (
    format_box,
    format_click,
    format_mask,
    parse_box,
    parse_click,
    parse_mask,
    read_scribbles,
    reference_from_json,
    reference_to_json,
)
from pixelkin.grouping.references import (
    BOX_CORE,
    Box,
    Click,
    Mask,
    Scribble,
    check_reference,
    label_cells,
    label_map,
    rasterise,
    reference_object_ids,
)
from pixelkin.structures import IGNORE

frames = st.integers(0, 10**6)
ids = st.integers(1, 254)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
points = st.tuples(numbers, numbers)
clicks = st.builds(Click, frames, points, st.integers(0, 254), st.booleans())
scribbles = st.builds(
    Scribble,
    frames,
    st.lists(points, min_size=1, max_size=5).map(tuple),
    st.integers(0, 254),
    st.integers(1, 50),
)
corners = st.lists(numbers, min_size=2, max_size=2, unique=True).map(sorted)
boxes = st.builds(
    lambda frame, x, y, i: Box(frame, (x[0], y[0], x[1], y[1]), i), frames, corners, corners, ids
)
label_maps = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 255)
)
masks = st.builds(Mask.from_labels, frames, label_maps)


@given(st.one_of(clicks, scribbles, boxes, masks))
def test_json_round_trip(reference):
    again = reference_from_json(json.loads(json.dumps(reference_to_json(reference))))
    assert again == reference
    assert hash(again) == hash(reference)


@given(clicks)
def test_click_text_round_trip(click):
    assert parse_click(format_click(click)) == click


@given(boxes)
def test_box_text_round_trip(box):
    assert parse_box(format_box(box)) == box


@given(frames, st.text(min_size=1).filter(lambda s: "\0" not in s))
def test_mask_text_round_trip(frame, path):
    assert parse_mask(format_mask(frame, path)) == (frame, Path(path))


@given(label_maps, label_maps)
def test_mask_keeps_labels_and_compares_by_them(labels, other):
    mask = Mask.from_labels(3, labels)
    np.testing.assert_array_equal(mask.labels, labels)
    same = labels.shape == other.shape and bool((labels == other).all())
    assert (mask == Mask.from_labels(3, other)) == same
    assert reference_object_ids(mask) == sorted(set(labels.flatten().tolist()) - {0, 255})


@given(st.text(max_size=30))
@settings(max_examples=300)
def test_any_text_is_read_or_refused_in_one_line(text):
    for parse in (parse_click, parse_box, parse_mask):
        message = ""
        try:
            parse(text)
        except PixelkinError as error:
            message = str(error)
        assert "\n" not in message


def test_click_text_forms():
    assert parse_click("12:320,240@2") == Click(12, (320, 240), 2)
    assert parse_click("0:1.5,2") == Click(0, (1.5, 2), 1)
    assert parse_click("0:1,2@0") == Click(0, (1, 2), 0)
    assert parse_click("7:1,2@-3") == Click(7, (1, 2), 3, positive=False)
    assert parse_click("7:1,2@-3").label == 0
    assert parse_mask("0:C:/a,b@2.png")[1].name == "a,b@2.png"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: parse_click("12"), "FRAME:X,Y"),
        (lambda: parse_click("0:1,2@255"), "1 to 254"),
        (lambda: parse_click("0:1,2@999999"), "1 to 254"),
        (lambda: parse_click("-1:1,2"), "FRAME:X,Y"),
        (lambda: parse_box("0:1,2,3@1"), "LEFT,TOP,RIGHT,BOTTOM"),
        (lambda: parse_box("0:5,5,5,9@1"), "empty"),
        (lambda: parse_box("0:1,2,3,4@0"), "1 to 254"),
        (lambda: parse_mask("first.png"), "FRAME:FILE"),
        (lambda: Click(-1, (0, 0), 1), "from 0"),
        (lambda: Click(0, (float("nan"), 0), 1), "finite"),
        (lambda: Scribble(0, (), 1), "no points"),
        (lambda: Scribble(0, ((1, 1),), 1, 0), "1 to 1000"),
        (lambda: Mask.from_labels(0, np.zeros((2, 2), np.int64)), "uint8"),
        (lambda: Mask(0, (2, 2), b""), "cover 0 pixels"),
        (lambda: Mask(0, (2, 2), b"abc"), "runs"),
        (lambda: reference_from_json({"kind": "circle"}), "expected an object with kind"),
        (lambda: reference_from_json({"kind": "click", "frame": 0}), "wrong field"),
        (lambda: check_reference(Click(9, (0, 0), 1), (4, 4), 9), "9 frames"),
        (lambda: check_reference(Click(0, (640, 2), 1), (480, 640)), "640,2 .* 640×480"),
        (lambda: check_reference(Scribble(0, ((1, 1), (-1, 0)), 1), (4, 4)), "-1,0"),
        (lambda: check_reference(Box(0, (9, 9, 12, 12), 1), (4, 4)), "outside the frame"),
        (
            lambda: check_reference(Mask.from_labels(0, np.zeros((2, 3), np.uint8)), (4, 4)),
            "3×2, the frame is 4×4",
        ),
        (
            lambda: label_map([Click(0, (0, 0), 1), Click(1, (0, 0), 1)], (4, 4)),
            "several frames",
        ),
    ],
)
def test_mistakes_are_one_line(make, words):
    with pytest.raises(PixelkinError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_rasterise_click_labels_one_pixel():
    labels = rasterise(Click(0, (3.9, 2.0), 7), (5, 6))
    assert labels.dtype == np.uint8
    assert labels[2, 3] == 7
    assert (labels != IGNORE).sum() == 1
    assert rasterise(Click(0, (3, 2), 7, positive=False), (5, 6))[2, 3] == 0


@pytest.mark.parametrize("width_px", [3, 5, 9])
def test_scribble_covers_its_stroke(width_px):
    path = ((10, 12), (40, 30), (44, 8))
    labels = rasterise(Scribble(0, path, 4, width_px), (48, 64))
    for y in range(48):
        for x in range(64):
            distance = min(_segment_distance((x, y), a, b) for a, b in pairwise(path))
            if distance <= width_px / 2 - 1:
                assert labels[y, x] == 4
            if distance >= width_px / 2 + 1.5:
                assert labels[y, x] == IGNORE


def _segment_distance(point, start, end):
    point, start, end = map(np.array, (point, start, end))
    along = np.clip(np.dot(point - start, end - start) / np.dot(end - start, end - start), 0, 1)
    return np.linalg.norm(point - start - along * (end - start))


def test_one_point_scribble_marks_its_pixel():
    assert rasterise(Scribble(0, ((3, 3),), 2, 1), (8, 8))[3, 3] == 2


def test_box_outside_is_background_and_core_is_object():
    labels = rasterise(Box(0, (10, 20, 50, 40), 3), (60, 80))
    for y in range(60):
        for x in range(80):
            inside = 10 <= x + 0.5 < 50 and 20 <= y + 0.5 < 40
            u, v = (x + 0.5 - 30) / (40 * BOX_CORE), (y + 0.5 - 30) / (20 * BOX_CORE)
            core = u * u + v * v <= 1 or (x, y) == (30, 30)
            assert labels[y, x] == (3 if core else IGNORE if inside else 0)


def test_box_over_the_edge_keeps_a_core():
    assert (rasterise(Box(0, (-30, -10, 4, 3), 5), (20, 20)) == 5).any()
    assert (rasterise(Box(0, (19.2, 19.3, 90, 90), 5), (20, 20)) == 5).any()


def test_two_boxes_do_not_call_each_other_background():
    labels = label_map([Box(0, (0, 0, 20, 20), 1), Box(0, (30, 0, 50, 20), 2)], (20, 60))
    assert labels[10, 10] == 1
    assert labels[10, 40] == 2
    assert labels[2, 2] == labels[2, 48] == IGNORE
    assert labels[10, 25] == labels[10, 55] == 0


def test_strokes_lie_above_areas_in_any_order():
    mask = Mask.from_labels(0, np.full((16, 16), 1, np.uint8))
    stroke = Scribble(0, ((8, 8), (12, 8)), 0, 3)
    for order in ([mask, stroke], [stroke, mask]):
        labels = label_map(order, (16, 16))
        assert labels[8, 10] == 0
        assert labels[2, 2] == 1


def test_later_mask_wins():
    first = Mask.from_labels(0, np.full((4, 4), 1, np.uint8))
    partial = np.full((4, 4), IGNORE, np.uint8)
    partial[:2] = 2
    labels = label_map([first, Mask.from_labels(0, partial)], (4, 4))
    assert labels[:2].tolist() == [[2] * 4] * 2
    assert labels[2:].tolist() == [[1] * 4] * 2


@given(
    hnp.arrays(np.uint8, (13, 17), elements=st.sampled_from([0, 1, 2, 255])),
    st.sampled_from([3, 4, 4.3]),
)
@settings(max_examples=30, deadline=None)
def test_cells_take_the_majority_of_their_labelled_pixels(labels, stride):
    grid_hw = (4, 5)
    cells = label_cells([Mask.from_labels(0, labels)], (13, 17), stride=stride, grid_hw=grid_hw)
    votes = {}
    for y in range(13):
        for x in range(17):
            cell = min(int((y + 0.5) / stride), 3), min(int((x + 0.5) / stride), 4)
            if labels[y, x] != IGNORE:
                votes.setdefault(cell, []).append(int(labels[y, x]))
    for i in range(4):
        for j in range(5):
            found = votes.get((i, j), [])
            expected = min(set(found), key=lambda v: (-found.count(v), v)) if found else IGNORE
            assert cells[i, j] == expected


def test_a_click_always_marks_its_cell():
    mask = Mask.from_labels(0, np.zeros((32, 32), np.uint8))
    stroke = Scribble(0, ((9, 9), (14, 9)), 2, 3)
    given_references = [Click(0, (9, 9), 5), mask, stroke]
    cells = label_cells(given_references, (32, 32), stride=8, grid_hw=(4, 4))
    assert cells[1, 1] == 5
    assert cells[0, 0] == 0
    without = label_cells([mask, stroke], (32, 32), stride=8, grid_hw=(4, 4))
    assert without[1, 1] == 2
    edge = label_cells([Click(0, (31.9, 31.9), 5)], (32, 32), stride=8, grid_hw=(3, 3))
    assert edge[2, 2] == 5


def test_scribble_files(tmp_path):
    simple = tmp_path / "simple.json"
    simple.write_text(
        json.dumps({"scribbles": [{"frame": 2, "points_xy": [[1, 2], [3, 4]], "object_id": 3}]})
    )
    assert read_scribbles(simple, (10, 20), width_px=4) == [Scribble(2, ((1, 2), (3, 4)), 3, 4)]
    davis = tmp_path / "davis.json"
    stroke = {"path": [[0, 0], [1, 1]], "object_id": 2, "start_time": 0, "end_time": 9}
    davis.write_text(json.dumps({"sequence": "libby", "scribbles": [[], [stroke]]}))
    found = read_scribbles(davis, (10, 20))
    assert found == [Scribble(1, ((0.5, 0.5), (19.5, 9.5)), 2, 5)]
    check_reference(found[0], (10, 20), 2)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"scribbles": 3}',
        '{"scribbles": [3]}',
        '{"scribbles": []}',
        '{"scribbles": [{"frame": 0}]}',
        '{"scribbles": [[{"path": [[1]], "object_id": 1}]]}',
        '{"scribbles": [{"frame": 0, "points_xy": [["a", 1]]}]}',
        "\udcff",
    ],
)
def test_broken_scribble_files_are_refused(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(PixelkinError, match=r"broken\.json"):
        read_scribbles(path, (10, 20))


def test_missing_scribble_file_is_refused(tmp_path):
    with pytest.raises(PixelkinError, match="cannot read scribbles"):
        read_scribbles(tmp_path / "none.json", (10, 20))
