"""Similarity against plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping.similarity import (
    SMALLEST_DISTANCE,
    distance_at,
    log_dissimilarity,
    log_similarity,
    similar,
    similar_rles,
    similarity,
    squared_distances,
)
from pixelkin.masks import encode_rle


def plain_distances(a, b):
    return np.array([[((p - q) ** 2).sum() for q in b] for p in a]).reshape(len(a), len(b))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 3, 2), (20, 30, 64), (0, 3, 4), (3, 0, 4)])
def test_distances_equal_plain_loops(shape):
    n, m, d = shape
    generator = np.random.default_rng(n)
    # Far from the origin, where a product of rows that are not centred loses every digit.
    a, b = generator.normal(size=(n, d)) + 300, generator.normal(size=(m, d)) + 300
    a, b = a.astype(np.float32), b.astype(np.float32)
    found = squared_distances(torch.from_numpy(a), torch.from_numpy(b))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(
        found.numpy(), plain_distances(a.astype(float), b.astype(float)), atol=1e-3, rtol=1e-4
    )


def test_distances_are_never_negative_and_have_a_gradient():
    a = torch.randn(50, 8, requires_grad=True)
    found = squared_distances(a, a)
    assert found.min() >= 0
    found.sum().backward()
    plain = a.detach().double().requires_grad_()
    (plain[:, None] - plain[None]).square().sum().backward()
    torch.testing.assert_close(a.grad.double(), plain.grad, atol=1e-3, rtol=1e-3)


def test_distances_stay_32_bits_under_autocast_and_from_16_bits():
    a = torch.randn(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(squared_distances(a, a[:2]), squared_distances(a, a[:2]).float())
        found = squared_distances(a, a[:2])
    torch.testing.assert_close(found, (a[:, None] - a[None, :2]).square().sum(2))
    assert squared_distances(a.bfloat16(), a.bfloat16()).dtype == torch.float32


def test_cuts_are_those_of_the_paper():
    cuts = [distance_at(cut) for cut in (0.25, 0.5, 0.75, 0.9)]
    assert cuts == pytest.approx([1.946, 1.099, 0.511, 0.201], abs=5e-4)
    assert distance_at(1.0) == 0
    for cut in (0.25, 0.5, 0.75, 0.9):
        assert float(similarity(torch.tensor(distance_at(cut)))) == pytest.approx(cut, rel=1e-6)


@pytest.mark.parametrize("cut", [0.0, -1.0, 1.1, math.nan])
def test_a_cut_that_is_no_similarity_is_refused(cut):
    with pytest.raises(PixelkinError, match="similarity"):
        distance_at(cut)


@given(st.floats(SMALLEST_DISTANCE, 80))
def test_logarithms_equal_the_definition(distance):
    sigma = 2 / (1 + math.exp(distance))
    given_ = torch.tensor(distance, dtype=torch.float64)
    assert float(similarity(given_)) == pytest.approx(sigma, rel=1e-9)
    assert float(log_similarity(given_)) == pytest.approx(math.log(sigma), rel=1e-9)
    # 1 − σ, without the cancellation.
    rest = -math.expm1(-distance) / (1 + math.exp(-distance))
    assert float(log_dissimilarity(given_)) == pytest.approx(math.log(rest), rel=1e-9)


@pytest.mark.parametrize("function", [similarity, log_similarity, log_dissimilarity])
def test_values_and_gradients_are_finite_at_both_ends(function):
    distances = torch.tensor([0.0, 1e-30, SMALLEST_DISTANCE, 1.0, 1e4, 1e30], requires_grad=True)
    values = function(distances)
    assert values.isfinite().all()
    values.sum().backward()
    assert distances.grad.isfinite().all()
    assert distances.grad.abs().max() <= 1.01 / SMALLEST_DISTANCE


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(0, 9), st.integers(1, 20), st.data())
def test_membership_equals_plain_loops(n, t, d, data):
    generator = np.random.default_rng(data.draw(st.integers(0, 1000)))
    a, b = generator.normal(size=(n, d)), generator.normal(size=(t, d))
    limits = generator.uniform(0, 2 * d, size=t)
    chunks = similar(
        *(torch.from_numpy(v.astype(np.float32)) for v in (a, b, limits)),
        chunk=data.draw(st.sampled_from([1, 7, 60, None])),
    )
    found = torch.cat([torch.zeros(0, t, dtype=torch.bool), *chunks]).numpy()
    expected = plain_distances(a, b)
    clear = np.abs(expected - limits) > 1e-3
    assert found.shape == expected.shape
    assert (found == (expected <= limits))[clear].all()


def test_a_pixel_without_numbers_belongs_nowhere():
    rows = torch.tensor([[0.0, 0.0], [math.nan, 0.0], [math.inf, 0.0]])
    (found,) = similar(rows, torch.zeros(1, 2), torch.tensor([5.0]))
    assert found.tolist() == [[True], [False], [False]]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 20), st.integers(0, 10**6))
def test_run_lengths_are_those_of_the_masks(height, width, t, number):
    generator = torch.Generator().manual_seed(number)
    field = torch.randn(3, height, width, generator=generator)
    seeds = torch.randn(t, 3, generator=generator)
    # Some masks empty, some full.
    limits = torch.rand(t, generator=generator) * 12 - 1
    limits[::5] = 1e3
    rows = field.permute(2, 1, 0).reshape(-1, 3)
    (masks,) = similar(rows, seeds, limits, chunk=len(rows))
    expected = [encode_rle(mask.reshape(width, height).T.numpy()) for mask in masks.T]
    assert similar_rles(rows, seeds, limits, size_hw=(height, width)) == expected


def test_run_lengths_join_over_chunks():
    rows = torch.zeros(700 * 500, 1)
    rows[123_456:234_567] = 1
    found = similar_rles(rows, torch.ones(1, 1), torch.tensor([0.5]), size_hw=(700, 500))
    assert found == [encode_rle(rows.reshape(500, 700).T.numpy())]


def test_shapes_that_do_not_match_are_refused():
    rows = torch.zeros(4, 3)
    with pytest.raises(PixelkinError, match="expected"):
        squared_distances(rows, torch.zeros(4, 2))
    with pytest.raises(PixelkinError, match="one per seed"):
        similar(rows, rows, torch.zeros(3))
    with pytest.raises(PixelkinError, match="column by column"):
        similar_rles(rows, rows, torch.zeros(4), size_hw=(2, 3))
    with pytest.raises(PixelkinError, match="chunk"):
        similar(rows, rows, torch.zeros(4), chunk=0)
