"""Faults of the tables that COCO's instance and panoptic JSONs share: images and categories."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pixelkin.checking.files import ImageFacts, check_images, check_size, is_side
from pixelkin.checking.report import Progress, Report
from pixelkin.data.instances.coco_json import image_name, locate_images
from pixelkin.data.reading import IMAGE_SUFFIXES
from pixelkin.errors import PixelkinError

_JSON = "export the annotations again as COCO JSON"
_NONE = "annotate the images, or choose the file that holds the annotations"
_TABLE = "write a list of objects, empty where there is none"
_ID = "give every entry an integer id of its own"
_TWICE = "renumber one of them, and what refers to it; or remove a copy"
_FILE_NAME = "give every image the path of its file, below the folder of images"
_SAME_FILE = "join the two entries, and let all annotations refer to the one that stays"
_MISSING = "add the file, correct file_name, or remove the image and its annotations"
_FOLDER = "name the folder that the file names start from with --images"
_NAME = "give the category a name"
_UNLISTED = "add it to 'images' (without annotations where it is empty), or remove the file"
_LISTED_SIZE = "write height and width in pixels"


@dataclass(frozen=True)
class Listed:
    """An image that a JSON lists.

    Attributes:
        name: its file name, or its id where it has none.
        size_hw: the size that its annotations were drawn for; None where unknown.
        facts: of the file; None where it is missing.
    """

    name: str
    size_hw: tuple[int, int] | None
    facts: ImageFacts | None = None


class Tables(NamedTuple):
    """What COCO's JSONs hold.

    Attributes:
        categories: as they are written.
        names: of the categories by id.
        images: by id.
        annotations: as they are written.
    """

    categories: list[dict[str, Any]]
    names: dict[Any, str]
    images: dict[Any, Listed]
    annotations: list[dict[str, Any]]


def read_json(path: Path, report: Report) -> Any:
    """The content of a JSON file; None, with a report, where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            report.error(report.place(path), "the file is empty", fix=_JSON)
            return None
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{report.place(path)}, line {error.lineno}"
        report.error(where, f"no JSON: {error.msg} at column {error.colno}", fix=_JSON)
    except (OSError, UnicodeDecodeError) as error:
        report.error(report.place(path), f"cannot be read: {error}", fix=_JSON)
    return None


def table(content: Any, name: str, path: Path, report: Report) -> list[dict[str, Any]]:
    """The objects of the list `name`; reports a list that is absent and what is no object."""
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list):
        report.error(report.place(path), f"has no list {name!r}", fix=_TABLE)
        return []
    kept = [row for row in rows if isinstance(row, dict)]
    if len(kept) < len(rows):
        what = f"{len(rows) - len(kept)} of {len(rows)} entries of {name!r} are no objects"
        report.error(report.place(path), what, fix=_TABLE)
    return kept


def check_tables(
    path: Path, images_dir: Path | None, report: Report, each: Progress
) -> Tables | None:
    """The tables of a JSON, its categories and images checked; None where it is no JSON.

    Args:
        path: the JSON file.
        images_dir: folder that the file names start from; looked for as the loader does where
            None.
        report: is added to.
        each: shows progress.
    """
    content = read_json(path, report)
    if content is None:
        return None
    categories = table(content, "categories", path, report)
    names = check_categories(categories, report)
    listed = table(content, "images", path, report)
    images = check_listed_images(listed, path, images_dir, report, each)
    annotations = table(content, "annotations", path, report)
    if isinstance(content, dict) and content.get("annotations") == []:
        report.error(report.place(path), "holds no annotation", fix=_NONE)
    return Tables(categories, names, images, annotations)


def check_ids(rows: list[dict[str, Any]], noun: str, report: Report) -> None:
    """Report ids that are missing, or occur more than once."""
    for position, row in enumerate(rows):
        if not is_id(row.get("id")):
            where = f"{noun} at position {position}"
            report.error(where, f"its id is {row.get('id')!r}", fix=_ID)
    for key, times in Counter(row["id"] for row in rows if is_id(row.get("id"))).items():
        if times > 1:
            report.error(f"{noun} {key}", f"the id occurs {times} times", fix=_TWICE)


