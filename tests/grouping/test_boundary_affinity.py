"""Paths, their maxima and the walk along boundaries against plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.grouping.boundary_affinity import (
    TRAINING_RADIUS_CELLS,
    boundary_affinities,
    boundary_transition,
    path_cells,
    path_maxima,
)
from pixelkin.grouping.random_walk import walk

OFFSETS = half_plane_offsets(4)


def loops_path(first, second):
    """Cells of the rectangle between two that are less than 1 from the line through them."""
    (y0, x0), (y1, x1) = first, second
    length = math.hypot(y1 - y0, x1 - x0)
    found = []
    for y in range(min(y0, y1), max(y0, y1) + 1):
        for x in range(min(x0, x1), max(x0, x1) + 1):
            distance = abs((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) / length
            if distance < 1 - 1e-12:
                found.append((y, x))
    return found


def loops_maximum(values, first, second):
    return max(float(values[cell]) for cell in loops_path(first, second))


def dense_walk(boundaries, maps, radius, power, steps):
    h, w = boundaries.shape
    matrix = np.eye(h * w)
    for i in range(h * w):
        for j in range(h * w):
            (a, b), (c, d) = divmod(i, w), divmod(j, w)
            if i != j and (a - c) ** 2 + (b - d) ** 2 < radius**2:
                matrix[i, j] = (1 - loops_maximum(boundaries, (a, b), (c, d))) ** power
    matrix /= matrix.sum(1, keepdims=True)
    walked = np.linalg.matrix_power(matrix, steps) @ maps.reshape(len(maps), -1).T
    return walked.T.reshape(maps.shape)


def test_paths_equal_loops():
    for offset in half_plane_offsets(TRAINING_RADIUS_CELLS):
        cells = path_cells(offset)
        assert sorted(cells) == loops_path((0, 0), offset)
        assert cells[0] == (0, 0)
        assert cells[-1] == offset


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_paths_are_the_same_backwards_and_mirrored(dy, dx):
    if not (dy or dx):
        return
    cells = set(path_cells((dy, dx)))
    assert {(y + dy, x + dx) for y, x in path_cells((-dy, -dx))} == cells
    assert {(y, -x) for y, x in path_cells((dy, -dx))} == cells


def test_no_path_slips_through_a_diagonal_of_cells():
    """Boundary cells that touch at corners only: every path across them meets one."""
    for offset in half_plane_offsets(TRAINING_RADIUS_CELLS):
        for start in range(-20, 20):
            side = [y + x + start for y, x in path_cells(offset)]
            if min(side[0], side[-1]) < 0 < max(side[0], side[-1]):
                assert 0 in side


@pytest.mark.parametrize("size_hw", [(6, 7), (3, 9), (1, 1)])
def test_maxima_equal_loops(size_hw):
    torch.manual_seed(0)
    values = torch.randn(2, *size_hw, dtype=torch.float64)
    found = path_maxima(values, [*OFFSETS, (-2, 1), (0, -3)])
    for i in range(2):
        for k, (dy, dx) in enumerate([*OFFSETS, (-2, 1), (0, -3)]):
            for y in range(size_hw[0]):
                for x in range(size_hw[1]):
                    there = (y + dy, x + dx)
                    if 0 <= there[0] < size_hw[0] and 0 <= there[1] < size_hw[1]:
                        expected = loops_maximum(values[i], (y, x), there)
                    else:
                        expected = -math.inf
                    assert float(found[i, k, y, x]) == expected


def test_affinities_are_one_minus_the_maximum_and_0_outside():
    values = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1))
    maxima = path_maxima(values, OFFSETS)
    expected = torch.where(maxima.isfinite(), 1 - maxima, 0)
    assert torch.equal(boundary_affinities(values, OFFSETS), expected)


def test_maxima_have_the_gradient_of_the_formula():
    torch.manual_seed(0)
    values = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    offsets = [(0, 1), (1, 2), (2, -3), (-1, 2), (0, 7)]
    finite = path_maxima(values.detach(), offsets).isfinite()
    assert torch.autograd.gradcheck(lambda x: path_maxima(x, offsets)[finite], (values,))


def test_equal_values_send_the_gradient_to_the_first_cell():
    values = torch.zeros(1, 1, 4, requires_grad=True)
    path_maxima(values, [(0, 2)]).masked_fill(
        torch.tensor([[[[0, 0, 1, 1]]]]) > 0, 0
    ).sum().backward()
    assert values.grad.tolist() == [[[1, 1, 0, 0]]]


def test_half_precision_boundaries_are_taken_to_single():
    values = torch.randn(1, 5, 5).half()
    assert torch.equal(path_maxima(values, OFFSETS), path_maxima(values.float(), OFFSETS))


# Near a boundary of 1 a cell keeps nearly all, and float32 rounds what little it gives away.
@pytest.mark.parametrize(("highest", "tolerance"), [(0.4, 1e-5), (1.0, 1e-4)])
@pytest.mark.parametrize(("radius", "power"), [(5, 10.0), (3, 2.0)])
def test_the_walk_equals_the_power_of_the_dense_matrix(radius, power, highest, tolerance):
    generator = np.random.default_rng(0)
    boundaries = generator.random((7, 8)) ** 3 * highest
    maps = generator.random((3, 7, 8))
    grid = boundary_transition(torch.from_numpy(boundaries).float(), radius=radius, power=power)
    found = walk(grid, torch.from_numpy(maps).float(), steps=256)
    expected = dense_walk(boundaries.astype(np.float32), maps, radius, power, 256)
    np.testing.assert_allclose(found.numpy(), expected, atol=tolerance)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 9), st.integers(0, 99))
def test_a_closed_boundary_lets_nothing_through(column, seed):
    boundaries = torch.rand(6, 12, generator=torch.Generator().manual_seed(seed)) / 2
    boundaries[:, column] = 1
    maps = torch.zeros(1, 6, 12)
    maps[..., :column] = 1
    found = walk(boundary_transition(boundaries), maps)[0]
    assert (found[:, column:] == 0).all()
    torch.testing.assert_close(found[:, :column], torch.ones(6, column), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: path_cells((0, 0)), "no path"),
        (lambda: path_maxima(torch.rand(3, 4), OFFSETS), r"expected float \(N, h, w\)"),
        (lambda: path_maxima(torch.zeros(1, 3, 4).long(), OFFSETS), "torch.int64"),
        (lambda: path_maxima(torch.zeros(1, 3, 4), [(0, 64)]), "longer than 63"),
        (lambda: boundary_affinities(torch.full((1, 3, 4), 1.5), OFFSETS), "sigmoid"),
        (lambda: boundary_affinities(torch.full((1, 3, 4), math.nan), OFFSETS), "sigmoid"),
        (lambda: boundary_transition(torch.rand(3, 4), radius=1), "radius is 1"),
    ],
)
def test_boundary_mistakes_are_one_line(wrong, message):
    with pytest.raises(PixelkinError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
