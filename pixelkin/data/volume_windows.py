"""Volumes larger than memory allows a network: window by window, blended where they overlap.

For 3-D networks of the user's own: `examples/segment_a_volume.py`. Those of pixelkin see slices
(`semantic.volumes.segment_volume`, `pixelkin predict MODEL SCAN.nii.gz`).

The overlap and the weights that fall towards a window's sides are those of Isensee et al.: nnU-Net,
Nature Methods 18, 2021, with a tent in the place of the Gaussian.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float32, Float64, Num, UInt8

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Predict = Callable[[np.ndarray], np.ndarray]
"""A window (z, y, x) → scores of its voxels (C, z, y, x)."""


def slide_volume(
    predict: Predict,
    volume: Num[np.ndarray, "z y x"],
    *,
    window_zyx: tuple[int, int, int],
    overlap: float = 0.5,
    margin_zyx: tuple[int, int, int] = (0, 0, 0),
) -> UInt8[np.ndarray, "z y x"]:
    """The best class of every voxel, from the blended scores of `blended_slabs`.

    Arguments and errors are those of `blended_slabs`. Of the scores no more than a window's depth
    is in memory at once.
    """
    labels = np.empty(volume.shape, np.uint8)
    for start, scores in blended_slabs(
        predict, volume, window_zyx=window_zyx, overlap=overlap, margin_zyx=margin_zyx
    ):
        if len(scores) > IGNORE:
            raise PixelkinError(f"predict gave {len(scores)} classes: expected at most {IGNORE}")
        labels[start : start + scores.shape[1]] = scores.argmax(axis=0)
    return labels


def blended_slabs(
    predict: Predict,
    volume: Num[np.ndarray, "z y x"],
    *,
    window_zyx: tuple[int, int, int],
    overlap: float = 0.5,
    margin_zyx: tuple[int, int, int] = (0, 0, 0),
) -> Iterator[tuple[int, Float32[np.ndarray, "c z y x"]]]:
    """Scores of the whole volume in slabs along z: (first slice, scores), in ascending order.

    Every window has the same size; at the far sides the last one is moved back to end with the
    volume, and a volume smaller than the window is continued with its outermost voxels. A voxel's
    score is the mean over the windows that hold it, with weights that fall linearly from a
    window's middle to its sides. So wherever windows agree, as they do for a function that
    looks no farther than `margin_zyx`, the result is that of the whole volume at once.

    Args:
        predict: called with one window (z, y, x), of the type of `volume`.
        volume: sliced window by window, so that a memory map serves as well.
        window_zyx: voxels.
        overlap: share of a window that the next one along an axis covers too, 0 to below 1.
        margin_zyx: voxels at the sides of a window whose scores are dropped where another window
            reaches deeper: those that a network sees less than its whole field of.

    Raises:
        PixelkinError: a size, the overlap or the margin is out of range, or `predict` gives
            another size.
    """
    _check(volume.shape, window_zyx, overlap)
    plans = [
        _axis_plan(length, window, overlap, margin)
        for length, window, margin in zip(volume.shape, window_zyx, margin_zyx, strict=True)
    ]
    (z_plan, y_plan, x_plan), depth = plans, window_zyx[0]
    # Wider than the volume where that is smaller than a window; cut off at the end.
    height, width = (
        max(length, window) for length, window in zip(volume.shape[1:], window_zyx[1:], strict=True)
    )
    sums: Float32[np.ndarray, "c z y x"] | None = None
    starts = [start for start, _ in z_plan]
    for (z, z_weights), following in itertools.zip_longest(z_plan, starts[1:]):
        for (y, y_weights), (x, x_weights) in itertools.product(y_plan, x_plan):
            scores = _predicted(predict, volume, (z, y, x), window_zyx)
            if sums is None:
                sums = np.zeros((len(scores), depth, height, width), np.float32)
            elif len(sums) != len(scores):
                raise PixelkinError(f"predict gave {len(scores)} classes, and {len(sums)} before")
            weights = z_weights[:, None, None] * y_weights[:, None] * x_weights
            area = np.s_[:, :, y : y + window_zyx[1], x : x + window_zyx[2]]
            sums[area] += scores * weights.astype(np.float32)
        assert sums is not None
        # What no later window reaches is final.
        final = min(depth, volume.shape[0]) if following is None else following - z
        yield z, sums[:, :final, : volume.shape[1], : volume.shape[2]].copy()
        sums[:, : depth - final] = sums[:, final:].copy()
        sums[:, depth - final :] = 0


def _predicted(
    predict: Predict,
    volume: Num[np.ndarray, "z y x"],
    start_zyx: tuple[int, int, int],
    window_zyx: tuple[int, int, int],
) -> np.ndarray:
    index = tuple(slice(s, s + w) for s, w in zip(start_zyx, window_zyx, strict=True))
    window = np.asarray(volume[index])
    if window.shape != window_zyx:
        missing = [(0, w - have) for w, have in zip(window_zyx, window.shape, strict=True)]
        window = np.pad(window, missing, mode="edge")
    scores = np.asarray(predict(window))
    if scores.ndim != 4 or scores.shape[1:] != window_zyx or not len(scores):
        raise PixelkinError(
            f"predict gave {scores.shape} for a window of {window_zyx}: expected (classes, z, y, "
            "x); do not crop or squeeze its scores"
        )
    return scores


def _axis_plan(
    length: int, window: int, overlap: float, margin: int
) -> list[tuple[int, Float64[np.ndarray, " n"]]]:
    """(first voxel, weights) of the windows along an axis; of a voxel all weights sum to 1."""
    step = max(1, round(window * (1 - overlap)))
    if margin < 0 or (length > window and window - step < 2 * margin):
        raise PixelkinError(
            f"margin {margin} does not fit windows of {window} that share {window - step}: "
            "expected at most half of that; take larger windows or more overlap"
        )
    last = max(length - window, 0)
    starts = [*range(0, last, step), last]
    tent = np.minimum(np.arange(1, window + 1), np.arange(window, 0, -1)).astype(np.float64)
    weights = []
    for start in starts:
        weight = tent.copy()
        # The sides of the volume have no better window.
        if start > 0:
            weight[:margin] = 0
        if start < last:
            weight[window - margin :] = 0
        weights.append(weight)
    total = np.zeros(max(length, window))
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + window] += weight
    return [
        (start, weight / total[start : start + window])
        for start, weight in zip(starts, weights, strict=True)
    ]


def _check(size_zyx: tuple[int, ...], window_zyx: tuple[int, int, int], overlap: float) -> None:
    if len(size_zyx) != 3 or 0 in size_zyx:
        raise PixelkinError(f"the volume has size {size_zyx}: expected (z, y, x)")
    if len(window_zyx) != 3 or min(window_zyx) < 1:
        raise PixelkinError(f"window_zyx is {window_zyx}: expected three sizes of 1 or more")
    if not 0 <= overlap < 1:
        raise PixelkinError(f"overlap is {overlap}: expected a share from 0 to below 1")
