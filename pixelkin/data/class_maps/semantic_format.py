"""What is known of a format of class maps before a data set of it is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelkin.data.class_maps.place import Place
from pixelkin.data.source import SemanticSource

Maker = Callable[[Place], SemanticSource]


@dataclass(frozen=True)
class SemanticFormat:
    """A format of class maps.

    Attributes:
        make: opens the data set at a place.
        layout: what lies at its path, for help and messages.
        lies_in: whether a folder shows this layout; None where another format has the same one
            and is what a bare path means.
        parts: patterns of the lists or folders that belong to the parts of a data set, which are
            named by what stands for the first star; none where it is all one.
    """

    make: Maker
    layout: str
    lies_in: Callable[[Path], bool] | None = None
    parts: tuple[str, ...] = ()

    def part_names(self, root: Path) -> list[str]:
        """Names of the parts, or splits, of the data set at `root`; none where it is all one."""
        found = {
            _starred(path.relative_to(root).parts, pattern.rstrip("/").split("/"))
            for pattern in self.parts
            for path in root.glob(pattern)
        }
        return sorted(name for name in found if name and not name.startswith("."))


def _starred(parts: Sequence[str], pattern: Sequence[str]) -> str:
    """What stands for the first star of a pattern; the stem of the last part where none has one."""
    for part, text in zip(parts, pattern, strict=True):
        before, star, after = text.partition("*")
        if star:
            return part.removeprefix(before).removesuffix(after)
    return parts[-1].removesuffix(".txt")
