"""`pixelkin check` of COCO panoptic: a JSON, and a PNG of segment ids per image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL import Image

from pixelkin.checking.coco_tables import (
    Listed,
    check_ids,
    check_tables,
    is_id,
)
from pixelkin.checking.files import inspect_image
from pixelkin.checking.index_png import check_mask_size
from pixelkin.checking.regions import TINY_PX, is_number
from pixelkin.checking.report import Progress, Report

_BOX_PX = 3

_THING = "set isthing to 1 for what can be counted, to 0 for stuff"
_UNKNOWN_IMAGE = "correct image_id, or add the image to 'images', or remove the annotation"
_TWICE = "remove one of the annotations of this image"
_FOLDER = "put the PNGs into a folder beside the JSON, of the JSON's name without .json"
_FILE = "add the PNG and its name as file_name, or remove the annotation"
_RGB = "write an 8-bit RGB PNG: id = R + 256·G + 256²·B"
_SEGMENTS = "write segments_info as a list of objects with id and category_id"
_UNKNOWN_CATEGORY = "add the category with its name to 'categories', or correct category_id"
_RANGE = "number the segments from 1 to 16777215; 0 is void"
_ABSENT = "paint the segment into the PNG, or remove it from segments_info"
_UNLISTED = "add the id to segments_info, or paint these pixels 0 (void)"
_AREA = "write PNG and JSON again from one source; they disagree"
_TINY = "join the segment with a neighbour, or paint it 0 (void)"


def check_coco_panoptic(
    path: Path,
    images_dir: Path | None,
    report: Report,
    each: Progress,
    *,
    masks_dir: Path | None = None,
) -> None:
    """Report every problem of a panoptic JSON, of its PNGs and of its images; see `check_tables`.

    Without `masks_dir` the PNGs lie in a folder beside it, of its name without suffix.
    """
    tables = check_tables(path, images_dir, report, each)
    if tables is None:
        return
    for row in tables.categories:
        if row.get("isthing") not in (0, 1):
            what = f"isthing is {row.get('isthing')!r}"
            report.error(f"category {row.get('id')}", what, fix=_THING)
    masks = path.with_suffix("") if masks_dir is None else masks_dir
    if not masks.is_dir():
        report.error(report.place(masks), "there is no folder of PNGs", fix=_FOLDER)
        return
    seen: set[Any] = set()
    for row in each("panoptic PNGs", tables.annotations):
        key = row.get("image_id")
        image = tables.images.get(key) if is_id(key) else None
        where = f"annotation of image {key}"
        if image is None:
            report.error(where, "the image is not listed", fix=_UNKNOWN_IMAGE)
        elif key in seen:
            report.error(where, "occurs twice", fix=_TWICE)
        seen.add(key if is_id(key) else None)
        _check_annotation(row, masks, tables.names, image, where, report)


def _check_annotation(
    row: dict[str, Any],
    masks: Path,
    names: dict[Any, str],
    image: Listed | None,
    where: str,
    report: Report,
) -> None:
    segments = row.get("segments_info")
    if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
        report.error(where, "has no sound segments_info", fix=_SEGMENTS)
        return
    report.objects += len(segments)
    report.empty_images += not segments
    name = row.get("file_name")
    if not isinstance(name, str) or not (masks / name).is_file():
        report.error(where, f"there is no PNG {name!r} in {masks.name}", fix=_FILE)
        return
    place = report.place(masks / name)
    start = len(report.problems)
    check_ids(segments, f"{place}, segment", report)
    for segment in segments:
        key, category = segment.get("id"), segment.get("category_id")
        if is_id(key) and not (isinstance(key, int) and 0 < key < 256**3):
            report.error(f"{place}, segment {key}", "the id is out of range", fix=_RANGE)
        if not is_id(category) or category not in names:
            what = f"has category {category!r}, which 'categories' does not name"
            report.error(f"{place}, segment {key}", what, fix=_UNKNOWN_CATEGORY)
    faulty = any("id" in problem.what for problem in report.problems[start:])
    ids = _read_ids(masks / name, image, report)
    if ids is not None and not faulty:
        _compare(ids, segments, place, report)


def _read_ids(path: Path, image: Listed | None, report: Report) -> Int64[np.ndarray, "h w"] | None:
    found = inspect_image(path)
    if found.stored_hw is None or (found.fault and not found.digest):
        assert found.fault is not None
        report.error(report.place(path), found.fault[0], fix=found.fault[1])
        return None
    if image is not None:
        check_mask_size(image.facts, found.stored_hw, report.place(path), report)
    with Image.open(path) as opened:
        kind = f"{opened.format} of mode {opened.mode}"
        rgb = np.asarray(opened)
    if kind != "PNG of mode RGB":
        report.error(report.place(path), f"the mask is {kind}", fix=_RGB)
        return None
    ids: Int64[np.ndarray, "h w"] = rgb.astype(np.int64) @ (1, 256, 256**2)
    return ids


def _compare(
    ids: Int64[np.ndarray, "h w"], segments: list[dict[str, Any]], place: str, report: Report
) -> None:
    present, counts = np.unique(ids, return_counts=True)
    area_of = dict(zip(present.tolist(), counts.tolist(), strict=True))
    area_of.pop(0, None)
    for segment in segments:
        where = f"{place}, segment {segment['id']}"
        area = area_of.pop(segment["id"], 0)
        told = segment.get("area", area)
        if not area:
            report.error(where, "has no pixel in the PNG", fix=_ABSENT)
        elif told != area:
            report.error(where, f"has {area} pixels in the PNG, area {told!r}", fix=_AREA)
        elif area < TINY_PX:
            report.warning(where, f"covers {area} pixel{'s' * (area > 1)}", fix=_TINY)
        if area and segment.get("bbox") is not None:
            _compare_box(ids, segment, where, report)
    for key, area in area_of.items():
        what = f"{area} pixel{'s' * (area > 1)} of the PNG, not in the JSON"
        report.error(f"{place}, segment {key}", what, fix=_UNLISTED)


def _compare_box(
    ids: Int64[np.ndarray, "h w"], segment: dict[str, Any], where: str, report: Report
) -> None:
    box = segment["bbox"]
    mask = ids == segment["id"]
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    own = [columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]]
    numbers = isinstance(box, list) and len(box) == 4 and all(is_number(v) for v in box)
    if not numbers or any(abs(a - b) > _BOX_PX for a, b in zip(own, box, strict=True)):
        what = f"the box {str(box)[:60]} is not that of the mask, {[int(v) for v in own]}"
        report.error(where, what, fix=_AREA)
