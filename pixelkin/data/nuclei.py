"""Data Science Bowl 2018: microscopy images with one PNG per nucleus.

Caicedo et al.: Nucleus segmentation across imaging experiments, Nature Methods 2019.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pixelkin.data.instance_png import (
    images_by_stem,
    read_image,
    read_index_png,
    require_folder,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample, nth_instance_id

_LAYOUT = "the layout of DSB 2018: <id>/images/<id>.png and <id>/masks/*.png"


class Nuclei:
    """Folders `<id>/images/<id>.png` with `<id>/masks/*.png`, one mask (non-zero) per nucleus.

    Nuclei are numbered by the sorted names of their files: 1 … 254, then 256 and on, since 255 is
    `IGNORE`. Labels are int64, there is no upper limit: the crowded images hold over 300. Where
    masks overlap, the smaller nucleus lies on top.

    Args:
        root: folder of such folders.

    Raises:
        PixelkinError: a folder is missing (the test stages have no masks); on reading, a file is
            corrupt or sizes differ.
    """

    names: list[str]

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

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        folder = self._root / name
        images = list(images_by_stem(folder / "images").values())
        if len(images) > 1:
            raise PixelkinError(f"{folder}/images holds {len(images)} images: expected one")
        image = read_image(images[0])
        size_hw = (image.shape[0], image.shape[1])
        return Sample(image, _paint_masks(folder / "masks", size_hw=size_hw), name)


def _paint_masks(folder: Path, *, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
    pixels_of: list[Int64[np.ndarray, " n"]] = []
    for path in sorted(folder.glob("[!.]*.png")):
        mask = read_index_png(path)
        if mask.shape != size_hw:
            raise PixelkinError(
                f"{path} is {mask.shape[1]}×{mask.shape[0]}: expected {size_hw[1]}×{size_hw[0]} "
                "as its image; make them the same size"
            )
        pixels_of.append(np.flatnonzero(mask))
    labels = np.zeros(size_hw, np.int64)
    for index in sorted(range(len(pixels_of)), key=lambda i: -len(pixels_of[i])):
        labels.flat[pixels_of[index]] = nth_instance_id(index)
    return labels
