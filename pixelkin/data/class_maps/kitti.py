"""KITTI's semantic benchmark: 200 annotated street scenes with the labels of Cityscapes.

Alhaija, Mustikovela, Mescheder, Geiger, Rother: Augmented Reality Meets Computer Vision, IJCV 2018
(the annotations); Menze, Geiger: Object Scene Flow for Autonomous Vehicles, CVPR 2015 (images).
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64

from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES, train_ids
from pixelkin.data.class_maps.files import REMEDY, ClassMapFiles, paired_files, read_byte_indices
from pixelkin.data.class_maps.object_files import all_or_none
from pixelkin.data.instances.cityscapes import THING_IDS, VOID_IDS
from pixelkin.data.instances.instance_png import InstancesAndIgnore, MaskedStills, rles_by_id
from pixelkin.data.reading import image_size_hw, read_indices, refuse_binary, require_folder
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Instance

_LAYOUT = "KITTI's data_semantics: training/image_2/<name>.png, semantic/ and instance/ beside it"
_PER_LABEL = 256


KITTI_AVERAGE_PX: Mapping[str, float] = MappingProxyType(
    {
        "person": 872.750000,
        "rider": 890.000000,
        "car": 3310.775879,
        "truck": 2062.683105,
        "bus": 3248.315674,
        "train": 11109.500000,
        "motorcycle": 1091.125000,
        "bicycle": 912.851074,
    }
)
"""Average pixels of one object of each class in the training images, as the development kit of
the benchmark lists them."""


class KittiSemantic(ClassMapFiles):
    """The 200 training images, from `semantic/`; their sizes differ, 1242×375 is the usual one.

    KITTI has no official split of them: see `split_source`. Where `instance/` lies beside, objects
    are told apart too.

    Args:
        root: folder that holds `training`, or `training` itself.

    Raises:
        PixelkinError: a folder or a map is missing; on reading, a file is corrupt or no 8-bit
            index PNG, sizes differ, a pixel is no label id of Cityscapes, or a map holds nothing
            but 0 and 255.
    """

    average_px: Mapping[str, float] | None = KITTI_AVERAGE_PX

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(_files(root, "semantic"), CITYSCAPES_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        # As in Cityscapes, whose ids these are.
        refuse_binary(values, path, remedy=REMEDY)
        return train_ids(values, path)

    @cached_property
    def _object_files(self) -> dict[str, Path]:
        maps = {name: path for name, (_, path) in self._files.items()}
        return all_or_none({n: p.parent.parent / "instance" / p.name for n, p in maps.items()})

    def object_ids(self, index: int) -> Int64[np.ndarray, "h w"] | None:
        """Pixels of `instance/` that have a number, 0 for all others; see `ObjectIds`.

        Raises:
            PixelkinError: the file is corrupt or not of KITTI, or stills with and without it are
                mixed.
        """
        if not self._object_files:
            return None
        image, _ = self._files[name := self.names[index]]
        path = self._object_files[name]
        labels, numbers = read_kitti_instances(path, size_hw=image_size_hw(image))
        return np.where(numbers > 0, labels * _PER_LABEL + numbers, 0)


class KittiInstances(MaskedStills):
    """The instances of the 200 training images, from the 16-bit PNGs of `instance/`.

    A pixel is label id · 256 + number. Number 0 of one of the eight classes with instances is a
    group nobody told apart, a crowd; what Cityscapes leaves out is `ignore`, all else background.

    Args:
        root: folder that holds `training`, or `training` itself.

    Raises:
        PixelkinError: a folder or a mask is missing; on reading, a file is corrupt or no 16-bit
            index PNG, sizes differ, or a pixel is no label id of Cityscapes.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        super().__init__(_files(root, "instance"), tuple(THING_IDS.values()))

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        labels, numbers = read_kitti_instances(mask, size_hw=size_hw)
        things = list(THING_IDS)
        single = np.where(np.isin(labels, things), labels * _PER_LABEL + numbers, 0)
        instances = tuple(
            Instance(rle, things.index(pixel // _PER_LABEL), not pixel % _PER_LABEL, str(pixel))
            for pixel, rle in rles_by_id(single).items()
        )
        void = np.isin(labels, [*VOID_IDS, IGNORE])
        return instances, rles_by_id(void.view(np.uint8)).get(1)


def read_kitti_instances(
    path: Path, *, size_hw: tuple[int, ...]
) -> tuple[Int64[np.ndarray, "h w"], Int64[np.ndarray, "h w"]]:
    """Label ids, 0 … 33 or 255 for −1, and numbers of instances, 0 … 255, each int64 (H, W).

    Raises:
        PixelkinError: the file is corrupt or no 16-bit index PNG, has another size, or holds what
            is no label id of Cityscapes.
    """
    mode, stored = read_indices(path, size_hw=size_hw)
    if not mode.startswith("I"):
        raise PixelkinError(
            f"{path} has 8 bits a pixel: expected 16, label id * {_PER_LABEL} + number; {REMEDY}"
        )
    labels, numbers = np.divmod(stored.astype(np.int64), _PER_LABEL)
    train_ids(labels, path)
    return labels, numbers


def _files(root: str | os.PathLike[str], kind: str) -> dict[str, tuple[Path, Path]]:
    base = require_folder(root, _LAYOUT)
    training = base / "training" if (base / "training").is_dir() else base
    return paired_files(training / "image_2", training / kind, layout=_LAYOUT)
