"""BSDS500: natural photos, each cut into regions by several people.

Arbelaez, Maire, Fowlkes, Malik: Contour Detection and Hierarchical Image Segmentation, TPAMI 2011.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from scipy.io import loadmat

from pixelkin.data.reading import decoded, images_by_stem, read_image, require_folder
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, MAX_OBJECT_ID, Sample

_LAYOUT = "the BSDS500 layout: images/<split>/8049.jpg and groundTruth/<split>/8049.mat"


class Bsds:
    """One split, with the regions that one of the people drew.

    A region map has no background: labels are 1 … n everywhere. Regions above 254 become
    `IGNORE`; the sets have far fewer (127 at most in train).

    Args:
        root: folder that holds `images` and `groundTruth`.
        split: `"train"`, `"val"` or `"test"`.
        annotator: which person's map, from 0; every image has at least four.

    Raises:
        PixelkinError: a folder or a region map is missing or the split is unknown; on reading, a
            file is corrupt, sizes differ, or the image has fewer annotators.
    """

    names: list[str]

    def __init__(
        self, root: str | os.PathLike[str], split: str = "train", *, annotator: int = 0
    ) -> None:
        if annotator < 0:
            raise PixelkinError(f"annotator {annotator} is negative: expected 0 or more")
        images = require_folder(Path(root) / "images", _LAYOUT)
        truth = require_folder(Path(root) / "groundTruth", _LAYOUT)
        known = sorted(path.name for path in images.iterdir() if path.is_dir())
        if split not in known:
            raise unknown_split(split, known, where=images)
        self._annotator = annotator
        self._files = {
            stem: (image, truth / split / f"{stem}.mat")
            for stem, image in images_by_stem(images / split).items()
        }
        for image, mat in self._files.values():
            if not mat.is_file():
                raise PixelkinError(f"{image.name} has no region map: expected {mat}; add it")
        self.names = list(self._files)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image, mat = self._files[name]
        maps = read_region_maps(mat)
        if self._annotator >= len(maps):
            raise PixelkinError(
                f"{mat} has {len(maps)} annotators: expected one at {self._annotator}; "
                f"choose 0 to {len(maps) - 1}"
            )
        labels = maps[self._annotator]
        return Sample(read_image(image), np.where(labels > MAX_OBJECT_ID, IGNORE, labels), name)


def read_region_maps(path: Path) -> list[Int64[np.ndarray, "h w"]]:
    """The region map of each annotator, int64 (H, W), ids from 1.

    Raises:
        PixelkinError: the file is no MATLAB file with a `groundTruth` of region maps.
    """

    def decode() -> list[np.ndarray[Any, Any]]:
        # A 1×n cell array of 1×1 structs: the zeros unwrap what MATLAB wraps.
        cells = loadmat(path, variable_names=["groundTruth"])["groundTruth"]
        return [cell["Segmentation"][0, 0].astype(np.int64) for cell in cells.ravel()]

    return decoded(path, decode, kind="region map")
