"""Average precision of Cityscapes' instance-level task.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016,
section 4.2, and the evaluation that its authors published. Its curve is not COCO's: one point per
distinct score, steps integrated around each point, precision not made monotone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance.measure import IOU_THRESHOLDS, Measure, mean
from pixelkin.evaluation.instance.stills import StillPair


@dataclass
class _Tally:
    """Detections of one class at one threshold, and the true objects that none of them hit."""

    scores: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    missed: int = 0


class CityscapesAP(Measure):
    """AP (mean over IoU above .50 … .95) and AP50, and both by class.

    - True objects under `min_region_px` pixels are not asked for: finding one is neither right
      nor wrong.
    - An object that hits nothing of its class is left out where the share of its pixels in
      unlabelled pixels (`ignore`), crowds of its class (such as "car group") and small true
      objects of its class is above the IoU threshold; else it is a false positive.
    - Of several objects that hit one true object the one of the highest score counts, the others
      are false positives. Objects of equal score enter the curve together, so order is no matter.
    - The truth is a map: where true objects overlap the smaller one has the pixel. Found objects
      may overlap. Those without a pixel are left out.
    - Means run over classes that have truth; NaN where there is none.
    """

    def __init__(self, class_names: Sequence[str], *, min_region_px: int = 100) -> None:
        super().__init__(class_names)
        if min_region_px < 0:
            raise PixelkinError(f"min_region_px is {min_region_px}, expected 0 or more pixels")
        self.min_region_px = min_region_px
        self._truths = [0] * len(self.class_names)
        self._tallies = [[_Tally() for _ in IOU_THRESHOLDS] for _ in self.class_names]

    def _add(self, pair: StillPair) -> None:
        overlaps = pair.truth_disjoint
        for category in np.union1d(overlaps.found_categories, overlaps.truth_categories):
            found = overlaps.found_categories == category
            one = overlaps.of(found, overlaps.truth_categories == category)
            large = one.truth_px >= self.min_region_px
            self._truths[category] += int(large.sum())
            crowds = one.crowd_categories == category
            beside_px = one.void_px + one.crowd_px[:, crowds].sum(axis=1)
            beside_px += one.common_px[:, ~large].sum(axis=1)
            share = beside_px / one.found_px
            iou = one.iou()[:, large]
            for threshold, tally in zip(IOU_THRESHOLDS, self._tallies[category], strict=True):
                hits = iou > threshold
                _count_hits(hits, one.scores, tally)
                # What hits a crowd or a small object has a share above the threshold anyway.
                wrong = one.scores[~hits.any(axis=1) & (share <= threshold)].tolist()
                tally.scores += wrong
                tally.hits += [False] * len(wrong)

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        table = np.array(
            [
                [_average_precision(tally) if truths else math.nan for tally in tallies]
                for truths, tallies in zip(self._truths, self._tallies, strict=True)
            ]
        )
        whole, at_half = table.mean(axis=1), table[:, 0]
        values = {"AP": mean(whole), "AP50": mean(at_half)}
        return values | self.by_class("AP", whole) | self.by_class("AP50", at_half)


def _count_hits(
    hits: Bool[np.ndarray, "f t"], scores: Float[np.ndarray, " f"], tally: _Tally
) -> None:
    hit = hits.any(axis=0)
    tally.missed += int((~hit).sum())
    for column in np.flatnonzero(hit):
        best_first = np.sort(scores[hits[:, column]])[::-1].tolist()
        tally.scores += best_first
        tally.hits += [True] + [False] * (len(best_first) - 1)


def _average_precision(tally: _Tally) -> float:
    if not tally.scores:
        return 0.0
    order = np.argsort(-np.array(tally.scores), kind="stable")
    scores = np.array(tally.scores)[order]
    hits = np.cumsum(np.array(tally.hits)[order])
    # One point per distinct score: where it falls for the last time.
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True))
    precision = hits[last] / (last + 1)
    recall = hits[last] / max(int(hits[-1]) + tally.missed, 1)
    # An artificial point at recall 0 has the first point's precision.
    precision = np.append(precision[0], precision)
    recall = np.concatenate(([0.0, 0.0], recall, recall[-1:]))
    return float(precision @ (recall[2:] - recall[:-2]) / 2)
