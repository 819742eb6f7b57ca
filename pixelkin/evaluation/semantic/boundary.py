"""Boundary F of class maps.

Source: Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013,
section 3.2: the F of the outlines of each class, matched within a share of the image's diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np
from jaxtyping import Bool, Integer

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.distances import f_within
from pixelkin.evaluation.semantic.measure import MapPair, Measure


class BoundaryF(Measure):
    """F: mean over stills of the mean over their classes; F by class: mean over stills with it.

    The boundary of a class are its pixels that have one of another class among their four
    neighbours; the edge of the frame is none, nor is where a class meets unknown pixels, and
    unknown pixels have none. A pixel of one boundary is matched where the other has one within
    the tolerance.

    - A still counts for the classes that its truth or its prediction has; a class that only one
      of them has is 0 there.
    - A class that both have and neither has a boundary of, as where it fills the frame, is 1.

    Args:
        class_names: in the order of their indices.
        tolerance: below 1 a share of the image's diagonal, rounded up to pixels; from 1 on whole
            pixels.

    Raises:
        PixelkinError: `tolerance` is negative, or above 1 and not whole.
    """

    def __init__(self, class_names: Sequence[str], *, tolerance: float = 0.0075) -> None:
        super().__init__(class_names)
        if not math.isfinite(tolerance) or tolerance < 0 or (tolerance > 1 and tolerance % 1):
            raise PixelkinError(
                f"tolerance {tolerance} is neither a share of the diagonal below 1 nor whole "
                "pixels; give 0.0075, or pixels such as 3"
            )
        self.tolerance = tolerance
        classes = len(self.class_names)
        self._sums, self._stills = np.zeros(classes), np.zeros(classes, np.int64)
        self._sum, self._count = 0.0, 0

    def add(self, pair: MapPair) -> None:
        """Count one still in, of which other measures may know too."""
        true_px, found_px = pair.counts.sum(axis=1), pair.counts.sum(axis=0)
        present = np.flatnonzero(true_px + found_px)
        if not len(present):
            return
        radius_px = radius_of(self.tolerance, pair.truth.shape)
        found_edges = class_edges(pair.predicted, pair.known)
        true_edges = class_edges(pair.truth, pair.known)
        values: list[float] = []
        for index in present:
            if not true_px[index] or not found_px[index]:
                values.append(0.0)
                continue
            found = found_edges & (pair.predicted == index)
            wanted = true_edges & (pair.truth == index)
            values += f_within(found, wanted, (radius_px,))
        self._sums[present] += values
        self._stills[present] += 1
        self._sum += float(np.mean(values))
        self._count += 1

    def _merge(self, other: Self) -> None:
        self._sums += other._sums
        self._stills += other._stills
        self._sum += other._sum
        self._count += other._count

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        values = np.full(len(self._sums), math.nan)
        np.divide(self._sums, self._stills, out=values, where=self._stills > 0)
        whole = self._sum / self._count if self._count else math.nan
        return {"F": whole} | self.by_class("F", values)


def radius_of(tolerance: float, size_hw: tuple[int, ...]) -> int:
    """Radius in pixels of a tolerance: a share of the diagonal below 1, pixels from 1 on."""
    return int(tolerance) if tolerance >= 1 else math.ceil(tolerance * math.hypot(*size_hw))


def class_edges(
    labels: Integer[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Known pixels of which one of the four neighbours is known and has another label."""
    edges = np.zeros(labels.shape, bool)
    for before, after in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differ = (labels[before] != labels[after]) & known[before] & known[after]
        edges[before] |= differ
        edges[after] |= differ
    return edges
