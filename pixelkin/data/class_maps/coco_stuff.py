"""COCO-Stuff: the images of COCO with a class for every pixel, 80 of things and 91 of stuff.

Caesar, Uijlings, Ferrari: COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018.
"""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pixelkin.data.class_maps.files import (
    ClassMapFiles,
    class_table,
    classes_of,
    paired_files,
    read_byte_indices,
)
from pixelkin.data.reading import require_folder
from pixelkin.data.splits import unknown_split
from pixelkin.structures import IGNORE

COCO_STUFF_THINGS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 classes of things in the order of their ids, which have gaps."""

COCO_STUFF_STUFF = (
    "banner", "blanket", "branch", "bridge", "building-other", "bush", "cabinet", "cage",
    "cardboard", "carpet", "ceiling-other", "ceiling-tile", "cloth", "clothes", "clouds",
    "counter", "cupboard", "curtain", "desk-stuff", "dirt", "door-stuff", "fence", "floor-marble",
    "floor-other", "floor-stone", "floor-tile", "floor-wood", "flower", "fog", "food-other",
    "fruit", "furniture-other", "grass", "gravel", "ground-other", "hill", "house", "leaves",
    "light", "mat", "metal", "mirror-stuff", "moss", "mountain", "mud", "napkin", "net", "paper",
    "pavement", "pillow", "plant-other", "plastic", "platform", "playingfield", "railing",
    "railroad", "river", "road", "rock", "roof", "rug", "salad", "sand", "sea", "shelf",
    "sky-other", "skyscraper", "snow", "solid-other", "stairs", "stone", "straw",
    "structural-other", "table", "tent", "textile-other", "towel", "tree", "vegetable",
    "wall-brick", "wall-concrete", "wall-other", "wall-panel", "wall-stone", "wall-tile",
    "wall-wood", "water-other", "waterdrops", "window-blind", "window-other", "wood",
)  # fmt: skip
"""The 91 classes of stuff, ids 92 to 182."""

COCO_UNUSED_IDS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
"""Ids of 1 … 182 that no annotation has: classes that were planned and dropped."""

_LAYOUT = (
    "the COCO-Stuff layout: train2017/<name>.jpg or images/train2017/<name>.jpg, and "
    "stuffthingmaps/train2017/<name>.png or annotations/train2017/<name>.png"
)
_LAST_ID = 182

COCO_STUFF_IDS = tuple(n for n in range(1, _LAST_ID + 1) if n not in COCO_UNUSED_IDS)
"""The 171 ids in use, in the order of the classes."""

_TABLE = class_table((number - 1 for number in COCO_STUFF_IDS), ignored=(IGNORE,))


class CocoStuff(ClassMapFiles):
    """The images of a split with their maps of `stuffthingmaps` (118,287 of train2017, 5,000 of
    val2017).

    A pixel of the PNG is the id minus 1, 0 … 181, or 255 for void. The 171 ids that are in use
    become 0 … 170 in their order: 80 things, then 91 kinds of stuff.

    Args:
        root: folder that holds the images in `<split>` or `images/<split>`, and the maps in
            `stuffthingmaps/<split>` or `annotations/<split>`.
        split: `"train2017"` or `"val2017"`, or another that was put there.

    Raises:
        PixelkinError: a folder or a map is missing; on reading, a file is corrupt or no 8-bit
            index PNG, sizes differ, or a pixel is no id in use.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train2017") -> None:
        base = require_folder(root, _LAYOUT)
        maps_root = _first(base / "stuffthingmaps", base / "annotations")
        require_folder(maps_root, _LAYOUT)
        known = [path.name for path in maps_root.iterdir() if path.is_dir()]
        if split not in known:
            raise unknown_split(split, known, where=maps_root)
        images = _first(base / split, base / "images" / split)
        files = paired_files(images, maps_root / split, layout=_LAYOUT)
        super().__init__(files, COCO_STUFF_THINGS + COCO_STUFF_STUFF)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        # Nothing but 0 and 255 is no fault: a person before what nobody annotated. `check` warns.
        expected = f"0 to {_LAST_ID - 1} without the {len(COCO_UNUSED_IDS)} gaps, or {IGNORE}"
        return classes_of(values, _TABLE, path, expected=expected)


def _first(*folders: Path) -> Path:
    return next((folder for folder in folders if folder.is_dir()), folders[-1])