def is_id(value: object) -> bool:
    """Whether a value can be an id: loaders take integers and text."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def check_categories(rows: list[dict[str, Any]], report: Report) -> dict[Any, str]:
    """The names of the categories by id, "" where there is none; reports ids and names."""
    check_ids(rows, "category", report)
    names: dict[Any, str] = {}
    for row in rows:
        key, name = row.get("id"), row.get("name")
        if not is_id(key):
            continue
        named = isinstance(name, str) and bool(name.strip())
        if not named:
            report.error(f"category {key}", "has no name", fix=_NAME)
        names.setdefault(key, str(name) if named else "")
    return names


def check_listed_images(
    rows: list[dict[str, Any]],
    path: Path,
    images_dir: Path | None,
    report: Report,
    each: Progress,
) -> dict[Any, Listed]:
    """The images that a JSON lists, by id; reports the faults of the list and of the files."""
    check_ids(rows, "image", report)
    report.images += len(rows)
    files = _files(rows, path, images_dir, report)
    facts = check_images(sorted(set(files.values())), report, each)
    listed: dict[Any, Listed] = {}
    for position, row in enumerate(rows):
        name, key = row.get("file_name"), row.get("id")
        where = f"image {key} ({name})" if isinstance(name, str) else f"image {key}"
        size_hw = _listed_size(row, where, report)
        found = facts.get(files[position]) if position in files else None
        if size_hw is not None:
            check_size(found, size_hw, where, report)
        elif found is not None:
            check_size(found, None, where, report)
            size_hw = found.upright_hw
        if is_id(key):
            listed.setdefault(
                key, Listed(name if isinstance(name, str) else f"image {key}", size_hw, found)
            )
    _report_unlisted(files, report)
    return listed


def _listed_size(row: dict[str, Any], where: str, report: Report) -> tuple[int, int] | None:
    height, width = row.get("height"), row.get("width")
    if height is None or width is None:
        return None
    if is_side(height) and is_side(width):
        return height, width
    what = f"the listed height is {str(height)[:20]}, the width {str(width)[:20]}"
    report.error(where, what, fix=_LISTED_SIZE)
    return None


def _files(
    rows: list[dict[str, Any]], path: Path, images_dir: Path | None, report: Report
) -> dict[int, Path]:
    """The files that are there, by the position of their image."""
    owner: dict[str, Any] = {}
    named: dict[int, str] = {}
    for position, row in enumerate(rows):
        file_name = row.get("file_name")
        if not isinstance(file_name, str) or not image_name(file_name):
            report.error(
                f"image {row.get('id')}", f"its file_name is {file_name!r}", fix=_FILE_NAME
            )
            continue
        name = image_name(file_name)
        if name in owner:
            what = f"has the file name of image {owner[name]}"
            report.error(f"image {row.get('id')} ({file_name})", what, fix=_SAME_FILE)
        owner.setdefault(name, row.get("id"))
        named[position] = file_name
    if not named:
        return {}
    try:
        located = locate_images(path, list(named.values()), images_dir)
    except PixelkinError:
        first = next(iter(named.values()))
        what = f"none of its {len(named)} images, such as {first}, is found"
        report.error(report.place(images_dir or path), what, fix=_FOLDER)
        return {}
    present: dict[int, Path] = {}
    for position, file in zip(named, located, strict=True):
        if file.is_file():
            present[position] = file
        else:
            where = f"image {rows[position].get('id')} ({named[position]})"
            report.error(where, f"there is no file {report.place(file)}", fix=_MISSING)
    return present


def _report_unlisted(files: dict[int, Path], report: Report) -> None:
    """Image files that lie beside listed ones, but are not listed."""
    listed = set(files.values())
    for folder in sorted({file.parent for file in listed}):
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in IMAGE_SUFFIXES and file not in listed:
                report.warning(
                    report.place(file), "the JSON does not list this image", fix=_UNLISTED
                )
