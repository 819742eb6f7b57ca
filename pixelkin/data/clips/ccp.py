"""Clothing Co-Parsing: street photos with the garment of every pixel.

Yang, Luo, Lin: Clothing Co-Parsing by Joint Image Segmentation and Labeling, CVPR 2014.
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, UInt8
from scipy.io import loadmat

from pixelkin.data.reading import decoded, read_image, require_folder, require_size
from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample

Target = Literal["person", "garments"]

CLASS_COUNT = 59
"""Classes including 0, which is null: whatever is not on the person."""


class Ccp:
    """The photos that have pixel labels (`annotations/pixel-level/<n>.mat`, `photos/<n>.jpg`).

    Args:
        root: folder that holds `photos` and `annotations`.
        target: `"person"` gives ONE instance, every pixel that is not null: the silhouette with
            skin, hair and what is carried. `"garments"` gives one instance per class present,
            1 … k in ascending order of the class; the two shoes of a pair are one instance.

    Raises:
        PixelkinError: a folder is missing or `target` is unknown; on reading, a photo is missing,
            a file is corrupt or sizes differ.
    """

    names: list[str]

    def __init__(self, root: str | os.PathLike[str], *, target: Target = "garments") -> None:
        if target not in get_args(Target):
            raise PixelkinError(f"target {target!r} is unknown: expected 'person' or 'garments'")
        base = Path(root)
        layout = "the CCP layout: photos/0001.jpg and annotations/pixel-level/0001.mat"
        self._photos = require_folder(base / "photos", layout)
        self._annotations = require_folder(base / "annotations" / "pixel-level", layout)
        self._target = target
        self.names = sorted(path.stem for path in self._annotations.glob("[!.]*.mat"))
        if not self.names:
            raise PixelkinError(
                f"{self._annotations} holds no .mat file: expected {layout}; give the folder that "
                "holds photos and annotations"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        path = self._annotations / f"{name}.mat"
        image, classes = read_image(self._photos / f"{name}.jpg"), read_classes(path)
        require_size(path, classes.shape, image.shape[:2])
        labels: Int64[np.ndarray, "h w"]
        if self._target == "person":
            labels = (classes != 0).astype(np.int64)
        else:
            present = np.unique(classes[classes != 0])
            instance_of_class = np.zeros(CLASS_COUNT, np.int64)
            instance_of_class[present] = np.arange(1, len(present) + 1)
            labels = instance_of_class[classes]
        return Sample(image, labels, name)


def read_classes(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Class of every pixel, uint8 (H, W), 0 … 58 with 0 = null.

    Raises:
        PixelkinError: the file is no MATLAB file with a uint8 `groundtruth` of such classes.
    """
    content = decoded(path, lambda: loadmat(path, variable_names=["groundtruth"]), kind="MAT-file")
    classes = content.get("groundtruth")
    if not (isinstance(classes, np.ndarray) and classes.ndim == 2 and classes.dtype == np.uint8):
        raise PixelkinError(f"{path} holds no groundtruth of uint8 H×W; use CCP's pixel-level file")
    if classes.size and classes.max() >= CLASS_COUNT:
        raise PixelkinError(
            f"{path} holds class {classes.max()}: expected 0 to {CLASS_COUNT - 1}, CCP's classes; "
            "use CCP's pixel-level file"
        )
    return classes
