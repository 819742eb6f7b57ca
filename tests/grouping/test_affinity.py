"""Affinities against plain loops in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping import affinity
from pixelkin.grouping.affinity import (
    affinities,
    affinity_of_cell,
    half_plane_offsets,
    pair_distances,
    pair_windows,
    pairs_in_field,
)


def loops_distances(features: torch.Tensor, offsets, norm: str) -> torch.Tensor:
    n, c, h, w = features.shape
    found = torch.full((n, len(offsets), h, w), math.inf, dtype=torch.float64)
    for i in range(n):
        for k, (dy, dx) in enumerate(offsets):
            for y in range(h):
                for x in range(w):
                    if not (0 <= y + dy < h and 0 <= x + dx < w):
                        continue
                    total = 0.0
                    for d in range(c):
                        total += abs(
                            float(features[i, d, y, x]) - float(features[i, d, y + dy, x + dx])
                        )
                    found[i, k, y, x] = total / (c if norm == "mean" else 1)
    return found


def test_the_papers_neighbourhood_has_34_pairs():
    offsets = half_plane_offsets()
    assert len(offsets) == len(set(offsets)) == 34
    disc = {(y, x) for y in range(-9, 10) for x in range(-9, 10) if 0 < math.hypot(y, x) < 5}
    assert set(offsets) | {(-y, -x) for y, x in offsets} == disc
    assert not set(offsets) & {(-y, -x) for y, x in offsets}


@given(st.integers(2, 12))
def test_offsets_are_half_of_the_open_disc(radius):
    offsets = half_plane_offsets(radius)
    whole = sum(
        y * y + x * x < radius * radius
        for y in range(-radius, radius + 1)
        for x in range(-radius, radius + 1)
    )
    assert 2 * len(set(offsets)) + 1 == whole
    assert all(dy > 0 or (dy == 0 and dx > 0) for dy, dx in offsets)


def test_a_radius_without_neighbours():
    with pytest.raises(PixelkinError, match="radius is 1 cells"):
        half_plane_offsets(1)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.integers(-7, 7), st.integers(-7, 7)),
)
def test_windows_hold_every_pair_inside_the_field(size_hw, offset):
    field = torch.arange(size_hw[0] * size_hw[1]).view(size_hw)
    first, second = pair_windows(size_hw, offset)
    found = list(
        zip(field[first].flatten().tolist(), field[second].flatten().tolist(), strict=True)
    )
    expected = [
        (y * size_hw[1] + x, (y + offset[0]) * size_hw[1] + x + offset[1])
        for y in range(size_hw[0])
        for x in range(size_hw[1])
        if 0 <= y + offset[0] < size_hw[0] and 0 <= x + offset[1] < size_hw[1]
    ]
    assert found == expected
    inside = pairs_in_field(size_hw, [offset])
    assert inside[0].flatten().nonzero().flatten().tolist() == [a for a, _ in expected]


@pytest.mark.parametrize("norm", ["mean", "sum"])
@pytest.mark.parametrize("size_hw", [(6, 7), (3, 9), (1, 1)])
def test_affinities_equal_loops(norm, size_hw, monkeypatch):
    # Chunks of a few channels, the last of them smaller.
    monkeypatch.setattr(affinity, "_CHUNK_VALUES", 2 * 2 * size_hw[0] * size_hw[1])
    torch.manual_seed(0)
    features = torch.randn(2, 5, *size_hw, dtype=torch.float64)
    offsets = [*half_plane_offsets(), (-2, 1)]
    expected = loops_distances(features, offsets, norm)
    torch.testing.assert_close(pair_distances(features, offsets, norm=norm), expected)
    found = affinities(features, offsets, norm=norm)
    torch.testing.assert_close(found, torch.exp(-expected))
    assert torch.equal(found > 0, pairs_in_field(size_hw, offsets).expand_as(found))


def test_mean_over_the_channels_is_the_default():
    features = torch.tensor([[[[0.0, 1.0]], [[0.0, 3.0]]]])
    assert float(affinities(features, [(0, 1)])[0, 0, 0, 0]) == pytest.approx(math.exp(-2))
    assert float(affinities(features, [(0, 1)], norm="sum")[0, 0, 0, 0]) == pytest.approx(
        math.exp(-4)
    )


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_gradient_is_that_of_the_formula(norm, monkeypatch):
    monkeypatch.setattr(affinity, "_CHUNK_VALUES", 2 * 9)
    torch.manual_seed(0)
    features = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    offsets = [*half_plane_offsets(2), (-1, 2), (0, 3)]
    assert torch.autograd.gradcheck(lambda x: affinities(x, offsets, norm=norm), (features,))


def test_half_precision_is_taken_to_single():
    features = torch.randn(1, 4, 5, 5).half()
    offsets = half_plane_offsets(3)
    found = pair_distances(features, offsets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, pair_distances(features.float(), offsets))


@pytest.mark.parametrize("norm", ["mean", "sum"])
def test_affinity_of_a_cell_agrees_with_that_of_pairs(norm):
    torch.manual_seed(0)
    features = torch.randn(3, 6, 8)
    seen = affinity_of_cell(features, (3, 2), norm=norm)
    assert float(seen[2, 3]) == 1
    offsets = half_plane_offsets()
    pairs = affinities(features[None], offsets, norm=norm)[0]
    for k, (dy, dx) in enumerate(offsets):
        if 2 + dy < 6 and 0 <= 3 + dx < 8:
            assert float(seen[2 + dy, 3 + dx]) == pytest.approx(float(pairs[k, 2, 3]), rel=1e-5)
        if 2 - dy >= 0 and 0 <= 3 - dx < 8:
            assert float(seen[2 - dy, 3 - dx]) == pytest.approx(
                float(pairs[k, 2 - dy, 3 - dx]), rel=1e-5
            )


def test_mistakes_are_one_line():
    features = torch.zeros(1, 2, 3, 4)
    for call, message in (
        (lambda: pair_distances(features[0], [(0, 1)]), r"shape \(2, 3, 4\)"),
        (lambda: pair_distances(features[:, :0], [(0, 1)]), "a channel at least"),
        (lambda: pair_distances(features, [(0, 1)], norm="max"), "norm 'max'"),
        (lambda: affinity_of_cell(features[0], (4, 0)), r"\(4, 0\) is outside .* 4×3 cells"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
