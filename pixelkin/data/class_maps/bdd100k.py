"""BDD100K: street scenes of four cities; classes, drivable area, lane marks and whole scenes.

Yu, Chen, Wang, Xian, Chen, Liu, Madhavan, Darrell: BDD100K, CVPR 2020. The encodings are those of
https://doc.bdd100k.com/format.html.
"""

import os
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES
from pixelkin.data.class_maps.files import (
    REMEDY,
    ClassMapFiles,
    class_table,
    classes_of,
    paired_files,
    read_byte_indices,
)
from pixelkin.data.reading import (
    read_colour_png,
    refuse_binary,
    require_folder,
)
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Images = Literal["10k", "100k"]
LaneTarget = Literal["category", "style", "direction"]

DRIVABLE_CLASSES = ("direct", "alternative", "background")

LANE_CLASSES: dict[LaneTarget, tuple[str, ...]] = {
    "category": (
        "crosswalk", "double other", "double white", "double yellow", "road curb", "single other",
        "single white", "single yellow", "background",
    ),
    "style": ("solid", "dashed", "background"),
    "direction": ("parallel", "vertical", "background"),
}  # fmt: skip
"""Classes of each target of the lane marks; background is the last."""

PANOPTIC_CLASSES = (
    "dynamic", "ego vehicle", "ground", "static", "parking", "rail track", "road", "sidewalk",
    "bridge", "building", "fence", "garage", "guard rail", "tunnel", "wall", "banner", "billboard",
    "lane divider", "parking sign", "pole", "polegroup", "street light", "traffic cone",
    "traffic device", "traffic light", "traffic sign", "traffic sign frame", "terrain",
    "vegetation", "sky", "person", "rider", "bicycle", "bus", "car", "caravan", "motorcycle",
    "trailer", "train", "truck",
)  # fmt: skip
"""The 40 of panoptic segmentation, in the order of their numbers, which start at 1."""

_LAYOUT = "BDD100K: images/{10k,100k}/<split>/<name>.jpg and labels/<task>/{masks,bitmasks}/<split>"

# Where each target lies in a lane byte: its lowest bit, and how many bits it has.
_LANE_BITS: dict[LaneTarget, tuple[int, int]] = {
    "category": (0, 3),
    "style": (4, 1),
    "direction": (5, 1),
}
_LANE_BACKGROUND = 1 << 3
_LANE_USED = 0b111111
_MOST_CROSSWALK = 0.1
"""Share of an image that lines of crosswalks, some pixels wide, stay far below."""

_SEMANTIC = class_table(range(len(CITYSCAPES_CLASSES)), ignored=(IGNORE,))
_DRIVABLE = class_table(range(len(DRIVABLE_CLASSES)), ignored=(IGNORE,))
_PANOPTIC = class_table(range(1, len(PANOPTIC_CLASSES) + 1), ignored=(0,))


