"""Files of images and of indices, read with errors that name the file: what all loaders share."""

import os
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64, Integer, UInt8
from PIL import Image, ImageOps

from pixelkin.errors import PixelkinError
from pixelkin.masks import MAX_PIXELS, stored_values
from pixelkin.structures import IGNORE

MAX_IMAGE_PIXELS = MAX_PIXELS
"""Largest image or mask that is decoded; larger ones are refused by their header.

As many as the masks may have: at 3 bytes a pixel the image takes 300 MB. Cut larger ones into
tiles before annotating them.
"""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

PNGS = "*.[pP][nN][gG]"
"""Pattern of the names of PNG files, whose suffix may be in upper case."""

_EXIF_ORIENTATION = 274
_Decoded = TypeVar("_Decoded")


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """The image as uint8 RGB (H, W, 3), upright by its EXIF orientation; alpha is dropped.

    Raises:
        PixelkinError: the file is missing, empty, corrupt, deeper than 8 bits per channel, or of
            more than `MAX_IMAGE_PIXELS`.
    """

    def decode() -> tuple[str, UInt8[np.ndarray, "h w 3"]]:
        with open_image(path) as image:
            # PIL would clip deeper pixels to white instead of scaling them.
            if image.mode.startswith(("I", "F")):
                return image.mode, np.empty((0, 0, 3), np.uint8)
            return image.mode, np.array(ImageOps.exif_transpose(image).convert("RGB"))

    mode, pixels = decoded(path, decode, kind="image")
    if not pixels.size:
        raise PixelkinError(
            f"{path} has pixels of mode {mode}: expected 8 bits per channel; convert it first"
        )
    return pixels


