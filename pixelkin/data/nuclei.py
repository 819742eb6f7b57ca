"""Data Science Bowl 2018: microscopy images with one PNG per nucleus.

Caicedo et al.: Nucleus segmentation across imaging experiments, Nature Methods 2019.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pixelkin.data.instance_png import (
    images_by_stem,
    read_image,
    read_index_png,
    require_folder,
    require_size,
    rles_by_id,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import Instance, InstanceSample

_LAYOUT = "the layout of DSB 2018: <id>/images/<id>.png and <id>/masks/*.png"


class Nuclei:
    """Folders `<id>/images/<id>.png` with `<id>/masks/*.png`, one mask (non-zero) per nucleus.

    Nuclei come in the order of the sorted names of their files, the stem of each its `key`; there
    is no upper limit, the crowded images hold over 300. A mask without a pixel gives no nucleus.

    Args:
        root: folder of such folders.

    Raises:
        PixelkinError: a folder is missing (the test stages have no masks); on reading, a file is
            corrupt or sizes differ.
    """

    names: list[str]
    class_names: tuple[str, ...] = ("nucleus",)

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = require_folder(root, _LAYOUT)
        self.names = sorted(
            path.parent.name for path in self._root.glob("[!.]*/images") if path.is_dir()
        )
        if not self.names:
            raise PixelkinError(f"{self._root} holds no image folder: expected {_LAYOUT}")
        for name in self.names:
            require_folder(self._root / name / "masks", _LAYOUT)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        folder = self._root / name
        images = list(images_by_stem(folder / "images").values())
        if len(images) > 1:
            raise PixelkinError(f"{folder}/images holds {len(images)} images: expected one")
        image = read_image(images[0])
        return InstanceSample(image, tuple(_read_nuclei(folder / "masks", image)), name)


def _read_nuclei(folder: Path, image: UInt8[np.ndarray, "h w 3"]) -> Iterator[Instance]:
    for path in sorted(folder.glob("[!.]*.png")):
        mask = read_index_png(path)
        require_size(path, mask, image)
        inside = np.flatnonzero(mask.any(axis=0))
        if not len(inside):
            continue
        # A nucleus fills few columns; the counts need no look at the others.
        left = int(inside[0])
        columns = (mask[:, left : inside[-1] + 1] != 0).view(np.uint8)
        yield Instance(rles_by_id(columns, left=left, full_width=mask.shape[1])[1], key=path.stem)
