"""The one call that checks a data set of any format."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from pathlib import Path

from pixelkin.checking.cityscapes import check_cityscapes
from pixelkin.checking.class_maps import check_class_maps
from pixelkin.checking.coco_json import check_coco_json
from pixelkin.checking.coco_panoptic import check_coco_panoptic
from pixelkin.checking.index_png import (
    IndexFolders,
    check_index_png,
    check_penn_fudan,
    check_voc,
)
from pixelkin.checking.instances import check_instances
from pixelkin.checking.labelme import check_labelme
from pixelkin.checking.nuclei import check_nuclei
from pixelkin.checking.report import Progress, Report, no_progress
from pixelkin.checking.semantic_png import check_semantic_png
from pixelkin.checking.semantic_png import folder_pairs as map_folder_pairs
from pixelkin.checking.yolo_seg import check_yolo_seg, folder_pairs
from pixelkin.data.class_maps.index_png import Classes
from pixelkin.data.class_maps.place import Place
from pixelkin.data.class_maps.png_folders import png_class_lists
from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS
from pixelkin.data.instances.sources import MASK_SUFFIXES, recognised, the_one_format
from pixelkin.data.reading import IMAGE_SUFFIXES, PNGS, mask_suffix
from pixelkin.errors import PixelkinError

_Check = Callable[[Place, Report, Progress], None]


def _coco(place: Place, report: Report, each: Progress) -> None:
    check_coco_json(_json_in(place.path), place.images, report, each)


def _panoptic(place: Place, report: Report, each: Progress) -> None:
    path = _json_in(place.path)
    check_coco_panoptic(path, place.images, report, each, masks_dir=place.masks)


def _yolo(place: Place, report: Report, each: Progress) -> None:
    pairs = folder_pairs(place.path, place.images)
    if not pairs:
        raise PixelkinError(
            f"{place.path} holds no label files: expected labels/*.txt beside images/, in splits "
            "or without; or give the folder of labels, and that of images with --images"
        )
    check_yolo_seg(pairs, report, each)


def _labelme(place: Place, report: Report, each: Progress) -> None:
    check_labelme(place.path, place.images, report, each)


def _pngs(place: Place, report: Report, each: Progress) -> None:
    images = place.images or place.path / "images"
    masks = place.masks
    if masks is None:
        masks = place.path / "masks" if (place.path / "masks").is_dir() else place.path
    stems = sorted(path for path in images.glob("[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES)
    there = {path.stem for path in masks.glob(PNGS)}
    suffix = mask_suffix((path.stem for path in stems), there, MASK_SUFFIXES)
    check_index_png(IndexFolders(images, masks, suffix), report, each)


def _pngs_classes(place: Place, report: Report, each: Progress) -> None:
    pairs = map_folder_pairs(place.path, place.images, place.masks)
    check_semantic_png(pairs, report, each, classes=place.classes)


def _classes(name: str) -> _Check:
    """The check of a format of class maps."""
    return lambda place, report, each: check_class_maps(name, place, report, each)


def _instances(name: str, *, parts_as: str | None = None) -> _Check:
    """The check of a format of instances by its loader; its parts are those of another format."""

    def check(place: Place, report: Report, each: Progress) -> None:
        parts = SEMANTIC_FORMATS[parts_as].part_names(place.path) if parts_as else []
        check_instances(name, place.path, parts, report, each)

    return check


def _both(
    name: str, objects: Callable[[Path, Report, Progress], None], *, sign: str, maps_sign: str
) -> _Check:
    """Objects and class maps, each where its sign lies; both where neither does.

    What has an option of class maps is checked for them alone.
    """

    def check(place: Place, report: Report, each: Progress) -> None:
        if _options(place):
            check_class_maps(name, place, report, each)
            return
        has_maps = any(place.path.glob(maps_sign))
        has_objects = any(place.path.glob(sign))
        if has_objects or not has_maps:
            objects(place.path, report, each)
        if has_maps or not has_objects:
            seen, report.images = report.images, 0
            check_class_maps(name, place, report, each)
            report.images = max(seen, report.images)

    return check


def _cvppp(place: Place, report: Report, each: Progress) -> None:
    inner = sorted({path.parent for path in place.path.glob("*/*_rgb.png")})
    for folder in inner or [place.path]:
        folders = IndexFolders(folder, folder, "_label", "_rgb", upper_case=False)
        check_index_png(folders, report, each)


FORMATS: dict[str, _Check] = {
    "coco": _coco,
    "panoptic": _panoptic,
    "yolo": _yolo,
    "labelme": _labelme,
    "pngs": _pngs,
    "penn-fudan": lambda place, report, each: check_penn_fudan(place.path, report, each),
    "nuclei": lambda place, report, each: check_nuclei(place.path, report, each),
    "voc": _both(
        "voc", check_voc, sign="SegmentationObject", maps_sign="ImageSets/Segmentation/*.txt"
    ),
    "cityscapes": _both(
        "cityscapes",
        check_cityscapes,
        sign="gtFine/*/*/*_instanceIds.png",
        maps_sign="gtFine/*/*/*_labelIds.png",
    ),
    "kitti-instances": _instances("kitti-instances"),
    "bdd-instances": _instances("bdd-instances", parts_as="bdd"),
    "ade20k-instances": _instances("ade20k-instances", parts_as="ade20k"),
    "ade20k-part-instances": _instances("ade20k-part-instances", parts_as="ade20k"),
    "cvppp": _cvppp,
    "pngs-classes": _pngs_classes,
} | {
    name: _classes(name)
    for name in SEMANTIC_FORMATS
    if name not in ("pngs", "panoptic", "voc", "cityscapes")
}
"""Names of the formats that can be checked, as `data.instances.sources` and
`data.class_maps.sources` name them; `pngs` of the latter is `pngs-classes` here too. `voc` and
`cityscapes` are checked for objects and for classes."""

_TAKE: dict[str, tuple[str, ...]] = {
    "coco": ("images",),
    "panoptic": ("images", "masks"),
    "yolo": ("images",),
    "labelme": ("images",),
    "pngs": ("images", "masks"),
    "pngs-classes": ("images", "masks", "classes"),
    "penn-fudan": (),
    "nuclei": (),
    "kitti-instances": (),
    "bdd-instances": (),
    "ade20k-instances": (),
    "ade20k-part-instances": (),
    "cvppp": (),
}
"""Options that are for these formats; those of the others refuse themselves."""

_OWN_NAMES = {"pngs": "pngs-classes"}


def check_data(
    data: Path,
    *,
    format: str | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    classes: Classes | None = None,
    each: Progress = no_progress,
) -> tuple[str, Report]:
    """Read a data set and collect every problem; unlike a loader, go on after a fault.

    Args:
        data: annotation file or folder.
        format: one of `FORMATS`; told from what lies there where None.
        images: folder of the images, where it is not where the loader would look.
        masks: folder of the maps or masks, likewise.
        classes: names of the classes of class maps, or a text file of them, as the loader takes it.
        each: shows progress.

    Returns:
        The name of the format, and what was found.

    Raises:
        PixelkinError: there is nothing at `data`, or nothing that shows a format; the format is
            unknown, or does not take one of the options.
    """
    prefixed = re.fullmatch(r"([A-Za-z][\w-]+):(.+)", str(data), re.DOTALL)
    if prefixed and not data.exists():
        format, data = prefixed[1], Path(prefixed[2])
    if not data.exists():
        raise PixelkinError(f"no file or folder {data}: check the path")
    place = Place(data, images, masks, None, classes)
    name = format or _format_at(place)
    if name == "pngs" and _lists_classes(place):
        name = "pngs-classes"
    if name not in FORMATS:
        near = difflib.get_close_matches(name.lower(), FORMATS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PixelkinError(f"format {name!r} is unknown; {hint}choose {', '.join(FORMATS)}")
    _refuse_unfit(name, place)
    report = Report(data if data.is_dir() else data.parent)
    FORMATS[name](place, report, each)
    return name, report


def _options(place: Place) -> list[str]:
    """Names of the options that are given."""
    return [one for one in ("images", "masks", "classes") if getattr(place, one) is not None]


def _refuse_unfit(name: str, place: Place) -> None:
    unfit = [one for one in _options(place) if one not in _TAKE.get(name, _options(place))]
    if unfit:
        knows = {"images": "where its images lie", "masks": "where its labels lie"}
        what = knows.get(unfit[0], "its classes")
        raise PixelkinError(f"format {name} knows {what}; leave out --{unfit[0]}")


def _lists_classes(place: Place) -> bool:
    """Whether index PNGs have a list of classes, where the loader looks."""
    return place.classes is not None or bool(png_class_lists(place.path, place.images, place.masks))


def _format_at(place: Place) -> str:
    data = place.path
    maps = [name for name in SEMANTIC_FORMATS if _holds_classes(name, data)]
    if not maps and data.is_dir() and (place.masks or place.classes):
        return "pngs"
    if data.is_dir() and place.images is not None:
        # Without its images a folder shows no format.
        if any(data.glob("*.txt")) or any(data.glob("labels/**/*.txt")):
            return "yolo"
        if any(data.glob(PNGS)) or any(data.glob(f"masks/{PNGS}")):
            return "pngs"
    if data.suffix.lower() == ".json":
        # A broken file shows no format; COCO is what most have, and the check says what is wrong.
        try:
            return recognised(data)
        except PixelkinError:
            return "labelme" if b'"shapes"' in data.read_bytes() else "coco"
    if maps:
        name = the_one_format(maps, data, {})
        return _OWN_NAMES.get(name, name)
    try:
        return recognised(data)
    except PixelkinError as error:
        if data.is_file() or "shows no known format" not in str(error):
            raise
        raise PixelkinError(
            f"{data} shows no known format; write FORMAT:PATH with one of {', '.join(FORMATS)}"
        ) from error


def _holds_classes(name: str, data: Path) -> bool:
    lies_in = SEMANTIC_FORMATS[name].lies_in
    return data.is_dir() and lies_in is not None and lies_in(data)


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
