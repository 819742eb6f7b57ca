"""Cityscapes as class maps: the 19 classes that are evaluated, and results as label ids.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, UInt8
from PIL import Image

from pixelkin.data.class_maps.files import ClassMapFiles, class_table, classes_of, read_byte_indices
from pixelkin.data.instances.cityscapes import Annotation, city_files
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path
from pixelkin.structures import IGNORE

TRAIN_LABELS = {
    "road": 7, "sidewalk": 8, "building": 11, "wall": 12, "fence": 13, "pole": 17,
    "traffic light": 19, "traffic sign": 20, "vegetation": 21, "terrain": 22, "sky": 23,
    "person": 24, "rider": 25, "car": 26, "truck": 27, "bus": 28, "train": 31, "motorcycle": 32,
    "bicycle": 33,
}  # fmt: skip
"""The 19 classes in the order of their train ids 0 … 18, and the label id of each."""

CITYSCAPES_CLASSES = tuple(TRAIN_LABELS)

LAST_LABEL = 33
"""Largest label id; −1, the licence plate, is 255 in 8 bits."""

_UNLABELED = 0
_TABLE = class_table(TRAIN_LABELS.values(), ignored=(*range(LAST_LABEL + 1), IGNORE))
_EXPECTED = f"label ids 0 to {LAST_LABEL}, or {IGNORE} for −1"


class CityscapesSemantic(ClassMapFiles):
    """The images of a split (2,975 of train, 500 of val, 1,525 of test, whose maps are void).

    A pixel of `…_labelIds.png` is a label id; the 19 that are evaluated become 0 … 18, every
    other `IGNORE`.

    Args:
        root: folder that holds `leftImg8bit` and `gtFine`.
        split: `"train"` or `"val"`.
        annotation: `"gtFine"`, or `"gtCoarse"` for the coarse ones (split `"train_extra"`: 19,998).

    Raises:
        PixelkinError: a folder or a map is missing, or the split is unknown; on reading, a file
            is corrupt or no 8-bit index PNG, sizes differ, or a pixel is no label id.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        annotation: Annotation = "gtFine",
    ) -> None:
        files = city_files(root, split, annotation=annotation, kind="labelIds")
        super().__init__(files, CITYSCAPES_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        return train_ids(read_byte_indices(path, size_hw=size_hw), path)


def train_ids(label_ids: Integer[np.ndarray, "h w"], path: Path) -> Int64[np.ndarray, "h w"]:
    """Train ids 0 … 18 and `IGNORE` of label ids 0 … 33 and 255.

    Raises:
        PixelkinError: another value is there; names `path`.
    """
    return classes_of(label_ids, _TABLE, path, expected=_EXPECTED)


def label_ids(labels: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Label ids, as the official evaluation reads them, of train ids; `IGNORE` becomes 0.

    Raises:
        PixelkinError: a value is neither a train id nor `IGNORE`.
    """
    known = (labels >= 0) & (labels < len(TRAIN_LABELS))
    if not (known | (labels == IGNORE)).all():
        wrong = labels[~(known | (labels == IGNORE))]
        raise PixelkinError(
            f"class {wrong[0]} is none of Cityscapes: expected 0 to {len(TRAIN_LABELS) - 1} or "
            f"{IGNORE}; predict with a network of its {len(TRAIN_LABELS)} classes"
        )
    table = np.full(IGNORE + 1, _UNLABELED, np.uint8)
    table[: len(TRAIN_LABELS)] = list(TRAIN_LABELS.values())
    ids: UInt8[np.ndarray, "h w"] = table[labels]
    return ids


def write_label_ids(path: str | os.PathLike[str], labels: Integer[np.ndarray, "h w"]) -> None:
    """Write train ids as a grey PNG of label ids, what Cityscapes and KITTI evaluate, atomically.

    Raises:
        PixelkinError: a value is no class, or the file cannot be written.
    """
    image = Image.fromarray(np.ascontiguousarray(label_ids(labels)))
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")
