"""What the user says about a clip, as plain data: clicks, scribbles, boxes and masks.

A reference names a frame, a place in it and an object. References are frozen and hashable, compare
by value and turn into JSON and back without loss; a session holds a list of them, and adding,
changing, removing and undoing are edits of that list. Nothing here sees an embedding.

Coordinates are (x, y) in pixels of the frame: the pixel in column 3, row 5 covers 3 ≤ x < 4,
5 ≤ y < 6. Frames count from 0. Object 0 is background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, check_object_id

BOX_CORE = 0.15
"""Half axes of a box's core ellipse, as a share of the box's sides.

Measured on tight boxes of DAVIS objects: .73 of such a core is object, against .62 at .3.
"""

_RUN = np.dtype([("label", "u1"), ("length", "<u4")])


@dataclass(frozen=True)
class Click:
    """One marked pixel.

    Attributes:
        frame: index of the frame, from 0.
        point_xy: pixels; the marked pixel is the one that holds the point.
        object_id: 1 … 254, or 0 for background.
        positive: False says "not this object", which counts as background.
    """

    frame: int
    point_xy: tuple[float, float]
    object_id: int
    positive: bool = True

    def __post_init__(self) -> None:
        _check_start(self.frame, self.object_id, background=True)
        object.__setattr__(self, "point_xy", _numbers(self.point_xy, "click", 2))

    @property
    def label(self) -> int:
        """The label that the click gives: the object, or 0 for a negative click."""
        return self.object_id if self.positive else 0


@dataclass(frozen=True)
class Scribble:
    """A stroke along a polyline.

    Attributes:
        frame: index of the frame, from 0.
        points_xy: at least one point, in pixels.
        object_id: 1 … 254, or 0 for background.
        width_px: width of the stroke, at least 1.
    """

    frame: int
    points_xy: tuple[tuple[float, float], ...]
    object_id: int
    width_px: int = 5

    def __post_init__(self) -> None:
        _check_start(self.frame, self.object_id, background=True)
        points = tuple(_numbers(point, "scribble point", 2) for point in self.points_xy)
        if not points:
            raise PixelkinError("a scribble has no points: give one (x, y) at least")
        if isinstance(self.width_px, bool) or not isinstance(self.width_px, int):
            raise PixelkinError(f"scribble width {self.width_px!r}: give whole pixels")
        if not 1 <= self.width_px <= 1000:
            raise PixelkinError(f"scribble width {self.width_px} px: choose 1 to 1000")
        object.__setattr__(self, "points_xy", points)


@dataclass(frozen=True)
class Box:
    """A rectangle around an object.

    Attributes:
        frame: index of the frame, from 0.
        box_xyxy: left, top, right, bottom in pixels; right and bottom are outside the box.
        object_id: 1 … 254.
    """

    frame: int
    box_xyxy: tuple[float, float, float, float]
    object_id: int

    def __post_init__(self) -> None:
        _check_start(self.frame, self.object_id, background=False)
        box = _numbers(self.box_xyxy, "box", 4)
        if box[2] <= box[0] or box[3] <= box[1]:
            raise PixelkinError(
                f"box {_list(box)} is empty: give left,top,right,bottom with right > left and "
                "bottom > top"
            )
        object.__setattr__(self, "box_xyxy", box)


@dataclass(frozen=True)
class Mask:
    """A label for every pixel of a frame; make one with `Mask.from_labels`.

    Attributes:
        frame: index of the frame, from 0.
        size_hw: height and width in pixels.
        runs: row-major runs as records of one label byte and a little-endian 4-byte length.
    """

    frame: int
    size_hw: tuple[int, int]
    runs: bytes

    def __post_init__(self) -> None:
        _check_start(self.frame, 1, background=False)
        height, width = self.size_hw
        whole = len(self.runs) % _RUN.itemsize == 0
        total = int(self._records["length"].sum(dtype=np.int64)) if whole else -1
        if height < 1 or width < 1 or total != height * width:
            raise PixelkinError(
                f"mask runs cover {total} pixels, the mask has {width}×{height}; "
                "make masks with Mask.from_labels"
            )

    @classmethod
    def from_labels(cls, frame: int, labels: UInt8[np.ndarray, "h w"]) -> Mask:
        """A mask of uint8 `labels`: 0 background, object ids, `IGNORE` unknown."""
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise PixelkinError(
                f"mask labels are {labels.dtype} of shape {labels.shape}: expected uint8 (H, W)"
            )
        flat = labels.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        records = np.empty(len(starts) if flat.size else 0, _RUN)
        if flat.size:
            records["label"] = flat[starts]
            records["length"] = np.diff(starts, append=flat.size)
        height, width = labels.shape
        return cls(frame, (height, width), records.tobytes())

    @property
    def _records(self) -> Any:
        return np.frombuffer(self.runs, _RUN)

    @property
    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """The label map, uint8 (H, W)."""
        runs = self._records
        return np.repeat(runs["label"], runs["length"]).reshape(self.size_hw)

    @property
    def object_ids(self) -> list[int]:
        """Ids of the objects in the mask, ascending."""
        return [int(i) for i in np.unique(self._records["label"]) if 0 < i < IGNORE]


Reference = Click | Scribble | Box | Mask


def reference_object_ids(reference: Reference) -> list[int]:
    """Ids of the objects that a reference names, ascending; without background."""
    if isinstance(reference, Mask):
        return reference.object_ids
    return [reference.object_id] if reference.object_id else []


def check_reference(
    reference: Reference, size_hw: tuple[int, int], frames: int | None = None
) -> None:
    """Raise `PixelkinError` where a reference does not fit a clip.

    Args:
        reference: any kind.
        size_hw: height and width of the clip's frames in pixels.
        frames: number of frames, where it is known.
    """
    height, width = size_hw
    if frames is not None and reference.frame >= frames:
        raise PixelkinError(
            f"frame {reference.frame} is outside the clip: it has {frames} frames, "
            f"numbered 0 to {frames - 1}; choose one of them"
        )
    if isinstance(reference, Mask):
        if reference.size_hw != (height, width):
            raise PixelkinError(
                f"the mask of frame {reference.frame} is "
                f"{reference.size_hw[1]}×{reference.size_hw[0]}, the frame is {width}×{height}; "
                "resize the mask with nearest-neighbour sampling"
            )
        return
    if isinstance(reference, Box):
        x0, y0, x1, y1 = reference.box_xyxy
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise PixelkinError(
                f"box {_list(reference.box_xyxy)} lies outside the frame of {width}×{height}; "
                "give left,top,right,bottom in pixels of the frame"
            )
        return
    points = [reference.point_xy] if isinstance(reference, Click) else reference.points_xy
    kind = "click" if isinstance(reference, Click) else "scribble point"
    for x, y in points:
        if not (0 <= x < width and 0 <= y < height):
            raise PixelkinError(
                f"{kind} {_list((x, y))} is outside the frame of {width}×{height}; "
                f"x must be 0 to {width - 1} and y 0 to {height - 1}"
            )


def rasterise(reference: Reference, size_hw: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
    """The label map of one reference alone, uint8 (H, W), `IGNORE` where it says nothing.

    A click labels its pixel, a scribble its stroke, a mask what it holds. A box labels everything
    outside it as background and a core as the object, and says nothing of the rest: the core is
    the ellipse about the box's centre with half axes of `BOX_CORE` times its sides, and at least
    the central pixel.

    Raises:
        PixelkinError: the reference does not fit a frame of `size_hw`.
    """
    check_reference(reference, size_hw)
    if isinstance(reference, Mask):
        return reference.labels
    labels = np.full(size_hw, IGNORE, np.uint8)
    if isinstance(reference, Click):
        x, y = reference.point_xy
        labels[int(y), int(x)] = reference.label
    elif isinstance(reference, Scribble):
        # OpenCV draws nothing for one point alone.
        points = reference.points_xy if len(reference.points_xy) > 1 else reference.points_xy * 2
        path = np.floor(np.array(points)).astype(np.int32)
        cv2.polylines(labels, [path[:, None]], False, reference.object_id, reference.width_px)
    else:
        labels[~_inside(reference, size_hw)] = 0
        labels[_core(reference, size_hw)] = reference.object_id
    return labels


def label_map(
    references: Sequence[Reference], size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w"]:
    """All references of one frame in one label map, uint8 (H, W), `IGNORE` = unlabelled.

    Strokes (clicks, scribbles) lie above areas (masks, boxes), and within a kind the later above
    the earlier. What lies outside one box is background only where no other box covers it, and
    that background lies below everything else.
    """
    areas, strokes = _layers(references, size_hw)
    return np.where(strokes != IGNORE, strokes, areas)


def label_cells(
    references: Sequence[Reference],
    size_hw: tuple[int, int],
    *,
    stride: float,
    grid_hw: tuple[int, int],
) -> UInt8[np.ndarray, "gh gw"]:
    """The label of every cell of an embedding grid from the references of one frame.

    A cell takes the label that covers most of its labelled pixels (of equals, the lowest). Strokes
    go before areas: a cell that a scribble touches takes its label from scribbles alone, and a
    click always marks its cell, the last click where there are several.

    Args:
        references: all of one frame.
        size_hw: height and width of the frame in pixels.
        stride: pixels per cell; a fraction where the network sees a resized frame. Cell (i, j)
            covers rows i·stride … (i + 1)·stride.
        grid_hw: rows and columns of cells; pixels beyond the grid count for its last row, column.

    Returns:
        uint8 (gh, gw), `IGNORE` where no reference says anything.
    """
    areas, strokes = _layers(references, size_hw)
    cells = _majority(areas, stride, grid_hw)
    drawn = _majority(strokes, stride, grid_hw)
    cells = np.where(drawn != IGNORE, drawn, cells)
    for reference in references:
        if isinstance(reference, Click):
            x, y = reference.point_xy
            row = min(int((int(y) + 0.5) / stride), grid_hw[0] - 1)
            column = min(int((int(x) + 0.5) / stride), grid_hw[1] - 1)
            cells[row, column] = reference.label
    return cells


def _layers(
    references: Sequence[Reference], size_hw: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """The areas and the strokes of one frame."""
    frames = {reference.frame for reference in references}
    if len(frames) > 1:
        raise PixelkinError(
            f"references of several frames ({_list(sorted(frames))}) were given as one frame's; "
            "call once per frame"
        )
    areas = np.full(size_hw, IGNORE, np.uint8)
    strokes = areas.copy()
    boxes = [reference for reference in references if isinstance(reference, Box)]
    if boxes:
        covered = np.logical_or.reduce([_inside(box, size_hw) for box in boxes])
        areas[~covered] = 0
    for reference in references:
        check_reference(reference, size_hw)
        if isinstance(reference, Box):
            areas[_core(reference, size_hw)] = reference.object_id
            continue
        drawn = rasterise(reference, size_hw)
        target = areas if isinstance(reference, Mask) else strokes
        np.copyto(target, drawn, where=drawn != IGNORE)
    return areas, strokes


def _inside(box: Box, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    x0, y0, x1, y1 = box.box_xyxy
    x, y = np.arange(size_hw[1]) + 0.5, np.arange(size_hw[0]) + 0.5
    return ((y >= y0) & (y < y1))[:, None] & ((x >= x0) & (x < x1))


def _core(box: Box, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    # Clipped first: a box that hangs over the edge still has its core on the picture.
    height, width = size_hw
    x0, x1 = np.clip(box.box_xyxy[::2], 0, width)
    y0, y1 = np.clip(box.box_xyxy[1::2], 0, height)
    x = (np.arange(width) + 0.5 - (x0 + x1) / 2) / ((x1 - x0) * BOX_CORE)
    y = (np.arange(height) + 0.5 - (y0 + y1) / 2) / ((y1 - y0) * BOX_CORE)
    core: Bool[np.ndarray, "h w"] = y[:, None] ** 2 + x**2 <= 1
    core[min(int((y0 + y1) / 2), height - 1), min(int((x0 + x1) / 2), width - 1)] = True
    return core


def _cell_index(
    size_hw: tuple[int, ...], stride: float, grid_hw: tuple[int, int]
) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """The flat index of the cell of every pixel, int64 (H, W)."""
    if not stride > 0 or min(grid_hw) < 1:
        raise PixelkinError(f"stride {stride} and grid {grid_hw}: both must be above 0")
    rows = np.minimum(((np.arange(size_hw[0]) + 0.5) / stride).astype(np.int64), grid_hw[0] - 1)
    columns = np.minimum(((np.arange(size_hw[1]) + 0.5) / stride).astype(np.int64), grid_hw[1] - 1)
    index: np.ndarray[tuple[int, int], np.dtype[np.int64]] = rows[:, None] * grid_hw[1] + columns
    return index


def _majority(
    labels: UInt8[np.ndarray, "h w"], stride: float, grid_hw: tuple[int, int]
) -> UInt8[np.ndarray, "gh gw"]:
    said = labels != IGNORE
    values = np.unique(labels[said])
    if not len(values):
        return np.full(grid_hw, IGNORE, np.uint8)
    cell = _cell_index(labels.shape, stride, grid_hw)
    count = grid_hw[0] * grid_hw[1]
    votes = np.stack([np.bincount(cell[labels == value], minlength=count) for value in values])
    winner = np.where(votes.any(0), values[votes.argmax(0)], IGNORE)
    return winner.astype(np.uint8).reshape(grid_hw)


def _check_start(frame: int, object_id: int, *, background: bool) -> None:
    if isinstance(frame, bool) or not isinstance(frame, int) or frame < 0:
        raise PixelkinError(f"frame {frame!r}: expected a whole number from 0")
    if isinstance(object_id, bool) or not isinstance(object_id, int):
        raise PixelkinError(f"object id {object_id!r}: expected a whole number")
    if not (background and object_id == 0):
        check_object_id(object_id)


def _numbers(values: Sequence[float], what: str, count: int) -> tuple[Any, ...]:
    if len(values) != count or not all(math.isfinite(value) for value in values):
        raise PixelkinError(f"{what} {_list(values)}: expected {count} finite numbers")
    return tuple(float(value) for value in values)


def _list(values: Sequence[float]) -> str:
    return ",".join(
        f"{value:g}" if float(f"{value:g}") == value else repr(value) for value in values
    )
