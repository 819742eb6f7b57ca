"""Cityscapes as class maps: the 19 classes that are evaluated, and results as label ids.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer, UInt8
from PIL import Image

from pixelkin.data.class_maps.files import (
    REMEDY,
    ClassMapFiles,
    class_table,
    classes_of,
    one_still,
    read_byte_indices,
)
from pixelkin.data.class_maps.object_files import all_or_none
from pixelkin.data.instances.cityscapes import (
    COUNTED_ABOVE,
    Annotation,
    city_files,
    read_instance_ids,
)
from pixelkin.data.reading import image_size_hw, refuse_binary, require_folder
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

_IMAGE_END = "_leftImg8bit.png"
_LABEL_END, _INSTANCE_END = "_labelIds.png", "_instanceIds.png"
_UNLABELED = 0
_TABLE = class_table(TRAIN_LABELS.values(), ignored=(*range(LAST_LABEL + 1), IGNORE))
_EXPECTED = f"label ids 0 to {LAST_LABEL}, or {IGNORE} for −1"


class CityscapesSemantic(ClassMapFiles):
    """The images of a split (2,975 of train, 500 of val, 1,525 of test, whose maps are void).

    A pixel of `…_labelIds.png` is a label id; the 19 that are evaluated become 0 … 18, every
    other `IGNORE`. Where `…_instanceIds.png` lie beside, objects are told apart too.

    Args:
        root: folder that holds `leftImg8bit` and `gtFine`.
        split: `"train"` or `"val"`.
        annotation: `"gtFine"`, or `"gtCoarse"` for the coarse ones (split `"train_extra"`: 19,998).

    Raises:
        PixelkinError: a folder or a map is missing, or the split is unknown; on reading, a file
            is corrupt or no 8-bit index PNG, sizes differ, a pixel is no label id, or a map holds
            nothing but 0 and 255.
    """

    average_px: Mapping[str, float] | None = None

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        annotation: Annotation = "gtFine",
    ) -> None:
        files = _paired(root, split, annotation)
        super().__init__(files, CITYSCAPES_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        # 0 alone is right, as in coarse maps; but nobody sees licence plates (255) alone.
        refuse_binary(values, path, remedy=REMEDY)
        return train_ids(values, path)

    @cached_property
    def _object_files(self) -> dict[str, Path]:
        def beside(path: Path) -> Path:
            return path.with_name(path.name.replace(_LABEL_END, _INSTANCE_END))

        return all_or_none({name: beside(path) for name, (_, path) in self._files.items()})

    def object_ids(self, index: int) -> Int64[np.ndarray, "h w"] | None:
        """Pixels of `…_instanceIds.png` from 1000 on, 0 for groups and stuff; see `ObjectIds`.

        Raises:
            PixelkinError: the file is corrupt or not of Cityscapes, or stills with and without it
                are mixed.
        """
        if not self._object_files:
            return None
        image, _ = self._files[name := self.names[index]]
        ids = read_instance_ids(self._object_files[name], size_hw=image_size_hw(image))
        return np.where(ids >= COUNTED_ABOVE, ids, 0)


def _paired(
    root: str | os.PathLike[str], split: str, annotation: Annotation
) -> dict[str, tuple[Path, Path]]:
    """Name → image and map; as `city_files`, but that it takes the stills one by one."""
    cities = Path(root) / "leftImg8bit" / split
    images = sorted(cities.glob(f"*/[!.]*{_IMAGE_END}"))
    if not images:
        # It says what is missing.
        return city_files(root, split, annotation=annotation, kind="labelIds")
    maps = require_folder(Path(root) / annotation, f"{split}/<city>/…_labelIds.png")
    files: dict[str, tuple[Path, Path]] = {}
    for image in images:
        name = image.name.removesuffix(_IMAGE_END)
        path = maps / split / image.parent.name / f"{name}_{annotation}_labelIds.png"
        with one_still():
            if not path.is_file():
                raise PixelkinError(f"{image} has no mask: expected {path}; add it")
            files[name] = (image, path)
    return files


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
