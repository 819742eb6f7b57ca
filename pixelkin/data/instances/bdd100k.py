"""BDD100K's instance segmentation: 8 kinds of traffic participants, from RGBA bitmasks.

Yu, Chen, Wang, Xian, Chen, Liu, Madhavan, Darrell: BDD100K, CVPR 2020. The encoding is that of
https://doc.bdd100k.com/format.html.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from pixelkin.data.class_maps.bdd100k import bdd_files, read_bitmask
from pixelkin.data.class_maps.files import REMEDY
from pixelkin.data.instances.instance_png import InstancesAndIgnore, MaskedStills, rles_by_id
from pixelkin.errors import PixelkinError
from pixelkin.structures import Instance

INSTANCE_CLASSES = (
    "pedestrian", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
"""In the order of their numbers in the files, which start at 1; categories start at 0."""

CROWD, IGNORED = 1 << 1, 1 << 0
"""Bits of G; above them lie occluded, 1 << 2, and truncated, 1 << 3."""


class BddInstances(MaskedStills):
    """The 10k images of a split with the instances of `labels/ins_seg/bitmasks`.

    R is the category, 0 background; G holds truncated << 3, occluded << 2, crowd << 1 and ignore;
    the id, an instance's `key`, is B · 256 + A. What is marked ignore becomes
    `InstanceSample.ignore`, as the official evaluation leaves it out.

    Args:
        root: folder that holds `images` and `labels`.
        split: `"train"` (7,000) or `"val"` (1,000).

    Raises:
        PixelkinError: a folder or a mask is missing, or the split is unknown; on reading, a file
            is corrupt or no RGBA PNG, sizes differ, a category is unknown, or pixels of one id
            disagree about category or attributes.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        super().__init__(bdd_files(root, split, "10k", "ins_seg/bitmasks"), INSTANCE_CLASSES)

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        pixels = read_bitmask(mask, size_hw=size_hw)
        ids, kinds = bitmask_ids(pixels, mask)
        ignored = [number for number, (_, flags) in kinds.items() if flags & IGNORED]
        unknown = np.isin(ids, ignored)
        instances = tuple(
            Instance(rle, kinds[number][0] - 1, bool(kinds[number][1] & CROWD), str(number))
            for number, rle in rles_by_id(np.where(unknown, 0, ids)).items()
        )
        return instances, rles_by_id(unknown.view(np.uint8)).get(1)


def bitmask_ids(
    pixels: UInt8[np.ndarray, "h w 4"], path: Path
) -> tuple[Int64[np.ndarray, "h w"], dict[int, tuple[int, int]]]:
    """Id of every pixel, int64 (H, W), 0 background; and category and attributes of each id.

    Raises:
        PixelkinError: a category is unknown, an instance has id 0, or pixels of one id disagree.
    """
    category, flags = pixels[..., 0].astype(np.int64), pixels[..., 1].astype(np.int64)
    numbers = pixels[..., 2].astype(np.int64) * 256 + pixels[..., 3]
    # The id of background is anybody's guess; blank masks of the data set give it one.
    ids = np.where(category == 0, 0, numbers)
    found = np.unique(np.stack([numbers, category, flags])[:, category != 0], axis=1).T.tolist()
    kinds: dict[int, tuple[int, int]] = {}
    for number, kind, attributes in found:
        if kind > len(INSTANCE_CLASSES):
            raise PixelkinError(
                f"{path} holds category {kind} in R: expected 0 to {len(INSTANCE_CLASSES)}; use "
                "the files of labels/ins_seg/bitmasks"
            )
        if number == 0:
            raise PixelkinError(f"{path} holds an instance of id 0: expected 1 or more; {REMEDY}")
        if number in kinds:
            raise PixelkinError(
                f"{path}: pixels of id {number} have (category, attributes) {kinds[number]} and "
                f"{(kind, attributes)}: expected one; {REMEDY}"
            )
        kinds[number] = (kind, attributes)
    return ids, kinds
