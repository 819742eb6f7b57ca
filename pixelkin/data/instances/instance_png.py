"""A folder of images beside a folder of instance-index PNGs.

The layout of Penn-Fudan pedestrians (`PNGImages/x.png`, `PedMasks/x_mask.png`), of PASCAL VOC
(`JPEGImages/x.jpg`, `SegmentationObject/x.png`) and of most hand-made sets. The pixel of a mask is
the id of its instance: 0 background, 255 unknown.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Integer

from pixelkin.data.reading import (
    images_by_stem,
    pngs_by_stem,
    read_image,
    read_index_png,
    refuse_binary,
    require_folder,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Instance, InstanceSample

InstancesAndIgnore = tuple[tuple[Instance, ...], bytes | None]
"""The objects of a still, and COCO counts of what belongs to nobody knows what."""


class MaskedStills:
    """Stills whose instances stand in one mask file each; a data set says how to read it.

    Args:
        files: name → image and mask.
        class_names: of the categories.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(
        self, files: Mapping[str, tuple[Path, Path]], class_names: tuple[str, ...]
    ) -> None:
        self._files = files
        self.names = list(files)
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        image_path, mask = self._files[name]
        image = read_image(image_path)
        size_hw = (image.shape[0], image.shape[1])
        instances, ignore = self._read_instances(mask, size_hw)
        return InstanceSample(image, instances, name, ignore)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._files[self.names[index]][0]

    def mask_file(self, index: int) -> Path:
        """The file that holds the instances of a still."""
        return self._files[self.names[index]][1]

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        """What a mask holds; its image has `size_hw`."""
        raise NotImplementedError


class InstancePng(MaskedStills):
    """Images and masks of the same stem, the mask's with `mask_suffix` appended.

    Every id in the PNG (8-bit grey or palette, or 16-bit grey) is an instance, in ascending order,
    its id the instance's `key`; ids may have gaps. 255 is unknown in every depth, so that a map
    which numbers past it must leave it out. Only a grey mask of nothing but 0 and 255 is taken as
    one object, id 1. Colour PNGs are refused: whoever saved them lost the index.

    Args:
        images_dir: folder of images; sub-folders are not read.
        masks_dir: folder of `<stem><mask_suffix>.png`, or `.PNG`.
        mask_suffix: what stands between the image's stem and `.png`, `"_mask"` for Penn-Fudan.
        class_name: what all instances are.
        binary: every non-zero pixel becomes instance 1, for masks of one object in any value.
        skip_missing: leave out images without a mask (VOC has many) instead of raising.

    Raises:
        PixelkinError: a folder is missing or empty, or an image has no mask; on reading, a file
            is corrupt, sizes differ, a mask is not an index PNG, or its 255 may be an instance.
    """

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        masks_dir: str | os.PathLike[str],
        *,
        mask_suffix: str = "",
        class_name: str = "object",
        binary: bool = False,
        skip_missing: bool = False,
    ) -> None:
        images = images_by_stem(images_dir)
        masks = require_folder(masks_dir, f"index PNGs named <image>{mask_suffix}.png")
        self._binary = binary
        there = pngs_by_stem(masks)
        files: dict[str, tuple[Path, Path]] = {}
        for stem, image in images.items():
            mask = there.get(f"{stem}{mask_suffix}")
            if mask is not None:
                files[stem] = (image, mask)
            elif not skip_missing:
                raise PixelkinError(
                    f"{image.name} has no mask: expected {masks / stem}{mask_suffix}.png; add it, "
                    "or pass skip_missing=True"
                )
        if not files:
            raise PixelkinError(
                f"no image of {images_dir} has a mask in {masks}: expected names like "
                f"{next(iter(images))}{mask_suffix}.png; check mask_suffix"
            )
        super().__init__(files, (class_name,))

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        labels = read_index_png(mask, size_hw=size_hw)
        if self._binary:
            labels = (labels != 0).astype(np.int64)
        return index_instances(labels, mask, remedy="pass binary=True")


def rles_by_id(
    labels: Integer[np.ndarray, "h w"], *, left: int = 0, full_width: int = 0
) -> dict[int, bytes]:
    """COCO compressed counts of every id but 0, ids ascending, in one pass over the label map.

    `labels` may be the columns from `left` on of a map that is `full_width` wide and empty beside
    them; the counts are those of the whole map.
    """
    height, width = labels.shape
    flat = labels.ravel(order="F")
    if not flat.size:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    ids, firsts = np.unique(values[order], return_index=True)
    offset, total = left * height, (full_width or width) * height
    size = {"size": [height, full_width or width]}
    rles: dict[int, bytes] = {}
    for number, runs in zip(ids.tolist(), np.split(order, firsts[1:]), strict=True):
        if number == 0:
            continue
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel() + offset
        counts = np.diff(edges, prepend=0, append=total)
        # Counts that end on the object have no last run of background.
        counts = counts[: len(counts) - (counts[-1] == 0)]
        uncompressed = {**size, "counts": counts.tolist()}
        rles[number] = coco_mask.frPyObjects(uncompressed, *size["size"])["counts"]
    return rles


def index_instances(
    labels: Integer[np.ndarray, "h w"], path: Path, *, remedy: str
) -> tuple[tuple[Instance, ...], bytes | None]:
    """An instance per id of an index PNG's map, its `key` the id, and the counts of what is 255.

    Raises:
        PixelkinError: 255 may be an object: there is no other id (then do as `remedy` says), or
            the ids go on beyond it.
    """
    refuse_binary(labels, path, remedy=remedy)
    rles = rles_by_id(labels)
    ignore = rles.pop(IGNORE, None)
    largest = max(rles, default=0)
    if ignore is not None and largest > IGNORE:
        raise PixelkinError(
            f"{path} numbers objects to {largest}, and {IGNORE} means unknown: expected no object "
            f"{IGNORE}; renumber it, or what is unknown to 0"
        )
    return tuple(Instance(rle, key=str(number)) for number, rle in rles.items()), ignore
