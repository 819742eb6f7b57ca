"""TP / (TP + FP + FN), which the microscopy field reports as "average precision".

Source: Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data Science
Bowl", Nature Methods 16, 2019. It is no average precision: scores do not enter, and every found
object counts. It goes by its formula's name here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelkin.evaluation.instance.measure import IOU_THRESHOLDS, Measure, mean
from pixelkin.evaluation.instance.stills import StillPair


class ThreatScore(Measure):
    """tp_over_tp_fp_fn (mean over IoU above .50 … .95) and tp_over_tp_fp_fn_50.

    The quotient is taken in each still, and its mean over stills.

    - An object is found where one of its class overlaps it above the threshold; from .5 on that
      can be one only. With several classes the counts of a still are added up before dividing.
    - Both sides are label maps: where objects overlap, the smaller true one and the found one of
      the higher score have the pixel. Objects without a pixel do not count.
    - Crowds and `ignore` (the source has neither) are cut out of found objects; one that lies by
      more than half in them is left out.
    - A still without truth has 0 where anything was found; with nothing found it is left out.
    """

    def __init__(self, class_names: Sequence[str] = ("object",)) -> None:
        super().__init__(class_names)
        self._quotients: list[list[float]] = []

    def _add(self, pair: StillPair) -> None:
        overlaps = pair.disjoint.known()
        found, truth = len(overlaps.found_px), len(overlaps.truth_px)
        if found == truth == 0:
            return
        same = overlaps.found_categories[:, None] == overlaps.truth_categories[None, :]
        iou = overlaps.iou()[same]
        right = [int(np.count_nonzero(iou > threshold)) for threshold in IOU_THRESHOLDS]
        self._quotients.append([tp / (found + truth - tp) for tp in right])

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        return {
            "tp_over_tp_fp_fn": mean(value for still in self._quotients for value in still),
            "tp_over_tp_fp_fn_50": mean(still[0] for still in self._quotients),
        }
