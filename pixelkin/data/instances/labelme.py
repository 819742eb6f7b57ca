"""LabelMe annotations: one JSON of named shapes beside each image.

The format is read from what the program of that name (https://labelme.io) writes.
"""

import base64
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageOps

from pixelkin.data.instances.coco_json import polygons_rle
from pixelkin.data.reading import IMAGE_SUFFIXES, decoded, read_image, require_folder
from pixelkin.errors import PixelkinError
from pixelkin.masks import encode_rle
from pixelkin.structures import Instance, InstanceSample

IGNORE_LABEL = "__ignore__"
"""Label of what becomes `InstanceSample.ignore`, as the program's own scripts have it."""

_POINTS = {"polygon": "at least 3", "rectangle": "2", "circle": "2"}


@dataclass(frozen=True)
class _Shape:
    label: str
    kind: str
    points: Float64[np.ndarray, "points 2"]
    group: int | str | None
    where: str


class LabelMe:
    """The images of a folder of LabelMe JSONs; one without shapes has nothing on it.

    The rules:

    - Polygons and rectangles are filled as COCO's polygons are; a circle holds the pixels whose
      centre lies within the radius. Points, lines and other shapes are an error: they have no
      area.
    - Shapes of one label and one `group_id` are parts of one instance; without it each shape is
      an instance. Overlapping parts make a union.
    - `class_names` are the labels that occur, sorted; for that the constructor reads all files.
    - What is labelled `IGNORE_LABEL` is no instance and is ignored.
    - The image is `imagePath` from the JSON on, or the image of the JSON's stem beside it, or
      what `imageData` holds.

    Args:
        root: folder of the JSONs; sub-folders are not read.
        images_dir: folder of the images, where it is another.
        class_names: the labels in the order wanted; others are an error.

    Raises:
        PixelkinError: the folder is missing or empty, or a file is no LabelMe JSON; on reading,
            an image is missing, corrupt or of another size than listed, or a shape cannot be
            filled. The message names the file and the shape, counted from 0.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(
        self,
        root: str | os.PathLike[str],
        images_dir: str | os.PathLike[str] | None = None,
        *,
        class_names: Sequence[str] | None = None,
    ) -> None:
        folder = require_folder(root, "LabelMe JSONs")
        self._images = None if images_dir is None else require_folder(images_dir, "images")
        self._files = sorted(folder.glob("[!.]*.json"))
        if not self._files:
            raise PixelkinError(
                f"{folder} holds no .json file: expected LabelMe JSONs; give the folder that holds "
                "them"
            )
        self.names = [path.stem for path in self._files]
        if class_names is None:
            shapes = (shape for path in self._files for shape in _shapes(read_labelme(path), path))
            class_names = sorted({shape.label for shape in shapes} - {IGNORE_LABEL})
        self.class_names = tuple(class_names)
        self._category_of = {name: number for number, name in enumerate(self.class_names)}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        path = self._files[index]
        content = read_labelme(path)
        image = self._image(content, path)
        size_hw = (image.shape[0], image.shape[1])
        groups: dict[tuple[str, str], list[_Shape]] = {}
        for number, shape in enumerate(_shapes(content, path)):
            alone = f"shape {number}"
            key = alone if shape.group is None else f"group {shape.group}"
            groups.setdefault((shape.label, key), []).append(shape)
        instances: list[Instance] = []
        ignored: list[bytes] = []
        for (label, key), parts in groups.items():
            rles = [_shape_rle(part, size_hw) for part in parts]
            if label == IGNORE_LABEL:
                ignored += rles
                continue
            if label not in self._category_of:
                raise PixelkinError(
                    f"{parts[0].where} has label {label!r}: expected one of "
                    f"{', '.join(self.class_names)}; correct it or add the name"
                )
            instances.append(Instance(_union(rles, size_hw), self._category_of[label], key=key))
        ignore = _union(ignored, size_hw) if ignored else None
        return InstanceSample(image, tuple(instances), self.names[index], ignore)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still, None where it is in the JSON; see `Source`."""
        path = self._files[index]
        return self._file_of(read_labelme(path), path)

    def _file_of(self, content: dict[str, Any], path: Path) -> Path | None:
        listed = str(content.get("imagePath") or "").replace("\\", "/")
        folder = path.parent if self._images is None else self._images
        candidates = [folder / listed, folder / Path(listed).name] if listed else []
        candidates += [folder / f"{path.stem}{suffix}" for suffix in sorted(IMAGE_SUFFIXES)]
        return next((file for file in candidates if file.is_file()), None)

    def _image(self, content: dict[str, Any], path: Path) -> UInt8[np.ndarray, "h w 3"]:
        found = self._file_of(content, path)
        image = read_image(found) if found is not None else _embedded(content, path)
        height, width = image.shape[:2]
        listed_hw = (content.get("imageHeight") or height, content.get("imageWidth") or width)
        if listed_hw != (height, width):
            raise PixelkinError(
                f"{path} lists an image of {listed_hw[1]}×{listed_hw[0]}, but "
                f"{found or 'its imageData'} is {width}×{height} (upright by its EXIF "
                "orientation); correct the list or replace the image"
            )
        return image


