"""Seeds against the greedy rule written as plain loops."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping import lazy_seeds, seeds
from pixelkin.grouping.seeds import choose_seeds, seediness


def plain_seeds(embeddings, scores, count, alpha, floor):
    """The rule as the paper writes it, in exact or double arithmetic; lowest index first."""
    chosen: list[int] = []
    while len(chosen) < count:
        best, found = -math.inf, None
        for p in range(len(scores)):
            if not (math.isfinite(scores[p]) and scores[p] > floor):
                continue
            if not np.isfinite(embeddings[p]).all():
                continue
            value = math.log(scores[p])
            if chosen:
                apart = min(float(((embeddings[p] - embeddings[q]) ** 2).sum()) for q in chosen)
                if apart == 0:
                    continue
                value += alpha * math.log(apart)
            # Logarithms of equal products differ by rounding: ties must not hang on it.
            if value > best + 1e-9:
                best, found = value, p
        if found is None:
            break
        chosen.append(found)
    return chosen


def test_seediness_equals_plain_loops():
    generator = np.random.default_rng(0)
    probabilities = generator.random((4, 6, 50)).astype(np.float32)
    scores, cuts, categories = seediness(torch.from_numpy(probabilities))
    for pixel in range(50):
        best = max(
            (probabilities[cut, label, pixel], cut, label - 1)
            for cut in range(4)
            for label in range(1, 6)
        )
        assert (float(scores[pixel]), int(cuts[pixel]), int(categories[pixel])) == best


@pytest.mark.parametrize("shape", [(4, 1, 9), (0, 3, 9), (4, 9)])
def test_seediness_refuses_other_shapes(shape):
    with pytest.raises(PixelkinError, match="background"):
        seediness(torch.zeros(shape))


# Few values on a grid: coinciding pixels, equal distances and equal scores are the rule.
score_values = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, -1.0, math.nan, math.inf, -math.inf])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), score_values), max_size=40),
    st.integers(0, 45),
    st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
    st.sampled_from([0.0, 0.2]),
    # 0: with bounds, however few the pixels; blocks of 16 leave a short last one.
    st.sampled_from([0, seeds._LEAST_LAZY]),
)
def test_choice_equals_plain_loops_with_ties(rows, count, alpha, floor, least_lazy):
    embeddings = np.array([row[:2] for row in rows], np.float32).reshape(-1, 2)
    scores = np.array([row[2] for row in rows], np.float32)
    with mock.patch.object(seeds, "_LEAST_LAZY", least_lazy):
        found = choose_seeds(
            torch.from_numpy(embeddings),
            torch.from_numpy(scores),
            count=count,
            alpha=alpha,
            floor=floor,
        )
    assert found.indices.tolist() == plain_seeds(embeddings, scores, count, alpha, floor)
    assert found.scores.tolist() == scores[found.indices.numpy()].tolist()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(4096, 9000),
    st.integers(1, 70),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.sampled_from([0.0, 30.0, 1e5, 1e18]),
    st.integers(0, 1000),
)
def test_bounds_choose_the_same_pixels_as_every_distance(n, d, alpha, offset, number):
    """Clusters, coinciding pixels, values that round badly or overflow, and no numbers at all."""
    generator = torch.Generator().manual_seed(number)
    centres = 3 * torch.randn(20, d, generator=generator)
    label = torch.randint(0, 20, (n // 64 + 1,), generator=generator).repeat_interleave(64)[:n]
    rows = centres[label] + 0.2 * torch.randn(n, d, generator=generator) * (label % 2)[:, None]
    rows = rows * (offset if offset > 1e6 else 1) + (offset if offset < 1e6 else 0)
    scores = (torch.rand(n, generator=generator) * 8).round() / 8
    rows[number % n] = math.nan
    rows[(3 * number) % n, 0] = math.inf
    scores[(7 * number) % n] = math.nan
    expected = seeds._plain(rows, scores, 40, alpha, 0.1)
    assert len(expected) > 5
    few = {"_MOST_RUNS": 5, "_MOST_CANDIDATES": 9, "_MOST_PIXELS": 7, "_ACTIVE": 0.7}
    # Not to be asked, but where squares overflow.
    unused = {"_plain": seeds._plain if offset > 1e6 else None}
    for changed in ({"_SHARE": 0.9}, few):
        with mock.patch.multiple(lazy_seeds, **changed), mock.patch.multiple(seeds, **unused):
            found = choose_seeds(rows, scores, count=40, alpha=alpha, floor=0.1)
        assert found.indices.tolist() == expected


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_weights_beyond_32_bits_choose_the_same_pixels(alpha):
    """Scores so low that their weights vanish, ties by the thousand, and seeds to the last one."""
    rows = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0], [9.0, 9.0], [1.0, 1.0]])
    label = torch.arange(5000) // 1000
    scores = torch.tensor([0.9, 0.9, 1e-3, 1e-6, 0.5])[label]
    expected = seeds._plain(rows[label], scores, 9, alpha, 0.0)
    assert len(expected) == 5
    found = choose_seeds(rows[label], scores, count=9, alpha=alpha)
    assert found.indices.tolist() == expected


def test_pixels_without_numbers_are_passed_over():
    embeddings = torch.tensor([[0.0, 1.0], [math.nan, 0.0], [math.inf, 0.0], [2.0, 0.0]])
    found = choose_seeds(embeddings, torch.tensor([0.5, 1.0, 0.9, 0.4]), count=9)
    assert found.indices.tolist() == [0, 3]


def test_pixels_that_coincide_give_one_seed():
    assert len(choose_seeds(torch.ones(30, 5), torch.rand(30) + 0.1, count=9).indices) == 1


def test_mistakes_are_refused():
    rows = torch.zeros(4, 3)
    with pytest.raises(PixelkinError, match="expected"):
        choose_seeds(rows, torch.zeros(3), count=1)
    for wrong in ({"count": -1}, {"count": 1, "alpha": -0.1}, {"count": 1, "floor": -0.5}):
        with pytest.raises(PixelkinError, match="negative"):
            choose_seeds(rows, torch.zeros(4), **wrong)
