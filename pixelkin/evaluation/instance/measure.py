"""The contract that all measures of instances keep, and the means they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance.stills import AnnotatedStill, StillPair
from pixelkin.structures import Instances

IOU_THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""0.50, 0.55 … 0.95."""


class Measure(ABC):
    """A measure that takes still after still and says its values at any time.

    Args:
        class_names: of the categories, in the order of their indices; at least one, all different.
            Where a data set has no classes, give one name for everything, such as ("object",).

    Raises:
        PixelkinError: no class name, or one twice.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)
        if not self.class_names or len(set(self.class_names)) < len(self.class_names):
            raise PixelkinError(
                f"class names are {', '.join(self.class_names) or 'none'}; expected one or more, "
                'all different; where there are no classes give one name, such as "object"'
            )

    def update(self, truth: AnnotatedStill, found: Instances) -> None:
        """Count one still in: what is true of it, and what was found in it.

        Raises:
            PixelkinError: sizes differ, a category has no class name, a score is not finite, or
                run-length counts are malformed.
        """
        self.add(StillPair(truth, found))

    def add(self, pair: StillPair) -> None:
        """Count one still in, whose overlaps other measures may share."""
        used = {one.category for one in pair.truth.instances} | set(pair.found.categories)
        for category in used:
            if not 0 <= category < len(self.class_names):
                raise PixelkinError(
                    f"category {category} has no name: there are {len(self.class_names)} class "
                    "names, counted from 0; give all names, or correct the category"
                )
        self._add(pair)

    @abstractmethod
    def _add(self, pair: StillPair) -> None: ...

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Values of all stills so far; NaN where nothing defines one.

        A key is the value's name, or name/class for the value of one class.
        """

    def by_class(self, name: str, values: Iterable[float]) -> dict[str, float]:
        """One value per class, under "name/class"."""
        pairs = zip(self.class_names, values, strict=True)
        return {f"{name}/{class_name}": float(value) for class_name, value in pairs}


def mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = [float(value) for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
