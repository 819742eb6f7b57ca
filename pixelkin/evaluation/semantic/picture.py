"""A confusion matrix as a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.confusion import Counts

_FEW, _MOST = 40, 300
_CELL_PX, _SMALL_CELL_PX = 34, 15
_FONT_PX, _GAP_PX = 13, 8
_DARK = np.array((8, 48, 107))
_NOTE = "rows: truth, columns: prediction, percent of each row"
_UNSEEN, _LINE, _DIAGONAL = (236, 236, 236), (222, 222, 222), (120, 120, 120)


def confusion_picture(counts: Counts, class_names: Sequence[str]) -> UInt8[np.ndarray, "h w 3"]:
    """The matrix as an RGB picture: a row per true class, the darker the larger its share.

    Rows are normalised to 1 and, of up to 40 classes, have their shares in percent written in
    (from 0.5 on). Classes that the truth has not have a grey row. A class without a name, as 255
    is where there are more, is left out.

    Args:
        counts: int64 (C, C), rows are true classes.
        class_names: C names.

    Raises:
        PixelkinError: there are more or fewer names than classes, or more than 300.
    """
    if counts.ndim != 2 or counts.shape != (len(class_names), len(class_names)):
        raise PixelkinError(
            f"{len(class_names)} class names for counts of shape {counts.shape}; give one name "
            "for each row and column"
        )
    if len(class_names) > _MOST:
        raise PixelkinError(
            f"a picture of {len(class_names)} classes is not legible; give {_MOST} or fewer, such "
            "as the rows and columns that are confused most"
        )
    named = [index for index, name in enumerate(class_names) if name]
    names = [_letters(class_names[index]) for index in named]
    total = counts[named].sum(axis=1, keepdims=True)
    shares = counts[np.ix_(named, named)] / np.maximum(total, 1)
    font = ImageFont.load_default(size=_FONT_PX)
    cell_px = _CELL_PX if len(names) <= _FEW else _SMALL_CELL_PX
    margin_px = max(int(font.getlength(name)) for name in names) + 2 * _GAP_PX
    side_px = cell_px * len(names) + 1
    width = max(margin_px + side_px, int(font.getlength(_NOTE))) + _GAP_PX
    height = margin_px + side_px + _FONT_PX + 2 * _GAP_PX
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for index, name in enumerate(names):
        middle = margin_px + index * cell_px + cell_px // 2
        draw.text((margin_px - _GAP_PX, middle), name, fill="black", font=font, anchor="rm")
        _write_upwards(picture, name, (middle, margin_px - _GAP_PX), font)
    for row, column in product(range(len(names)), repeat=2):
        box_xy = (margin_px + column * cell_px, margin_px + row * cell_px)
        share = float(shares[row, column])
        shade = tuple(int(v) for v in np.rint(255 + share * (_DARK - 255)))
        fill = shade if total[row, 0] else _UNSEEN
        corners = (*box_xy, box_xy[0] + cell_px, box_xy[1] + cell_px)
        draw.rectangle(corners, fill=fill, outline=_LINE)
        if len(names) <= _FEW and share >= 0.005:
            place = (box_xy[0] + cell_px // 2, box_xy[1] + cell_px // 2)
            ink = "white" if share > 0.5 else "black"
            draw.text(place, f"{100 * share:.0f}", fill=ink, font=font, anchor="mm")
    for index in range(len(names)):
        start, stop = (margin_px + place * cell_px for place in (index, index + 1))
        draw.rectangle((start, start, stop, stop), outline=_DIAGONAL)
    draw.text((_GAP_PX, height - _GAP_PX), _NOTE, fill="black", font=font, anchor="ls")
    return np.asarray(picture)


def _letters(name: str) -> str:
    # Pillow's own font has no accents; a letter without one is read easier than a box.
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))


def _write_upwards(
    picture: Image.Image,
    name: str,
    foot_xy: tuple[int, int],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    line_px = _FONT_PX + 4
    strip = Image.new("RGB", (int(font.getlength(name)) + 2, line_px), "white")
    ImageDraw.Draw(strip).text((0, line_px // 2), name, fill="black", font=font, anchor="lm")
    upright = strip.transpose(Image.Transpose.ROTATE_90)
    x, y = foot_xy
    picture.paste(upright, (x - line_px // 2, y - upright.height))
