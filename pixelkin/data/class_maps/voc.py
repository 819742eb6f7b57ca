"""PASCAL VOC 2012 and SBD as class maps: 20 classes over background.

Everingham et al.: The Pascal Visual Object Classes Challenge, IJCV 2015 (VOC).
Hariharan, Arbelaez, Bourdev, Maji, Malik: Semantic Contours from Inverse Detectors, ICCV 2011
(SBD; classes for 11,355 images of VOC 2011, in MATLAB files).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from scipy.io import loadmat

from pixelkin.data.class_maps.files import (
    REMEDY,
    ClassMapFiles,
    class_table,
    classes_of,
    one_still,
    read_byte_indices,
)
from pixelkin.data.class_maps.index_png import CLASSES_FILE, FIX_CLASSES, draws_unknown
from pixelkin.data.instances.voc import VOC_CLASSES, listed_names, require_files, voc_values
from pixelkin.data.reading import decoded, refuse_binary, require_folder, require_size
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

VOC_SEMANTIC_CLASSES = ("background", *VOC_CLASSES)
"""Background and the 20, in the order of their indices in the files."""

_VOC_LAYOUT = "the VOC layout: JPEGImages, SegmentationClass and ImageSets/Segmentation"
_SBD_LAYOUT = "the SBD layout: img/<name>.jpg, cls/<name>.mat and <split>.txt"
_LAST = len(VOC_CLASSES)
_SBD_TABLE = class_table(range(_LAST + 1))


class VocSemantic(ClassMapFiles):
    """The images of a split of VOC (1,464 of train, 1,449 of val); 255, the outlines, is `IGNORE`.

    Args:
        root: folder that holds `JPEGImages`, as `VOCdevkit/VOC2012`; where `classes.txt` lies in
            it, that names the classes in place of VOC's own, see `voc_values`.
        split: a list in `ImageSets/Segmentation`: `"train"`, `"val"`, `"trainval"`, or one that
            was put there, such as `"trainaug"`.
        masks: folder of the index PNGs, `SegmentationClass` in `root` where None.

    Raises:
        PixelkinError: a folder, or a file of an image, is missing, the split is unknown, or the
            class list is faulty; on reading, a file is corrupt or no index PNG, sizes differ, a
            pixel is no class, or a map holds nothing but 0 and 255 without VOC's palette, which
            draws 255 as unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        masks: str | os.PathLike[str] | None = None,
    ) -> None:
        base = Path(root)
        images = require_folder(base / "JPEGImages", _VOC_LAYOUT)
        maps = require_folder(masks or base / "SegmentationClass", _VOC_LAYOUT)
        lists = require_folder(base / "ImageSets" / "Segmentation", _VOC_LAYOUT)
        names = listed_names(lists, split)
        files = {name: (images / f"{name}.jpg", maps / f"{name}.png") for name in names}
        files = listed_files(files, lists / f"{split}.txt")
        self._values = voc_values(base)
        self._remedy = FIX_CLASSES if (base / CLASSES_FILE).is_file() else REMEDY
        super().__init__(files, self._values.class_names)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        stored = read_byte_indices(path, size_hw=size_hw)
        known = self._values
        unsaid = known.ignore is None and IGNORE not in known.names
        if unsaid and not draws_unknown(path):
            refuse_binary(stored, path, remedy=self._remedy)
        return classes_of(stored, known.table, path, expected=known.expected, remedy=self._remedy)


class SbdSemantic(ClassMapFiles):
    """The images of a split of SBD (8,498 of train, 2,857 of val), none of whose pixels is unknown.

    Args:
        root: folder that holds `img` and `cls`, as `benchmark_RELEASE/dataset`.
        split: a list beside them: `"train"` or `"val"`, or another that was put there.

    Raises:
        PixelkinError: a folder, or a file of an image, is missing, or the split is unknown; on
            reading, a file is corrupt, sizes differ, or a pixel is no class.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        base = require_folder(root, _SBD_LAYOUT)
        images, maps = (require_folder(base / one, _SBD_LAYOUT) for one in ("img", "cls"))
        names = listed_names(base, split)
        files = {name: (images / f"{name}.jpg", maps / f"{name}.mat") for name in names}
        files = listed_files(files, base / f"{split}.txt")
        super().__init__(files, VOC_SEMANTIC_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_sbd_classes(path)
        require_size(path, values.shape, size_hw)
        return classes_of(values, _SBD_TABLE, path, expected=f"0 to {_LAST}")


def listed_files(
    files: Mapping[str, tuple[Path, Path]], listed_in: Path
) -> dict[str, tuple[Path, Path]]:
    """`files`, found to be there, or `PixelkinError`; see `one_still`."""
    there = {}
    for name, pair in files.items():
        with one_still():
            require_files({name: pair}, listed_in)
            there[name] = pair
    return there


def read_sbd_classes(path: Path) -> Int64[np.ndarray, "h w"]:
    """`GTcls.Segmentation` of an SBD file as stored, int64 (H, W).

    Raises:
        PixelkinError: the file is no MATLAB file with such a `GTcls`.
    """

    def decode() -> np.ndarray[Any, Any] | None:
        truth = loadmat(path, variable_names=["GTcls"]).get("GTcls")
        if truth is None or "Segmentation" not in (truth.dtype.names or ()):
            return None
        # A 1×1 struct: the zeros unwrap what MATLAB wraps.
        values: np.ndarray[Any, Any] = truth["Segmentation"][0, 0]
        return values

    values = decoded(path, decode, kind="MAT-file")
    if values is None or values.ndim != 2 or values.dtype.kind != "u":
        raise PixelkinError(
            f"{path} holds no GTcls with Segmentation of unsigned H×W; use a file of SBD's folder "
            "cls"
        )
    return values.astype(np.int64)
