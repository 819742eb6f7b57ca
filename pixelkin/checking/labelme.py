"""`pixelkin check` of LabelMe: one JSON per image, with shapes drawn by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pixelkin.checking.coco_tables import read_json
from pixelkin.checking.files import ImageFacts, check_images, check_size, is_side
from pixelkin.checking.regions import TINY_PX, check_polygon, read_points, region_of_polygons
from pixelkin.checking.report import Progress, Report
from pixelkin.data.reading import IMAGE_SUFFIXES
from pixelkin.masks import MAX_PIXELS

_KINDS = ("polygon", "rectangle", "circle")

_SHAPES = "save the file again with LabelMe: 'shapes' is a list of objects"
_NO_IMAGE = "put the image beside the JSON, or correct imagePath"
_NO_JSON = "save the image in LabelMe, without shapes where nothing is on it; or remove it"
_NONE = "annotate the images, or choose the folder that holds the JSON files"
_SIDES = "write imageHeight and imageWidth in pixels"
_LABEL = "give the shape a label"
_KIND = "draw a polygon: the loader fills polygons, rectangles and circles only"
_POINTS = "draw it again, each point as [x, y]"
_EMPTY = "draw it again, or remove the shape"


def check_labelme(root: Path, images_dir: Path | None, report: Report, each: Progress) -> None:
    """Report every problem of LabelMe files in a folder (or of one file) and of their images.

    Args:
        root: folder of JSON files, or one such file.
        images_dir: folder of the images; beside the JSON where None.
        report: is added to.
        each: shows progress.
    """
    files = [root] if root.is_file() else sorted(root.glob("[!.]*.json"))
    contents = {path: read_json(path, report) for path in files}
    images: dict[Path, Path] = {}
    for path, content in contents.items():
        image = _image_of(path, content, images_dir)
        if image is not None:
            images[path] = image
        elif isinstance(content, dict) and not content.get("imageData"):
            what = f"its image {content.get('imagePath')!r} is not there"
            report.error(report.place(path), what, fix=_NO_IMAGE)
    facts = check_images(sorted(set(images.values())), report, each)
    folder = images_dir or (root if root.is_dir() else None)
    for image in sorted(folder.iterdir()) if folder else ():
        if image.suffix.lower() in IMAGE_SUFFIXES and image not in facts:
            report.warning(report.place(image), "has no JSON", fix=_NO_JSON)
    report.images += len(files)
    before = report.objects
    for path in each("annotations", files):
        if contents[path] is not None:
            _check_file(path, contents[path], facts.get(images.get(path, path)), report)
    if report.objects == before:
        report.error(report.place(root), "holds no annotation", fix=_NONE)


def _image_of(path: Path, content: Any, images_dir: Path | None) -> Path | None:
    name = content.get("imagePath") if isinstance(content, dict) else None
    folder = images_dir or path.parent
    # Paths of another machine are common: its folders and its separator are not ours.
    names = [name, name.replace("\\", "/").split("/")[-1]] if isinstance(name, str) else []
    found = [folder / one for one in names if one]
    found += [folder / f"{path.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
    return next((one for one in found if one.is_file()), None)


def _check_file(path: Path, content: Any, facts: ImageFacts | None, report: Report) -> None:
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        report.error(report.place(path), "has no list of objects 'shapes'", fix=_SHAPES)
        return
    report.objects += len(shapes)
    report.empty_images += not shapes
    height, width = content.get("imageHeight"), content.get("imageWidth")
    told = is_side(height) and is_side(width)
    if not told and (height is not None or width is not None):
        what = f"imageHeight is {str(height)[:20]}, imageWidth {str(width)[:20]}"
        report.error(report.place(path), what, fix=_SIDES)
    check_size(facts, (height, width) if told else None, report.place(path), report)
    size_hw = (height, width) if told else facts.upright_hw if facts else None
    for number, shape in enumerate(shapes):
        _check_shape(shape, size_hw, f"{report.place(path)}, shape {number}", report)


def _check_shape(
    shape: dict[str, Any], size_hw: tuple[int, int] | None, where: str, report: Report
) -> None:
    label, kind, points = (
        shape.get("label"),
        shape.get("shape_type", "polygon"),
        shape.get("points"),
    )
    if not isinstance(label, str) or not label.strip():
        report.error(where, f"its label is {label!r}", fix=_LABEL)
    if kind not in _KINDS:
        report.error(where, f"is a {kind}", fix=_KIND)
        return
    if not isinstance(points, list) or not all(
        isinstance(point, list) and len(point) == 2 for point in points
    ):
        report.error(where, "its points are no list of [x, y]", fix=_POINTS)
        return
    if kind != "polygon":
        if len(points) != 2:
            report.error(where, f"is a {kind} of {len(points)} points, not 2", fix=_POINTS)
        return
    outline = read_points([v for point in points for v in point], where, report)
    if outline is None:
        return
    check_polygon(outline, size_hw, where, report)
    if size_hw is not None and math.prod(size_hw) <= MAX_PIXELS:
        area = region_of_polygons([outline], size_hw).area_px
        if area < TINY_PX:
            report.warning(where, f"covers fewer than {TINY_PX} pixels", fix=_EMPTY)
