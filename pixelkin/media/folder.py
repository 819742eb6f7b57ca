"""Images, and folders of them as clips."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pixelkin.errors import PixelkinError
from pixelkin.media.clip import Clip, DamagedClipError, Frame

FRAME_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

MAX_PIXELS = 64_000_000
"""Largest frame that is decoded (8K is 33 million): a small file can unpack to fill the memory."""


def read_image(path: str | os.PathLike[str]) -> Frame:
    """One image file as uint8 (H, W, 3), RGB, turned upright as its EXIF tag says."""
    file = Path(path)
    with _image_errors(file), Image.open(file) as image:
        check_pixels(file, image.width, image.height)
        if image.mode.startswith(("I", "F")):
            raise DamagedClipError(
                f"image {file} has {image.mode} pixels, expected 8 bits per channel; convert it"
            )
        # A writable array: torch warns about others.
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _image_size(file: Path) -> tuple[int, int]:
    with _image_errors(file), Image.open(file) as image:
        check_pixels(file, image.width, image.height)
        lies = False
        # Pillow looks for the EXIF of a PNG behind its pixels, too. Where those are cut short, the
        # frame is told as damaged when it is read, and the frames before it are still of use.
        with suppress(OSError, SyntaxError):
            lies = image.getexif().get(0x0112, 1) >= 5
        return (image.width, image.height) if lies else (image.height, image.width)


@contextmanager
def _image_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedClipError(f"no image at {file}; check the path") from error
    except PermissionError as error:
        raise DamagedClipError(f"cannot read {file}: permission denied; change it") from error
    except Image.DecompressionBombError as error:
        raise DamagedClipError(
            f"image {file} is too large, expected at most {MAX_PIXELS} pixels; make it smaller"
        ) from error
    except (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError) as error:
        raise DamagedClipError(
            f"image {file} is damaged or no image, expected a readable picture; copy it again"
        ) from error


def check_pixels(file: Path, width: int, height: int) -> None:
    """Raise `PixelkinError` where a frame is too large to decode."""
    if width * height > MAX_PIXELS:
        raise PixelkinError(
            f"{file} is {width}×{height}, expected at most {MAX_PIXELS} pixels; make it smaller"
        )


class FrameFolder(Clip):
    """Images of one folder. Sizes are compared at once, by the headers; pixels are read later."""

    def __init__(self, path: Path, paths: list[Path], *, fps: float) -> None:
        if not fps > 0:
            raise PixelkinError(f"fps is {fps}, expected more than 0; give frames per second")
        size_hw = _image_size(paths[0])
        for other in paths[1:]:
            if (size := _image_size(other)) != size_hw:
                raise PixelkinError(
                    f"frame {other.name} of {path} is {size[1]}×{size[0]}, expected "
                    f"{size_hw[1]}×{size_hw[0]} like {paths[0].name}; make all frames one size"
                )
        super().__init__(path, length=len(paths), fps=fps, size_hw=size_hw)
        self._paths = paths

    def _read(self, index: int) -> None:
        self._keep(index, self._load(index))

    def _scan(self, start: int, stop: int) -> Generator[Frame, None, None]:
        for index in range(start, stop):
            yield self._load(index)

    def _load(self, index: int) -> Frame:
        frame = read_image(self._paths[index])
        if frame.shape[:2] != self.size_hw:
            raise DamagedClipError(
                f"frame {self._paths[index]} is {frame.shape[1]}×{frame.shape[0]}, expected "
                f"{self.size_hw[1]}×{self.size_hw[0]}; do not change the folder while it is open"
            )
        return frame


def frame_paths(folder: Path) -> list[Path]:
    """The images of a folder in natural order of their names: 2.jpg before 10.jpg."""
    images = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in FRAME_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(images, key=lambda path: _natural(path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower())
        for part in re.split(r"(\d+)", name)
        if part
    ]
