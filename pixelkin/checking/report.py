"""What a check found: problems, and how much was read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from jaxtyping import Integer

from pixelkin.structures import IGNORE

Severity = Literal["error", "warning"]
"""An error makes a loader fail or reads a wrong label; a warning is legal, but seldom meant."""

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Problem:
    """One fault of a data set.

    Attributes:
        where: the file, with a line or an id where it has such.
        what: the fault, with what was found.
        fix: what to do; the same text for all problems of one kind.
        severity: error or warning.
    """

    where: str
    what: str
    fix: str
    severity: Severity = "error"


@dataclass
class ClassTally:
    """What class maps hold.

    Attributes:
        pixels: class → how many pixels it has, in all maps; 0 where no map has it.
        images: class → how many images it is in.
        unknown: pixels that are `IGNORE`.
    """

    pixels: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    unknown: int = 0

    def add(self, labels: Integer[np.ndarray, "h w"], class_names: Sequence[str]) -> None:
        """Count the pixels of one map; its labels are indices into `class_names`."""
        counts = np.bincount(labels.ravel(), minlength=max(len(class_names), IGNORE + 1)).tolist()
        self.unknown += counts[IGNORE]
        for index, name in enumerate(class_names):
            if name:
                self.pixels[name] = self.pixels.get(name, 0) + counts[index]
                self.images[name] = self.images.get(name, 0) + (counts[index] > 0)


@dataclass
class Report:
    """Collects problems while a data set is read.

    Attributes:
        root: folder to which places are named relative.
        problems: in the order of the reading.
        images: how many images are annotated, whether or not they can be read.
        objects: how many annotations were read, the faulty ones included.
        empty_images: annotated images that hold no object, or of whose class map every pixel is
            unknown, which is legal.
        classes: what was counted, of class maps only.
    """

    root: Path
    problems: list[Problem] = field(default_factory=list)
    images: int = 0
    objects: int = 0
    empty_images: int = 0
    classes: ClassTally | None = None

    def error(self, where: str, what: str, *, fix: str) -> None:
        """Add a problem that makes a loader fail, or reads a wrong label."""
        self.problems.append(Problem(where, what, fix, "error"))

    def warning(self, where: str, what: str, *, fix: str) -> None:
        """Add a problem that is legal, but seldom meant."""
        self.problems.append(Problem(where, what, fix, "warning"))

    def place(self, path: Path) -> str:
        """`path` as problems name it: relative to the data set where it lies within."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)


class Progress(Protocol):
    """Passes items through and shows how far it is, as `Stages.each` of the command line."""

    def __call__(self, name: str, items: Sequence[_Item], /) -> Iterator[_Item]:
        """Yield the items of the step `name`."""
        ...


def no_progress(name: str, items: Sequence[_Item], /) -> Iterator[_Item]:
    """Yield the items and show nothing."""
    return iter(items)
