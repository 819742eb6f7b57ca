"""Faults of the regions themselves: polygons, run lengths, and parts that lie far apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Bool, Float64

from pixelkin.checking.report import Report
from pixelkin.errors import PixelkinError
from pixelkin.masks import MAX_PIXELS, decode_rle, encode_rle

TINY_PX = 4
"""Objects of fewer pixels are slips of the hand more often than objects."""

_SIZABLE = 0.25  # of the largest part: smaller ones are specks, not a second object
_FAR = 1.5  # gaps over the diagonal of the larger part; occluded objects stay below
_FAR_PX = 16
_OUTSIDE_PX = 2.0  # rounding, and writers that count to the outer edge of the last pixel
_LOOP = 0.02  # of the area: less is cut off where rounding makes an outline cross itself

_MOST_POINTS, _ROWS = 8192, 512  # longer outlines are not searched; lines at a time
_LINES = 200

_FARTHEST = 1e9

_POINTS = "draw it again with at least 3 points, or delete the annotation"
_PAIRS = "write x1, y1, x2, y2, …: an even number of values; draw it again"
_NUMBERS = "write finite numbers only; draw it again, or delete the annotation"
_OUTSIDE = "move the points into the image; what lies outside is cut off"
_CROSSING = "draw a simple outline; an object with holes needs RLE or an index PNG"
_NESTED = "write a hole as RLE: parts are joined, so this one is filled; or delete it"
_RLE = "write the RLE again (COCO counts, column-major, their sum height × width)"
_RLE_SIZE = "write the RLE again for this image; its size is [height, width]"
_FAR_APART = "see whether two objects share one id, or stray pixels were left"


@dataclass(frozen=True)
class Region:
    """A region as it would be painted.

    Attributes:
        rle: COCO compressed counts.
        area_px: pixels inside.
        box_xywh: left, top, width, height in pixels.
    """

    rle: bytes
    area_px: int
    box_xywh: tuple[float, float, float, float]


@dataclass(frozen=True)
class _Part:
    box_xyxy: tuple[float, float, float, float]
    area_px: float

    @property
    def diagonal_px(self) -> float:
        left, top, right, bottom = self.box_xyxy
        return math.hypot(right - left, bottom - top)


def is_number(value: object) -> bool:
    """Whether a value can be a coordinate, side or area: finite, and not beyond all images."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN is in no range; integers beyond any float are compared as they are.
    return number and -_FARTHEST <= value <= _FARTHEST  # type: ignore[operator]


