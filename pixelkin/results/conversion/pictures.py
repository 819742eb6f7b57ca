"""Images of a data set that is written: referred to where they are, copied, or linked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pixelkin.data.instances.coco_json import image_name
from pixelkin.data.source import Source
from pixelkin.errors import PixelkinError

Placing = Literal["refer", "copy", "hard", "symbolic"]
"""Refer to the images where they are (copy, where the format cannot), copy, or link them."""

_JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class PictureLayout:
    """Where a format has its images.

    Attributes:
        inner: their folder in the data set.
        refers: an annotation may name an image that lies elsewhere.
        nested: names may have folders.
        jpeg: only JPEG is known.
    """

    inner: str
    refers: bool = False
    nested: bool = False
    jpeg: bool = False


class Pictures:
    """The images of the data set that is written.

    Args:
        source: what is read.
        layout: of the format.
        folder: where the data set is written.
        final: where it will lie: ways from there are what is written.
        placing: refer, copy or link.

    Attributes:
        names: of each still as the written data set has it.
        stems: of each still, for files of annotations.
        refers: whether images stay where they are.

    Raises:
        PixelkinError: two stills share a name, or a name cannot name a file.
    """

    def __init__(
        self, source: Source[Any], layout: PictureLayout, *, folder: Path, final: Path,
        placing: Placing,
    ) -> None:  # fmt: skip
        self._layout = layout
        self._folder = folder
        self._base = final.absolute().parent.resolve() / final.name
        self._placing = placing
        self._files = [source.image_file(index) for index in range(len(source))]
        self.refers = placing == "refer" and layout.refers and None not in self._files
        self.stems = _stems(source.names)
        self._placed = list(source.names) if layout.nested else self.stems
        self.names = self._placed
        if self.refers and layout.nested:
            self.names = [image_name(self._way(file)) for file in self._files if file]
            _require_unique(self.names)

    def place(self, index: int, image: UInt8[np.ndarray, "h w 3"]) -> str:
        """Put the image of a still where it belongs; returns what an annotation calls it."""
        file = self._files[index]
        if self.refers and file is not None:
            return self._way(file)
        again = file is None or (self._layout.jpeg and file.suffix.lower() not in _JPEG)
        suffix = ".jpg" if self._layout.jpeg else ".png" if file is None else file.suffix
        called = f"{self._placed[index]}{suffix}"
        place = self._folder / self._layout.inner / called
        place.parent.mkdir(parents=True, exist_ok=True)
        if file is not None and not again:
            self._bring(file.resolve(), place)
        elif self._layout.jpeg:
            # Colours at full resolution: halved ones would bleed over the outlines.
            Image.fromarray(image).save(place, quality=95, subsampling=0)
        else:
            Image.fromarray(np.ascontiguousarray(image)).save(place, compress_level=3)
        return called

    def _bring(self, file: Path, place: Path) -> None:
        if self._placing == "symbolic":
            place.symlink_to(file)
        elif self._placing == "hard":
            try:
                os.link(file, place)
            except OSError as error:
                raise PixelkinError(
                    f"cannot link {file}: {error.strerror}; take --link-images symbolic, or "
                    "--copy-images"
                ) from error
        else:
            shutil.copyfile(file, place)

    def _way(self, file: Path) -> str:
        try:
            return Path(os.path.relpath(file.resolve(), self._base)).as_posix()
        except ValueError:
            # No way leads from one drive to another.
            return file.resolve().as_posix()


def _stems(names: Sequence[str]) -> list[str]:
    """Names that can name a file, and one that lies in a folder."""
    for name in names:
        parts = PurePosixPath(name).parts
        if not parts or "\0" in name or name[0] == "/" or any(p.startswith(".") for p in parts):
            raise PixelkinError(f"the still {name!r} cannot name a file; rename it")
    bare = [PurePosixPath(name).name for name in names]
    # Folders only lengthen names that are told apart without them.
    stems = bare if len(set(bare)) == len(bare) else [name.replace("/", "_") for name in names]
    stems = [stem.replace("\\", "_") for stem in stems]
    _require_unique(stems)
    return stems


def _require_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise PixelkinError(
            f"two stills are both called {twice} where they are written: expected one image per "
            "name; rename one, or copy the images with --copy-images"
        )
