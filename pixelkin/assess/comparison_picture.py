"""Networks as discs: quality over speed, the larger the more parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from pixelkin.assess.name_places import Disc, Place, place_names
from pixelkin.errors import PixelkinError

WIDTH, HEIGHT = 900, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 50, 70
_SCALE = 2  # drawn twice as large, then shrunk: Pillow's discs have jagged rims
_FONT_PX, _TICK_PX = 15, 13
_SMALLEST_PX, _LARGEST_PX = 6.0, 30.0
_GRID, _INK, _FAINT = (228, 228, 228), (40, 40, 40), (110, 110, 110)
_COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233),
    (120, 94, 240), (100, 100, 100), (160, 120, 60), (170, 30, 60),
)  # fmt: skip
"""Told apart by the colour-blind too: M. Okabe, K. Ito, "Color Universal Design", 2008."""


@dataclass(frozen=True)
class Point:
    """A network in the picture.

    Attributes:
        name: written beside its disc.
        ms: milliseconds per image, above 0.
        quality: mIoU, 0 to 1.
        spread: standard deviation of that, drawn as a bar; 0 for none.
        parameters: learnt numbers; the disc's area grows with them.
    """

    name: str
    ms: float
    quality: float
    spread: float
    parameters: int


def comparison_picture(points: Sequence[Point]) -> UInt8[np.ndarray, "600 900 3"]:
    """The picture, RGB: fast networks to the left, good ones at the top.

    Raises:
        PixelkinError: there is no point.
    """
    if not points:
        raise PixelkinError("there is no network to draw; give one or more")
    picture = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), "white")
    draw = ImageDraw.Draw(picture)
    speeds = _log_range([point.ms for point in points])
    qualities = quality_ticks([end for point in points for end in _ends(point)])
    _draw_grid(draw, speeds, qualities)
    discs = _discs(points, speeds, qualities)
    bars = [_bar(point, disc.x, qualities) for point, disc in zip(points, discs, strict=True)]
    places = place_names(
        discs, (_LEFT, 0, WIDTH, HEIGHT - _BOTTOM), [bar for bar in bars if bar[1] < bar[3]]
    )
    # Large discs first, so that small ones are not hidden.
    order = sorted(range(len(points)), key=lambda index: -discs[index].radius)
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(points))]
    for index in order:
        _draw_disc(draw, discs[index], bars[index], colours[index])
    _draw_scales(draw, speeds, qualities)
    for index in order:
        _draw_name(draw, points[index].name, discs[index], places[index], colours[index])
    small = picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _discs(
    points: Sequence[Point], speeds: Sequence[float], qualities: Sequence[float]
) -> list[Disc]:
    most = max(point.parameters for point in points)
    found = []
    for point in points:
        width = _font(_FONT_PX).getlength(point.name) / _SCALE
        found.append(
            Disc(
                _across(math.log(point.ms), math.log(speeds[0]), math.log(speeds[-1])),
                _down(point.quality, qualities[0], qualities[-1]),
                max(_LARGEST_PX * math.sqrt(point.parameters / most), _SMALLEST_PX),
                (width + 6.0, _FONT_PX + 4.0),  # air, so that no line touches a letter
            )
        )
    return found


def _ends(point: Point) -> tuple[float, float]:
    """Of the bar of a standard deviation, inside what mIoU can be."""
    return max(point.quality - point.spread, 0.0), min(point.quality + point.spread, 1.0)


def _bar(point: Point, x: float, qualities: Sequence[float]) -> tuple[float, float, float, float]:
    """The box of that bar; without height where there is none."""
    low, high = (_down(end, qualities[0], qualities[-1]) for end in _ends(point))
    return x - 5, high, x + 5, low


def _draw_grid(
    draw: ImageDraw.ImageDraw, speeds: Sequence[float], qualities: Sequence[float]
) -> None:
    for speed in speeds:
        x = _across(math.log(speed), math.log(speeds[0]), math.log(speeds[-1]))
        _line(draw, (x, _TOP), (x, HEIGHT - _BOTTOM), _GRID, 1)
    for quality in qualities:
        y = _down(quality, qualities[0], qualities[-1])
        _line(draw, (_LEFT, y), (WIDTH - _RIGHT, y), _GRID, 1)


def _draw_scales(
    draw: ImageDraw.ImageDraw, speeds: Sequence[float], qualities: Sequence[float]
) -> None:
    """After the discs: one of mIoU 0 reaches below the grid, where numbers stand."""
    for speed in speeds:
        x = _across(math.log(speed), math.log(speeds[0]), math.log(speeds[-1]))
        _text(draw, (x, HEIGHT - _BOTTOM + 8), f"{speed:g}", "mt", _TICK_PX, _FAINT)
    for quality in qualities:
        y = _down(quality, qualities[0], qualities[-1])
        _text(draw, (_LEFT - 8, y), f"{quality:.3g}", "rm", _TICK_PX, _FAINT)
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    _text(draw, (middle, HEIGHT - 30), "milliseconds per image", "mt", _FONT_PX, _INK)
    _text(draw, (_LEFT - 40, 16), "mIoU", "lt", _FONT_PX, _INK)
    note = "area: parameters; bar: standard deviation over seeds"
    _text(draw, (WIDTH - _RIGHT, 16), note, "rt", _TICK_PX, _FAINT)


def _draw_disc(
    draw: ImageDraw.ImageDraw,
    disc: Disc,
    bar: tuple[float, float, float, float],
    colour: tuple[int, int, int],
) -> None:
    centre = disc.x, disc.y
    pale = tuple((value + 2 * 255) // 3 for value in colour)
    _disc(draw, centre, disc.radius, fill=pale, outline=colour)
    left, top, right, bottom = bar
    if top < bottom:
        _line(draw, (disc.x, top), (disc.x, bottom), colour, 2)
        for end in (top, bottom):
            _line(draw, (left, end), (right, end), colour, 2)
    _disc(draw, centre, 2, fill=colour, outline=colour)


def _draw_name(
    draw: ImageDraw.ImageDraw, name: str, disc: Disc, place: Place, colour: tuple[int, int, int]
) -> None:
    if place.line:
        _line(draw, (disc.x, disc.y), place.end_xy, colour, 1)
        # The dot again, so that the line is seen to begin there, over discs that lie on top.
        _disc(draw, (disc.x, disc.y), 2, fill=colour, outline=colour)
    left, top, right, bottom = place.box
    _text(draw, ((left + right) / 2, (top + bottom) / 2), name, "mm", _FONT_PX, _INK)


def _log_range(values: Sequence[float]) -> list[float]:
    """Ticks 1, 2, 5, 10 … that enclose positive values."""
    low, high = max(min(values), 1e-6) / 1.15, max(values) * 1.15
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    first = max(index for index, tick in enumerate(ticks) if tick <= low)
    last = min(index for index, tick in enumerate(ticks) if tick >= high)
    return ticks[first : last + 1]


def quality_ticks(values: Sequence[float]) -> list[float]:
    """Evenly spaced round ticks that enclose the values, from 0 to 1 at most."""
    low, high = min(values), max(values)
    span = max(high - low, 0.02) * 1.3
    step = next(s for s in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if span / s <= 8)
    first, last = math.floor((low - 0.15 * span) / step), math.ceil((high + 0.15 * span) / step)
    ticks = [round(index * step, 6) for index in range(first, last + 1)]
    return [tick for tick in ticks if 0 <= tick <= 1]


def _across(value: float, low: float, high: float) -> float:
    return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)


def _down(value: float, low: float, high: float) -> float:
    return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def _font(size_px: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size_px * _SCALE)


def _text(
    draw: ImageDraw.ImageDraw,
    at_xy: tuple[float, float],
    text: str,
    anchor: str,
    size_px: int,
    colour: tuple[int, ...],
) -> None:
    place = (at_xy[0] * _SCALE, at_xy[1] * _SCALE)
    draw.text(place, text, fill=colour, font=_font(size_px), anchor=anchor)


def _line(
    draw: ImageDraw.ImageDraw,
    start_xy: tuple[float, float],
    end_xy: tuple[float, float],
    colour: tuple[int, ...],
    width_px: int,
) -> None:
    ends = [value * _SCALE for value in (*start_xy, *end_xy)]
    draw.line(ends, fill=colour, width=width_px * _SCALE)


def _disc(
    draw: ImageDraw.ImageDraw,
    centre_xy: tuple[float, float],
    radius: float,
    *,
    fill: tuple[int, ...],
    outline: tuple[int, ...],
) -> None:
    x, y = centre_xy
    box = [value * _SCALE for value in (x - radius, y - radius, x + radius, y + radius)]
    draw.ellipse(box, fill=fill, outline=outline, width=2 * _SCALE)
