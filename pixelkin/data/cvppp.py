"""CVPPP leaf segmentation: rosette plants from above, every leaf with an id.

Minervini, Fischbach, Scharr, Tsaftaris: Finely-grained annotated datasets for image-based plant
phenotyping, Pattern Recognition Letters 2016.
"""

import os
from pathlib import Path

from pixelkin.data.instance_png import (
    index_instances,
    read_image,
    read_index_png,
    require_folder,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import InstanceSample

_LAYOUT = "the CVPPP layout: plant001_rgb.png and plant001_label.png"
_IMAGE_END = "_rgb.png"


class Cvppp:
    """Images `plantNNN_rgb.png` with index masks `plantNNN_label.png`; an id's `key` is the id.

    Args:
        root: folder of both (`A1` has 128 plants), or the folder above, whose sub-folders' names
            then lead the names: `A1/plant001`.

    Raises:
        PixelkinError: the folder or a mask is missing (the test sets have none); on reading, a
            file is corrupt, sizes differ, or a mask is not an index PNG.
    """

    names: list[str]
    class_names: tuple[str, ...] = ("leaf",)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = require_folder(root, _LAYOUT)
        pattern = f"[!.]*{_IMAGE_END}"
        images = sorted(base.glob(pattern)) or sorted(base.glob(f"[!.]*/{pattern}"))
        if not images:
            raise PixelkinError(f"{base} holds no *{_IMAGE_END}: expected {_LAYOUT}")
        self._files: dict[str, tuple[Path, Path]] = {}
        for image in images:
            stem = image.name.removesuffix(_IMAGE_END)
            mask = image.with_name(f"{stem}_label.png")
            if not mask.is_file():
                raise PixelkinError(f"{image} has no mask: expected {mask.name} beside it; add it")
            self._files[image.with_name(stem).relative_to(base).as_posix()] = (image, mask)
        self.names = list(self._files)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        image_path, mask = self._files[name]
        image = read_image(image_path)
        labels = read_index_png(mask, size_hw=image.shape[:2])
        remedy = "give every leaf its id, from 1"
        leaves, ignore = index_instances(labels, mask, remedy=remedy)
        return InstanceSample(image, leaves, name, ignore)
