"""The random walk against dense matrices and plain loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping import random_walk
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.grouping.random_walk import chebyshev_series, one_step, transition, walk

OFFSETS = half_plane_offsets(5)


def affinities(size_hw, seed=0, offsets=OFFSETS, strength=1.0):
    """Affinities inside the grid; NaN where a pair ends outside, which nobody may read."""
    height, width = size_hw
    generator = np.random.default_rng(seed)
    weights = np.exp(-strength * generator.exponential(size=(len(offsets), *size_hw)))
    for index, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                if not (0 <= y + dy < height and 0 <= x + dx < width):
                    weights[index, y, x] = np.nan
    return torch.from_numpy(weights.astype(np.float32))


def plain_transition(weights, offsets, power):
    """T as a dense float64 matrix, cell by cell and edge by edge."""
    _, height, width = weights.shape
    matrix = np.eye(height * width)
    for index, (dy, dx) in enumerate(offsets):
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    here, there = y * width + x, (y + dy) * width + x + dx
                    edge = float(weights[index, y, x]) ** power
                    matrix[here, there] = matrix[there, here] = edge
    return matrix / matrix.sum(1, keepdims=True)


def dense(found):
    """The matrix a `Transition` stands for; its weights to cells outside must be 0."""
    height, width = found.size_hw
    matrix = np.zeros((height * width, height * width))
    for cell, row in enumerate(found.values.double().numpy()):
        y, x = divmod(cell, width)
        for (dy, dx), value in zip(found.offsets, row, strict=True):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                matrix[cell, (y + dy) * width + x + dx] = value
            else:
                assert value == 0
    return matrix


def random_maps(count, size_hw, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *size_hw, generator=generator) ** 3


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (9, 1), (3, 2), (6, 11)])
@pytest.mark.parametrize("power", [1, 8])
def test_transition_equals_plain_loops_up_to_the_border(size_hw, power):
    weights = affinities(size_hw)
    expected = plain_transition(weights, OFFSETS, power)
    np.testing.assert_allclose(
        dense(transition(weights, OFFSETS, power=power)), expected, atol=2e-7, rtol=2e-6
    )


def test_offsets_may_point_anywhere_and_come_in_any_order():
    flipped = [(-dy, -dx) if index % 2 else (dy, dx) for index, (dy, dx) in enumerate(OFFSETS)]
    flipped = flipped[::-1]
    weights = affinities((6, 7), offsets=flipped)
    expected = plain_transition(weights, flipped, 8)
    np.testing.assert_allclose(dense(transition(weights, flipped)), expected, atol=2e-7, rtol=2e-6)


def test_cells_of_the_border_keep_their_edges():
    """Equal affinities: T's entry is one over the cells within reach, all that are in the grid."""
    found = dense(transition(torch.ones(34, 12, 13), OFFSETS))
    for cell in (0, 12, 5 * 13 + 12, 11 * 13 + 12, 6 * 13 + 6):
        y, x = divmod(cell, 13)
        reach = sum((y - v) ** 2 + (x - u) ** 2 < 25 for v in range(12) for u in range(13))
        assert (found[cell] > 0).sum() == reach
        np.testing.assert_allclose(found[cell][found[cell] > 0], 1 / reach, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 100, 256])
@pytest.mark.parametrize("method", ["chebyshev", "products"])
@pytest.mark.parametrize("size_hw", [(8, 9), (13, 4), (1, 6)])
def test_walk_equals_the_power_of_the_dense_matrix(steps, method, size_hw):
    weights, maps = affinities(size_hw, strength=0.3), random_maps(3, size_hw)
    matrix = np.linalg.matrix_power(plain_transition(weights, OFFSETS, 8), steps)
    expected = maps.double().flatten(1).numpy() @ matrix.T
    found = walk(transition(weights, OFFSETS), maps, steps=steps, method=method)
    assert found.dtype == torch.float32
    assert found.shape == maps.shape
    error = np.abs(found.double().flatten(1).numpy() - expected).max() / expected.max()
    assert error < 1e-5


def test_the_number_of_cells_in_a_block_changes_nothing(monkeypatch):
    grid = transition(affinities((9, 8)), OFFSETS)
    maps = random_maps(4, (9, 8))
    whole = walk(grid, maps)
    monkeypatch.setattr(random_walk, "_BLOCK_CELLS", 5)
    torch.testing.assert_close(walk(grid, maps), whole, rtol=1e-6, atol=1e-7)


def test_a_hard_border_stops_the_walk():
    """Two halves without affinity: each ends in its own mean, and nothing leaks."""
    height, width = 6, 8
    side = torch.arange(width) < 4
    weights = torch.zeros(34, height, width)
    for index, (_, dx) in enumerate(OFFSETS):
        there = (torch.arange(width) + dx).clamp(0, width - 1)
        weights[index] = (side == side[there]).float()
    maps = torch.zeros(1, height, width)
    maps[0, 2, 1] = 1
    found = walk(transition(weights, OFFSETS), maps)[0]
    assert (found[:, 4:] == 0).all()
    left = found[:, :4]
    torch.testing.assert_close(left, left.mean().expand_as(left), rtol=1e-4, atol=0)


sizes = st.tuples(st.integers(1, 8), st.integers(1, 8))


