"""PASCAL VOC 2012 and the Semantic Boundaries Dataset: 20 classes of everyday things.

Everingham et al.: The Pascal Visual Object Classes Challenge, IJCV 2015 (VOC).
Hariharan, Arbelaez, Bourdev, Maji, Malik: Semantic Contours from Inverse Detectors, ICCV 2011
(SBD; instances for 11,355 images of VOC 2011, in MATLAB files).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from scipy.io import loadmat

from pixelkin.data.class_maps.index_png import (
    CLASSES_FILE,
    ClassValues,
    class_values,
    draws_unknown,
)
from pixelkin.data.instances.instance_png import rles_by_id
from pixelkin.data.reading import (
    decoded,
    read_image,
    read_indices,
    refuse_binary,
    require_folder,
    require_size,
)
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Instance, InstanceSample

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
"""In the order of their numbers in the files, which start at 1; categories start at 0."""

_VOC_LAYOUT = (
    "the VOC layout: JPEGImages, SegmentationClass, SegmentationObject and ImageSets/Segmentation"
)
_REMEDY = "use the file that the data set ships"
_SBD_LAYOUT = "the SBD layout: img/<name>.jpg, inst/<name>.mat and <split>.txt"


class Voc:
    """The images of a split that have instance masks (1,464 of VOC 2012 train, 1,449 of val).

    An instance is an id of `SegmentationObject/<name>.png` (its `key`); its class is the one that
    most of its pixels have in `SegmentationClass/<name>.png`. The outlines, 255 in both, are
    `ignore`.

    Args:
        root: folder that holds `JPEGImages`, as `VOCdevkit/VOC2012`; where `classes.txt` lies in
            it, that names the classes, see `voc_values`.
        split: a list in `ImageSets/Segmentation`: `"train"`, `"val"` or `"trainval"`.

    Raises:
        PixelkinError: a folder, or a file of an image, is missing, the split is unknown, or the
            class list is faulty or has no background; on reading, a file is corrupt or no index
            PNG, sizes differ, a pixel is no class, an instance has no class or classes have no
            instance, or a mask holds nothing but 0 and 255 without VOC's palette, which draws 255
            as unknown.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        base = Path(root)
        folders = ("JPEGImages", "SegmentationClass", "SegmentationObject")
        images, classes, objects = (require_folder(base / one, _VOC_LAYOUT) for one in folders)
        lists = require_folder(base / "ImageSets" / "Segmentation", _VOC_LAYOUT)
        self.names = listed_names(lists, split)
        self._files = {
            name: (images / f"{name}.jpg", classes / f"{name}.png", objects / f"{name}.png")
            for name in self.names
        }
        require_files(self._files, lists / f"{split}.txt")
        self._values = voc_object_values(base)
        self.class_names = self._values.class_names[1:]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        image_path, classes_path, objects_path = self._files[name]
        image = read_image(image_path)
        stored = _read_indices(classes_path, image.shape[:2])
        objects = _read_indices(objects_path, image.shape[:2])
        classes = self._values.table[stored]
        strange = stored[classes < 0]
        if strange.size:
            raise PixelkinError(
                f"{classes_path} holds class {strange[0]}: expected {self._values.expected}; "
                f"{_REMEDY}"
            )
        rles = rles_by_id(objects)
        ignore = rles.pop(IGNORE, None)
        majority = _majority_classes(objects, classes)
        for number in rles:
            if number not in majority:
                raise PixelkinError(
                    f"{objects_path}: instance {number} has no class in {classes_path}; {_REMEDY}"
                )
        there = np.unique(classes[(classes != 0) & (classes != IGNORE)])
        if there.size and not rles:
            raise PixelkinError(
                f"{objects_path} holds no instance, and {classes_path} class {there[0]}: expected "
                f"ids from 1 there; {_REMEDY}"
            )
        instances = (Instance(rle, majority[n] - 1, key=str(n)) for n, rle in rles.items())
        return InstanceSample(image, tuple(instances), name, ignore)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._files[self.names[index]][0]


class Sbd:
    """The images of a split of SBD (8,498 of train, 2,857 of val), none of whose pixels is unknown.

    An instance is an id of `GTinst.Segmentation` (its `key`), its class the entry of
    `GTinst.Categories` at that id.

    Args:
        root: folder that holds `img` and `inst`, as `benchmark_RELEASE/dataset`.
        split: a list beside them: `"train"` or `"val"`, or another that was put there.

    Raises:
        PixelkinError: a folder, or a file of an image, is missing, or the split is unknown; on
            reading, a file is corrupt, sizes differ, or an instance has no class.
    """

    names: list[str]
    class_names: tuple[str, ...] = VOC_CLASSES

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        base = require_folder(root, _SBD_LAYOUT)
        images, instances = (require_folder(base / one, _SBD_LAYOUT) for one in ("img", "inst"))
        self.names = listed_names(base, split)
        self._files = {
            name: (images / f"{name}.jpg", instances / f"{name}.mat") for name in self.names
        }
        require_files(self._files, base / f"{split}.txt")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        image_path, mat = self._files[name]
        image = read_image(image_path)
        objects, classes = read_sbd_instances(mat)
        require_size(mat, objects.shape, image.shape[:2])
        instances = tuple(
            Instance(rle, int(classes[number - 1]) - 1, key=str(number))
            for number, rle in rles_by_id(objects).items()
        )
        return InstanceSample(image, instances, name)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._files[self.names[index]][0]


