"""Class maps of stills: index PNG, overlay and its key, and regions of classes for COCO JSON."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from pixelkin.files import atomic_path, atomic_write
from pixelkin.masks import encode_rle, overlay, palette, write_indexed_png
from pixelkin.structures import IGNORE, MAX_OBJECT_ID, Instances

_KEY_ROWS, _ROW_PX, _FONT_PX, _GAP_PX = 20, 24, 15, 8


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
    shown = _tint(labels.astype(np.int64))
    shown[labels == IGNORE] = IGNORE
    if background is not None:
        shown[labels == background] = 0
    return overlay(image, shown, opacity=opacity)


def _tint(classes: Integer[np.ndarray, "*size"]) -> Integer[np.ndarray, "*size"]:
    """Which colour of the palette a class has; the first is black, and stands for background."""
    return classes % MAX_OBJECT_ID + 1


def class_key(
    class_names: Sequence[str], *, background: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Which colour of `class_overlay` is which class: a square and `index name` each, in columns.

    Args:
        class_names: by index; nobody's, which is empty, is left out.
        background: a class that overlays leave as it is; its square is empty.
    """
    named = [(index, name) for index, name in enumerate(class_names) if name]
    font = ImageFont.load_default(size=_FONT_PX)
    texts = [
        f"{index} {name}" + (" (not tinted)" if index == background else "")
        for index, name in named
    ]
    widest = max((font.getlength(text) for text in texts), default=0.0)
    column_px = _ROW_PX + _GAP_PX + round(widest) + _GAP_PX
    rows = min(len(named), _KEY_ROWS)
    columns = max(1, -(-len(named) // _KEY_ROWS))
    size = columns * column_px + _GAP_PX, rows * _ROW_PX + 2 * _GAP_PX
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    colours = palette()[_tint(np.array([index for index, _ in named], np.int64))]
    for place, (index, _) in enumerate(named):
        left = _GAP_PX + place // _KEY_ROWS * column_px
        top = _GAP_PX + place % _KEY_ROWS * _ROW_PX
        fill = "white" if index == background else tuple(int(v) for v in colours[place])
        square = (left + 2, top + 2, left + _ROW_PX - 3, top + _ROW_PX - 3)
        draw.rectangle(square, fill=fill, outline=(90, 90, 90))
        middle = left + _ROW_PX + _GAP_PX // 2, top + _ROW_PX // 2
        draw.text(middle, texts[place], fill="black", font=font, anchor="lm")
    return np.asarray(picture)


def write_class_key(
    path: str | os.PathLike[str], class_names: Sequence[str], *, background: int | None = None
) -> None:
    """Write `class_key` as a PNG."""
    picture = Image.fromarray(class_key(class_names, background=background))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


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
