"""Where `pixelkin predict` writes what: files of all images, folders with a file for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pixelkin.results import CocoWriter

OVERLAYS = "overlays"
"""Folder of the pictures inside the output folder."""


def places_of(
    kinds: Sequence[str], names: Mapping[str, str], *, out: Path, overlays: bool
) -> dict[str, Path]:
    """Format, or `OVERLAYS` → file or folder.

    Args:
        kinds: the formats that are written.
        names: format → its file or folder in `out`.
        out: the output folder.
        overlays: whether pictures are written too.
    """
    found = {kind: out / names[kind] for kind in kinds}
    return found | ({OVERLAYS: out / OVERLAYS} if overlays else {})


def open_coco(
    places: Mapping[str, Path], class_names: tuple[str, ...], stack: ExitStack
) -> list[CocoWriter]:
    """The COCO files among `places`, which hold all images; closed with `stack`."""
    from pixelkin.results import CocoWriter

    forms: dict[str, Literal["dataset", "results"]] = {
        "coco": "dataset",
        "coco-results": "results",
    }
    return [
        stack.enter_context(CocoWriter(path, class_names=class_names, form=forms[kind]))
        for kind, path in places.items()
        if kind in forms
    ]