def read_points(
    values: object, where: str, report: Report, *, name: str = "polygon"
) -> Float64[np.ndarray, "n 2"] | None:
    """The points of a flat list x1, y1, x2, …; None, with a report, where they are no polygon."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        report.error(where, f"{name} is {_shown(values)}, not a list of numbers", fix=_NUMBERS)
        return None
    wrong = next((v for v in values if not is_number(v)), None)
    if wrong is not None or None in values:
        report.error(where, f"{name} holds {_shown(wrong)}, which is no coordinate", fix=_NUMBERS)
        return None
    if len(values) % 2:
        report.error(where, f"{name} has {len(values)} coordinates, an odd number", fix=_PAIRS)
        return None
    points = np.array(values, np.float64).reshape(-1, 2)
    distinct = len(np.unique(points, axis=0))
    if distinct < 3:
        count = f"{distinct} point{'' if distinct == 1 else 's'}"
        report.error(where, f"{name} has {count}, fewer than 3", fix=_POINTS)
        return None
    return points


def check_polygon(
    points: Float64[np.ndarray, "n 2"],
    size_hw: tuple[int, int] | None,
    where: str,
    report: Report,
    *,
    name: str = "polygon",
    bridged: bool = False,
) -> None:
    """Report a polygon (x, y in pixels) that leaves the image or crosses itself.

    With `bridged` crossings are allowed that join parts of one object, as YOLO's writers do.
    """
    if size_hw is not None:
        limit = np.array([size_hw[1], size_hw[0]]) + _OUTSIDE_PX
        out = ((points < -_OUTSIDE_PX) | (points > limit)).any(axis=1)
        if out.any():
            x, y = points[out][0]
            what = (
                f"{name} has the point ({x:g}, {y:g}) outside the {size_hw[1]}×{size_hw[0]} image"
            )
            # All of it outside leaves no mask; a part is only cut off.
            (report.error if out.all() else report.warning)(where, what, fix=_OUTSIDE)
    if not crosses_itself(points):
        return
    if not bridged:
        what = "crosses itself: parts of it may be lost"
    elif (share := share_covered_twice(points)) > _LOOP:
        what = f"crosses itself: {share:.0%} of it, covered twice, becomes a hole"
    else:
        return
    report.warning(where, f"{name} {what}", fix=_CROSSING)


def crosses_itself(points: Float64[np.ndarray, "n 2"]) -> bool:
    """Whether an outline crosses itself so that both loops hold a notable share of the area."""
    count = len(points)
    if count > _MOST_POINTS:
        return False
    edges = np.roll(points, -1, axis=0) - points
    parts = np.empty((count, count), bool)
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        # On which side of the line through edge i point j lies; 0 for the edge's own points, so
        # that neighbours never cross.
        side = _cross(edges[rows, None], points[None] - points[rows, None])
        parts[rows] = side * np.roll(side, -1, axis=1) < 0
    total = _signed_area(points)
    for i, j in np.argwhere(np.triu(parts & parts.T)):
        to_start = _cross(edges[i], points[j] - points[i])
        to_end = _cross(edges[i], points[j] + edges[j] - points[i])
        meet = points[j] + to_start / (to_start - to_end) * edges[j]
        area = _signed_area(np.vstack([meet, points[i + 1 : j + 1]]))
        small, large = sorted((abs(area), abs(total - area)))
        if small > _LOOP * large:
            return True
    return False


def share_covered_twice(points: Float64[np.ndarray, "n 2"]) -> float:
    """How much of an outline's area it winds around an even number of times: holes when filled.

    Exact along x, sampled along y.
    """
    ends = np.roll(points, -1, axis=0)
    low, high = float(points[:, 1].min()), float(points[:, 1].max())
    filled = twice = 0.0
    for y in low + (np.arange(_LINES) + 0.5) / _LINES * (high - low):
        crossed = (points[:, 1] <= y) != (ends[:, 1] <= y)
        a, b = points[crossed], ends[crossed]
        x = a[:, 0] + (y - a[:, 1]) / (b[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])
        order = np.argsort(x)
        turns = np.abs(np.cumsum(np.sign(b[:, 1] - a[:, 1])[order]))[:-1]
        lengths = np.diff(x[order])
        filled += lengths[turns > 0].sum()
        twice += lengths[(turns > 0) & (turns % 2 == 0)].sum()
    return twice / filled if filled else 0.0


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    result: np.ndarray = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    return result


def _signed_area(points: np.ndarray) -> float:
    # Relative to the first point: far from the origin the products would lose their digits.
    near = points - points[0]
    return float(_cross(near, np.roll(near, -1, axis=0)).sum() / 2)


def check_parts(polygons: Sequence[Float64[np.ndarray, "n 2"]], where: str, report: Report) -> None:
    """Report a polygon inside another of the same object, and parts that lie far apart."""
    if len(polygons) < 2:
        return
    outlines = [points.astype(np.float32) for points in polygons]
    for k, inner in enumerate(polygons):
        for j, outer in enumerate(outlines):
            if j != k and _within(inner, outer):
                what = f"polygon {k + 1} lies inside polygon {j + 1}"
                report.warning(where, what, fix=_NESTED)
    parts = [_Part((*p.min(axis=0), *p.max(axis=0)), abs(_signed_area(p))) for p in polygons]
    _report_far(parts, where, report)


def _within(inner: np.ndarray, outer: np.ndarray) -> bool:
    if (inner.min(axis=0) < outer.min(axis=0)).any() or (
        inner.max(axis=0) > outer.max(axis=0)
    ).any():
        return False
    return all(cv2.pointPolygonTest(outer, (float(x), float(y)), False) > 0 for x, y in inner)


def check_mask_parts(mask: Bool[np.ndarray, "h w"], where: str, report: Report) -> None:
    """Report a mask whose connected parts lie far apart."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    # Most objects fill a small part of the image.
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    count, _, stats, _ = cv2.connectedComponentsWithStats(
        np.ascontiguousarray(inside).view(np.uint8), connectivity=8
    )
    if count <= 2:
        return
    parts = [
        _Part((left, top, left + width, top + height), area)
        for left, top, width, height, area in stats[1:].tolist()
    ]
    _report_far(parts, where, report)


