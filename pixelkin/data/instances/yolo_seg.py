"""YOLO-seg text labels: one line per instance, `class x1 y1 x2 y2 …`, coordinates in [0, 1].

Format: https://docs.ultralytics.com/datasets/segment/ (read from its description). Parts of one
instance are joined by their writers with thin bridges into a single polygon.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import yaml  # type: ignore[import-untyped]
from jaxtyping import Float64, Int32, Int64

from pixelkin.data.instances.instance_png import rles_by_id
from pixelkin.data.reading import decoded, images_by_stem, read_image, require_folder
from pixelkin.errors import PixelkinError
from pixelkin.structures import Instance, InstanceSample, nth_instance_id

NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "config.yaml", "classes.txt", "obj.names")
"""Files that class names are looked for in."""

# Writers round, and some polygons touch the border: so little outside is clipped, not refused.
_TOLERANCE = 0.01
_MAX_CLASS = 65535


@dataclass(frozen=True)
class YoloObject:
    """One line of a label file.

    Attributes:
        class_id: the number it begins with.
        points: float64 (points, 2), x and y in [0, 1].
        line: its number in the file, from 1.
    """

    class_id: int
    points: Float64[np.ndarray, "points 2"]
    line: int


class YoloSeg:
    """Images and label files of the same stem.

    An image WITHOUT a label file is skipped, since nobody looked at it. An image with an EMPTY
    label file stays: somebody looked and found nothing, all of it is background.

    Instances are in the order of the lines; a polygon's outline belongs to it. The category is
    the rank of a line's class among the sorted ids that have names, and those may have gaps.
    Without names the class itself is the category, and is its name.

    Args:
        images_dir: folder of images; sub-folders are not read.
        labels_dir: folder of `<stem>.txt`.
        class_names: the names, by id or from 0 on; or the file that holds them, as
            `read_class_names` reads it. Without it the first of `NAME_FILES` with names that lies
            in the folder of labels, its parent or the next.

    Raises:
        PixelkinError: a folder is missing or empty, no image has labels, or names cannot be read;
            on reading, a file is corrupt, a line is not a polygon, or its class has no name.
    """

    names: list[str]

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        labels_dir: str | os.PathLike[str],
        *,
        class_names: Sequence[str] | Mapping[int, str] | Path | None = None,
    ) -> None:
        images = images_by_stem(images_dir)
        labels = require_folder(labels_dir, "label files named <image>.txt")
        self._files = {
            stem: (image, labels / f"{stem}.txt")
            for stem, image in images.items()
            if (labels / f"{stem}.txt").is_file()
        }
        if not self._files:
            raise PixelkinError(
                f"no image of {images_dir} has a label file in {labels}: expected names like "
                f"{next(iter(images))}.txt; check both folders"
            )
        self.names = list(self._files)
        known = _class_names(class_names, labels)
        self._rank_of = {key: rank for rank, key in enumerate(sorted(known))}
        self._known = tuple(known[key] for key in self._rank_of)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the categories; without a file of names all labels are read for their ids."""
        if self._known:
            return self._known
        used = (one.class_id for _, path in self._files.values() for one in read_objects(path))
        count = max(used, default=-1) + 1
        return tuple(map(str, range(count)))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        image_path, labels_path = self._files[name]
        image = read_image(image_path)
        instances = tuple(
            Instance(
                polygon_rle(one.points, size_hw=(image.shape[0], image.shape[1])),
                self._category(one, labels_path),
                key=f"line {one.line}",
            )
            for one in read_objects(labels_path)
        )
        return InstanceSample(image, instances, name)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._files[self.names[index]][0]

    def _category(self, one: YoloObject, path: Path) -> int:
        if not self._rank_of:
            return one.class_id
        if one.class_id not in self._rank_of:
            raise PixelkinError(
                f"{path}, line {one.line} has class {one.class_id}, which has no name: expected "
                f"one of {len(self._rank_of)} from {min(self._rank_of)} to {max(self._rank_of)}; "
                "add it to the names"
            )
        return self._rank_of[one.class_id]


# Names of classes


def read_class_names(path: Path) -> dict[int, str]:
    """Class id → name, of a YAML with `names` (a list, or a mapping by id) or of lines of text.

    A YAML without `names` gives none.

    Raises:
        PixelkinError: the file is missing or broken, or its names are no names.
    """
    text = decoded(path, lambda: path.read_text(encoding="utf-8-sig"), kind="file of class names")
    if path.suffix.lower() not in (".yaml", ".yml"):
        return {number: line.strip() for number, line in enumerate(text.rstrip().splitlines())}
    content = decoded(path, lambda: yaml.safe_load(text), kind="file of class names")
    names = content.get("names") if isinstance(content, dict) else None
    if names is None:
        return {}
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(isinstance(key, int) for key in names):
        raise PixelkinError(
            f"{path} has names that are neither a list nor a mapping by number: expected "
            "names: [cat, dog], or 0: cat"
        )
    # YAML reads names such as "no" and "1" as a truth value and a number.
    return {key: str(name) for key, name in names.items()}


