"""Image tags that other encodings imply: folder names, and annotations reduced to their classes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy.io import loadmat

from pixelkin.data.clips.ccp import CLASS_COUNT, read_classes
from pixelkin.data.instances.coco_json import coco_faults, known_ids, read_coco
from pixelkin.data.instances.coco_panoptic import panoptic_faults
from pixelkin.data.reading import IMAGE_SUFFIXES, decoded, require_folder
from pixelkin.data.tags.files import read_csv, read_json_lines
from pixelkin.data.tags.image_tags import Listing, TagProblem, TagRow, image_key
from pixelkin.errors import PixelkinError

_CCP_LAYOUT = "the CCP layout: label_list.mat and annotations/image-level/0001.mat"
_EXPECTED = (
    "a .csv or .jsonl file, a COCO .json, a folder of VOC .xml files, CCP's folder, or a folder "
    "with one folder of images per tag"
)


def read_tags(path: str | os.PathLike[str]) -> Listing:
    """Tags of any encoding here, told by the suffix or by what lies in the folder.

    Raises:
        PixelkinError: nothing known is there, or the reader raises.
    """
    source = Path(path)
    suffix = source.suffix.lower()
    if source.is_dir():
        if (source / "label_list.mat").is_file():
            return read_ccp(source)
        if (source / "Annotations").is_dir():
            return read_voc_xml(source / "Annotations")
        return read_voc_xml(source) if _is_voc(source) else read_folders(source)
    if not source.exists():
        raise PixelkinError(f"no tags at {source}: expected {_EXPECTED}; check the path")
    if suffix in (".csv", ".tsv", ".txt"):
        return read_csv(source)
    if suffix in (".jsonl", ".ndjson"):
        return read_json_lines(source)
    if suffix == ".json":
        return read_coco_tags(source)
    raise PixelkinError(f"{source} is of no known kind: expected {_EXPECTED}; convert it")


def _is_voc(folder: Path) -> bool:
    """Whether the XML files of a folder are what it is about, or strays beside folders per tag."""
    files = _xml_files(folder)
    if not files:
        return False
    counts = [sum(map(_is_image, one.rglob("*"))) for one in _tag_folders(folder)]
    # VOC's images may lie beside its XML, in a folder: one tag on every image is no tag, and where
    # there are several folders, VOC has about one XML for each image.
    return sum(map(bool, counts)) < 2 or len(files) > sum(counts) / 2


def read_folders(root: str | os.PathLike[str]) -> Listing:
    """Tags from folder names: `root/<tag>/a.jpg`; an image in several folders has several tags.

    Images are one by their path below the folder of the tag. Files directly in `root` are images
    without a tag; a folder without images is a class without an image. XML beside the folders is
    told, for it may be VOC's.

    Raises:
        PixelkinError: the folder is missing or holds no folder.
    """
    base = require_folder(root, "a folder of images per tag")
    folders = _tag_folders(base)
    if not folders:
        raise PixelkinError(
            f"{base} holds no folder: expected one per tag, with its images in it; give the folder "
            "that holds those of the tags"
        )
    rows = [TagRow(one.name, (), str(base)) for one in sorted(base.iterdir()) if _is_image(one)]
    for folder in folders:
        rows += (
            TagRow(path.relative_to(folder).as_posix(), (folder.name,), str(folder))
            for path in sorted(folder.rglob("*"))
            if _is_image(path)
        )
    listing = Listing(str(base), rows, tuple(folder.name for folder in folders))
    if strays := _xml_files(base):
        listing.problems.append(
            TagProblem(
                str(strays[0]),
                f"{len(strays)} XML beside {len(folders)} folders of images is not read: VOC has "
                "one for each image",
                "drop it, or give a folder of XML alone",
                "warning",
            )
        )
    return listing


def _tag_folders(base: Path) -> list[Path]:
    return sorted(one for one in base.iterdir() if one.is_dir() and one.name[0] != ".")


def _xml_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*.xml"))


def _is_image(path: Path) -> bool:
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def read_coco_tags(path: str | os.PathLike[str]) -> Listing:
    """Tags from a COCO JSON: the categories annotated in each image, crowds too.

    A panoptic one has a list of segments per image; categories of things and of stuff are tags, and
    images without a list are left out, since nobody looked at them.
    Segmentations and image files are not looked at; boxes alone, which teach no mask, do here.

    Raises:
        PixelkinError: the file is missing or no COCO JSON.
    """
    source = Path(path)
    content = read_coco(source)
    panoptic = any("segments_info" in one for one in content["annotations"])
    faults = panoptic_faults(content) if panoptic else coco_faults(content)
    problems = [_fault(source, text) for text in faults]
    # Faulty records are named above; what hangs on them is left out.
    names = {
        one["id"]: one["name"]
        for one in content["categories"]
        if one.get("id") in known_ids([one]) and isinstance(one.get("name"), str)
    }
    tags: dict[Any, list[str]] = {}
    for record in content["annotations"]:
        image = record.get("image_id")
        for category in _categories(record):
            if isinstance(image, int | str) and category in names:
                tags.setdefault(image, []).append(names[category])
    rows = [
        # Two annotations of one class are no double tag.
        TagRow(name, tuple(dict.fromkeys(tags.get(key, ()))), f"{source}: image {key}")
        for key, name in ((one.get("id"), one.get("file_name")) for one in content["images"])
        if isinstance(key, int | str) and isinstance(name, str) and name
        if key in tags or not panoptic
    ]
    return Listing(str(source), rows, tuple(dict.fromkeys(names.values())), problems)


def _categories(record: dict[str, Any]) -> Iterator[int | str]:
    """The category ids of an annotation: its own, or its segments' if it is panoptic."""
    segments = record.get("segments_info", [record])
    for one in segments if isinstance(segments, list) else ():
        category = one.get("category_id") if isinstance(one, dict) else None
        if isinstance(category, int | str):
            yield category


