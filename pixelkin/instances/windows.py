"""Run lengths of objects from the windows that hold them: no mask as large as the image is made."""

from __future__ import annotations

from collections.abc import Callable

import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Bool, Integer
from scipy import ndimage

from pixelkin.structures import Instances


def encode_window(
    window: Bool[np.ndarray, "h w"], *, top_left_yx: tuple[int, int], size_hw: tuple[int, int]
) -> bytes:
    """COCO compressed counts of an image that is empty but for a window within it.

    Args:
        window: which of its pixels are inside.
        top_left_yx: row and column of its first pixel in the image.
        size_hw: height and width of the image.
    """
    height, width = size_hw
    columns, rows = np.nonzero(window.T)
    # Run lengths go down the columns.
    places = (columns + top_left_yx[1]) * height + rows + top_left_yx[0]
    breaks = np.flatnonzero(np.diff(places) != 1)
    starts = places[np.r_[0, breaks + 1]] if len(places) else places
    ends = places[np.r_[breaks, -1]] + 1 if len(places) else places
    edges = np.r_[0, np.stack([starts, ends], 1).ravel()]
    if edges[-1] < height * width:
        edges = np.r_[edges, height * width]
    counts = {"size": [height, width], "counts": np.diff(edges).tolist()}
    compressed: bytes = coco_mask.frPyObjects(counts, height, width)["counts"]
    return compressed


def instances_from_labels(
    labels: Integer[np.ndarray, "h w"],
    score: Callable[[tuple[slice, slice], Bool[np.ndarray, "h w"]], float],
    *,
    min_px: int = 1,
) -> Instances:
    """The objects of a label map, best first, all of category 0; 0 is background.

    Args:
        labels: ids of any size; each is one object, in one piece or not.
        score: from an object's window in the image and its mask there to its confidence.
        min_px: objects of fewer pixels are left out.
    """
    size_hw = (labels.shape[0], labels.shape[1])
    found: list[tuple[float, bytes]] = []
    for index, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        mask = labels[window] == index + 1
        if mask.sum() < min_px:
            continue
        corner = (window[0].start, window[1].start)
        rle = encode_window(mask, top_left_yx=corner, size_hw=size_hw)
        found.append((min(max(float(score(window, mask)), 0.0), 1.0), rle))
    found.sort(key=lambda one: -one[0])
    return Instances(
        size_hw,
        rles=tuple(rle for _, rle in found),
        categories=(0,) * len(found),
        scores=tuple(value for value, _ in found),
    )
