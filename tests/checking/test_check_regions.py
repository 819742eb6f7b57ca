"""The geometry of the checks against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_sets import rectangle

from pixelkin.checking.regions import check_mask_parts, crosses_itself, share_covered_twice
from pixelkin.checking.report import Report


def orientation(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
    return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))


def has_proper_crossing(points: np.ndarray) -> bool:
    count = len(points)
    for i in range(count):
        for j in range(i + 1, count):
            a, b = points[i], points[(i + 1) % count]
            c, d = points[j], points[(j + 1) % count]
            apart = orientation(a, b, c) * orientation(a, b, d)
            if apart < 0 and orientation(c, d, a) * orientation(c, d, b) < 0:
                return True
    return False


def winding(points: np.ndarray, x: float, y: float) -> int:
    total = 0
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if (a[1] <= y) != (b[1] <= y):
            at = a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
            total += int(np.sign(b[1] - a[1])) * (x < at)
    return total


polygons = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=3, max_size=7, unique=True
).map(lambda points: np.array(points, float))


@settings(max_examples=150, deadline=None)
@given(polygons)
def test_only_outlines_that_cross_are_said_to(points: np.ndarray) -> None:
    if not has_proper_crossing(points):
        assert not crosses_itself(points)


@settings(max_examples=30, deadline=None)
@given(polygons)
def test_share_covered_twice_is_that_of_winding_numbers(points: np.ndarray) -> None:
    grid = [(x + 0.513, y + 0.487) for x in np.arange(0, 12, 0.25) for y in np.arange(0, 12, 0.25)]
    turns = np.array([abs(winding(points, x, y)) for x, y in grid])
    inside = (turns > 0).sum()
    if inside > 300:
        expected = ((turns > 0) & (turns % 2 == 0)).sum() / inside
        assert share_covered_twice(points) == pytest.approx(expected, abs=0.08)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4)], False),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], True),  # a bow tie
        ([(0, 0), (9, 0), (9, 9), (4.6, 9), (4.4, 9.1), (4.5, 8.9), (0, 9)], False),  # rounding
        ([(0, 0), (9, 0), (9, 9), (0, 9), (0, 0), (3, 3), (3, 6), (6, 6), (6, 3), (3, 3)], False),
    ],
)
def test_crossings_that_matter(points: list[tuple[float, float]], expected: bool) -> None:
    assert crosses_itself(np.array(points, float)) == expected


def test_a_long_outline_is_searched_in_parts() -> None:
    angle = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 100
    assert not crosses_itself(circle)
    eight = np.stack([np.sin(angle + 0.01), np.sin(2 * angle + 0.02)], axis=1) * 100
    assert crosses_itself(eight)


def test_parts_are_far_only_beyond_their_own_size(tmp_path) -> None:
    for gap, far in ((10, 0), (16, 0), (17, 1), (40, 1)):
        report = Report(tmp_path)
        check_mask_parts(rectangle(2, 2, 8, 8) | rectangle(2, 10 + gap, 8, 8), "here", report)
        assert len(report.problems) == far, gap
    report = Report(tmp_path)
    chain = rectangle(2, 2, 8, 8) | rectangle(2, 24, 8, 8) | rectangle(2, 46, 8, 8)
    check_mask_parts(chain, "here", report)
    check_mask_parts(rectangle(2, 2, 20, 20) | rectangle(50, 70, 4, 4), "speck", report)
    assert report.problems == []
