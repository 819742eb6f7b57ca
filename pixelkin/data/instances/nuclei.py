"""Data Science Bowl 2018: microscopy images with one PNG per nucleus.

Caicedo et al.: Nucleus segmentation across imaging experiments, Nature Methods 2019.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from pixelkin.data.instances.instance_png import rles_by_id
from pixelkin.data.reading import (
    IMAGE_SUFFIXES,
    decoded,
    images_by_stem,
    open_image,
    read_image,
    require_folder,
    require_index,
    require_size,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import Instance, InstanceSample

_LAYOUT = "the layout of DSB 2018: <id>/images/<id>.png and <id>/masks/*.png"


class Nuclei:
    """Folders `<id>/images/<id>.png` with `<id>/masks/*.png`, one mask (non-zero) per nucleus.

    Nuclei come in the order of the sorted names of their files, the stem of each its `key`; there
    is no upper limit, the crowded images hold over 300. A mask without a pixel gives no nucleus,
    and a `masks` folder without a file says that there is none in the image.

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
            raise PixelkinError(
                f"{self._root} holds no image folder: expected {_LAYOUT}; give the folder that "
                "holds the folders of the images"
            )
        for name in self.names:
            require_folder(self._root / name / "masks", _LAYOUT)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        folder = self._root / name
        image = read_image(self.image_file(index))
        # Formats other than PNG are refused when read; passing over them would lose nuclei.
        masks = sorted(
            path
            for path in (folder / "masks").iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        )
        nuclei = [_read_nucleus(path, size_hw=image.shape[:2]) for path in masks]
        return InstanceSample(image, tuple(one for one in nuclei if one is not None), name)

    def image_file(self, index: int) -> Path:
        """The one file in `images`; see `Source`."""
        folder = self._root / self.names[index]
        images = list(images_by_stem(folder / "images").values())
        if len(images) > 1:
            raise PixelkinError(f"{folder}/images holds {len(images)} images: expected one")
        return images[0]


def _read_nucleus(path: Path, *, size_hw: tuple[int, ...]) -> Instance | None:
    def decode() -> tuple[int, Bool[np.ndarray, "h columns"]]:
        with open_image(path) as image:
            require_index(path, image)
            require_size(path, (image.height, image.width), size_hw)
            # A nucleus fills few columns; nothing needs to look at the others.
            left, _, right, _ = image.getbbox() or (0, 0, 0, 0)
            return left, np.array(image.crop((left, 0, right, image.height))) != 0

    left, inside = decoded(path, decode, kind="mask")
    if not inside.size:
        return None
    rles = rles_by_id(inside.view(np.uint8), left=left, full_width=size_hw[1])
    return Instance(rles[1], key=path.stem)
