"""What can be written, and where it may be."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelkin.errors import PixelkinError

Kind = Literal["instances", "class maps"]

WRITTEN: dict[Kind, tuple[str, ...]] = {
    "instances": ("coco", "panoptic", "yolo", "labelme", "pngs"),
    "class maps": ("pngs", "voc", "coco", "panoptic"),
}
"""Formats that can be written, by what is annotated."""

REPORT_SUFFIX = ".convert_report.json"


@dataclass(frozen=True)
class Target:
    """What is to be written.

    Attributes:
        format: one of `WRITTEN`.
        path: a folder; of `coco` it may be the .json file itself.
    """

    format: str
    path: Path

    @property
    def is_file(self) -> bool:
        """Whether a single file is to be written."""
        return self.format == "coco" and self.path.suffix.lower() == ".json"

    @property
    def report_path(self) -> Path:
        """Where the report stands: beside, since readers look at every JSON of a folder."""
        stem = self.path.stem if self.is_file else self.path.name
        return self.path.absolute().parent / f"{stem}{REPORT_SUFFIX}"


def parse_target(spec: str) -> Target:
    """The target of `"FORMAT:PATH"`.

    Raises:
        PixelkinError: there is no format, or none of that name can be written.
    """
    known = list(dict.fromkeys(name for names in WRITTEN.values() for name in names))
    prefixed = re.fullmatch(r"([A-Za-z][\w-]+):(.+)", spec, re.DOTALL)
    if prefixed is None:
        raise PixelkinError(
            f"TO is {spec!r}: expected FORMAT:PATH with one of {', '.join(known)}; such as "
            f"coco:{spec}"
        )
    name, path = prefixed.groups()
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}:{path}?" if near else "; choose one of them"
        raise PixelkinError(
            f"format {name!r} cannot be written: expected one of {', '.join(known)}{hint}"
        )
    return Target(name, Path(path))


def require_kind(target: Target, kind: Kind) -> None:
    """Raise where the format of `target` cannot hold what `kind` says."""
    if target.format in WRITTEN[kind]:
        return
    advice = "add --class-maps to paint the instances, or choose one of these"
    if kind == "class maps":
        advice = "choose one of these"
    raise PixelkinError(
        f"{target.format} holds no {kind}: expected one of {', '.join(WRITTEN[kind])}; {advice}"
    )


def check_place(target: Target, sources: Iterable[Path], *, force: bool) -> None:
    """Raise where writing to `target` would destroy something.

    Args:
        target: what is to be written.
        sources: files and folders that are read.
        force: what is there may be replaced, unless it is read, or is above where we are.
    """
    place = target.path.resolve()
    for source in sources:
        there = source.resolve()
        if there == place:
            raise PixelkinError(f"FROM and TO are both {target.path}: choose another place for TO")
        if there.is_relative_to(place):
            raise PixelkinError(
                f"{source} lies in {target.path}, which would be replaced; choose another place "
                "for TO"
            )
    if not target.path.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not force:
        noun = "file" if target.is_file else "folder"
        raise PixelkinError(
            f"{target.path} is there already: expected a new {noun}; choose another, or replace it "
            "with --force"
        )
    if any(one.resolve().is_relative_to(place) for one in (Path.cwd(), Path.home())):
        raise PixelkinError(
            f"{target.path} holds the folder that you are in, or your home: it is not replaced; "
            "choose another place for TO"
        )
    if place.is_dir() == target.is_file:
        found, wanted = ("folder", "file") if place.is_dir() else ("file", "folder")
        raise PixelkinError(
            f"{target.path} is a {found}: expected a {wanted} to replace; choose another place"
        )
