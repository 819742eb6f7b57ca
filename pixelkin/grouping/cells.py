"""From sets of cells to masks of the full image, each as run lengths as soon as it is made."""

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Int

from pixelkin.masks import encode_window
from pixelkin.structures import Instances


class CellMask(NamedTuple):
    """One candidate object.

    Attributes:
        cells: int (K,), index of its cells into the flattened field, ascending.
        category: index into the class names.
        score: in [0, 1].
    """

    cells: Int[np.ndarray, " k"]
    category: int
    score: float


def suppress(
    candidates: Iterable[CellMask], *, cells: int, keep: float = 0.8, min_cells: int = 1
) -> list[CellMask]:
    """Candidates that do not overlap, best first: the better one keeps the cells of both.

    A candidate is dropped where better ones leave less than `keep` of it. This suppresses by mask,
    without a box: objects whose boxes coincide both stay as long as their pixels differ. The paper
    does not say how it suppresses; this is ours.

    Args:
        candidates: in any order.
        cells: of the field.
        keep: share of a candidate's cells that must be free.
        min_cells: smaller remainders are dropped.
    """
    taken = np.zeros(cells, bool)
    kept = []
    for candidate in sorted(candidates, key=lambda one: -one.score):
        free = candidate.cells[~taken[candidate.cells]]
        if len(free) >= max(keep * len(candidate.cells), min_cells, 1):
            taken[free] = True
            kept.append(candidate._replace(cells=free))
    return kept


def instances_of(
    masks: Iterable[CellMask], *, field_hw: tuple[int, int], stride: int, size_hw: tuple[int, int]
) -> Instances:
    """Masks of cells as objects of the image, in the order given.

    Args:
        masks: what lies wholly in the padding gives no object.
        field_hw: cells of the (padded) image per column and row.
        stride: pixels per cell.
        size_hw: of the image in pixels.
    """
    rles, categories, scores = [], [], []
    for mask in masks:
        rle = rle_of_cells(mask.cells, field_hw=field_hw, stride=stride, size_hw=size_hw)
        if rle is not None:
            rles.append(rle)
            categories.append(mask.category)
            scores.append(mask.score)
    return Instances(size_hw, tuple(rles), tuple(categories), tuple(scores))


def rle_of_cells(
    cells: Int[np.ndarray, " k"],
    *,
    field_hw: tuple[int, int],
    stride: int,
    size_hw: tuple[int, int],
) -> bytes | None:
    """The mask at full resolution, its outline smoothed between cells; None where nothing is left.

    Bilinear between the cells' centres and cut at one half, in the window of the cells only.
    """
    rows, columns = np.divmod(cells, field_hw[1])
    top, left = int(rows.min()), int(columns.min())
    window = np.zeros((int(rows.max()) - top + 3, int(columns.max()) - left + 3), np.float32)
    window[rows - top + 1, columns - left + 1] = 1
    _extend_over_border(window, top, left, field_hw)
    fine = cv2.resize(window, None, fx=stride, fy=stride, interpolation=cv2.INTER_LINEAR) > 0.5
    return _encode_inside(fine, (left - 1) * stride, (top - 1) * stride, size_hw)


def _extend_over_border(window: np.ndarray, top: int, left: int, field_hw: tuple[int, int]) -> None:
    # Beyond the field's border there is no background to shrink from.
    if top == 0:
        window[0] = window[1]
    if top + window.shape[0] - 2 == field_hw[0]:
        window[-1] = window[-2]
    if left == 0:
        window[:, 0] = window[:, 1]
    if left + window.shape[1] - 2 == field_hw[1]:
        window[:, -1] = window[:, -2]


def _encode_inside(
    mask: Bool[np.ndarray, "h w"], x: int, y: int, size_hw: tuple[int, int]
) -> bytes | None:
    """Counts of the part of a window at (x, y) that lies inside the image."""
    # What lies wholly in the padding would else be sliced from the other end.
    bottom, right = max(size_hw[0] - y, 0), max(size_hw[1] - x, 0)
    inside = mask[max(-y, 0) : bottom, max(-x, 0) : right]
    if not inside.any():
        return None
    return encode_window(inside, corner_xy=(max(x, 0), max(y, 0)), size_hw=size_hw)
