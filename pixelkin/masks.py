"""Masks and what they are written as: label maps, run lengths, polygons, indexed PNG.

Run lengths are COCO's compressed counts (column-major); the palette is that of PASCAL VOC, which
DAVIS shares.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt8
from PIL import Image

from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path
from pixelkin.structures import (
    IGNORE,
    MAX_OBJECT_ID,
    InstanceSample,
    Sample,
    Segments,
    nth_instance_id,
)

MAX_PIXELS = 100_000_000
"""Largest mask that is decoded: a small file can unpack to one that fills the memory."""

_STRETCHED = {(2, 0): 85, (4, 0): 17}
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
_BROKEN_IMAGE = (OSError, SyntaxError, ValueError, struct.error, zlib.error, EOFError)


# Run lengths


def encode_rle(mask: Shaped[np.ndarray, "h w"]) -> bytes:
    """COCO compressed counts of a mask (H, W); every value but 0 counts as inside."""
    if mask.ndim != 2:
        raise PixelkinError(f"a mask has shape {mask.shape}, expected (height, width); squeeze it")
    inside = np.asfortranarray((mask if mask.dtype == bool else mask != 0).view(np.uint8))
    counts: bytes = coco_mask.encode(inside)["counts"]
    return counts


def encode_window(
    window: Bool[np.ndarray, "h w"], *, corner_xy: tuple[int, int], size_hw: tuple[int, int]
) -> bytes:
    """COCO compressed counts of a mask that lies in a window of a larger frame.

    Costs as much as the window, not the frame: for hundreds of small objects of a large image.

    Args:
        window: the mask within the window, which lies wholly inside the frame.
        corner_xy: the window's left upper pixel.
        size_hw: height and width of the frame in pixels.
    """
    height = size_hw[0]
    x, y = corner_xy
    # Changes along every column, a False row before and after so that runs end with the window.
    columns = np.zeros((window.shape[1], window.shape[0] + 2), np.int8)
    columns[:, 1:-1] = window.T
    change = np.diff(columns, axis=1)
    column, row = np.nonzero(change == 1)
    starts = (column + x) * height + row + y
    column, row = np.nonzero(change == -1)
    ends = (column + x) * height + row + y
    # A run that ends at the bottom goes on where the next column's begins at the top.
    apart = starts[1:] != ends[:-1]
    starts = starts[np.concatenate([[True], apart])] if len(starts) else starts
    ends = ends[np.concatenate([apart, [True]])] if len(ends) else ends
    edges = np.stack([starts, ends], axis=1).reshape(-1)
    counts = np.diff(np.concatenate([[0], edges, [height * size_hw[1]]]))
    if len(edges) and edges[-1] == height * size_hw[1]:
        counts = counts[:-1]
    rle = {"size": list(size_hw), "counts": counts.tolist()}
    compressed: bytes = coco_mask.frPyObjects(rle, *size_hw)["counts"]
    return compressed


def decode_rle(counts: bytes, size_hw: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The mask that `counts` describes, in column-major memory order as the counts are.

    Raises `PixelkinError` where `counts` is malformed or describes another size.
    """
    with _rle_errors(size_hw):
        mask: np.ndarray = coco_mask.decode(_rle(counts, size_hw))
    return mask.view(bool)


def rle_area(counts: bytes, size_hw: tuple[int, int]) -> int:
    """Number of pixels inside, without decoding the mask."""
    with _rle_errors(size_hw):
        return int(coco_mask.area(_rle(counts, size_hw)))


