"""Masks of a still together: unions, overlaps, and which object lies on top."""

from __future__ import annotations

from collections.abc import Sequence

import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Int64

from pixelkin.masks import rle_area
from pixelkin.results.outlines import decode_window
from pixelkin.structures import InstanceSample

UNKNOWN = -1
"""In `stacked`, pixels that nobody knows."""


def union(rles: Sequence[bytes], size_hw: tuple[int, int]) -> bytes:
    """COCO compressed counts of what any of the masks covers."""
    return _merged(rles, size_hw, intersect=0)


def overlap_px(
    one: bytes | None, other: bytes | None, size_hw: tuple[int, int]
) -> tuple[int, int, int]:
    """Pixels of one mask, of the other, and of both; None is a mask without a pixel."""
    first = 0 if one is None else rle_area(one, size_hw)
    if one is not None and one == other:
        return first, first, first
    second = 0 if other is None else rle_area(other, size_hw)
    if one is None or other is None:
        return first, second, 0
    return first, second, rle_area(_merged((one, other), size_hw, intersect=1), size_hw)


def _merged(rles: Sequence[bytes], size_hw: tuple[int, int], *, intersect: int) -> bytes:
    size = [int(size_hw[0]), int(size_hw[1])]
    counts: bytes = coco_mask.merge([{"size": size, "counts": rle} for rle in rles], intersect)[
        "counts"
    ]
    return counts


def stacked(sample: InstanceSample, *, crowds: bool = True) -> Int64[np.ndarray, "h w"]:
    """Of each pixel the index plus 1 of the instance on top; 0 nothing, `UNKNOWN`.

    Smaller instances lie on larger ones, all lie on crowds, and those on what nobody knows.

    Args:
        sample: the still.
        crowds: tell them apart; otherwise they are `UNKNOWN`.
    """
    ids = np.zeros(sample.size_hw, np.int64)
    if sample.ignore is not None:
        _paint(ids, sample.ignore, UNKNOWN)
    areas = [rle_area(one.rle, sample.size_hw) for one in sample.instances]
    order = sorted(range(len(areas)), key=lambda n: (not sample.instances[n].crowd, -areas[n]))
    for index in order:
        one = sample.instances[index]
        _paint(ids, one.rle, index + 1 if crowds or not one.crowd else UNKNOWN)
    return ids


def _paint(ids: Int64[np.ndarray, "h w"], rle: bytes, value: int) -> None:
    window, (x, y) = decode_window(rle, (ids.shape[0], ids.shape[1]))
    ids[y : y + window.shape[0], x : x + window.shape[1]][window] = value


def unknown_with_crowds(sample: InstanceSample) -> bytes | None:
    """Counts of unknown pixels and of crowds together; None where there are none."""
    hidden = [one.rle for one in sample.instances if one.crowd]
    hidden += [] if sample.ignore is None else [sample.ignore]
    together = union(hidden, sample.size_hw) if hidden else None
    return together if together and rle_area(together, sample.size_hw) else None


def singles(sample: InstanceSample) -> list[int]:
    """Indices of the instances that are no crowds."""
    return [index for index, one in enumerate(sample.instances) if not one.crowd]


def drawn(sample: InstanceSample) -> list[int]:
    """Instances that polygons can show."""
    return [n for n in singles(sample) if rle_area(sample.instances[n].rle, sample.size_hw)]
