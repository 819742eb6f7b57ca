"""References drawn on their frame, as a person would have set them."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from pixelkin.grouping.references import Box, Click, Mask, Reference
from pixelkin.masks import mask_to_polygons, palette

_WHITE = (255, 255, 255)


def draw_reference(
    image: UInt8[np.ndarray, "h w 3"], reference: Reference, size_hw: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a reference on it: a dot, a stroke, a rectangle or an outline.

    Args:
        image: uint8 (H, W, 3), RGB; a frame at any scale.
        reference: in pixels of the frame at its own size.
        size_hw: height and width of the frame at its own size.
    """
    scale = np.array([image.shape[1] / size_hw[1], image.shape[0] / size_hw[0]])
    canvas = image.copy()
    if isinstance(reference, Mask):
        for object_id in reference.object_ids:
            lines = mask_to_polygons(reference.labels == object_id)
            _stroke(canvas, [(line + 0.5) * scale for line in lines], object_id, width=2)
    elif isinstance(reference, Box):
        x0, y0, x1, y1 = reference.box_xyxy
        corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) * scale
        _stroke(canvas, [corners], reference.object_id, width=3)
    elif isinstance(reference, Click):
        x, y = (round(v) for v in np.array(reference.point_xy) * scale)
        cv2.circle(canvas, (x, y), 10, _WHITE, -1, cv2.LINE_AA)
        cv2.circle(canvas, (x, y), 7, _colour(reference.object_id), -1, cv2.LINE_AA)
    else:
        points = np.array(reference.points_xy) * scale
        width = max(4, round(reference.width_px * scale[0]))
        _stroke(canvas, [points], reference.object_id, width=width, closed=False)
    return canvas


def _stroke(
    canvas: UInt8[np.ndarray, "h w 3"],
    lines: list[np.ndarray],
    object_id: int,
    *,
    width: int,
    closed: bool = True,
) -> None:
    # The white rim shows dark colours on dark frames.
    points = [np.rint(line).astype(np.int32) for line in lines]
    cv2.polylines(canvas, points, closed, _WHITE, width + 4, cv2.LINE_AA)
    cv2.polylines(canvas, points, closed, _colour(object_id), width, cv2.LINE_AA)


def _colour(object_id: int) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in palette()[object_id])
    return r, g, b
