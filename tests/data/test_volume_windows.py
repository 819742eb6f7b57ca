import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from pixelkin.data.volume_windows import blended_slabs, slide_volume
from pixelkin.errors import PixelkinError

sizes = st.tuples(st.integers(1, 11), st.integers(1, 11), st.integers(1, 11))


def joined(slabs: list[tuple[int, np.ndarray]]) -> np.ndarray:
    at = 0
    for start, scores in slabs:
        assert start == at
        at += scores.shape[1]
    return np.concatenate([scores for _, scores in slabs], axis=1)


def pointwise(window: np.ndarray) -> np.ndarray:
    return np.stack([window, 40.0 - window, np.abs(window - 20.0)])


def boxes(window: np.ndarray) -> np.ndarray:
    """Looks one voxel far, and at a window's sides at something that is not there."""
    mean = uniform_filter(np.float64(window), 3, mode="constant", cval=-99)
    return np.stack([mean, 40 - mean])


@settings(max_examples=60, deadline=None)
@given(size=sizes, window=sizes, overlap=st.floats(0, 0.9), seed=st.integers(0, 999))
def test_a_pointwise_function_is_that_of_the_whole(
    size: tuple[int, int, int], window: tuple[int, int, int], overlap: float, seed: int
) -> None:
    volume = np.random.default_rng(seed).integers(0, 41, size).astype(np.float32)
    slabs = list(blended_slabs(pointwise, volume, window_zyx=window, overlap=overlap))
    np.testing.assert_allclose(joined(slabs), pointwise(volume), atol=1e-4)
    labels = slide_volume(pointwise, volume + 0.3, window_zyx=window, overlap=overlap)
    np.testing.assert_array_equal(labels, pointwise(volume + 0.3).argmax(axis=0))


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(4, 14), st.integers(4, 14), st.integers(4, 14)),
    window=st.tuples(st.integers(4, 7), st.integers(4, 7), st.integers(4, 7)),
    seed=st.integers(0, 999),
)
def test_a_function_that_looks_as_far_as_the_margin_is_that_of_the_whole(
    size: tuple[int, int, int], window: tuple[int, int, int], seed: int
) -> None:
    volume = np.random.default_rng(seed).normal(20, 9, size)
    window = tuple(min(pair) for pair in zip(size, window, strict=True))  # type: ignore[assignment]
    options = {"window_zyx": window, "overlap": 0.5, "margin_zyx": (1, 1, 1)}
    slabs = list(blended_slabs(boxes, volume, **options))  # type: ignore[arg-type]
    np.testing.assert_allclose(joined(slabs), boxes(volume), atol=1e-4)


def test_weights_are_a_tent_and_the_mean_is_weighted() -> None:
    calls = iter(range(9))

    def constant(window: np.ndarray) -> np.ndarray:
        return np.full((1, *window.shape), float(next(calls)))

    # Along z windows of 4 at 0, 2 and 3; weights 1 2 2 1 of scores 0, 1, 2.
    slabs = blended_slabs(constant, np.zeros((7, 1, 1)), window_zyx=(4, 1, 1), overlap=0.5)
    totals, expected = np.zeros(7), np.zeros(7)
    for score, start in enumerate((0, 2, 3)):
        totals[start : start + 4] += (1, 2, 2, 1)
        expected[start : start + 4] += score * np.array((1, 2, 2, 1))
    np.testing.assert_allclose(joined(list(slabs)).ravel(), expected / totals, rtol=1e-6)


def test_windows_have_one_size_and_small_volumes_are_continued() -> None:
    seen = []

    def predict(window: np.ndarray) -> np.ndarray:
        seen.append(window.copy())
        return window[None]

    volume = np.arange(6).reshape(1, 2, 3)
    [(start, scores)] = blended_slabs(predict, volume, window_zyx=(2, 4, 3))
    assert start == 0
    np.testing.assert_array_equal(scores[0], volume)
    [window] = seen
    np.testing.assert_array_equal(window, np.pad(volume, ((0, 1), (0, 2), (0, 0)), mode="edge"))


def test_memory_is_that_of_a_windows_depth() -> None:
    def predict(window: np.ndarray) -> np.ndarray:
        return np.stack([window] * 4)

    def peak(depth: int) -> int:
        volume = np.zeros((depth, 64, 64), np.float32)
        tracemalloc.start()
        labels = slide_volume(predict, volume, window_zyx=(8, 32, 32))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most - labels.nbytes

    # Scores of the whole would take 4 · 4 bytes · 64² a slice: 13 MB more.
    assert peak(256) - peak(48) < 200_000


def test_caller_mistakes_are_named() -> None:
    volume = np.zeros((4, 4, 4))

    def run(predict: object = pointwise, **options: object) -> None:
        given = {"window_zyx": (2, 2, 2), **options}
        slide_volume(predict, volume, **given)  # type: ignore[arg-type]

    with pytest.raises(PixelkinError, match="overlap is 1: expected a share from 0 to below 1"):
        run(overlap=1)
    with pytest.raises(PixelkinError, match="expected three sizes of 1 or more"):
        run(window_zyx=(2, 0, 2))
    with pytest.raises(PixelkinError, match="margin 1 does not fit windows of 2 that share 1"):
        run(margin_zyx=(1, 0, 0))
    with pytest.raises(
        PixelkinError, match=r"predict gave \(2, 2, 2\) for a window of \(2, 2, 2\)"
    ):
        run(lambda window: window)
    with pytest.raises(PixelkinError, match="predict gave 300 classes"):
        run(lambda window: np.zeros((300, *window.shape)))
    with pytest.raises(PixelkinError, match=r"the volume has size \(4, 4\)"):
        slide_volume(pointwise, np.zeros((4, 4)), window_zyx=(2, 2, 2))
