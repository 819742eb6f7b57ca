"""The one call that checks a data set of any format."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pixelkin.checking.cityscapes import check_cityscapes
from pixelkin.checking.coco_json import check_coco_json
from pixelkin.checking.coco_panoptic import check_coco_panoptic
from pixelkin.checking.index_png import (
    IndexFolders,
    check_index_png,
    check_penn_fudan,
    check_voc,
)
from pixelkin.checking.labelme import check_labelme
from pixelkin.checking.nuclei import check_nuclei
from pixelkin.checking.report import Progress, Report, no_progress
from pixelkin.checking.semantic_png import check_camvid, check_semantic_png
from pixelkin.checking.semantic_png import folder_pairs as map_folder_pairs
from pixelkin.checking.yolo_seg import check_yolo_seg, folder_pairs
from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS
from pixelkin.data.instances.sources import recognised
from pixelkin.errors import PixelkinError


@dataclass(frozen=True)
class _Place:
    path: Path
    images: Path | None


def _coco(place: _Place, report: Report, each: Progress) -> None:
    check_coco_json(_json_in(place.path), place.images, report, each)


def _panoptic(place: _Place, report: Report, each: Progress) -> None:
    check_coco_panoptic(_json_in(place.path), place.images, report, each)


def _yolo(place: _Place, report: Report, each: Progress) -> None:
    pairs = folder_pairs(place.path, place.images)
    if not pairs:
        raise PixelkinError(
            f"{place.path} holds no label files: expected labels/*.txt beside images/, in splits "
            "or without; or give the folder of labels, and that of images with --images"
        )
    check_yolo_seg(pairs, report, each)


def _labelme(place: _Place, report: Report, each: Progress) -> None:
    check_labelme(place.path, place.images, report, each)


def _pngs(place: _Place, report: Report, each: Progress) -> None:
    images = place.images or place.path / "images"
    masks = place.path / "masks" if (place.path / "masks").is_dir() else place.path
    suffixed = any(masks.glob("*_mask.png"))
    check_index_png(IndexFolders(images, masks, "_mask" if suffixed else ""), report, each)


def _pngs_classes(place: _Place, report: Report, each: Progress) -> None:
    check_semantic_png(map_folder_pairs(place.path, place.images), None, report, each)


def _cvppp(place: _Place, report: Report, each: Progress) -> None:
    inner = sorted({path.parent for path in place.path.glob("*/*_rgb.png")})
    for folder in inner or [place.path]:
        check_index_png(IndexFolders(folder, folder, "_label", "_rgb"), report, each)


FORMATS: dict[str, Callable[[_Place, Report, Progress], None]] = {
    "coco": _coco,
    "panoptic": _panoptic,
    "yolo": _yolo,
    "labelme": _labelme,
    "pngs": _pngs,
    "penn-fudan": lambda place, report, each: check_penn_fudan(place.path, report, each),
    "nuclei": lambda place, report, each: check_nuclei(place.path, report, each),
    "voc": lambda place, report, each: check_voc(place.path, report, each),
    "cityscapes": lambda place, report, each: check_cityscapes(place.path, report, each),
    "cvppp": _cvppp,
    "pngs-classes": _pngs_classes,
    "camvid": lambda place, report, each: check_camvid(place.path, report, each),
}
"""Names of the formats that can be checked, as `data.instances.sources` names them; of class maps,
`pngs` of `data.class_maps.sources` is `pngs-classes` here."""

_TAKE_IMAGES = ("coco", "panoptic", "yolo", "labelme", "pngs", "pngs-classes")

_CLASS_MAPS = {"pngs": "pngs-classes", "camvid": "camvid"}


def check_data(
    data: Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    each: Progress = no_progress,
) -> tuple[str, Report]:
    """Read a data set and collect every problem; unlike a loader, go on after a fault.

    Args:
        data: annotation file or folder.
        format: one of `FORMATS`; told from what lies there where None.
        images: folder of the images, where it is not where the loader would look.
        each: shows progress.

    Returns:
        The name of the format, and what was found.

    Raises:
        PixelkinError: there is nothing at `data`, or nothing that shows a format; the format is
            unknown, or takes no `images`.
    """
    prefixed = re.fullmatch(r"([A-Za-z][\w-]+):(.+)", str(data), re.DOTALL)
    if prefixed and not data.exists():
        format, data = prefixed[1], Path(prefixed[2])
    if not data.exists():
        raise PixelkinError(f"no file or folder {data}: check the path")
    name = format or _format_at(data, images)
    if name not in FORMATS:
        near = difflib.get_close_matches(name.lower(), FORMATS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PixelkinError(f"format {name!r} is unknown; {hint}choose {', '.join(FORMATS)}")
    if images is not None and name not in _TAKE_IMAGES:
        raise PixelkinError(f"format {name} knows where its images lie; leave out --images")
    report = Report(data if data.is_dir() else data.parent)
    FORMATS[name](_Place(data, images), report, each)
    return name, report


def _format_at(data: Path, images: Path | None) -> str:
    if data.is_dir() and images is not None:
        # Without its images a folder shows no format.
        if any(data.glob("*.txt")) or any(data.glob("labels/**/*.txt")):
            return "yolo"
        if any(data.glob("*.png")) or any(data.glob("masks/*.png")):
            return "pngs"
    if data.suffix.lower() == ".json":
        # A broken file shows no format; COCO is what most have, and the check says what is wrong.
        try:
            return recognised(data)
        except PixelkinError:
            return "labelme" if b'"shapes"' in data.read_bytes() else "coco"
    for name, own_name in _CLASS_MAPS.items():
        lies_in = SEMANTIC_FORMATS[name].lies_in
        if data.is_dir() and lies_in is not None and lies_in(data):
            return own_name
    return recognised(data)


def _json_in(data: Path) -> Path:
    if not data.is_dir():
        return data
    found = sorted(data.glob("[!.]*.json"))
    if len(found) != 1:
        there = ", ".join(path.name for path in found) or "none"
        raise PixelkinError(
            f"{data} is a folder: expected one JSON in it, there: {there}; give the file"
        )
    return found[0]
