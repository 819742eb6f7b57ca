"""CamVid: 701 frames of drives through Cambridge, 32 classes, 11 of them in most experiments.

Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video, PRL 2009 (the data set).
Badrinarayanan, Kendall, Cipolla: SegNet, TPAMI 2017 (the version of 480×360, 367 / 101 / 233).
"""

import os
import re
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Int64

from pixelkin.data.class_maps.files import (
    REMEDY,
    ClassMapFiles,
    class_table,
    classes_of,
    paired_files,
    read_byte_indices,
)
from pixelkin.data.reading import (
    decoded,
    read_colour_png,
    refuse_binary,
    require_folder,
)
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

ClassCount = Literal[11, 32]

CAMVID_CLASSES = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
    "Pedestrian", "Bicyclist",
)  # fmt: skip
"""The eleven, in the order of SegNet's indices; its index 11 is void."""

_VOID = 11

CAMVID_COLOURS = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}
"""Colours of the 32 classes in `_L.png`, in the order of the data set's own list."""

CAMVID_GROUPS = {
    "Sky": ("Sky",),
    "Building": ("Building", "Bridge", "Wall", "Tunnel", "Archway"),
    "Pole": ("Column_Pole", "TrafficCone"),
    "Road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "Pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "Tree": ("Tree", "VegetationMisc"),
    "SignSymbol": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "Fence": ("Fence",),
    "Car": ("Car", "SUVPickupTruck", "Truck_Bus", "Train", "OtherMoving"),
    "Pedestrian": ("Pedestrian", "Child", "CartLuggagePram", "Animal"),
    "Bicyclist": ("Bicyclist", "MotorcycleScooter"),
}
"""What of the 32 each of the eleven gathers, as in MATLAB's SegNet example; Void is left out."""

_SEGNET_LAYOUT = "SegNet's CamVid: <split>/<name>.png and <split>annot/<name>.png"
_RGB_LAYOUT = (
    "CamVid as published: 701_StillsRaw_full/<name>.png, LabeledApproved_full/<name>_L.png"
)
_IMAGES, _MASKS = "701_StillsRaw_full", "LabeledApproved_full"

_ELEVEN = class_table(range(_VOID), ignored=(_VOID, IGNORE))


class CamVid(ClassMapFiles):
    """SegNet's version of a split: index PNGs of 480×360, 11 classes, void (11 or 255) ignored.

    Args:
        root: folder that holds `<split>` and `<split>annot`.
        split: `"train"`, `"val"` or `"test"`.

    Raises:
        PixelkinError: a folder or a map is missing, or the split is unknown; on reading, a file
            is corrupt or no 8-bit index PNG, sizes differ, a pixel holds another value, or a map
            nothing but 0 and 255.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train") -> None:
        base = require_folder(root, _SEGNET_LAYOUT)
        known = [path.name.removesuffix("annot") for path in base.glob("*annot") if path.is_dir()]
        if split not in known:
            raise unknown_split(split, known, where=base)
        files = paired_files(base / split, base / f"{split}annot", layout=_SEGNET_LAYOUT)
        super().__init__(files, CAMVID_CLASSES)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        values = read_byte_indices(path, size_hw=size_hw)
        refuse_binary(values, path, remedy=REMEDY)
        return classes_of(values, _ELEVEN, path, expected=f"0 to 10, or {_VOID} or {IGNORE} (void)")


class CamVidRgb(ClassMapFiles):
    """The version as published: 32 classes as colours, 960×720, maps named `<name>_L.png`.

    Args:
        root: folder that holds `701_StillsRaw_full` and `LabeledApproved_full`; or a folder with
            `<split>` and `<split>_labels`.
        split: a folder as above, else a list `<split>.txt` in `root`, a name or SegNet's pair of
            paths a line; None takes all frames, and is right for the layout as published only.
        classes: 11 gathers the classes as SegNet does, `CAMVID_GROUPS`; 32 keeps the data set's
            own, `CAMVID_COLOURS`, of which Void too is `IGNORE` and nobody's label.
        images: folder of the images, where it has another name.
        masks: folder of the maps, where it has another name.

    Raises:
        PixelkinError: a folder, a list or a map is missing, the split or `classes` is unknown; on
            reading, a file is corrupt or has no RGB, sizes differ, or a colour is no class's.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str | None = None,
        *,
        classes: ClassCount = 11,
        images: Path | None = None,
        masks: Path | None = None,
    ) -> None:
        if classes not in get_args(ClassCount):
            raise PixelkinError(f"classes is {classes!r}: expected 11 or 32")
        base = require_folder(root, _RGB_LAYOUT)
        folders = images or base / _IMAGES, masks or base / _MASKS
        listed = None
        if split is not None:
            if not (images or masks) and (base / f"{split}_labels").is_dir():
                folders = base / split, base / f"{split}_labels"
            else:
                listed = _listed(base, split)
        files = paired_files(*folders, mask_suffix="_L", layout=_RGB_LAYOUT)
        if listed is not None:
            files = _chosen(files, listed, base / f"{split}.txt")
        names = CAMVID_CLASSES if classes == 11 else tuple(CAMVID_COLOURS)
        super().__init__(files, names)
        self._table = colour_table(classes)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        labels: Int64[np.ndarray, "h w"] = self._table[read_colour_labels(path, size_hw=size_hw)]
        return labels


