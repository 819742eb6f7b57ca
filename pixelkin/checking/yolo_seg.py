"""`pixelkin check` of YOLO-seg folders: images, and label files of the same stem."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pixelkin.checking.files import ImageFacts, check_images, check_size, images_by_stem
from pixelkin.checking.regions import (
    TINY_PX,
    check_polygon,
    read_points,
    region_of_polygons,
)
from pixelkin.checking.report import Progress, Report
from pixelkin.data.instances.yolo_seg import NAME_FILES, read_class_names
from pixelkin.errors import PixelkinError

_TOLERANCE = 0.01  # the loader clips so little

_NO_LABELS = "add an empty label file where nothing is on the image; without one it is skipped"
_NO_IMAGE = "add the image, or remove the label file"
_NONE = "annotate the images, or choose the folder that holds the label files"
_UTF8 = "save the label file as text: one line per object, class x1 y1 x2 y2 …"
_BOX = "use the labels for segmentation, not those for detection"
_LINE = "write a class and at least 3 pairs: class x1 y1 x2 y2 x3 y3 …"
_CLASS = "write the number of the class first, an integer from 0"
_NAMES = "correct the class, or add its name to the list of names"
_NAME = "give the class a name"
_NAME_FILE = "write names: [cat, dog], or names: with lines 0: cat, or one name per line of text"
_RANGE = "divide x by the image's width and y by its height"
_EMPTY = "draw it again, or remove the line"
_SAME = "remove one of the two lines"


def check_yolo_seg(pairs: list[tuple[Path, Path]], report: Report, each: Progress) -> None:
    """Report every problem of YOLO-seg labels and of their images.

    Args:
        pairs: folders of images and of label files that belong together, one per split.
        report: is added to.
        each: shows progress.
    """
    names = class_names(pairs[0][1], report)
    labelled: list[tuple[Path, Path]] = []
    for images_dir, labels_dir in pairs:
        images = images_by_stem(images_dir, report)
        labels = {path.stem: path for path in sorted(labels_dir.glob("[!.]*.txt"))}
        for stem, path in images.items():
            if stem in labels:
                labelled.append((path, labels[stem]))
            else:
                report.warning(report.place(path), "has no label file", fix=_NO_LABELS)
        for stem, path in labels.items():
            if stem not in images and path.name not in NAME_FILES:
                report.error(report.place(path), "has no image", fix=_NO_IMAGE)
    facts = check_images([image for image, _ in labelled], report, each)
    report.images += len(labelled)
    before = report.objects
    for image, label in each("label files", labelled):
        check_size(facts[image], None, report.place(image), report)
        _check_file(label, facts[image], names, report)
    if report.objects == before:
        report.error(report.place(pairs[0][1]), "holds no annotation", fix=_NONE)


def _check_file(path: Path, facts: ImageFacts, names: dict[int, str], report: Report) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        report.error(report.place(path), f"cannot be read as text: {error}", fix=_UTF8)
        return
    lines = [(n, line.split()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    report.objects += len(lines)
    report.empty_images += not lines
    first: dict[tuple[str, ...], int] = {}
    for number, fields in lines:
        where = f"{report.place(path)}, line {number}"
        _check_line(fields, facts, names, where, report)
        twin = first.setdefault(tuple(fields), number)
        if twin != number:
            report.warning(where, f"is the same as line {twin}", fix=_SAME)


def _check_line(
    fields: list[str], facts: ImageFacts, names: dict[int, str], where: str, report: Report
) -> None:
    if not re.fullmatch(r"\d+(\.0*)?", fields[0]):
        report.error(where, f"the class is {fields[0]!r}", fix=_CLASS)
    elif names and int(float(fields[0])) not in names:
        what = f"class {fields[0]} has no name; the names go to {max(names)}"
        report.error(where, what, fix=_NAMES)
    if len(fields) == 5:
        report.error(where, "is a box (class and 4 values), not a polygon", fix=_BOX)
        return
    if len(fields) < 7 and len(fields) % 2:
        report.error(where, f"has {len(fields) // 2} points, fewer than 3", fix=_LINE)
        return
    points = read_points([_number(text) for text in fields[1:]], where, report)
    if points is None:
        return
    outside = points[((points < -_TOLERANCE) | (points > 1 + _TOLERANCE)).any(axis=1)]
    if len(outside):
        what = f"has the point ({outside[0][0]:g}, {outside[0][1]:g}), beyond 0 … 1"
        report.error(where, what, fix=_RANGE)
        return
    size_hw = facts.upright_hw
    if size_hw is None:
        return
    in_pixels = points * (size_hw[1], size_hw[0])
    check_polygon(in_pixels, None, where, report, bridged=True)
    if np.ptp(in_pixels, axis=0).max() < 1 or (
        not facts.fault and region_of_polygons([in_pixels], size_hw).area_px < TINY_PX
    ):
        report.warning(where, f"covers fewer than {TINY_PX} pixels", fix=_EMPTY)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def folder_pairs(data: Path, images_dir: Path | None) -> list[tuple[Path, Path]]:
    """Folders of images and labels below `data`, one pair per split; empty where there is none.

    Known are `images` beside `labels`, with or without splits below, `<split>/images` beside
    `<split>/labels`, and, with `images_dir`, label files directly in `data` or in its `labels`.
    """
    roots = [data / "labels", *sorted(data.glob("*/labels"))]
    if images_dir is not None:
        roots.append(data)
    pairs = []
    for labels in roots:
        for folder in [labels, *sorted(p for p in labels.glob("[!.]*") if p.is_dir())]:
            if next(folder.glob("[!.]*.txt"), None) is None:
                continue
            images = images_dir or labels.parent / "images"
            inner = images / folder.relative_to(labels)
            pairs.append((inner if inner.is_dir() else images, folder))
        if pairs and labels == data / "labels":
            break
    return pairs


def class_names(labels_dir: Path, report: Report) -> dict[int, str]:
    """Class names by number, from where the loader looks for them; empty where there are none."""
    place = labels_dir.absolute()
    for folder in (place, place.parent, place.parent.parent):
        for path in (folder / name for name in NAME_FILES):
            if not path.is_file():
                continue
            try:
                names = read_class_names(path)
            except PixelkinError:
                report.error(report.place(path), "its names cannot be read", fix=_NAME_FILE)
                return {}
            for number, name in names.items():
                if not name.strip():
                    report.error(f"{report.place(path)}, class {number}", "has no name", fix=_NAME)
            if names:
                return names
    return {}