def voc_values(root: Path) -> ClassValues:
    """Which value of the maps in VOC's layout means which class.

    Those of `classes.txt` in `root`, as `read_class_list` reads it, background among them; where
    there is none, background and VOC's 20.

    Raises:
        PixelkinError: the list is faulty, or names a value that 8 bits do not hold.
    """
    path = root / CLASSES_FILE
    if not path.is_file():
        return ClassValues(dict(enumerate(("background", *VOC_CLASSES))))
    values = class_values(path)
    largest = max(values.names)
    if largest > IGNORE:
        raise PixelkinError(
            f"{path} names value {largest}: expected at most {IGNORE}, as VOC's maps have 8 bits; "
            "correct it"
        )
    return values


def voc_object_values(root: Path) -> ClassValues:
    """`voc_values` where there are objects: value 0 is their background.

    Raises:
        PixelkinError: the list is faulty, has no value 0, or nothing else.
    """
    values = voc_values(root)
    if 0 not in values.names or len(values.names) < 2:
        what = f"no value beside 0: {values.names[0]!r}" if 0 in values.names else "no value 0"
        raise PixelkinError(
            f"{root / CLASSES_FILE} lists {what}: expected background as 0 and the classes of "
            "objects after it; correct it"
        )
    return values


def _read_indices(path: Path, size_hw: tuple[int, ...]) -> Int64[np.ndarray, "h w"]:
    labels = read_indices(path, size_hw=size_hw)[1].astype(np.int64)
    # Objects that are too small or too hard to tell are void; an image may have no other.
    if not draws_unknown(path):
        refuse_binary(labels, path, remedy=_REMEDY)
    return labels


def read_sbd_instances(path: Path) -> tuple[Int64[np.ndarray, "h w"], Int64[np.ndarray, " n"]]:
    """Ids 0 … n of the pixels of an SBD file, and the classes 1 … 20 of ids 1 … n.

    Raises:
        PixelkinError: the file is no MATLAB file with such a `GTinst`.
    """

    def decode() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None:
        truth = loadmat(path, variable_names=["GTinst"]).get("GTinst")
        fields = {"Segmentation", "Categories"}
        if truth is None or not fields <= set(truth.dtype.names or ()):
            return None
        # A 1×1 struct: the zeros unwrap what MATLAB wraps.
        return truth["Segmentation"][0, 0], truth["Categories"][0, 0].ravel()

    found = decoded(path, decode, kind="MAT-file")
    if found is None or found[0].ndim != 2 or found[0].dtype.kind != "u":
        raise PixelkinError(
            f"{path} holds no GTinst with Segmentation of unsigned H×W and Categories; use a file "
            "of SBD's folder inst"
        )
    objects, classes = found[0].astype(np.int64), found[1].astype(np.int64)
    if objects.size and objects.max() > len(classes):
        raise PixelkinError(
            f"{path} holds id {objects.max()} and {len(classes)} categories: expected one for each "
            f"id; {_REMEDY}"
        )
    if ((classes < 1) | (classes > len(VOC_CLASSES))).any():
        raise PixelkinError(
            f"{path} holds categories {classes.tolist()}: expected 1 to {len(VOC_CLASSES)}; "
            f"{_REMEDY}"
        )
    return objects, classes


def _majority_classes(
    objects: Int64[np.ndarray, "h w"], classes: Int64[np.ndarray, "h w"]
) -> dict[int, int]:
    """Class of most pixels of each id, of those that have one; the lower class of equals."""
    known = (objects != 0) & (objects != IGNORE) & (classes != 0) & (classes != IGNORE)
    if not known.any():
        return {}
    counts = np.zeros((objects.max() + 1, classes[known].max() + 1), np.int64)
    np.add.at(counts, (objects[known], classes[known]), 1)
    return {int(i): int(counts[i].argmax()) for i in np.flatnonzero(counts.any(axis=1))}


def listed_names(folder: Path, split: str) -> list[str]:
    """Names in `<split>.txt` in `folder`, one a line; `PixelkinError` where there are none."""
    path = folder / f"{split}.txt"
    if not path.is_file():
        raise unknown_split(split, (one.stem for one in folder.glob("*.txt")), where=folder)
    names = decoded(path, lambda: path.read_text(encoding="utf-8").split(), kind="list of images")
    if not names or len(set(names)) < len(names):
        wrong = "the same image twice" if names else "no image"
        raise PixelkinError(f"{path} lists {wrong}: expected one name a line, each once; mend it")
    return names


def require_files(files: Mapping[str, tuple[Path, ...]], listed_in: Path) -> None:
    """Raise where a file of a name that `listed_in` lists is not there."""
    for name, paths in files.items():
        for path in paths:
            if not path.is_file():
                raise PixelkinError(
                    f"no file {path}: expected it as {listed_in} lists {name}; add the file or "
                    "remove the line"
                )