def _class_names(
    given: Sequence[str] | Mapping[int, str] | Path | None, labels: Path
) -> dict[int, str]:
    if isinstance(given, Path):
        return read_class_names(given)
    if isinstance(given, Mapping):
        return dict(given)
    if given is not None:
        return dict(enumerate(given))
    place = labels.absolute()
    for folder in (place, place.parent, place.parent.parent):
        for name in NAME_FILES:
            found = read_class_names(folder / name) if (folder / name).is_file() else {}
            if found:
                return found
    return {}


# Polygons


def read_objects(path: Path) -> list[YoloObject]:
    """The lines of a label file, blank ones left out.

    Raises:
        PixelkinError: the file is not text, or a line is no class with a polygon of normalised
            points.
    """
    text = decoded(path, lambda: path.read_text(encoding="utf-8"), kind="label file")
    return [
        _parse_line(line.split(), number, where=f"{path}, line {number}")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def read_polygons(path: Path) -> list[Float64[np.ndarray, "points 2"]]:
    """The polygons of `read_objects`, each float64 (points, 2) of x, y in [0, 1]."""
    return [one.points for one in read_objects(path)]


def _parse_line(fields: list[str], line: int, *, where: str) -> YoloObject:
    if len(fields) == 5:
        raise PixelkinError(
            f"{where} is a box (5 values): expected a class and at least 3 points; "
            "use the segmentation labels, not those for detection"
        )
    if len(fields) < 7 or len(fields) % 2 == 0:
        raise PixelkinError(
            f"{where} has {len(fields)} values: expected a class and at least 3 pairs of x y"
        )
    try:
        values = [float(field) for field in fields]
    except ValueError as error:
        raise PixelkinError(f"{where}: {error}; expected numbers only") from error
    for value in values[1:]:
        if not (math.isfinite(value) and -_TOLERANCE <= value <= 1 + _TOLERANCE):
            raise PixelkinError(
                f"{where} has the coordinate {value:g}: expected 0 to 1; "
                "divide x by the image's width and y by its height"
            )
    if values[0] not in range(_MAX_CLASS + 1):
        raise PixelkinError(
            f"{where} has class {fields[0]}: expected a whole number from 0 to {_MAX_CLASS}"
        )
    return YoloObject(int(values[0]), np.array(values[1:]).clip(0, 1).reshape(-1, 2), line)


def polygon_rle(points: Float64[np.ndarray, "points 2"], *, size_hw: tuple[int, int]) -> bytes:
    """COCO compressed counts of a normalised polygon, its outline included.

    Writers trace the outermost pixels of a mask, so the outline belongs to it.
    """
    height, width = size_hw
    corners = _corners(points, size_hw=size_hw)
    left, right = int(corners[:, 0].min()), int(corners[:, 0].max())
    canvas = np.zeros((height, right - left + 1), np.uint8)
    cv2.fillPoly(canvas, [corners - np.array((left, 0), np.int32)], (1,))
    return rles_by_id(canvas, left=left, full_width=width)[1]


def _corners(
    points: Float64[np.ndarray, "points 2"], *, size_hw: tuple[int, int]
) -> Int32[np.ndarray, "points 2"]:
    height, width = size_hw
    pixels = np.rint(points * (width, height))
    return np.minimum(pixels, (width - 1, height - 1)).astype(np.int32)


def paint_polygons(
    polygons: list[Float64[np.ndarray, "points 2"]], *, size_hw: tuple[int, int]
) -> Int64[np.ndarray, "h w"]:
    """Label map int64 (H, W) of normalised polygons, smaller ones on top of larger ones.

    A polygon's outline belongs to it: writers trace the outermost pixels of a mask. Of equal
    sizes the later one lies on top.
    """
    corners = [_corners(points, size_hw=size_hw) for points in polygons]
    areas = [float(cv2.contourArea(points)) for points in corners]
    canvas = np.zeros(size_hw, np.int32)
    for index in sorted(range(len(corners)), key=lambda i: -areas[i]):
        cv2.fillPoly(canvas, [corners[index]], nth_instance_id(index))
    return canvas.astype(np.int64)