def colour_table(classes: ClassCount = 11) -> Int64[np.ndarray, " n"]:
    """Class of each index into `CAMVID_COLOURS`, `IGNORE` for Void."""
    gathered = {name: index for index, name in enumerate(CAMVID_COLOURS)}
    if classes == 11:
        for index, group in enumerate(CAMVID_CLASSES):
            gathered |= dict.fromkeys(CAMVID_GROUPS[group], index)
    gathered["Void"] = IGNORE
    return np.array(list(gathered.values()))


def read_colour_labels(path: Path, *, size_hw: tuple[int, ...]) -> Int64[np.ndarray, "h w"]:
    """Index into `CAMVID_COLOURS` of every pixel of an `_L.png`, int64 (H, W).

    Raises:
        PixelkinError: the file is missing, corrupt, no RGB PNG or of another size, or holds a
            colour that is no class's; names the colour and where it is first.
    """
    remedy = f"of CamVid's colours; {REMEDY}"
    rgb = read_colour_png(path, mode="RGB", what="colour map", remedy=remedy, size_hw=size_hw)
    found, inverse = np.unique(_packed(rgb), return_inverse=True)
    known = {int(_packed(np.array(colour))): n for n, colour in enumerate(CAMVID_COLOURS.values())}
    indices = np.array([known.get(int(packed), -1) for packed in found], np.int64)
    labels: Int64[np.ndarray, "h w"] = indices[inverse.reshape(rgb.shape[:2])]
    if (indices < 0).any():
        y, x = np.argwhere(labels < 0)[0]
        raise PixelkinError(
            f"{path} has the colour {tuple(rgb[y, x].tolist())} at x {x}, y {y}, which is no "
            f"class's: expected CamVid's 32; if it was scaled, {REMEDY}"
        )
    return labels


def _packed(rgb: np.ndarray[Any, Any]) -> Int64[np.ndarray, "..."]:
    packed: Int64[np.ndarray, ...] = rgb.astype(np.int64) @ (1, 256, 256**2)
    return packed


def _listed(base: Path, split: str) -> list[str]:
    """Names in `<split>.txt`, a name or paths of an image and its map in every line."""
    path = base / f"{split}.txt"
    if not path.is_file():
        known = [one.stem for one in base.glob("*.txt")]
        known += [one.name.removesuffix("_labels") for one in base.glob("*_labels") if one.is_dir()]
        raise unknown_split(split, known, where=base)
    lines = decoded(path, lambda: path.read_text(encoding="utf-8"), kind="list of images")
    first = [re.split(r"[\s;]", line.strip())[0] for line in lines.splitlines() if line.strip()]
    return [Path(name).stem for name in first]


def _chosen(
    files: dict[str, tuple[Path, Path]], names: list[str], listed_in: Path
) -> dict[str, tuple[Path, Path]]:
    wrong = next((name for name in names if name not in files), None)
    if wrong is not None or not names:
        what = "no image" if wrong is None else f"{wrong}, which is not there"
        raise PixelkinError(f"{listed_in} lists {what}: expected names of images; mend the list")
    return {name: files[name] for name in names}
