"""From run lengths to outlines: the window of a mask, its outline, outlines joined into one.

Formats differ in what a coordinate means. COCO and LabelMe put (0, 0) at the corner of the first
pixel and fill what lies within; YOLO-seg is traced through the centres of the outermost pixels,
which belong to the object.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import find_contours

from pixelkin.errors import PixelkinError

Outline = Float64[np.ndarray, "n 2"]

_BY_CORNERS = np.ones((3, 3), int)


def decode_window(
    counts: bytes, size_hw: tuple[int, int]
) -> tuple[Bool[np.ndarray, "h w"], tuple[int, int]]:
    """The part of a mask within its bounding box, and x and y of the box's left upper pixel.

    Costs as much as the columns that the mask lies in, not the frame: for hundreds of small
    objects of a large image. The window of a mask without a pixel has no pixel.

    Raises `PixelkinError` where `counts` is malformed or describes another size.
    """
    height = size_hw[0]
    runs = _run_lengths(counts)
    ends = np.cumsum(runs)
    if len(runs) == 0 or (runs < 0).any() or ends[-1] != height * size_hw[1]:
        raise PixelkinError(
            f"run-length counts do not describe a {size_hw[1]}×{size_hw[0]} mask; check the size, "
            "or write the masks again"
        )
    # Runs of outside and inside take turns; the first is outside.
    starts, stops = ends[0:-1:2], ends[1::2]
    starts, stops = starts[stops > starts], stops[stops > starts]
    if not len(starts):
        return np.zeros((0, 0), bool), (0, 0)
    left, right = int(starts[0] // height), int((stops[-1] - 1) // height)
    change = np.zeros((right - left + 1) * height + 1, np.int8)
    # Two runs may touch where one of no length parts them.
    np.add.at(change, starts - left * height, 1)
    np.add.at(change, stops - left * height, -1)
    inside = np.cumsum(change[:-1], dtype=np.int8).view(bool).reshape(-1, height)
    rows = np.flatnonzero(inside.any(axis=0))
    top, bottom = int(rows[0]), int(rows[-1])
    return np.ascontiguousarray(inside[:, top : bottom + 1].T), (left, top)


def _run_lengths(counts: bytes) -> Int64[np.ndarray, " n"]:
    """Lengths in pixels of COCO compressed counts: 5 bits a character, low ones first.

    From the fourth on a count is the difference to the one before the last.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((characters & 0x20) == 0)
    if not len(last):
        return np.zeros(0, np.int64)
    characters = characters[: last[-1] + 1]
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(characters)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((characters & 0x1F) << (5 * place), first)
    negative = (characters[last] & 0x10) != 0
    values -= np.where(negative, 1 << (5 * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def edge_outlines(window: Bool[np.ndarray, "h w"], corner_xy: tuple[int, int]) -> list[Outline]:
    """One outline of x, y per connected part (by corners, too), as COCO and LabelMe fill them.

    Outlines go half-way between the centres of the pixels inside and outside, so that every rule
    of filling by centres gives the mask back. Holes are cut out by a way there and back of no
    width.
    """
    parts, _ = ndimage.label(window, _BY_CORNERS)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(parts), start=1):
        part = np.pad(parts[rows, columns] == number, 1)
        contours = find_contours(part, 0.5, fully_connected="high")  # type: ignore[no-untyped-call]
        origin = np.array([columns.start + corner_xy[0], rows.start + corner_xy[1]]) - 0.5
        outlines = [contour[:-1, ::-1] + origin for contour in contours]
        found.append(joined(sorted(outlines, key=_area, reverse=True)))
    return found


def centre_outline(window: Bool[np.ndarray, "h w"], corner_xy: tuple[int, int]) -> Outline:
    """One outline of x, y through the centres of a mask's border pixels, all parts and holes in it.

    Under a filling that counts what an odd number of windings encloses, and the line itself, as
    inside, as OpenCV's does, holes stay, and all that is added are the lines from part to part.
    """
    contours, _ = cv2.findContours(
        window.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=corner_xy
    )
    return joined([np.asarray(contour, np.float64).reshape(-1, 2) for contour in contours])


def joined(outlines: Sequence[Outline]) -> Outline:
    """Closed outlines as one, each joined to the nearest by a line there and back.

    Args:
        outlines: each (n, 2), the last point not repeating the first; at least one.
    """
    path = outlines[0]
    if len(outlines) == 1:
        return _without_straight_points(path)
    rest = np.concatenate(outlines[1:])
    owner = np.repeat(np.arange(1, len(outlines)), [len(one) for one in outlines[1:]])
    distance = np.full(len(rest), np.inf)
    anchor = np.zeros((len(rest), 2))
    newest, left = path, np.ones(len(rest), bool)
    while left.any():
        # Only what was joined last can be nearer than what was known.
        waiting = np.flatnonzero(left)
        near, at = KDTree(newest).query(rest[waiting])
        closer = near < distance[waiting]
        distance[waiting[closer]] = near[closer]
        anchor[waiting[closer]] = newest[at[closer]]
        point = int(waiting[np.argmin(distance[waiting])])
        newest = outlines[owner[point]]
        start = point - int(np.argmax(owner == owner[point]))
        position = int(np.argmax((path == anchor[point]).all(axis=1)))
        detour = np.roll(newest, -start, axis=0)
        path = np.concatenate([path[: position + 1], detour, detour[:1], path[position:]])
        left[owner == owner[point]] = False
    return _without_straight_points(path)


def _without_straight_points(path: Outline) -> Outline:
    """The outline without the points at which it goes straight on."""
    before, after = path - np.roll(path, 1, axis=0), np.roll(path, -1, axis=0) - path
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    straight = (turn == 0) & ((before * after).sum(axis=1) > 0)
    kept: Outline = path[~straight]
    return kept


def _area(outline: Outline) -> float:
    x, y = outline.T
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