def _report_far(parts: list[_Part], where: str, report: Report) -> None:
    least = _SIZABLE * max(part.area_px for part in parts)
    sizable = [part for part in parts if part.area_px >= least and part.area_px >= TINY_PX]
    for part in sizable:
        others = [other for other in sizable if other is not part]
        if not others:
            return
        gap, limit = min(
            (_gap(part, other), max(_FAR_PX, _FAR * max(part.diagonal_px, other.diagonal_px)))
            for other in others
        )
        if gap > limit:
            what = f"one object of {len(sizable)} large parts, {gap:.0f} pixels apart"
            report.warning(where, what, fix=_FAR_APART)
            return


def _gap(one: _Part, other: _Part) -> float:
    a, b = one.box_xyxy, other.box_xyxy
    across = max(0.0, a[0] - b[2], b[0] - a[2])
    down = max(0.0, a[1] - b[3], b[1] - a[3])
    return math.hypot(across, down)


def region_of_polygons(
    polygons: Sequence[Float64[np.ndarray, "n 2"]], size_hw: tuple[int, int]
) -> Region:
    """Polygons painted by COCO's rule: each filled, then joined."""
    height, width = size_hw
    # The rasteriser walks along every edge: far points would take for ever.
    flat = [p.clip((-width, -height), (2 * width, 2 * height)).ravel().tolist() for p in polygons]
    return _region(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)))


def region_of_mask(mask: Bool[np.ndarray, "h w"]) -> Region:
    """A mask as a region."""
    return _region({"size": list(mask.shape), "counts": encode_rle(mask)})


def _region(rle: dict[str, object]) -> Region:
    x, y, width, height = (float(v) for v in coco_mask.toBbox(rle))
    counts = rle["counts"]
    assert isinstance(counts, bytes)
    return Region(counts, int(coco_mask.area(rle)), (x, y, width, height))


def read_rle(
    rle: dict[str, object], size_hw: tuple[int, int] | None, where: str, report: Report
) -> Bool[np.ndarray, "h w"] | None:
    """The mask of a COCO run-length object; None, with a report, where it is none of the image."""
    size, counts = rle.get("size"), rle.get("counts")
    if not (
        isinstance(size, list) and len(size) == 2 and all(type(v) is int and v > 0 for v in size)
    ):
        report.error(where, f"RLE has the size {_shown(size)}", fix=_RLE_SIZE)
        return None
    own_hw = (size[0], size[1])
    if size_hw is not None and own_hw != size_hw:
        what = f"RLE is {size[1]}×{size[0]}, the image {size_hw[1]}×{size_hw[0]} (width × height)"
        report.error(where, what, fix=_RLE_SIZE)
        return None
    pixels = own_hw[0] * own_hw[1]
    if pixels > MAX_PIXELS:
        return None
    if isinstance(counts, list):
        if not all(type(run) is int and run >= 0 for run in counts) or sum(counts) != pixels:
            what = f"the counts of the RLE do not add up to {size[1]}×{size[0]} = {pixels}"
            report.error(where, what, fix=_RLE)
            return None
        turns = np.arange(len(counts)) % 2 == 1
        return np.repeat(turns, counts).reshape(own_hw, order="F")
    if not isinstance(counts, str | bytes):
        report.error(where, f"RLE has the counts {_shown(counts)}", fix=_RLE)
        return None
    try:
        return decode_rle(counts.encode() if isinstance(counts, str) else counts, own_hw)
    except PixelkinError:
        report.error(where, "RLE does not decode: its counts are malformed", fix=_RLE)
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 30 else text[:29] + "…"