class BddSemantic(ClassMapFiles):
    """The 10k images of a split with the 19 classes of Cityscapes; 255 is `IGNORE`.

    Args:
        root: folder that holds `images` and `labels`.
        split: `"train"` (7,000) or `"val"` (1,000).

    Raises:
        PixelkinError: a folder or a map is missing, or the split is unknown; on reading, a file
            is corrupt or no 8-bit index PNG, sizes differ, or a pixel holds another value.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        super().__init__(bdd_files(root, split, "10k", "sem_seg/masks"), CITYSCAPES_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        # Nothing but 0 and 255 is no fault: a road at night, all else unknown. `check` warns.
        return classes_of(values, _SEMANTIC, path, expected=f"0 to 18 and {IGNORE}")


class BddDrivable(ClassMapFiles):
    """The 100k images of a split with the area to drive on: 0 direct, 1 alternative, 2 background.

    Args:
        root: folder that holds `images` and `labels`.
        split: `"train"` (70,000) or `"val"` (10,000).

    Raises:
        PixelkinError: as `BddSemantic` does.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        super().__init__(bdd_files(root, split, "100k", "drivable/masks"), DRIVABLE_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        # Every scene has background, class 2.
        refuse_binary(values, path, remedy=REMEDY)
        return classes_of(values, _DRIVABLE, path, expected=f"0 to 2 and {IGNORE}")


class BddLanes(ClassMapFiles):
    """The 100k images of a split with one target of their lane marks, background the last class.

    Args:
        root: folder that holds `images` and `labels`.
        split: `"train"` (70,000) or `"val"` (10,000).
        target: `"category"` (8 classes), `"style"` (2) or `"direction"` (2).

    Raises:
        PixelkinError: as `BddSemantic` does; the target is unknown; or on reading, a map holds
            nothing but 0 and 255, and too many 0 for lines.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        target: LaneTarget = "category",
    ) -> None:
        if target not in get_args(LaneTarget):
            expected = ", ".join(map(repr, get_args(LaneTarget)))
            raise PixelkinError(f"target {target!r} is unknown: expected one of {expected}")
        super().__init__(bdd_files(root, split, "100k", "lane/masks"), LANE_CLASSES[target])
        self._target: LaneTarget = target

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        _refuse_binary_lanes(values, path)
        return lane_labels(values, self._target, path)


class BddPanopticSemantic(ClassMapFiles):
    """The 10k images of a split with the 40 classes of panoptic segmentation; 0 is `IGNORE`.

    Args:
        root: folder that holds `images` and `labels`.
        split: `"train"` (7,000) or `"val"` (1,000).

    Raises:
        PixelkinError: as `BddSemantic` does, of an RGBA PNG.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        super().__init__(bdd_files(root, split, "10k", "pan_seg/bitmasks"), PANOPTIC_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        categories = read_bitmask(path, size_hw=size_hw)[..., 0]
        expected = f"categories 0 to {len(PANOPTIC_CLASSES)} in R"
        return classes_of(categories, _PANOPTIC, path, expected=expected)


def _lane_class(byte: int, target: LaneTarget) -> int:
    if byte & _LANE_BACKGROUND:
        return len(LANE_CLASSES[target]) - 1
    low, width = _LANE_BITS[target]
    return byte >> low & (1 << width) - 1


# Of the bytes with bits 6 and 7 the data set has 255 alone.
_LANES = {
    target: class_table(
        {byte: _lane_class(byte, target) for byte in (*range(_LANE_USED + 1), IGNORE)}
    )
    for target in LANE_CLASSES
}


def _refuse_binary_lanes(values: Integer[np.ndarray, "h w"], path: Path) -> None:
    """Raise where 0, a crosswalk, is the ground of a mask, and 255, background, is its object.

    255 alone is an image without lane marks, and some pixels of 0 in it are a crosswalk alone.
    """
    if np.isin(values, (0, IGNORE)).all() and (values == 0).mean() > _MOST_CROSSWALK:
        raise PixelkinError(
            f"{path} holds nothing but 0 and {IGNORE}, and 0, a crosswalk, in "
            f"{(values == 0).mean():.0%} of its pixels: expected lane marks on {IGNORE}, the "
            "background; use the files of labels/lane/masks"
        )


def lane_labels(
    values: Integer[np.ndarray, "h w"], target: LaneTarget, path: Path
) -> Int64[np.ndarray, "h w"]:
    """Classes of one target of lane bytes: bits 0–2 category, 3 background, 4 style, 5 direction.

    Where bit 3 is set, as in 255, the pixel is background whatever else the byte says.

    Raises:
        PixelkinError: a byte other than 255 has one of the two bits that are not used; names
            `path`.
    """
    expected = f"bytes of lane marks, 0 to {_LANE_USED}, or {IGNORE}"
    remedy = "use the files of labels/lane/masks"
    return classes_of(values, _LANES[target], path, expected=expected, remedy=remedy)


def lane_bytes(
    category: Integer[np.ndarray, "h w"],
    style: Integer[np.ndarray, "h w"],
    direction: Integer[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w"]:
    """Lane bytes of the three targets, as results are written; 255 where the category has none.

    Style and direction that are background on a lane mark become 0, solid and parallel.
    """
    style, direction = (np.where(one == 2, 0, one) for one in (style, direction))
    packed = category | style << _LANE_BITS["style"][0] | direction << _LANE_BITS["direction"][0]
    background = category == len(LANE_CLASSES["category"]) - 1
    return np.where(background, IGNORE, packed).astype(np.uint8)


def read_bitmask(path: Path, *, size_hw: tuple[int, ...]) -> UInt8[np.ndarray, "h w 4"]:
    """The four bytes of a bitmask: category, attributes, and the two of the id.

    Raises:
        PixelkinError: the file is missing, corrupt, no RGBA PNG or of another size.
    """
    remedy = f"(category, attributes, id); {REMEDY}"
    return read_colour_png(path, mode="RGBA", what="bitmask", remedy=remedy, size_hw=size_hw)


def bdd_files(
    root: str | os.PathLike[str], split: str, images: Images, labels: str
) -> dict[str, tuple[Path, Path]]:
    """Name → image and map of `labels/<labels>/<split>`, of the images of a split.

    Raises:
        PixelkinError: a folder or a map is missing, or the split is unknown.
    """
    base = Path(root)
    pictures = require_folder(base / "images" / images, _LAYOUT)
    maps = require_folder(base / "labels" / labels, _LAYOUT)
    known = [path.name for path in maps.iterdir() if path.is_dir()]
    if split not in known:
        raise unknown_split(split, known, where=maps)
    return paired_files(pictures / split, maps / split, layout=_LAYOUT)
