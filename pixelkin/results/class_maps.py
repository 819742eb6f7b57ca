"""Class maps of stills: index PNG, overlay, and a region per class as COCO JSON has them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from pixelkin.files import atomic_path, atomic_write
from pixelkin.masks import encode_rle, overlay, write_indexed_png
from pixelkin.structures import IGNORE, MAX_OBJECT_ID, Instances


def write_class_png(
    path: str | os.PathLike[str], labels: Integer[np.ndarray, "h w"], *, classes: int
) -> None:
    """Write a class map as an index PNG.

    Up to 255 classes make an 8-bit image with the palette of PASCAL VOC, more a 16-bit grey one.
    """
    if classes <= IGNORE:
        write_indexed_png(path, labels)
        return
    with atomic_path(path) as temporary:
        Image.fromarray(labels.astype(np.uint16)).save(temporary, format="PNG", compress_level=3)


def write_class_names(
    path: str | os.PathLike[str], class_names: Sequence[str], *, ignore: int | None = None
) -> None:
    """Write what index is what class, a line `index: name` each; nobody's index is left out.

    With `ignore`, a last line says which value nobody knows, as `index_png.ClassValues` takes it.
    """
    lines = [f"{index}: {name}\n" for index, name in enumerate(class_names) if name]
    if ignore is not None:
        lines.append(f"ignore: {ignore}\n")
    atomic_write(path, "".join(lines))


def class_overlay(
    image: UInt8[np.ndarray, "h w 3"],
    labels: Integer[np.ndarray, "h w"],
    *,
    background: int | None = None,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with every class tinted in a colour of its own; unknown pixels stay as they are.

    Args:
        image: RGB.
        labels: of its classes, or `IGNORE`.
        background: a class that stays as it is.
        opacity: of the tint, from 0 (outlines only) to 1.
    """
    # The palette's first colour is black, and stands for background.
    shown = labels.astype(np.int64) % MAX_OBJECT_ID + 1
    shown[labels == IGNORE] = IGNORE
    if background is not None:
        shown[labels == background] = 0
    return overlay(image, shown, opacity=opacity)


def write_class_overlay(
    path: str | os.PathLike[str],
    image: UInt8[np.ndarray, "h w 3"],
    labels: Integer[np.ndarray, "h w"],
    *,
    background: int | None = None,
) -> None:
    """Write `class_overlay` as a PNG."""
    picture = Image.fromarray(class_overlay(image, labels, background=background))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)


def regions_of_classes(
    labels: Integer[np.ndarray, "h w"], *, leave_out: Collection[int] = ()
) -> Instances:
    """One region for each class that has a pixel, as COCO-Stuff has them; the score is 1.

    Args:
        labels: of classes; `IGNORE` is none.
        leave_out: classes that are no region, such as the background.
    """
    there = [int(index) for index in np.unique(labels) if index != IGNORE]
    there = [index for index in there if index not in leave_out]
    return Instances(
        (labels.shape[0], labels.shape[1]),
        tuple(encode_rle(labels == index) for index in there),
        tuple(there),
        (1.0,) * len(there),
    )
