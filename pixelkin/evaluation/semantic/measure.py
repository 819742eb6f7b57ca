"""The contract that all measures of class maps keep, and the pair of maps that they judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Integer

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.confusion import (
    Counts,
    Labels,
    as_indices,
    check_same_shape,
    count_pairs,
)
from pixelkin.structures import IGNORE


class MapPair:
    """A true class map, the one that was predicted, and what several measures need of both.

    Args:
        truth: (H, W) indices, or `IGNORE`.
        predicted: (H, W) indices; what stands where the truth is `IGNORE` does not matter.
        classes: how many there are.
        instances: (H, W) ids of the true single objects, 0 where there is none; None where the
            data set tells no objects apart.

    Raises:
        PixelkinError: not maps of indices, sizes differ, or a label is out of range.
    """

    def __init__(
        self, truth: Labels, predicted: Labels, classes: int, *, instances: Labels | None = None
    ) -> None:
        self.truth = _as_map(truth, "truth")
        self.predicted = _as_map(predicted, "prediction")
        check_same_shape(self.truth, self.predicted)
        self.counts: Counts = count_pairs(self.truth, self.predicted, classes)
        self.instances = None if instances is None else _as_map(instances, "map of instances")
        if self.instances is not None and self.instances.shape != self.truth.shape:
            raise PixelkinError(
                f"the map of instances has shape {self.instances.shape}, the truth "
                f"{self.truth.shape}; give maps of one size"
            )

    @cached_property
    def known(self) -> Bool[np.ndarray, "h w"]:
        """Where the truth is not `IGNORE`."""
        return np.asarray(self.truth != IGNORE)


class Measure(ABC):
    """A measure that takes map after map and says its values at any time.

    Args:
        class_names: in the order of their indices; at least one, all different. Where there are
            more than 255, the name at 255 is empty.

    Raises:
        PixelkinError: no class name, or one twice.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = check_class_names(class_names)

    def update(self, truth: Labels, predicted: Labels, *, instances: Labels | None = None) -> None:
        """Count one still in; see `MapPair` for the maps and what they raise."""
        self.add(MapPair(truth, predicted, len(self.class_names), instances=instances))

    @abstractmethod
    def add(self, pair: MapPair) -> None:
        """Count one still in, of which other measures may know too."""

    def merge(self, other: Self) -> None:
        """Count in all stills of `other`, such as another process's part.

        Raises:
            PixelkinError: class names differ.
        """
        if other.class_names != self.class_names:
            raise PixelkinError(
                f"measures of {len(self.class_names)} and {len(other.class_names)} classes whose "
                "names differ; merge measures of one list of class names"
            )
        self._merge(other)

    @abstractmethod
    def _merge(self, other: Self) -> None: ...

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Values of all stills so far; NaN where nothing defines one.

        A key is the value's name, or name/class for the value of one class.
        """

    def by_class(self, name: str, values: Iterable[float]) -> dict[str, float]:
        """One value per class that has a name, under "name/class"."""
        pairs = zip(self.class_names, values, strict=True)
        return {f"{name}/{class_name}": float(value) for class_name, value in pairs if class_name}


def check_class_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple; `PixelkinError` where one is missing or there twice."""
    names = tuple(class_names)
    if not names or len(set(names)) < len(names):
        raise PixelkinError(
            f"class names are {', '.join(names) or 'none'}; expected one or more, all different"
        )
    empty = [index for index, name in enumerate(names) if not name and index != IGNORE]
    if empty:
        raise PixelkinError(
            f"class {empty[0]} has an empty name; only {IGNORE} may have none, give it one"
        )
    return names


def _as_map(values: Any, what: str) -> Integer[np.ndarray, "h w"]:
    array = as_indices(values, what)
    if array.ndim == 2:
        return np.ascontiguousarray(array)
    advice = "give one map at a time"
    if array.ndim == 3 and array.shape[-1] in (3, 4):
        advice = "this looks like colours: turn them into class indices first"
    raise PixelkinError(
        f"the {what} has shape {array.shape}, expected (height, width) of class indices; {advice}"
    )
