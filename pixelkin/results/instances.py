"""Results of stills: COCO JSON, YOLO-seg, LabelMe, index PNG, overlays.

Every writer takes one still at a time, and decodes one object at a time within its bounding box.
Each file is there whole or not at all. Objects without a pixel are left out: no format knows them.

| Format | overlaps | holes | parts | score |
|---|---|---|---|---|
| COCO JSON | kept | kept | kept | kept |
| LabelMe | kept | kept, cut open by a line without width | kept, one shape each | in words |
| YOLO-seg | kept | kept, for readers that fill as OpenCV does | joined by lines of a pixel | lost |
| index PNG | the better score on top | kept | kept | lost, and the class too |
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, TextIO

import cv2
import numpy as np
import yaml  # type: ignore[import-untyped]
from jaxtyping import Integer, UInt8, UInt16
from PIL import Image

from pixelkin.errors import PixelkinError
from pixelkin.files import PartwiseWriter, atomic_path, atomic_write
from pixelkin.masks import palette, rle_area, rle_box_xywh, write_indexed_png
from pixelkin.results.outlines import centre_outline, decode_window, edge_outlines
from pixelkin.structures import MAX_OBJECT_ID, Instances, nth_instance_id

MAX_INDEX = 65535
"""Largest id that an index PNG of 16 bits holds."""

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


# COCO JSON


class CocoWriter(PartwiseWriter):
    """Objects of many stills in one COCO JSON with compressed run lengths.

    Category ids are the indices into `class_names` plus 1, ids of images and annotations count
    from 1. When the block raises, nothing is left and a file that stood there stays.

    Example:
        with CocoWriter("instances.json", class_names=("nucleus",)) as coco:
            for path in paths:
                coco.write(path.name, segmenter.segment(read_image(path)))

    Args:
        path: the .json file.
        class_names: of the categories.
        form: "dataset" has images, categories, and annotations with bbox, area, and score beside;
            "results" is the plain list that `COCO.loadRes` takes to evaluate it against a truth.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        class_names: Sequence[str],
        form: Literal["dataset", "results"] = "dataset",
    ) -> None:
        super().__init__(path)
        self.class_names = tuple(class_names)
        self.form = form
        self._images: list[dict[str, Any]] = []
        self._count = 0
        self._file: TextIO

    def _open(self, temporary: Path, stack: ExitStack) -> None:
        self._file = stack.enter_context(open(temporary, "w", encoding="utf-8"))  # noqa: SIM115
        # Annotations, the bulk, go out as they come; the short lists follow.
        self._file.write("[" if self.form == "results" else '{"annotations": [')

    def write(self, file_name: str, found: Instances, *, image_id: int | None = None) -> None:
        """Append one still.

        Args:
            file_name: of the image, from the folder that the images are in.
            found: its objects.
            image_id: that of the truth, where the two are to be compared; else counted on from 1.
        """
        height, width = found.size_hw
        number = len(self._images) + 1 if image_id is None else image_id
        self._images.append(
            {"id": number, "file_name": file_name, "height": height, "width": width}
        )
        for category, score, rle in _objects(found, self.class_names):
            entry: dict[str, Any] = {
                "image_id": number,
                "category_id": category + 1,
                "segmentation": {"size": [height, width], "counts": rle.decode("ascii")},
                "bbox": list(rle_box_xywh(rle, found.size_hw)),
                "score": score,
            }
            if self.form == "dataset":
                area = rle_area(rle, found.size_hw)
                entry |= {"id": self._count + 1, "area": area, "iscrowd": 0}
            self._file.write((",\n" if self._count else "\n") + json.dumps(entry))
            self._count += 1

    def _finish(self) -> None:
        if self.form == "results":
            self._file.write("\n]\n")
            return
        names = enumerate(self.class_names, start=1)
        rest = {
            "info": {"description": "Instances found by pixelkin"},
            "licenses": [],
            "images": self._images,
            "categories": [{"id": number, "name": name} for number, name in names],
        }
        self._file.write("\n],\n" + json.dumps(rest)[1:] + "\n")


# Polygons


def write_yolo_labels(path: str | os.PathLike[str], found: Instances) -> None:
    """Write the objects of one still as YOLO-seg labels: `class x1 y1 x2 y2 …` per line.

    Points are centres of border pixels, divided by width and height; a quarter of a pixel is
    added, so that readers that round and readers that cut off both come to the same pixel. One
    line holds one polygon: parts are joined by lines there and back, the nearest first.

    Args:
        path: the .txt file, named as the image.
        found: its objects; a file without lines says that somebody looked and found none.
    """
    height, width = found.size_hw
    lines = []
    for category, _, rle in _objects(found):
        outline = centre_outline(*decode_window(rle, found.size_hw))
        # Objects of one or two pixels are polygons too.
        points = np.resize(outline, (max(3, len(outline)), 2))
        values = (points + 0.25) / (width, height)
        lines.append(f"{category} " + " ".join(f"{value:.6g}" for value in values.ravel()))
    atomic_write(path, "".join(f"{line}\n" for line in lines))


def write_yolo_names(path: str | os.PathLike[str], class_names: Sequence[str]) -> None:
    """Write the class names as YAML, `names: {0: …}`: what trainers add their folders to."""
    names = {"names": dict(enumerate(class_names))}
    atomic_write(path, yaml.safe_dump(names, sort_keys=False, allow_unicode=True))


