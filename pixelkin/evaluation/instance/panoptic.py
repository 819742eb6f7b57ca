"""Panoptic quality.

Source: Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4, and the evaluation that its
authors published.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Float, Int64

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance.measure import Measure, mean
from pixelkin.evaluation.instance.stills import StillPair


class PanopticQuality(Measure):
    """PQ = SQ · RQ, with SQ and RQ; each also of things, of stuff, and by class.

    A found segment and a true one of its class match where their IoU is above .5, which makes the
    match unique. Per class SQ is the mean IoU of matches, RQ = TP / (TP + FP/2 + FN/2). PQ_things
    and PQ_stuff are there where `stuff_names` names classes.

    - Unlabelled pixels (`ignore`) leave the union. A found segment that matches nothing, and of
      which more than half lies in unlabelled pixels and crowds of its class, is left out. (Where a
      class has several crowds in a still the published code sees one of them; here all count.)
    - Both sides are label maps: where objects overlap, the smaller true one and the found one of
      the higher score have the pixel. Objects without a pixel do not count.
    - All objects of a stuff class in one still are one segment.
    - Means run over classes with TP + FP + FN > 0; the others are NaN. A class without any match
      has SQ 0, as in the published code.
    """

    def __init__(self, class_names: Sequence[str], *, stuff_names: Collection[str] = ()) -> None:
        super().__init__(class_names)
        unknown = sorted(set(stuff_names) - set(self.class_names))
        if unknown:
            raise PixelkinError(
                f"stuff class {unknown[0]!r} is no class name; expected some of "
                f"{', '.join(self.class_names)}"
            )
        self._stuff = np.array([name in set(stuff_names) for name in self.class_names])
        classes = len(self.class_names)
        self._iou = np.zeros(classes)
        self._tp, self._fp, self._fn = (np.zeros(classes, np.int64) for _ in range(3))

    def _add(self, pair: StillPair) -> None:
        overlaps = pair.disjoint
        rows, row_categories = self._segments(overlaps.found_categories)
        columns, column_categories = self._segments(overlaps.truth_categories)
        common_px = columns(rows(overlaps.common_px).T).T
        void_px, found_px = rows(overlaps.void_px), rows(overlaps.found_px)
        union_px = (found_px - void_px)[:, None] + columns(overlaps.truth_px) - common_px
        same = row_categories[:, None] == column_categories[None, :]
        match = same & (2 * common_px > union_px)

        own_crowd = row_categories[:, None] == overlaps.crowd_categories[None, :]
        beside_px = void_px + (rows(overlaps.crowd_px) * own_crowd).sum(axis=1)
        wrong = ~match.any(axis=1) & (2 * beside_px <= found_px)
        missed = ~match.any(axis=0)
        found, true = np.nonzero(match)
        # ufunc.at, since one class may occur in several matches.
        np.add.at(self._iou, row_categories[found], common_px[match] / union_px[match])
        np.add.at(self._tp, column_categories[true], 1)
        np.add.at(self._fp, row_categories[wrong], 1)
        np.add.at(self._fn, column_categories[missed], 1)

    def _segments(
        self, categories: Int64[np.ndarray, " n"]
    ) -> tuple[Callable[[np.ndarray], np.ndarray], Int64[np.ndarray, " s"]]:
        """What adds up rows of objects to rows of segments, and the segments' categories."""
        # Things are told apart by their position, stuff by its class alone.
        keys = np.where(self._stuff[categories], -1 - categories, np.arange(len(categories)))
        _, first, segment = np.unique(keys, return_index=True, return_inverse=True)

        def add_up(rows: np.ndarray) -> np.ndarray:
            sums = np.zeros((len(first), *rows.shape[1:]), np.int64)
            np.add.at(sums, segment, rows)
            return sums

        return add_up, categories[first]

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        weight = self._tp + (self._fp + self._fn) / 2
        seen = weight > 0
        absent = np.full(len(weight), math.nan)
        columns = {
            "PQ": np.divide(self._iou, weight, out=absent.copy(), where=seen),
            "SQ": np.where(seen, self._iou / np.maximum(self._tp, 1), absent),
            "RQ": np.divide(self._tp, weight, out=absent.copy(), where=seen),
        }
        values = {name: mean(column) for name, column in columns.items()}
        if self._stuff.any():
            for part, chosen in (("things", ~self._stuff), ("stuff", self._stuff)):
                values |= {
                    f"{name}_{part}": _of(column, chosen) for name, column in columns.items()
                }
        for name, column in columns.items():
            values |= self.by_class(name, column)
        return values


def _of(column: Float[np.ndarray, " c"], chosen: np.ndarray) -> float:
    return mean(column[chosen])