def read_labelme(path: Path) -> dict[str, Any]:
    """The content of a LabelMe JSON, whose `shapes` are a list of objects.

    Raises:
        PixelkinError: the file is missing or no JSON, or has no such list.
    """
    content = decoded(path, lambda: json.loads(path.read_bytes()), kind="annotation file")
    shapes = content.get("shapes") if isinstance(content, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise PixelkinError(f"{path} has no list of objects 'shapes': expected a LabelMe JSON")
    return dict(content)


def _embedded(content: dict[str, Any], path: Path) -> UInt8[np.ndarray, "h w 3"]:
    data = content.get("imageData")
    if not isinstance(data, str):
        raise PixelkinError(
            f"{path} has no image: expected {content.get('imagePath') or path.stem} beside it or "
            "in images_dir, or imageData in it; add it"
        )

    def decode() -> UInt8[np.ndarray, "h w 3"]:
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            return np.array(ImageOps.exif_transpose(image).convert("RGB"))

    return decoded(path, decode, kind="imageData of")


def _shapes(content: dict[str, Any], path: Path) -> list[_Shape]:
    shapes = []
    for number, shape in enumerate(content["shapes"]):
        where = f"{path}: shape {number}"
        label, group = shape.get("label"), shape.get("group_id")
        if not isinstance(label, str) or not label:
            raise PixelkinError(f"{where} has label {label!r}: expected a name; give it one")
        if group is not None and not isinstance(group, int | str):
            raise PixelkinError(f"{where} has group_id {group!r}: expected an integer or null")
        try:
            points = np.array(shape.get("points"), np.float64).reshape(-1, 2)
        except (TypeError, ValueError, OverflowError) as error:
            raise PixelkinError(f"{where} has no points: expected pairs of x, y") from error
        shapes.append(_Shape(label, str(shape.get("shape_type", "polygon")), points, group, where))
    return shapes


def _shape_rle(shape: _Shape, size_hw: tuple[int, int]) -> bytes:
    if shape.kind not in _POINTS:
        raise PixelkinError(
            f"{shape.where} is a {shape.kind}: expected {', '.join(_POINTS)}; outline the object "
            "or delete the shape"
        )
    points = shape.points
    if (len(points) < 3) if shape.kind == "polygon" else (len(points) != 2):
        raise PixelkinError(
            f"{shape.where}, a {shape.kind}, has {len(points)} points: expected "
            f"{_POINTS[shape.kind]}; correct or delete it"
        )
    if shape.kind == "circle":
        return _circle_rle(shape, size_hw)
    if shape.kind == "rectangle":
        (x0, y0), (x1, y1) = points
        points = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    return polygons_rle([points.ravel().tolist()], size_hw, where=shape.where)


def _circle_rle(shape: _Shape, size_hw: tuple[int, int]) -> bytes:
    (centre_x, centre_y), (rim_x, rim_y) = shape.points
    radius_px = math.hypot(rim_x - centre_x, rim_y - centre_y)
    rows, columns = np.ogrid[: size_hw[0], : size_hw[1]]
    inside = (columns + 0.5 - centre_x) ** 2 + (rows + 0.5 - centre_y) ** 2 <= radius_px**2
    if not inside.any():
        raise PixelkinError(
            f"{shape.where} is a circle without a pixel in the image of {size_hw[1]}×{size_hw[0]}; "
            "correct or delete it"
        )
    return encode_rle(inside)


def _union(rles: list[bytes], size_hw: tuple[int, int]) -> bytes:
    merged = coco_mask.merge([{"size": list(size_hw), "counts": rle} for rle in rles])
    counts: bytes = merged["counts"]
    return counts
