import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_cases import NAMES, f_by_loops, random_maps

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import BoundaryF, LaneF1
from pixelkin.evaluation.semantic.boundary import class_edges, radius_of
from pixelkin.evaluation.semantic.distances import f_within
from pixelkin.masks import boundary
from pixelkin.structures import IGNORE

seeds = st.integers(0, 2**32 - 1)


def edges_by_loops(labels, truth, index):
    height, width = labels.shape
    edges = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(width):
            if labels[y, x] != index or truth[y, x] == IGNORE:
                continue
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < height and 0 <= u < width
                if inside and truth[v, u] != IGNORE and labels[v, u] != index:
                    edges[y, x] = True
    return edges


def boundary_by_loops(pairs, classes, radius_px):
    by_class, stills = {c: [] for c in range(classes)}, []
    for truth, predicted in pairs:
        known = truth != IGNORE
        values = []
        for c in range(classes):
            in_truth, in_found = (truth == c).any(), ((predicted == c) & known).any()
            if not in_truth and not in_found:
                continue
            value = 0.0
            if in_truth and in_found:
                found = edges_by_loops(predicted, truth, c)
                value = f_by_loops(found, edges_by_loops(truth, truth, c), radius_px)
            by_class[c].append(value)
            values.append(value)
        if values:
            stills.append(np.mean(values))
    return np.mean(stills), [np.mean(v) if v else math.nan for v in by_class.values()]


