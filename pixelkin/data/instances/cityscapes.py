"""Cityscapes: street scenes of 50 cities, every traffic participant with a mask.

Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from pixelkin.data.instances.instance_png import InstancesAndIgnore, MaskedStills, rles_by_id
from pixelkin.data.reading import read_indices, require_folder
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.structures import Instance

Annotation = Literal["gtFine", "gtCoarse"]

THING_IDS = {
    24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
    33: "bicycle",
}  # fmt: skip
"""Label ids of the eight classes whose instances are evaluated; their order is the categories'."""

VOID_IDS = frozenset({0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30})
"""Label ids that evaluation leaves out: unlabeled, ego vehicle, parking, trailer …"""

_LAST_LABEL = 33
COUNTED_ABOVE = 1000
"""Pixels of objects that somebody told apart are label id · this + a number."""
_IMAGE_END = "_leftImg8bit.png"
_LAYOUT = "the Cityscapes layout: leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png"


class Cityscapes(MaskedStills):
    """The images of a split (2,975 of train, 500 of val), names `<city>_<sequence>_<frame>`.

    A pixel of `…_instanceIds.png` (16 bits) is the label id times 1000 plus a running number where
    somebody told one object from another; these become instances, the pixel their `key`. Below
    1000 it is the label id itself: a group of one of the eight classes is a crowd, a pixel of
    `VOID_IDS` is `ignore`, all else is background; so are caravans and trailers one by one, as in
    the official evaluation.

    Args:
        root: folder that holds `leftImg8bit` and `gtFine`.
        split: `"train"` or `"val"`; the test split has no annotations.
        annotation: `"gtFine"`, or `"gtCoarse"` for the 19,998 coarse ones (split `"train_extra"`).

    Raises:
        PixelkinError: a folder or a mask is missing, or the split is unknown; on reading, a file
            is corrupt or no 16-bit index PNG, sizes differ, or a pixel is no Cityscapes id.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        annotation: Annotation = "gtFine",
    ) -> None:
        files = city_files(root, split, annotation=annotation, kind="instanceIds")
        super().__init__(files, tuple(THING_IDS.values()))

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        ids = read_instance_ids(mask, size_hw=size_hw)
        things = list(THING_IDS)
        instances = tuple(
            Instance(rle, things.index(label), label == number, str(number))
            for number, rle in rles_by_id(ids).items()
            if (label := number // COUNTED_ABOVE or number) in THING_IDS
        )
        void = np.isin(ids, list(VOID_IDS))
        return instances, rles_by_id(void.view(np.uint8)).get(1)


def city_files(
    root: str | os.PathLike[str], split: str, *, annotation: Annotation, kind: str
) -> dict[str, tuple[Path, Path]]:
    """Name → image and `…_<annotation>_<kind>.png`, of the images of a split, cities sorted.

    Raises:
        PixelkinError: a folder or a mask is missing, or the split or annotation is unknown.
    """
    if annotation not in get_args(Annotation):
        expected = " or ".join(map(repr, get_args(Annotation)))
        raise PixelkinError(f"annotation {annotation!r} is unknown: expected {expected}")
    images = require_folder(Path(root) / "leftImg8bit", _LAYOUT)
    masks = require_folder(Path(root) / annotation, f"{split}/<city>/…_{kind}.png")
    known = [path.name for path in images.iterdir() if path.is_dir()]
    if split not in known:
        raise unknown_split(split, known, where=images)
    files: dict[str, tuple[Path, Path]] = {}
    for image in sorted((images / split).glob(f"*/[!.]*{_IMAGE_END}")):
        name = image.name.removesuffix(_IMAGE_END)
        mask = masks / split / image.parent.name / f"{name}_{annotation}_{kind}.png"
        if not mask.is_file():
            raise PixelkinError(f"{image.name} has no mask: expected {mask}; add it")
        files[name] = (image, mask)
    if not files:
        raise PixelkinError(
            f"{images / split} holds no image: expected {_LAYOUT}; unpack them there, or give "
            "another split"
        )
    return files


def read_instance_ids(path: Path, *, size_hw: tuple[int, ...]) -> Int64[np.ndarray, "h w"]:
    """Pixels of an `instanceIds.png` as int64 (H, W): label id, or label id · 1000 + number.

    Raises:
        PixelkinError: the file is corrupt or no 16-bit index PNG, has another size, or holds what
            is no Cityscapes id.
    """
    mode, stored = read_indices(path, size_hw=size_hw)
    if not mode.startswith("I"):
        raise PixelkinError(
            f"{path} has 8 bits a pixel: expected 16, label id * 1000 + number; use the "
            "instanceIds.png that Cityscapes ships"
        )
    ids = stored.astype(np.int64)
    labels = np.where(ids >= COUNTED_ABOVE, ids // COUNTED_ABOVE, ids)
    # Only the labels from 24 on are numbered one by one.
    wrong = ids[(labels > _LAST_LABEL) | ((ids >= COUNTED_ABOVE) & (labels < min(THING_IDS)))]
    if wrong.size:
        raise PixelkinError(
            f"{path} holds id {wrong[0]}: expected 0 to {_LAST_LABEL}, or 24 to {_LAST_LABEL} "
            "times 1000 plus a number; use the instanceIds.png that Cityscapes ships"
        )
    return ids
