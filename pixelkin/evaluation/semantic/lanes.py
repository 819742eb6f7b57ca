"""F1 of lane markings within a few pixels.

Source: Yu et al., "BDD100K: A Diverse Driving Dataset for Heterogeneous Multitask Learning",
CVPR 2020, and the evaluation that its authors published.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Self

import numpy as np

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.distances import f_within
from pixelkin.evaluation.semantic.measure import MapPair, Measure
from pixelkin.evaluation.semantic.scores import mean

RADII_PX = (1, 2, 5)
"""Within how many pixels lanes are matched."""


class LaneF1(Measure):
    """F1_1px, F1_2px and F1_5px: means over classes of means over stills; and by class.

    A predicted pixel is right where the truth of its class, dilated by a disk of the radius, has
    it; a true pixel is found where the dilated prediction has it. A still where neither side has
    a class counts 1 for it, one where one side has it counts 0, as in the published evaluation;
    that one is in percent, and takes categories, directions and styles as three tasks.

    Args:
        class_names: in the order of their indices.
        background: names among them that are no lanes and are not judged.

    Raises:
        PixelkinError: nothing but background is left.
    """

    def __init__(
        self, class_names: Sequence[str], *, background: Collection[str] = ("background",)
    ) -> None:
        super().__init__(class_names)
        self.background = frozenset(background)
        self._judged = [
            index
            for index, name in enumerate(self.class_names)
            if name and name not in self.background
        ]
        if not self._judged:
            raise PixelkinError(
                f"lanes are judged by class, but all of {', '.join(self.class_names)} are "
                "background; give the names of lane classes too"
            )
        self._sums = np.zeros((len(RADII_PX), len(self.class_names)))
        self._stills = 0

    def add(self, pair: MapPair) -> None:
        """Count one still in, of which other measures may know too."""
        for index in self._judged:
            found = (pair.predicted == index) & pair.known
            self._sums[:, index] += f_within(found, pair.truth == index, RADII_PX)
        self._stills += 1

    def _merge(self, other: Self) -> None:
        self._sums += other._sums
        self._stills += other._stills

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        values = np.full(self._sums.shape, math.nan)
        if self._stills:
            values[:, self._judged] = self._sums[:, self._judged] / self._stills
        rows = {f"F1_{radius}px": row for radius, row in zip(RADII_PX, values, strict=True)}
        whole = {name: mean(row) for name, row in rows.items()}
        for name, row in rows.items():
            by_class = self.by_class(name, row)
            whole |= {key: by_class[key] for key in self._keys(name)}
        return whole

    def _keys(self, name: str) -> list[str]:
        return [f"{name}/{self.class_names[index]}" for index in self._judged]