def _fault(path: Path, text: str) -> TagProblem:
    """A problem from a one-line error that ends with what to do."""
    what, _, fix = text.rpartition("; ")
    return TagProblem(str(path), what or text, fix if what else "correct it")


def read_voc_xml(folder: str | os.PathLike[str]) -> Listing:
    """Tags from PASCAL VOC `Annotations/*.xml`: the names of the objects, difficult ones too.

    An image has the name of its XML file; `filename` inside is not trusted, since copies keep it.
    A file that is no XML is a problem, and the others are read.

    Raises:
        PixelkinError: the folder is missing or holds no XML.
    """
    base = require_folder(folder, "the XML annotations of VOC")
    listing = Listing(str(base), [])
    for path in _xml_files(base):
        try:
            root = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, UnicodeError, ValueError) as error:
            listing.problems.append(
                TagProblem(str(path), f"cannot read the XML: {error}", "replace the file")
            )
            continue
        names = ((one.findtext("name") or "").strip() for one in root.iter("object"))
        tags = tuple(dict.fromkeys(filter(None, names)))
        listing.rows.append(TagRow(path.stem, tags, str(path)))
    if not listing.rows and not listing.problems:
        raise PixelkinError(
            f"{base} holds no .xml file: expected one per image; give the folder that holds them"
        )
    return listing


def read_ccp(root: str | os.PathLike[str], *, maps: bool = True) -> Listing:
    """Tags of Clothing Co-Parsing: 58 classes, null being none.

    Args:
        root: folder that holds `label_list.mat` and `annotations`.
        maps: read also the tags that the maps in `annotations/pixel-level` imply: the classes of
            one pixel or more.

    Raises:
        PixelkinError: a folder or the list of classes is missing, or the list is another.
    """
    base = require_folder(root, _CCP_LAYOUT)
    annotations = base / "annotations"
    names = _ccp_class_names(base / "label_list.mat")
    listing = Listing(str(base), [], names)
    files = sorted(require_folder(annotations / "image-level", _CCP_LAYOUT).glob("[!.]*.mat"))
    if maps:
        folder = require_folder(annotations / "pixel-level", _CCP_LAYOUT)
        files += sorted(folder.glob("[!.]*.mat"))
    for path in files:
        try:
            if path.parent.name == "image-level":
                classes = _ccp_tags(path)
            else:
                classes = np.flatnonzero(np.bincount(read_classes(path).ravel())).tolist()
        except PixelkinError as error:
            # A corrupt file of hundreds stops nothing.
            listing.problems.append(_fault(path, str(error)))
            continue
        tags = tuple(names[one - 1] for one in classes if one)
        listing.rows.append(TagRow(image_key(path.stem), tags, str(path)))
    return listing


def _ccp_class_names(path: Path) -> tuple[str, ...]:
    def decode() -> list[str]:
        return [str(one[0]) for one in loadmat(path)["label_list"].ravel()]

    names = decoded(path, decode, kind="list of classes")
    if len(names) != CLASS_COUNT or names[0] != "null":
        raise PixelkinError(
            f"{path} lists {len(names)} classes: expected {CLASS_COUNT}, the first null; use "
            "CCP's label_list.mat"
        )
    return tuple(names[1:])


def _ccp_tags(path: Path) -> list[int]:
    tags = decoded(
        path, lambda: loadmat(path, variable_names=["tags"]).get("tags"), kind="MAT-file"
    )
    if not isinstance(tags, np.ndarray) or tags.dtype.kind not in "ui":
        raise PixelkinError(f"{path} holds no tags of integers; use CCP's image-level file")
    values: list[int] = tags.ravel().astype(np.int64).tolist()
    if any(not 0 <= one < CLASS_COUNT for one in values):
        raise PixelkinError(f"{path} holds tag {max(values)}: expected 0 to 58; replace the file")
    return values
