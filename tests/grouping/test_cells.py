"""Masks of cells: who keeps which cell, and what a cell is at full resolution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelkin.grouping.cells import CellMask, instances_of, rle_of_cells, suppress
from pixelkin.masks import decode_rle
from pixelkin.structures import Instances


def flat(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_rectangle_of_cells_is_that_rectangle_of_pixels(stride):
    """Blocks at right angles survive the smoothing but for their corners."""
    field = np.zeros((12, 17), bool)
    field[3:8, 4:13] = True
    size_hw = (12 * stride, 17 * stride)
    rle = rle_of_cells(flat(field), field_hw=(12, 17), stride=stride, size_hw=size_hw)
    expected = field.repeat(stride, 0).repeat(stride, 1)
    found = decode_rle(rle, size_hw)
    assert (found != expected).sum() <= 4 * (stride // 2) ** 2
    if stride == 1:
        assert np.array_equal(found, expected)


def test_a_mask_at_the_border_reaches_it():
    field = np.zeros((8, 8), bool)
    field[:, :3] = True
    field[6:, :] = True
    rle = rle_of_cells(flat(field), field_hw=(8, 8), stride=4, size_hw=(32, 32))
    found = decode_rle(rle, (32, 32))
    assert found[:, :12].all()
    assert found[24:, 16:].all()
    assert not found[:20, 16:].any()


def test_what_lies_in_the_padding_is_cut_off():
    field = np.ones((4, 4), bool)
    rle = rle_of_cells(flat(field), field_hw=(4, 4), stride=4, size_hw=(13, 15))
    assert decode_rle(rle, (13, 15)).all()
    corner = np.zeros((4, 4), bool)
    corner[3, 3] = True
    assert rle_of_cells(flat(corner), field_hw=(4, 4), stride=4, size_hw=(12, 12)) is None
    far = np.zeros((8, 8), bool)
    far[6:, 5:7] = True
    assert rle_of_cells(flat(far), field_hw=(8, 8), stride=1, size_hw=(4, 4)) is None


@given(st.data())
def test_any_cells_give_what_resizing_the_whole_field_gives(data):
    import cv2

    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    stride = data.draw(st.sampled_from([1, 2, 4]))
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    field = np.array(bits).reshape(height, width)
    if not field.any():
        return
    size_hw = (height * stride, width * stride)
    rle = rle_of_cells(flat(field), field_hw=(height, width), stride=stride, size_hw=size_hw)
    whole = np.pad(field.astype(np.float32), 1, mode="edge")
    fine = cv2.resize(whole, None, fx=stride, fy=stride, interpolation=cv2.INTER_LINEAR) > 0.5
    expected = fine[stride:-stride, stride:-stride]
    found = np.zeros(size_hw, bool) if rle is None else decode_rle(rle, size_hw)
    assert np.array_equal(found, expected)


def as_instances(masks: list[CellMask], size_hw: tuple[int, int]) -> Instances:
    return instances_of(masks, field_hw=size_hw, stride=1, size_hw=size_hw)


def loops(candidates, cells: int, keep: float) -> list[tuple[float, list[int]]]:
    taken: set[int] = set()
    kept = []
    for one in sorted(candidates, key=lambda c: -c.score):
        free = [int(c) for c in one.cells if int(c) not in taken]
        if free and len(free) >= keep * len(one.cells):
            taken |= set(free)
            kept.append((one.score, free))
    return kept


@given(st.data())
def test_the_better_candidate_keeps_its_cells(data):
    candidates = [
        CellMask(np.array(sorted(cells)), index % 3, score)
        for index, (cells, score) in enumerate(
            data.draw(
                st.lists(
                    st.tuples(
                        st.sets(st.integers(0, 24), min_size=1), st.sampled_from([0.1, 0.5, 0.9])
                    ),
                    max_size=6,
                )
            )
        )
    ]
    found = as_instances(suppress(candidates, cells=25, keep=0.5), (5, 5))
    expected = loops(candidates, 25, 0.5)
    assert list(found.scores) == [score for score, _ in expected]
    for rle, (_, cells) in zip(found.rles, expected, strict=True):
        assert flat(decode_rle(rle, (5, 5))).tolist() == cells


def test_objects_whose_boxes_coincide_both_stay():
    """What suppression by boxes cannot do: a ring around a disc."""
    y, x = np.mgrid[-20:21, -20:21]
    radius = np.hypot(y, x)
    ring, disc = (radius > 15) & (radius < 19), radius < 12
    both = [CellMask(flat(ring), 0, 0.9), CellMask(flat(disc), 0, 0.8)]
    found = as_instances(suppress(both, cells=41 * 41), (41, 41))
    assert len(found) == 2
    assert np.array_equal(decode_rle(found.rles[1], (41, 41)), disc)


def test_no_candidate_gives_no_instance():
    assert len(as_instances(suppress([], cells=16), (4, 4))) == 0
