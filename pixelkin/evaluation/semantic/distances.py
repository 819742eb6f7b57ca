"""How far pixels lie from a mask, and the F that thin structures are judged by."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool


def within(
    mask: Bool[np.ndarray, "h w"], other: Bool[np.ndarray, "h w"], radii_px: tuple[int, ...]
) -> list[int]:
    """Of the pixels of `mask`, how many lie within each radius of one of `other`.

    Distances are Euclidean between pixel centres, the radius included.
    """
    if not mask.any() or not other.any():
        return [0] * len(radii_px)
    # The work goes with the area, and thin structures seldom fill the frame.
    rows, columns = (np.flatnonzero((mask | other).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    outside = np.logical_not(other[box]).view(np.uint8)
    distance_px = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    near = distance_px[mask[box]]
    # The square of a distance between pixels is a whole number, its float32 root is not exact.
    squares = np.rint(near.astype(np.float64) ** 2)
    return [int(np.count_nonzero(squares <= radius * radius)) for radius in radii_px]


def f_within(
    mask: Bool[np.ndarray, "h w"], truth: Bool[np.ndarray, "h w"], radii_px: tuple[int, ...]
) -> list[float]:
    """Harmonic mean of precision and recall for each radius.

    Precision is the share of `mask` within the radius of `truth`, recall the share of `truth`
    within the radius of `mask`. 1 where both are empty, 0 where one is.
    """
    found, wanted = int(np.count_nonzero(mask)), int(np.count_nonzero(truth))
    if not found or not wanted:
        return [float(found == wanted)] * len(radii_px)
    values = []
    for hit, reached in zip(
        within(mask, truth, radii_px), within(truth, mask, radii_px), strict=True
    ):
        precision, recall = hit / found, reached / wanted
        total = precision + recall
        values.append(2 * precision * recall / total if total else 0.0)
    return values