def rle_box_xywh(counts: bytes, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Bounding box (left, top, width, height) in pixels, as COCO writes it; zeros when empty."""
    with _rle_errors(size_hw):
        x, y, width, height = (int(v) for v in coco_mask.toBbox(_rle(counts, size_hw)))
    return x, y, width, height


def _rle(counts: bytes, size_hw: tuple[int, int]) -> dict[str, object]:
    return {"size": [int(size_hw[0]), int(size_hw[1])], "counts": counts}


@contextmanager
def _rle_errors(size_hw: tuple[int, int]) -> Iterator[None]:
    try:
        yield
    except (ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise PixelkinError(
            f"run-length counts do not describe a {size_hw[1]}×{size_hw[0]} mask ({reason}); "
            "check the size, or write the masks again"
        ) from error


# Label maps


def paint_instances(sample: InstanceSample) -> Sample:
    """The label map of an annotated still, smaller instances on top of larger ones.

    The n-th instance that is no crowd gets the n-th label; pixels that only a crowd or nobody
    knows what covers are `IGNORE`. An instance that smaller ones cover wholly keeps its label, but
    no pixel.
    """
    size_hw = sample.size_hw
    labels = np.zeros(size_hw, np.int64)
    unknown = [one.rle for one in sample.instances if one.crowd]
    for rle in [*unknown, *([sample.ignore] if sample.ignore is not None else [])]:
        labels[decode_rle(rle, size_hw)] = IGNORE
    single = [one for one in sample.instances if not one.crowd]
    areas = [rle_area(one.rle, size_hw) for one in single]
    for index in sorted(range(len(single)), key=lambda i: -areas[i]):
        labels[decode_rle(single[index].rle, size_hw)] = nth_instance_id(index)
    categories = tuple(one.category for one in single)
    return Sample(sample.image, labels, sample.name, categories)


def segments_from_labels(labels: Integer[np.ndarray, "h w"]) -> Segments:
    """Objects of a label map: every id that occurs, except 0 and `IGNORE`.

    Raises `PixelkinError` on ids that 8 bits cannot hold; they never wrap around.
    """
    narrow = _as_uint8(labels)
    present = np.flatnonzero(np.bincount(narrow.ravel(), minlength=256))
    ids = [int(i) for i in present if 0 < i <= MAX_OBJECT_ID]
    return Segments(
        size_hw=(labels.shape[0], labels.shape[1]),
        rles={object_id: encode_rle(narrow == object_id) for object_id in ids},
    )


def labels_from_segments(segments: Segments) -> UInt8[np.ndarray, "h w"]:
    """Label map, 0 background. Where objects overlap the larger id lies on top."""
    # Painted column-major, the order in which run lengths decode, and turned once at the end.
    labels = np.zeros(segments.size_hw, np.uint8, order="F")
    for object_id in segments.object_ids:
        mask = decode_rle(segments.rles[object_id], segments.size_hw)
        np.copyto(labels, np.uint8(object_id), where=mask)
    return np.ascontiguousarray(labels)


def _as_uint8(labels: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    if labels.ndim != 2:
        raise PixelkinError(
            f"a label map has shape {labels.shape}, expected (height, width); squeeze it"
        )
    if labels.dtype == np.uint8:
        return labels
    if not np.issubdtype(labels.dtype, np.integer):
        raise PixelkinError(
            f"a label map has type {labels.dtype}, expected integers; convert it with astype"
        )
    if labels.size and (labels.min() < 0 or labels.max() > IGNORE):
        wrong = labels.max() if labels.max() > IGNORE else labels.min()
        raise PixelkinError(
            f"object id {wrong} is out of range: expected 1 to {MAX_OBJECT_ID} "
            f"(0 is background, {IGNORE} marks ignored pixels); renumber the objects"
        )
    return labels.astype(np.uint8)


# Polygons


def mask_to_polygons(mask: Shaped[np.ndarray, "h w"]) -> list[Integer[np.ndarray, "n 2"]]:
    """Outlines of a mask: int32 (n, 2) arrays of x, y, through the centres of border pixels.

    A hole is one more outline, through the pixels around it: under the even-odd rule of
    `polygons_to_mask` it stays a hole, and the way there and back is exact.
    """
    contours, _ = cv2.findContours(
        (mask != 0).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    return [np.asarray(contour, np.int32).reshape(-1, 2) for contour in contours]


def polygons_to_mask(
    polygons: Sequence[Shaped[np.ndarray, "n 2"]], size_hw: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Fill polygons of x, y in pixels (0, 0 is the centre of the first pixel).

    Inside is what an odd number of polygons encloses, and every outline itself, so that a polygon
    within another cuts a hole. Coordinates are rounded; parts beyond the frame are cut off.
    """
    points = []
    for polygon in polygons:
        corners = np.asarray(polygon, np.float64)
        if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
            raise PixelkinError(
                f"a polygon has shape {corners.shape}, expected (n, 2) finite x, y; "
                "give one point per row"
            )
        if len(corners):
            # Far points would overflow the fixed-point fill; the frame is cut out anyway.
            points.append(np.rint(corners).clip(-32768, 32767).astype(np.int32))
    filled = np.zeros(size_hw, np.uint8)
    if points:
        cv2.fillPoly(filled, points, (1,))
    return filled.view(bool)


# Palette and indexed PNG


@cache
def palette() -> UInt8[np.ndarray, "256 3"]:
    """The PASCAL VOC palette, RGB: the bits of an id spread over the three channels.

    0 is black, 1 dark red, 2 dark green, 255 (`IGNORE`) cream. Read-only.
    """
    colours = np.zeros((256, 3), np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((ids >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    colours.flags.writeable = False
    return colours


def write_indexed_png(path: str | os.PathLike[str], labels: Integer[np.ndarray, "h w"]) -> None:
    """Write a label map as an indexed PNG with `palette()`, atomically."""
    image = Image.fromarray(np.ascontiguousarray(_as_uint8(labels)))
    image.putpalette(palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", compress_level=3)


def read_indexed_png(
    path: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None
) -> UInt8[np.ndarray, "h w"]:
    """Read a label map from a PNG; palette indices are kept as they are.

    Greyscale values are ids too, with one exception: a greyscale map of nothing but 0 and 255, or
    of one bit, is a binary mask, and its inside becomes id 1. In an indexed PNG 255 is `IGNORE`.

    Raises `PixelkinError` on a missing or damaged file, a colour image, ids beyond 255, and a size
    other than `size_hw`.
    """
    file = Path(path)
    try:
        with Image.open(file) as image:
            _check_mask_header(file, image, size_hw)
            mode, values = image.mode, stored_values(file, image)
    except FileNotFoundError as error:
        raise PixelkinError(f"no mask at {file}; check the path") from error
    except PermissionError as error:
        raise PixelkinError(f"cannot read mask {file}: permission denied; change it") from error
    except (*_BROKEN_IMAGE, Image.DecompressionBombError) as error:
        raise PixelkinError(
            f"mask {file} is damaged or no image, expected an indexed PNG; write it again"
        ) from error
    if mode == "1":
        return values.astype(np.uint8)
    if mode not in ("P", "L") and values.size and (values.max() > IGNORE or values.min() < 0):
        raise PixelkinError(
            f"mask {file} holds id {values.max()}, expected at most {MAX_OBJECT_ID}; "
            "renumber the objects"
        )
    narrow: np.ndarray = values.astype(np.uint8)
    if mode == "L" and IGNORE in narrow and ((narrow == 0) | (narrow == IGNORE)).all():
        narrow = (narrow == IGNORE).astype(np.uint8)
    return narrow


def png_depth(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Bits a channel and colour type from the header of a PNG; None where it is none."""
    try:
        with open(path, "rb") as file:
            header = file.read(26)
    except OSError:
        return None
    is_png = len(header) == 26 and header.startswith(b"\x89PNG\r\n\x1a\n")
    return (header[24], header[25]) if is_png else None


def stored_values(path: str | os.PathLike[str], image: Image.Image) -> Shaped[np.ndarray, "h w"]:
    """Pixels of the index PNG opened from `path`, as the file has them, whatever its bits."""
    values = np.array(image)
    # Pillow makes shades of grey of few bits: 15 of 15 would become 255.
    stretched = _STRETCHED.get(png_depth(path) or (0, 0))
    return values if stretched is None else values // np.uint8(stretched)


def _check_mask_header(file: Path, image: Image.Image, size_hw: tuple[int, int] | None) -> None:
    """Refuse a mask by its header, before its pixels are unpacked."""
    if image.format != "PNG":
        raise PixelkinError(
            f"mask {file} is {image.format}, expected an indexed PNG; save it as PNG without loss"
        )
    if image.mode not in ("P", "L", "1", "I", "I;16", "I;16B"):
        raise PixelkinError(
            f"mask {file} is a colour image ({image.mode}), expected an indexed or greyscale PNG "
            "whose values are object ids; save it with a palette"
        )
    if size_hw is not None and (image.height, image.width) != tuple(size_hw):
        raise PixelkinError(
            f"mask {file} is {image.width}×{image.height}, expected {size_hw[1]}×{size_hw[0]} "
            "like its frame; scale it without interpolation"
        )
    if image.width * image.height > MAX_PIXELS:
        raise PixelkinError(
            f"mask {file} is {image.width}×{image.height}, expected at most {MAX_PIXELS} pixels; "
            "make it smaller"
        )


# Pictures


def boundary(mask: Shaped[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels inside a mask that have one of their four neighbours outside.

    The edge of the frame is no boundary.
    """
    inside = (mask != 0).astype(np.uint8)
    border: np.ndarray = inside > cv2.erode(inside, _CROSS)
    return border


def overlay(
    image: UInt8[np.ndarray, "h w 3"], labels: Integer[np.ndarray, "h w"], *, opacity: float = 0.5
) -> UInt8[np.ndarray, "h w 3"]:
    """The image with every object tinted in its palette colour and outlined in it.

    Background and `IGNORE` stay as they are. `opacity` runs from 0 (outlines only) to 1.
    """
    if image.shape[:2] != labels.shape:
        raise PixelkinError(
            f"the mask is {labels.shape[1]}×{labels.shape[0]}, expected {image.shape[1]}×"
            f"{image.shape[0]} like the image; scale it without interpolation"
        )
    if not 0 <= opacity <= 1:
        raise PixelkinError(f"opacity is {opacity}, expected 0 to 1; give a fraction")
    narrow = np.ascontiguousarray(_as_uint8(labels))
    if not narrow.size:
        return image.copy()
    colour = palette()[narrow]
    tinted = cv2.addWeighted(image, 1 - opacity, colour, opacity, 0)
    inside = ((narrow != 0) & (narrow != IGNORE)).view(np.uint8)
    edge = (cv2.dilate(narrow, _CROSS) != narrow) | (cv2.erode(narrow, _CROSS) != narrow)
    result = image.copy()
    cv2.copyTo(tinted, inside, result)
    cv2.copyTo(colour, inside & edge.view(np.uint8), result)
    return result
