"""Penn-Fudan pedestrians: 170 street photos, every upright person with a mask.

Wang, Shi, Song, Shen: Object Detection Combining Recognition and Segmentation, ACCV 2007.
"""

import os
from pathlib import Path

from pixelkin.data.instances.instance_png import InstancePng
from pixelkin.data.reading import require_folder


class PennFudan(InstancePng):
    """Photos `PNGImages/<name>.png` with index masks `PedMasks/<name>_mask.png`.

    Args:
        root: folder that holds both.

    Raises:
        PixelkinError: a folder or a photo's mask is missing; on reading, a file is corrupt, sizes
            differ, or a mask is not an index PNG.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        layout = "the Penn-Fudan layout: PNGImages/<name>.png and PedMasks/<name>_mask.png"
        super().__init__(
            require_folder(Path(root) / "PNGImages", layout),
            require_folder(Path(root) / "PedMasks", layout),
            mask_suffix="_mask",
            class_name="pedestrian",
        )
