"""`pixelkin check` of a COCO JSON with instances."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pixelkin.checking.coco_tables import (
    Listed,
    check_ids,
    check_tables,
    is_id,
)
from pixelkin.checking.regions import (
    TINY_PX,
    Region,
    check_mask_parts,
    check_parts,
    check_polygon,
    is_number,
    read_points,
    read_rle,
    region_of_mask,
    region_of_polygons,
)
from pixelkin.checking.report import Progress, Report
from pixelkin.masks import MAX_PIXELS

_BOX_PX, _BOX_SHARE = 3.0, 0.1  # how far an edge of a box may be off, pixels and share of the side
_AREA_PX, _AREA_RATIO = 10, 2.0

_UNKNOWN_IMAGE = "correct image_id, or add the image to 'images', or remove the annotation"
_UNKNOWN_CATEGORY = "add the category with its name to 'categories', or correct category_id"
_NO_MASK = "add a polygon or RLE, or remove the annotation; a box alone is no mask"
_FORM = "write a list of polygons [[x1, y1, …], …], or an object with size and counts"
_CROWD = "write the crowd as RLE, as COCO does; or set iscrowd to 0 where it is one object"
_CROWD_FLAG = "set iscrowd to 0 or 1"
_BOX_FORM = "write [left, top, width, height] in pixels, sides above 0"
_BOX_OUTSIDE = "write [left, top, width, height] in pixels, within the image"
_BOX_OTHER = "make the box from the mask, after making sure that the mask is the right one"
_NO_PIXEL = "draw it again, or remove the annotation"
_TINY = "remove the annotation, if it is a slip of the hand"
_AREA = "make the area from the mask, after making sure that the mask is the right one"
_SAME = "remove one of the two annotations"


@dataclass
class _Seen:
    """What only several annotations together tell."""

    unknown_categories: dict[Any, list[str]] = field(default_factory=dict)
    regions: dict[tuple[Any, ...], str] = field(default_factory=dict)
    annotated: set[Any] = field(default_factory=set)


def check_coco_json(path: Path, images_dir: Path | None, report: Report, each: Progress) -> None:
    """Report every problem of a COCO JSON and of the images that it lists; see `check_tables`."""
    tables = check_tables(path, images_dir, report, each)
    if tables is None:
        return
    names, images, annotations = tables.names, tables.images, tables.annotations
    report.objects += len(annotations)
    check_ids(annotations, "annotation", report)
    seen = _Seen()
    for row in each("annotations", annotations):
        _check_annotation(row, names, images, seen, report)
    report.empty_images += len(images.keys() - seen.annotated)
    for key, places in seen.unknown_categories.items():
        more = f" and {len(places) - 1} more" if len(places) > 1 else ""
        what = f"used by {places[0]}{more}, but 'categories' does not name it"
        report.error(f"category {key}", what, fix=_UNKNOWN_CATEGORY)


def _check_annotation(
    row: dict[str, Any],
    names: dict[Any, str],
    images: dict[Any, Listed],
    seen: _Seen,
    report: Report,
) -> None:
    image_id, category = row.get("image_id"), row.get("category_id")
    image = images.get(image_id) if is_id(image_id) else None
    where = f"annotation {row.get('id')}" + (f" ({image.name})" if image else "")
    if image is None:
        report.error(where, f"is of image {image_id!r}, which is not listed", fix=_UNKNOWN_IMAGE)
    else:
        seen.annotated.add(image_id)
    if not is_id(category) or category not in names:
        seen.unknown_categories.setdefault(str(category), []).append(where)
    crowd = row.get("iscrowd", 0)
    if crowd not in (0, 1):
        report.error(where, f"iscrowd is {crowd!r}", fix=_CROWD_FLAG)
    size_hw = image.size_hw if image else None
    region = _check_segmentation(row.get("segmentation"), bool(crowd), size_hw, where, report)
    box_is_sound = _check_box(row.get("bbox"), size_hw, where, report)
    if region is None:
        return
    if not region.area_px:
        report.error(where, "its mask covers no pixel", fix=_NO_PIXEL)
        return
    if region.area_px < TINY_PX:
        what = f"its mask covers {region.area_px} pixel{'s' * (region.area_px > 1)}"
        report.warning(where, what, fix=_TINY)
    if box_is_sound:
        _compare_box(row["bbox"], region, where, report)
    _compare_area(row.get("area"), region, where, report)
    first = seen.regions.setdefault((str(image_id), str(category), bool(crowd), region.rle), where)
    if first != where:
        report.warning(where, f"has the very mask and category of {first}", fix=_SAME)


def _check_segmentation(
    segmentation: Any, crowd: bool, size_hw: tuple[int, int] | None, where: str, report: Report
) -> Region | None:
    if not segmentation:
        report.error(where, "has no segmentation", fix=_NO_MASK)
        return None
    if isinstance(segmentation, dict):
        mask = read_rle(segmentation, size_hw, where, report)
        if mask is None:
            return None
        if not crowd:
            check_mask_parts(mask, where, report)
        return region_of_mask(mask)
    if not isinstance(segmentation, list):
        report.error(where, f"segmentation is a {type(segmentation).__name__}", fix=_FORM)
        return None
    if crowd:
        report.warning(where, "is a crowd, but stored as polygon", fix=_CROWD)
    # One bare polygon is written by some tools where the format wants a list of them.
    parts = segmentation if isinstance(segmentation[0], list) else [segmentation]
    polygons = []
    for number, part in enumerate(parts, start=1):
        name = f"polygon {number}" if len(parts) > 1 else "polygon"
        points = read_points(part, where, report, name=name)
        if points is not None:
            check_polygon(points, size_hw, where, report, name=name)
            polygons.append(points)
    if not crowd:
        check_parts(polygons, where, report)
    if len(polygons) < len(parts) or size_hw is None or math.prod(size_hw) > MAX_PIXELS:
        return None
    return region_of_polygons(polygons, size_hw)


def _check_box(box: Any, size_hw: tuple[int, int] | None, where: str, report: Report) -> bool:
    """Whether a box is there and sound; a box may be left out, loaders do not read it."""
    if box is None:
        return False
    numbers = isinstance(box, list) and all(is_number(v) for v in box)
    if not numbers or len(box) != 4 or box[2] <= 0 or box[3] <= 0:
        report.error(where, f"the box is {box!r}"[:80], fix=_BOX_FORM)
        return False
    left, top, width, height = box
    if size_hw is not None and (
        min(left, top) < -_BOX_PX
        or left + width > size_hw[1] + _BOX_PX
        or top + height > size_hw[0] + _BOX_PX
    ):
        what = f"the box {_box(box)} leaves the {size_hw[1]}×{size_hw[0]} image"
        report.error(where, what, fix=_BOX_OUTSIDE)
        return False
    return True


def _compare_box(box: list[float], region: Region, where: str, report: Report) -> None:
    for side in (0, 1):
        own, theirs = region.box_xywh, box
        slack = max(_BOX_PX, _BOX_SHARE * own[side + 2])
        near = abs(own[side] - theirs[side]) <= slack
        far = abs(own[side] + own[side + 2] - theirs[side] - theirs[side + 2]) <= slack
        if not (near and far):
            what = f"the box {_box(box)} is not that of the mask, {_box(list(own))}"
            report.error(where, what, fix=_BOX_OTHER)
            return


def _compare_area(area: Any, region: Region, where: str, report: Report) -> None:
    if area is None:
        return
    sound = is_number(area)
    if sound and abs(area - region.area_px) <= _AREA_PX and area > 0:
        return
    if not sound or area <= 0 or not (1 / _AREA_RATIO <= area / region.area_px <= _AREA_RATIO):
        shown = f"{area:g}" if sound else repr(area)[:20]
        what = f"the area is {shown}, the mask has {region.area_px} pixels"
        report.error(where, what, fix=_AREA)


def _box(box: list[float]) -> str:
    return "[" + ", ".join(f"{v:g}" for v in box) + "]"