@settings(max_examples=12, deadline=None)
@given(seeds, st.sampled_from([0, 1, 2, 3]))
def test_boundary_f_equals_loops(seed, tolerance):
    pairs = [random_maps(seed + i, classes=5, ignore=0.04) for i in range(2)]
    measure = BoundaryF([*NAMES, "tree"], tolerance=tolerance)
    for truth, predicted in pairs:
        measure.update(truth, predicted)
    whole, rows = boundary_by_loops(pairs, 5, tolerance)
    values = measure.compute()
    assert values.pop("F") == pytest.approx(whole)
    assert list(values.values()) == pytest.approx(rows, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_f_within_equals_loops(seed):
    generator = np.random.default_rng(seed)
    mask, truth = generator.random((2, 20, 30)) < 0.02
    radii = (0, 1, 2, 5, 13)
    assert f_within(mask, truth, radii) == pytest.approx(
        [f_by_loops(mask, truth, r) for r in radii]
    )


def test_a_radius_reaches_its_circle_and_no_farther():
    y, x = np.mgrid[-120:121, -120:121]
    center = (y == 0) & (x == 0)
    for radius in (1, 5, 18, 65, 100):
        on = y * y + x * x == radius * radius
        beyond = y * y + x * x == radius * radius + 1
        assert f_within(on, center, (radius,)) == [1.0]
        assert not beyond.any() or f_within(beyond, center, (radius,)) == [0.0]


def test_edges_of_whole_maps_are_those_of_masks():
    truth, _ = random_maps(4, ignore=0)
    edges = class_edges(truth, np.ones(truth.shape, bool))
    for index in range(4):
        assert ((truth == index) & edges == boundary(truth == index)).all()


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_perfect_and_ignored(seed):
    truth, predicted = random_maps(seed)
    for measure in (BoundaryF(NAMES), LaneF1(NAMES)):
        measure.update(truth, np.where(truth == IGNORE, 2, truth))
        assert {v for v in measure.compute().values() if not math.isnan(v)} == {1.0}
    for make in (BoundaryF, LaneF1):
        one, other = make(NAMES), make(NAMES)
        one.update(truth, predicted)
        other.update(truth, np.where(truth == IGNORE, 3, predicted))
        assert one.compute() == pytest.approx(other.compute(), nan_ok=True)


def test_a_line_of_unknown_pixels_makes_no_boundary():
    truth = np.zeros((9, 9), int)
    truth[:, 4] = IGNORE
    measure = BoundaryF(NAMES, tolerance=1)
    measure.update(truth, np.zeros((9, 9), int))
    assert measure.compute()["F/road"] == 1
    truth[:, 5:] = 1
    predicted = np.where(np.arange(9) < 2, 0, 1) * np.ones((9, 1), int)
    measure = BoundaryF(NAMES, tolerance=1)
    measure.update(truth, predicted)
    # The truth's classes meet in unknown pixels only: it has no boundary, the prediction has one.
    assert measure.compute()["F"] == 0


def test_frames_filled_by_different_classes():
    measure = BoundaryF(NAMES)
    measure.update(np.zeros((5, 5), int), np.ones((5, 5), int))
    values = measure.compute()
    assert (values["F"], values["F/road"], values["F/car"]) == (0, 0, 0)
    assert math.isnan(values["F/sky"])


def test_stills_without_known_pixels_say_nothing():
    measure = BoundaryF(NAMES)
    measure.update(np.full((4, 4), IGNORE), np.zeros((4, 4), int))
    assert math.isnan(measure.compute()["F"])


def test_tolerance():
    assert radius_of(0.0075, (360, 480)) == 5
    assert radius_of(0.0075, (1024, 2048)) == 18
    assert radius_of(1, (360, 480)) == 1
    assert radius_of(3, (360, 480)) == 3
    for wrong in (-1, 1.5, math.nan, math.inf):
        with pytest.raises(PixelkinError, match=r"tolerance .* give 0\.0075"):
            BoundaryF(NAMES, tolerance=wrong)


# Lanes


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_lanes_equal_loops(seed):
    generator = np.random.default_rng(seed)
    names = ("background", "solid", "dashed")
    measure, sums = LaneF1(names), np.zeros((3, 2))
    for _ in range(2):
        truth, predicted = (
            np.where(generator.random((16, 18)) < 0.9, 0, generator.integers(0, 3, (16, 18)))
            for _ in range(2)
        )
        truth[generator.random(truth.shape) < 0.1] = IGNORE
        measure.update(truth, predicted)
        for row, radius in enumerate((1, 2, 5)):
            for c in (1, 2):
                found = (predicted == c) & (truth != IGNORE)
                sums[row, c - 1] += f_by_loops(found, truth == c, radius)
    values = measure.compute()
    for radius, row in zip((1, 2, 5), sums / 2, strict=True):
        assert values[f"F1_{radius}px"] == pytest.approx(row.mean())
        assert values[f"F1_{radius}px/solid"] == pytest.approx(row[0])
        assert values[f"F1_{radius}px/dashed"] == pytest.approx(row[1])
    assert not any("background" in key for key in values)


def test_lanes_as_the_published_dilation_has_them():
    # Dilation by skimage's disk and multiplication, as BDD100K's evaluation does it.
    from skimage.morphology import dilation, disk

    truth, predicted = random_maps(9, size_hw=(40, 40), ignore=0)
    measure = LaneF1(NAMES, background=("road",))
    measure.update(truth, predicted)
    values = measure.compute()
    for radius in (1, 2, 5):
        for index, name in enumerate(NAMES[1:], 1):
            wanted, found = truth == index, predicted == index
            precision = (found & dilation(wanted, disk(radius))).sum() / found.sum()
            recall = (wanted & dilation(found, disk(radius))).sum() / wanted.sum()
            f = 2 * precision * recall / (precision + recall)
            assert values[f"F1_{radius}px/{name}"] == pytest.approx(f)


def test_lanes_that_a_side_has_not():
    truth, predicted = np.zeros((2, 6, 6), int)
    truth[2] = 1
    measure = LaneF1(("background", "solid", "dashed", "double"))
    predicted[4] = 2
    measure.update(truth, predicted)
    values = measure.compute()
    assert [values[f"F1_5px/{n}"] for n in ("solid", "dashed", "double")] == [0, 0, 1]
    assert values["F1_5px"] == pytest.approx(1 / 3)
    with pytest.raises(PixelkinError, match="background; give the names of lane classes"):
        LaneF1(("background",))
