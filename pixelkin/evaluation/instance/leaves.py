"""Symmetric best Dice and difference in count of the CVPPP leaf segmentation challenge.

Source: Scharr et al., "Leaf segmentation in plant phenotyping: a collation study", Machine Vision
and Applications 27, 2016, section 4, and the evaluation that its authors published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from pixelkin.evaluation.instance.measure import Measure, mean
from pixelkin.evaluation.instance.stills import StillPair


class LeafScores(Measure):
    """SBD, DiC and |DiC|, each the mean over stills.

    Best Dice from A to B is the mean over objects of A of the best Dice with any of B (one of B
    may serve several); SBD is the smaller of both directions. DiC is the number of found objects
    less that of true ones; |DiC| is without sign.

    - Categories are not looked at: all objects are leaves.
    - Both sides are label maps: where objects overlap, the smaller true one and the found one of
      the higher score have the pixel. Objects without a pixel do not count.
    - Crowds and `ignore` (the source has neither) are cut out of found objects; one that lies by
      more than half in them is left out.
    - A still with objects on one side only has SBD 0; one with none on either side has no SBD.
    """

    def __init__(self, class_names: Sequence[str] = ("object",)) -> None:
        super().__init__(class_names)
        self._dices: list[float] = []
        self._differences: list[int] = []

    def _add(self, pair: StillPair) -> None:
        overlaps = pair.disjoint.known()
        found, truth = len(overlaps.found_px), len(overlaps.truth_px)
        self._differences.append(found - truth)
        if found and truth:
            total_px = overlaps.found_px[:, None] + overlaps.truth_px[None, :]
            dice = 2 * overlaps.common_px / total_px
            self._dices.append(_symmetric_best(dice))
        else:
            self._dices.append(0.0 if found or truth else math.nan)

    def compute(self) -> dict[str, float]:
        """SBD in [0, 1]; DiC and |DiC| in objects."""
        return {
            "SBD": mean(self._dices),
            "DiC": mean(self._differences),
            "|DiC|": mean(abs(difference) for difference in self._differences),
        }


def _symmetric_best(dice: Float[np.ndarray, "f t"]) -> float:
    return min(float(dice.max(axis=1).mean()), float(dice.max(axis=0).mean()))