@settings(max_examples=25, deadline=None)
@given(sizes, st.integers(0, 300), st.integers(0, 99), st.sampled_from(["chebyshev", "products"]))
def test_constants_stay_and_the_mass_by_degree_is_kept(size_hw, steps, seed, method):
    weights = torch.rand(34, *size_hw, generator=torch.Generator().manual_seed(seed))
    grid = transition(weights, OFFSETS, power=2)
    maps = torch.cat([torch.full((1, *size_hw), 0.75), random_maps(2, size_hw, seed)])
    found = walk(grid, maps, steps=steps, method=method)
    torch.testing.assert_close(found[0], maps[0], rtol=1e-5, atol=0)
    # T's diagonal is one over the degree.
    degrees = 1 / grid.values[:, grid.offsets.index((0, 0))].double().reshape(size_hw)
    torch.testing.assert_close(
        (found * degrees).sum((1, 2)), (maps * degrees).sum((1, 2)), rtol=1e-5, atol=1e-6
    )


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(5)), st.integers(0, 99))
def test_classes_do_not_touch_each_other(order, seed):
    grid = transition(affinities((5, 6), seed), OFFSETS)
    maps = random_maps(5, (5, 6), seed)
    found = walk(grid, maps)
    torch.testing.assert_close(walk(grid, maps[list(order)]), found[list(order)])
    torch.testing.assert_close(walk(grid, maps[2:3]), found[2:3], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(walk(grid, maps * 3 + 1), found * 3 + 1, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 50, 255, 256, 4096])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_series_is_the_power_to_the_tolerance_and_exact_at_one(steps, tolerance):
    series = chebyshev_series(steps, tolerance)
    x = np.linspace(-1, 1, 2001)
    value = sum(c * np.cos(k * np.arccos(x)) for k, c in series.items())
    # What is cut, and as much again to bring the sum back to 1.
    assert np.abs(value - x**steps).max() <= 2 * tolerance + 1e-12
    assert sum(series.values()) == pytest.approx(1, abs=1e-14)
    assert max(series) <= steps
    assert all(k % 2 == steps % 2 for k in series)
    if (steps, tolerance) == (256, 1e-6):
        assert max(series) == 78


def test_weak_affinities_leave_no_subnormal_numbers():
    weights = torch.full((34, 6, 6), 1e-5)
    weights[:2] = 0.5
    found = transition(weights, OFFSETS).values
    assert ((found == 0) | (found > 1e-25)).all()


@pytest.mark.parametrize("chunk_values", [1, 1 << 20])
def test_one_step_equals_plain_loops(monkeypatch, chunk_values):
    monkeypatch.setattr(random_walk, "_CHUNK_VALUES", chunk_values)
    generator = np.random.default_rng(0)
    features = generator.normal(size=(6, 4, 5)).astype(np.float32)
    labels = generator.choice([0, 1, 3, 255], size=(4, 5))
    found = one_step(torch.from_numpy(features), torch.from_numpy(labels), classes=5, power=2)
    for c in range(5):
        members = list(zip(*np.nonzero(labels == c), strict=True))
        for y in range(4):
            for x in range(5):
                similar = [
                    np.exp(-np.abs(features[:, y, x] - features[:, v, u]).mean(dtype=float)) ** 2
                    for v, u in members
                ]
                expected = np.mean(similar) if members else 0
                assert float(found[c, y, x]) == pytest.approx(expected, abs=1e-6)


def test_one_step_without_confident_cells_is_zero():
    labels = torch.full((3, 4), 255, dtype=torch.uint8)
    assert not one_step(torch.randn(2, 3, 4), labels, classes=3).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: transition(torch.rand(33, 4, 4), OFFSETS), "34 offsets"),
        (lambda: transition(torch.rand(34, 0, 4), OFFSETS), "at least 1"),
        (lambda: transition(torch.rand(2, 4, 4), [(0, 1), (0, -1)]), "opposite"),
        (lambda: transition(torch.rand(1, 4, 4), [(0, 0)]), "one of each pair"),
        (lambda: transition(-torch.rand(34, 4, 4), OFFSETS), "negative"),
        (lambda: transition(torch.rand(34, 4, 4) * torch.nan, OFFSETS), "NaN"),
        (lambda: transition(torch.rand(34, 4, 4), OFFSETS, power=0), "above 0"),
        (lambda: walk_of(torch.rand(2, 5, 4)), "same grid"),
        (lambda: walk_of(torch.rand(2, 4, 4), steps=-1), "0 or more"),
        (lambda: walk_of(torch.rand(2, 4, 4), tolerance=0), "tolerance"),
        (lambda: walk_of(torch.rand(2, 4, 4), method="dense"), "'products'"),
        (lambda: one_step(torch.rand(2, 4, 4), torch.zeros(4, 3).int(), classes=1), "same grid"),
        (lambda: one_step(torch.rand(2, 4, 4), torch.ones(4, 4).int(), classes=1), "1 classes"),
    ],
)
def test_mistakes_are_told_in_one_line(wrong, message):
    with pytest.raises(PixelkinError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def walk_of(maps, **options):
    return walk(transition(torch.rand(34, 4, 4), OFFSETS), maps, **options)


def test_the_walk_runs_alike_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    weights, maps = affinities((9, 8)), random_maps(3, (9, 8))
    expected = walk(transition(weights, OFFSETS), maps)
    found = walk(transition(weights.cuda(), OFFSETS), maps.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-5, atol=1e-6)
