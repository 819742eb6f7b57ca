"""Faults of image files and of folders: empty, broken, too deep, too large, turned, twice there."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pixelkin.checking.report import Progress, Report
from pixelkin.data.reading import IMAGE_SUFFIXES
from pixelkin.masks import MAX_PIXELS

_EXIF_ORIENTATION = 274
_UPRIGHT, _FIRST_LYING = 1, 5

_LONGEST_PX = 10**6

_REPLACE = "replace the file by a whole copy, or remove it and its annotation"
_DEEP = "convert it to 8 bits per channel, choosing the range of values that matters"
_HUGE = f"cut it into tiles or scale it down, below {MAX_PIXELS // 10**6} megapixels"
_TWICE = "keep one; copies in training and validation make a score that is too good"
_STEM = "rename or remove one: annotations find their image by its name without the suffix"
_NO_FOLDER = "check the path, or name the folder of the images with --images"
_TURNED = "turn the pixels and remove the EXIF tag, then see whether the annotation still fits"
_SIZE = "annotate this very file, or put back the file that was annotated; never scale one alone"


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image file.

    Attributes:
        path: the file.
        stored_hw: height and width as stored; None where the file cannot be read.
        orientation: of EXIF; 1 is upright, from 5 on width and height change places.
        fault: what is wrong with it and the fix; None where nothing is.
        digest: of the decoded pixels; empty where they cannot be read.
    """

    path: Path
    stored_hw: tuple[int, int] | None = None
    orientation: int = _UPRIGHT
    fault: tuple[str, str] | None = None
    digest: bytes = b""

    @property
    def upright_hw(self) -> tuple[int, int] | None:
        """Height and width once turned by EXIF, as loaders see it."""
        if self.stored_hw is None or self.orientation < _FIRST_LYING:
            return self.stored_hw
        return self.stored_hw[1], self.stored_hw[0]


def inspect_image(path: Path) -> ImageFacts:
    """Read an image file whole, unless its header says that it is too large."""
    if not path.stat().st_size:
        return ImageFacts(path, fault=("the file is empty (0 bytes)", _REPLACE))
    try:
        with Image.open(path) as image:
            stored_hw = (image.height, image.width)
            if image.width * image.height > MAX_PIXELS:
                return ImageFacts(path, stored_hw, fault=(_huge(image.width, image.height), _HUGE))
            orientation = image.getexif().get(_EXIF_ORIENTATION, _UPRIGHT)
            mode = image.mode
            digest = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
    except Image.DecompressionBombError as error:
        # Raised before the size can be asked for; the message tells the number of pixels.
        found = re.search(r"(\d+) pixels", str(error))
        size = f"{int(found[1]) / 1e6:.0f} megapixels" if found else "far too many pixels"
        return ImageFacts(path, fault=(f"the image has {size}", _HUGE))
    except Exception as error:
        # Decoders fail on broken bytes with anything from SyntaxError to struct.error.
        return ImageFacts(path, fault=(f"cannot be decoded: {_short(error)}", _REPLACE))
    fault = None
    if mode.startswith(("I", "F")):
        fault = (f"has more than 8 bits per channel (mode {mode}), which is refused", _DEEP)
    return ImageFacts(path, stored_hw, orientation, fault, digest)


def _huge(width: int, height: int) -> str:
    return f"is {width}×{height}, {width * height / 1e6:.0f} megapixels"


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return "no known image format" if "cannot identify" in text else text or type(error).__name__


def check_images(paths: Sequence[Path], report: Report, each: Progress) -> dict[Path, ImageFacts]:
    """Inspect image files, and report the broken ones and those of equal pixels."""
    pool = ThreadPoolExecutor(os.cpu_count())
    # Set for all threads at once, since they share the filters.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            inspected = zip(each("images", paths), pool.map(inspect_image, paths), strict=True)
            facts = dict(inspected)
        finally:
            pool.shutdown(cancel_futures=True)
    first_of: dict[tuple[tuple[int, int] | None, bytes], Path] = {}
    for path, found in facts.items():
        if found.fault is not None:
            report.error(report.place(path), found.fault[0], fix=found.fault[1])
        if found.digest:
            first = first_of.setdefault((found.stored_hw, found.digest), path)
            if first != path:
                what = f"has the very pixels of {report.place(first)}"
                report.warning(report.place(path), what, fix=_TWICE)
    return facts


def images_by_stem(folder: Path, report: Report) -> dict[str, Path]:
    """Image files directly in `folder` by stem; reports an absent folder and stems met twice."""
    if not folder.is_dir():
        report.error(report.place(folder), "there is no such folder of images", fix=_NO_FOLDER)
        return {}
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            found[path.stem].append(path)
    if not found:
        report.error(report.place(folder), "the folder holds no image", fix=_NO_FOLDER)
    for paths in found.values():
        for path in paths[1:]:
            report.error(report.place(path), f"has the name of {paths[0].name}", fix=_STEM)
    return {stem: paths[0] for stem, paths in found.items()}


def check_size(
    facts: ImageFacts | None, annotated_hw: tuple[int, int] | None, where: str, report: Report
) -> None:
    """Report an image whose annotation has another size, or may have been drawn unturned.

    `annotated_hw` is None for annotations that state no size.
    """
    if facts is None or facts.stored_hw is None or facts.upright_hw is None:
        return
    lying = facts.orientation >= _FIRST_LYING
    if annotated_hw is None or annotated_hw == facts.upright_hw:
        # A half turn and mirrors keep the size, and without a size nothing tells.
        if facts.orientation != _UPRIGHT and (annotated_hw is None or not lying):
            what = f"its EXIF (orientation {facts.orientation}) turns or mirrors the image"
            report.warning(where, what, fix=_TURNED)
    elif annotated_hw == facts.stored_hw:
        what = (
            f"annotated as {_wh(annotated_hw)}, but its EXIF (orientation {facts.orientation}) "
            f"turns the image to {_wh(facts.upright_hw)}"
        )
        report.error(where, what, fix=_TURNED)
    else:
        what = f"annotated as {_wh(annotated_hw)}, the image is {_wh(facts.upright_hw)}"
        report.error(where, what, fix=_SIZE)


def is_side(value: object) -> bool:
    """Whether a listed height or width can be one."""
    return type(value) is int and 0 < value <= _LONGEST_PX


def _wh(size_hw: tuple[int, int]) -> str:
    return f"{size_hw[1]}×{size_hw[0]}"
