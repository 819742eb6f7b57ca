"""AP^r and AP^r_vol: average precision of regions on PASCAL VOC.

Source: Hariharan et al., "Simultaneous Detection and Segmentation", ECCV 2014, section 5, and the
evaluation that its authors published. The area under the precision-recall curve is that of VOC
since 2010: precision made monotone, all points, no 11-point sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from pixelkin.evaluation.instance.measure import Measure, mean
from pixelkin.evaluation.instance.stills import Overlaps, StillPair

_THRESHOLDS = tuple(tenth / 10 for tenth in range(1, 10))
_NAMED = {"APr50": 4, "APr60": 5, "APr70": 6, "APr80": 7, "APr90": 8}


@dataclass
class _ClassCounts:
    """Detections of one class, still by still: scores, and hit and counted per threshold."""

    truths: int = 0
    scores: list[Float[np.ndarray, " f"]] = field(default_factory=list)
    hits: list[Bool[np.ndarray, "9 f"]] = field(default_factory=list)
    counted: list[Bool[np.ndarray, "9 f"]] = field(default_factory=list)


class VocRegionAP(Measure):
    """APr50, APr60 … APr90, and APr_vol (the mean over IoU .1, .2 … .9); all by class as well.

    In each still the best object is assigned first, to the true object of its class, among those
    not yet taken, that it overlaps most; it is a hit where the IoU is above the threshold. What is
    no hit is a false positive, a second detection of one object too.

    - Of equal scores the object that was given first goes first, in the still and in the whole.
    - Crowds and `ignore` (the data of the source have neither): unlabelled pixels are taken out of
      found objects, and an object that is no hit does not count where its share inside crowds of
      its class is above the threshold, or where no pixel is left.
    - Means run over classes that have truth; NaN where there is none. A still without truth counts
      by its false positives. An empty mask matches nothing.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(class_names)
        self._classes = [_ClassCounts() for _ in self.class_names]

    def _add(self, pair: StillPair) -> None:
        overlaps = pair.as_given
        for category in np.union1d(overlaps.found_categories, overlaps.truth_categories):
            found = overlaps.found_categories == category
            one = overlaps.of(found, overlaps.truth_categories == category)
            order = np.argsort(-one.scores, kind="stable")
            counts = self._classes[category]
            counts.truths += len(one.truth_px)
            counts.scores.append(one.scores[order])
            hits = np.stack([_assign(one.iou_without_void()[order], t) for t in _THRESHOLDS])
            counts.hits.append(hits)
            counts.counted.append(hits | ~_beside_the_truth(one, int(category))[:, order])

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        # One row per class, one column per threshold.
        table = np.array([_average_precisions(counts) for counts in self._classes])
        columns = {name: table[:, column] for name, column in _NAMED.items()}
        columns["APr_vol"] = table.mean(axis=1)
        values = {name: mean(column) for name, column in columns.items()}
        for name, column in columns.items():
            values |= self.by_class(name, column)
        return values


def _assign(iou: Float[np.ndarray, "f t"], threshold: float) -> Bool[np.ndarray, " f"]:
    hits = np.zeros(len(iou), bool)
    free = iou.copy()
    # Only rows that could hit: most objects touch one or two others.
    for index in np.flatnonzero((iou > threshold).any(axis=1)):
        best = int(free[index].argmax())
        if free[index, best] > threshold:
            hits[index] = True
            free[:, best] = 0.0
    return hits


def _beside_the_truth(one: Overlaps, category: int) -> Bool[np.ndarray, "9 f"]:
    """Per threshold, the objects that lie in crowds of their class or in nothing labelled."""
    left_px = one.found_px - one.void_px
    crowd_px = one.crowd_px[:, one.crowd_categories == category].sum(axis=1)
    share: np.ndarray = crowd_px / np.maximum(left_px, 1)
    unlabelled = (left_px == 0) & (one.void_px > 0)
    beside: np.ndarray = unlabelled | (share > np.array(_THRESHOLDS)[:, None])
    return beside


def _average_precisions(counts: _ClassCounts) -> list[float]:
    if counts.truths == 0:
        return [math.nan] * len(_THRESHOLDS)
    if not counts.scores:
        return [0.0] * len(_THRESHOLDS)
    order = np.argsort(-np.concatenate(counts.scores), kind="stable")
    hits = np.concatenate(counts.hits, axis=1)[:, order]
    counted = np.concatenate(counts.counted, axis=1)[:, order]
    return [_area(row[keep], counts.truths) for row, keep in zip(hits, counted, strict=True)]


def _area(hits: Bool[np.ndarray, " f"], truths: int) -> float:
    """Area under the monotone precision-recall curve; each hit is one step of recall."""
    if not hits.size:
        return 0.0
    true_positives = np.cumsum(hits)
    precision = true_positives / np.arange(1, len(hits) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best_from_here[hits].sum() / truths)