def image_size_hw(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels, upright by EXIF, from the file's header alone."""

    def decode() -> tuple[int, int]:
        with open_image(path) as image:
            lies_on_side = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            return image.size if lies_on_side else (image.height, image.width)

    return decoded(path, decode, kind="image")


def read_index_png(
    path: str | os.PathLike[str], *, size_hw: tuple[int, ...] | None = None
) -> Int64[np.ndarray, "h w"]:
    """The ids of an index PNG as int64 (H, W): palette indices and grey values, as they are.

    16 bits are read beside 8, since stills may hold more instances than 8 bits can number. As in
    `masks.read_indexed_png`, a GREY map of nothing but 0 and 255 is a mask of one object, id 1.

    Raises:
        PixelkinError: the file is missing, corrupt or of more than `MAX_IMAGE_PIXELS`, or holds
            colours instead of indices, or its size is not `size_hw`, that of its image.
    """
    mode, ids = read_indices(path, size_hw=size_hw)
    if mode == "L" and ids.any() and np.isin(ids, (0, IGNORE)).all():
        ids = ids == IGNORE
    return ids.astype(np.int64)


def read_indices(
    path: str | os.PathLike[str], *, size_hw: tuple[int, ...] | None = None
) -> tuple[str, np.ndarray[Any, Any]]:
    """Pillow's mode of an index PNG and its pixels as stored, with no rule for 0 and 255.

    Grey of 2 and 4 bits is of mode L too, and of one bit of mode 1, its pixels bool.

    Raises as `read_index_png` does.
    """

    def decode() -> tuple[str, np.ndarray[Any, Any]]:
        with open_image(path) as image:
            require_index(Path(path), image)
            if size_hw is not None:
                require_size(Path(path), (image.height, image.width), size_hw)
            return image.mode, stored_values(path, image)

    return decoded(path, decode, kind="mask")


def read_colour_png(
    path: Path, *, mode: str, what: str, remedy: str, size_hw: tuple[int, ...] | None = None
) -> UInt8[np.ndarray, "h w c"]:
    """The bytes of a PNG in which colours stand for something else, as stored.

    Args:
        path: of the file.
        mode: Pillow's, RGB or RGBA.
        what: the file is, for messages, such as a bitmask.
        remedy: what was expected, and what to do.
        size_hw: that of its image.

    Raises:
        PixelkinError: the file is missing, corrupt, no PNG of this mode, or of another size.
    """

    def decode() -> tuple[str, UInt8[np.ndarray, "h w c"]]:
        with open_image(path) as image:
            if size_hw is not None:
                require_size(path, (image.height, image.width), size_hw)
            return f"{image.format} of mode {image.mode}", np.array(image)

    kind, pixels = decoded(path, decode, kind=what)
    if kind != f"PNG of mode {mode}":
        raise PixelkinError(f"{path} is {kind}: expected an {mode} PNG {remedy}")
    return pixels


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image, its header read and its pixels not yet decoded; to be closed by the caller.

    Raises:
        PixelkinError: it has more than `MAX_IMAGE_PIXELS`.
    """
    refused = PixelkinError(
        f"{path} has more than {MAX_IMAGE_PIXELS:,} pixels, the most that is decoded; "
        "scale it down or cut it into tiles"
    )
    with warnings.catch_warnings():
        # Pillow warns below our limit already, and gives up above it with its own words.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except Image.DecompressionBombError as error:
            raise refused from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        image.close()
        raise refused
    return image


def require_index(path: Path, image: Image.Image) -> None:
    """Raise where an opened mask is no PNG of one channel, whose pixels are indices."""
    if image.format != "PNG" or image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise PixelkinError(
            f"mask {path} is {image.format} of mode {image.mode}: expected a PNG whose pixels are "
            "indices (palette or grey); write it again as one"
        )


def require_size(path: Path, size_hw: tuple[int, ...], image_hw: tuple[int, ...]) -> None:
    """Raise where the mask read from `path` has another size than its image."""
    if size_hw != image_hw:
        raise PixelkinError(
            f"{path} is {size_hw[1]}×{size_hw[0]}: expected {image_hw[1]}×{image_hw[0]} as its "
            "image; make them the same size"
        )


def refuse_binary(labels: Integer[np.ndarray, "h w"], path: Path, *, remedy: str) -> None:
    """Raise where `labels` hold 255 but no id: a 0/255 palette would read as wholly unknown."""
    known = labels[labels != IGNORE]
    if known.size < labels.size and not known.any():
        raise PixelkinError(
            f"{path} holds no id beside 0 and {IGNORE}, and {IGNORE} means unknown: expected ids "
            f"from 1; if {IGNORE} is the object here, {remedy}"
        )


def images_by_stem(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Image files directly in `folder`, sorted by name, keyed by stem.

    Raises:
        PixelkinError: the folder is missing or holds no image, or two images share a stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(require_folder(folder, "images").iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise PixelkinError(
                f"{folder} holds {found[path.stem].name} and {path.name}: expected one image per "
                "name; rename one"
            )
        found[path.stem] = path
    if not found:
        raise PixelkinError(
            f"{folder} holds no image: expected {', '.join(sorted(IMAGE_SUFFIXES))} directly in "
            "it; put the images there, or give the folder that holds them"
        )
    return found


def pngs_by_stem(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """PNG files directly in `folder`, sorted by name, keyed by stem; `.PNG` is a PNG too.

    Raises:
        PixelkinError: the folder is missing, or two of them share a stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(require_folder(folder, "index PNGs").iterdir()):
        if path.suffix.lower() != ".png" or path.name.startswith(".") or not path.is_file():
            continue
        if path.stem in found:
            raise PixelkinError(
                f"{folder} holds {found[path.stem].name} and {path.name}: expected one PNG per "
                "name; rename one"
            )
        found[path.stem] = path
    return found


def mask_suffix(images: Iterable[str], masks: Collection[str], suffixes: Sequence[str]) -> str:
    """The one of `suffixes` that follows an image's stem in the names of masks.

    Args:
        images: stems of images; the first one that has a mask decides, as masks of one folder are
            named alike.
        masks: stems of masks.
        suffixes: what may follow, the first of them where no image has a mask.
    """
    fitting = (one for stem in images for one in suffixes if f"{stem}{one}" in masks)
    return next(fitting, suffixes[0])


def require_folder(folder: str | os.PathLike[str], expected: str) -> Path:
    """`folder` as a path, or a `PixelkinError` that says what was `expected` in it."""
    path = Path(folder)
    if not path.is_dir():
        raise PixelkinError(f"no folder {path}: expected {expected} in it; check the path")
    return path


def decoded(path: str | os.PathLike[str], decode: Callable[[], _Decoded], *, kind: str) -> _Decoded:
    """What `decode` returns, its failure turned into a one-line error that names the file."""
    if not Path(path).is_file():
        raise PixelkinError(f"no {kind} file {path}: check the path")
    try:
        return decode()
    except PixelkinError:
        raise
    except Exception as error:
        # Decoders fail on broken bytes with anything from SyntaxError to struct.error.
        reason = (
            "the file is empty" if not Path(path).stat().st_size else " ".join(str(error).split())
        )
        raise PixelkinError(
            f"cannot read the {kind} {path}: {reason}; replace the file or remove it"
        ) from error
