"""What a user says of a data set of class maps, as its format takes it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelkin.data.class_maps.index_png import Classes, read_class_list
from pixelkin.data.source import SemanticSource
from pixelkin.errors import PixelkinError


class UnfitOptionError(PixelkinError):
    """An option that is not for the format of a data set."""


def classes_given(names: Sequence[str]) -> Classes | None:
    """Names of classes as a user gives them, or the text file that one alone names; None of none.

    Raises:
        PixelkinError: it is the name of a text file that is not there.
    """
    if len(names) != 1:
        return tuple(names) or None
    path = Path(names[0])
    if path.is_file():
        return path
    if path.suffix == ".txt":
        raise PixelkinError(f"no class list file {path}: check the path")
    return tuple(names)


@dataclass(frozen=True)
class Place:
    """What a user says of a data set.

    Attributes:
        path: where it lies.
        images: folder of its images.
        masks: folder of its maps.
        split: which part.
        classes: names, value → name, or a text file of either.
        window: of volumes, the Hounsfield units that become black and white.
    """

    path: Path
    images: Path | None
    masks: Path | None
    split: str | None
    classes: Classes | None
    window: tuple[float, float] | None = None

    def only(self, *given: str) -> None:
        """Refuse what this format does not take: unheard, it would mislead."""
        for name in ("images", "masks", "split", "classes", "window"):
            if name not in given and getattr(self, name) is not None:
                allowed = ", ".join(given) or "the path alone"
                raise UnfitOptionError(
                    f"{self.path}: its format takes no {name}: expected {allowed}; leave it out"
                )

    def of_split(self, make: Callable[..., SemanticSource], **options: object) -> SemanticSource:
        """`make(path, split)`, or with the split of its own where none is given."""
        if self.split is None:
            return make(self.path, **options)
        return make(self.path, self.split, **options)

    def chosen(self) -> list[str] | None:
        """`classes` as names, where a data set knows its classes and some of them are chosen."""
        if self.classes is None:
            return None
        if isinstance(self.classes, str | os.PathLike):
            return list(read_class_list(Path(self.classes)).values())
        if isinstance(self.classes, Sequence):
            return list(self.classes)
        return list(self.classes.values())
