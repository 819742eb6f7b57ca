"""YOLO-seg text labels: one line per instance, `class x1 y1 x2 y2 …`, coordinates in [0, 1].

Format: https://docs.ultralytics.com/datasets/segment/ (read from its description). Parts of one
instance are joined by their writers with thin bridges into a single polygon.
"""

import math
import os
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float64, Int64

from pixelkin.data.instance_png import (
    decoded,
    images_by_stem,
    read_image,
    require_folder,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample, nth_instance_id

# Writers round, and some polygons touch the border: so little outside is clipped, not refused.
_TOLERANCE = 0.01


class YoloSeg:
    """Images and label files of the same stem; classes are read past.

    An image WITHOUT a label file is skipped, since nobody looked at it. An image with an EMPTY
    label file stays: somebody looked and found nothing, all of it is background.

    The instance on line k (from 1, blank lines not counted) has id k, or k + 1 from 255 on.
    Where polygons overlap, the smaller one lies on top, so what stands before something larger is
    not swallowed; only an instance wholly covered by smaller or equal ones leaves no pixel.

    Args:
        images_dir: folder of images; sub-folders are not read.
        labels_dir: folder of `<stem>.txt`.

    Raises:
        PixelkinError: a folder is missing or empty, or no image has labels; on reading, a file is
            corrupt or a line is not a polygon.
    """

    names: list[str]

    def __init__(
        self, images_dir: str | os.PathLike[str], labels_dir: str | os.PathLike[str]
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

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image_path, labels_path = self._files[name]
        image = read_image(image_path)
        size_hw = (image.shape[0], image.shape[1])
        return Sample(image, paint_polygons(read_polygons(labels_path), size_hw=size_hw), name)


def read_polygons(path: Path) -> list[Float64[np.ndarray, "points 2"]]:
    """The polygons of a label file, each float64 (points, 2) of x, y in [0, 1].

    Raises:
        PixelkinError: the file is not text, or a line is no polygon of normalised points.
    """
    text = decoded(path, lambda: path.read_text(encoding="utf-8"), kind="label file")
    return [
        _parse_line(line.split(), where=f"{path}, line {number}")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _parse_line(fields: list[str], *, where: str) -> Float64[np.ndarray, "points 2"]:
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
    return np.array(values[1:]).clip(0, 1).reshape(-1, 2)


def paint_polygons(
    polygons: list[Float64[np.ndarray, "points 2"]], *, size_hw: tuple[int, int]
) -> Int64[np.ndarray, "h w"]:
    """Label map int64 (H, W) of normalised polygons, smaller ones on top of larger ones.

    A polygon's outline belongs to it: writers trace the outermost pixels of a mask. Of equal
    sizes the later one lies on top.
    """
    height, width = size_hw
    limit_xy = (width - 1, height - 1)
    corners = [
        np.minimum(np.rint(points * (width, height)), limit_xy).astype(np.int32)
        for points in polygons
    ]
    areas = [float(cv2.contourArea(points)) for points in corners]
    canvas = np.zeros(size_hw, np.int32)
    for index in sorted(range(len(corners)), key=lambda i: -areas[i]):
        cv2.fillPoly(canvas, [corners[index]], nth_instance_id(index))
    return canvas.astype(np.int64)