def write_labelme(
    path: str | os.PathLike[str],
    found: Instances,
    *,
    class_names: Sequence[str],
    image_path: str | os.PathLike[str],
) -> None:
    """Write the objects of one still as a LabelMe JSON of polygons.

    The parts of an object share a `group_id`; an object in one piece has none. The score stands in
    the description.

    Args:
        path: the .json file.
        found: the objects.
        class_names: of the categories: the labels.
        image_path: of the image; written as the way there from the JSON's folder.
    """
    shapes: list[dict[str, Any]] = []
    for number, (category, score, rle) in enumerate(_objects(found, class_names)):
        outlines = edge_outlines(*decode_window(rle, found.size_hw))
        shapes += [
            {
                "label": class_names[category],
                "points": outline.tolist(),
                "group_id": number + 1 if len(outlines) > 1 else None,
                "description": f"score {score:.3f}",
                "shape_type": "polygon",
                "flags": {},
            }
            for outline in outlines
        ]
    content: dict[str, Any] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": _way(image_path, Path(path).parent),
        "imageData": None,
        "imageHeight": found.size_hw[0],
        "imageWidth": found.size_hw[1],
    }
    atomic_write(path, json.dumps(content, ensure_ascii=False) + "\n")


def _way(path: str | os.PathLike[str], start: Path) -> str:
    try:
        return Path(os.path.relpath(path, start)).as_posix()
    except ValueError:
        # No way leads from one drive to another.
        return Path(path).absolute().as_posix()


# Pictures


def labels_from_instances(found: Instances) -> UInt16[np.ndarray, "h w"]:
    """Label map, 0 background: the n-th object has label `nth_instance_id(n)`, never 255.

    Where objects overlap, the better score lies on top; one that others cover wholly keeps its
    label, but no pixel.

    Raises `PixelkinError` where there are more objects than 16 bits can number.
    """
    if found.rles and nth_instance_id(len(found) - 1) > MAX_INDEX:
        raise PixelkinError(
            f"{len(found)} objects were found, expected at most {MAX_INDEX - 1}, the ids of 16 "
            "bits; raise the least score, or write COCO JSON"
        )
    labels = np.zeros(found.size_hw, np.uint16)
    for index in _order(found)[::-1]:
        window, (x, y) = decode_window(found.rles[index], found.size_hw)
        place = labels[y : y + window.shape[0], x : x + window.shape[1]]
        place[window] = nth_instance_id(index)
    return labels


def write_instance_png(path: str | os.PathLike[str], found: Instances) -> None:
    """Write the label map of one still as an index PNG.

    Up to 254 objects make an 8-bit palette image, more a 16-bit grey one; no object has id 255.
    """
    labels = labels_from_instances(found)
    if len(found) <= MAX_OBJECT_ID:
        write_indexed_png(path, labels)
        return
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG", compress_level=3)


def instance_overlay(
    image: UInt8[np.ndarray, "h w 3"], found: Instances, *, opacity: float = 0.3
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with every object tinted and outlined in the colour of its index.

    Outlines are the objects' outermost pixels, one wide, so that crowds stay readable.

    Args:
        image: RGB.
        found: its objects, any number.
        opacity: of the tint, from 0 (outlines only) to 1.
    """
    if image.shape[:2] != tuple(found.size_hw):
        raise PixelkinError(
            f"the masks are {found.size_hw[1]}×{found.size_hw[0]}, expected {image.shape[1]}×"
            f"{image.shape[0]} like the image; give the objects of this image"
        )
    if not 0 <= opacity <= 1:
        raise PixelkinError(f"opacity is {opacity}, expected 0 to 1; give a fraction")
    labels = labels_from_instances(found)
    inside, edge = labels != 0, _edges(labels)
    result = image.copy()
    result[inside] = np.rint(
        image[inside] * (1 - opacity) + _bright_colours(labels[inside]) * opacity
    )
    result[edge] = _bright_colours(labels[edge])
    return result


def write_instance_overlay(
    path: str | os.PathLike[str], image: UInt8[np.ndarray, "h w 3"], found: Instances
) -> None:
    """Write `instance_overlay` as a PNG."""
    picture = Image.fromarray(instance_overlay(image, found))
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=3)


def _edges(labels: UInt16[np.ndarray, "h w"]) -> np.ndarray[Any, Any]:
    """Pixels of objects beside a pixel of something else; the edge of the image is none."""
    if not labels.size:
        return np.zeros(labels.shape, bool)
    changed = (cv2.dilate(labels, _CROSS) != labels) | (cv2.erode(labels, _CROSS) != labels)
    edges: np.ndarray[Any, Any] = changed & (labels != 0)
    return edges


def _bright_colours(ids: Integer[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    """Palette colours by id at full brightness: many of the palette are near black."""
    colours = palette()[1 : MAX_OBJECT_ID + 1].astype(np.float64)
    bright = np.rint(colours * (255 / colours.max(axis=1, keepdims=True))).astype(np.uint8)
    chosen: UInt8[np.ndarray, "n 3"] = bright[(ids.astype(np.int64) - 1) % MAX_OBJECT_ID]
    return chosen


# Order


def _order(found: Instances) -> list[int]:
    """Indices of the objects, best first; equal scores as they come."""
    return sorted(range(len(found)), key=lambda index: -found.scores[index])


def _objects(
    found: Instances, class_names: Sequence[str] | None = None
) -> Iterator[tuple[int, float, bytes]]:
    """(category, score, counts) of every object with a pixel, best first."""
    for index in _order(found):
        category, rle = found.categories[index], found.rles[index]
        if class_names is not None and not 0 <= category < len(class_names):
            raise PixelkinError(
                f"an object has category {category}, but there are {len(class_names)} class names; "
                "give the names of the model that found it"
            )
        if rle_area(rle, found.size_hw):
            yield category, found.scores[index], rle
