"""CVPPP leaf segmentation: rosette plants from above, every leaf with an id.

Minervini, Fischbach, Scharr, Tsaftaris: Finely-grained annotated datasets for image-based plant
phenotyping, Pattern Recognition Letters 2016.
"""

import os
from pathlib import Path

from pixelkin.data.instances.instance_png import InstancesAndIgnore, MaskedStills, index_instances
from pixelkin.data.reading import read_index_png, require_folder
from pixelkin.errors import PixelkinError

_LAYOUT = "the CVPPP layout: plant001_rgb.png and plant001_label.png"
_IMAGE_END = "_rgb.png"


class Cvppp(MaskedStills):
    """Images `plantNNN_rgb.png` with index masks `plantNNN_label.png`; an id's `key` is the id.

    Args:
        root: folder of both (`A1` has 128 plants), or the folder above, whose sub-folders' names
            then lead the names: `A1/plant001`.

    Raises:
        PixelkinError: the folder or a mask is missing (the test sets have none); on reading, a
            file is corrupt, sizes differ, or a mask is not an index PNG.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        base = require_folder(root, _LAYOUT)
        pattern = f"[!.]*{_IMAGE_END}"
        images = sorted(base.glob(pattern)) or sorted(base.glob(f"[!.]*/{pattern}"))
        if not images:
            raise PixelkinError(
                f"{base} holds no *{_IMAGE_END}: expected {_LAYOUT}; give the folder that holds "
                "the plants"
            )
        files: dict[str, tuple[Path, Path]] = {}
        for image in images:
            stem = image.name.removesuffix(_IMAGE_END)
            mask = image.with_name(f"{stem}_label.png")
            if not mask.is_file():
                raise PixelkinError(f"{image} has no mask: expected {mask.name} beside it; add it")
            files[image.with_name(stem).relative_to(base).as_posix()] = (image, mask)
        super().__init__(files, ("leaf",))

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        labels = read_index_png(mask, size_hw=size_hw)
        return index_instances(labels, mask, remedy="give every leaf its id, from 1")
