"""Results of clips: indexed PNG, COCO JSON, overlays, cut-outs, contact sheets.

The writers take iterables and hold one frame at a time. Each file is there whole or not at all; in
a folder of frames, those written before a failure stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path
from pixelkin.masks import (
    decode_rle,
    labels_from_segments,
    overlay,
    read_indexed_png,
    rle_area,
    rle_box_xywh,
    segments_from_labels,
    write_indexed_png,
)
from pixelkin.media import FRAME_SUFFIXES, VideoWriter, frame_paths
from pixelkin.structures import Segments

Frame = UInt8[np.ndarray, "h w 3"]
T = TypeVar("T")
U = TypeVar("U")


# Masks


def write_davis_png(
    folder: str | os.PathLike[str], segments: Iterable[Segments], names: Iterable[str]
) -> int:
    """Write one indexed PNG per frame, `<name>.png`, as DAVIS lays them out.

    Returns the number of frames. Other files of the folder stay.
    """
    room, count = Path(folder), 0
    for name, found in _pairs(names, segments, "names", "masks"):
        write_indexed_png(room / f"{_plain(name)}.png", labels_from_segments(found))
        count += 1
    return count


def read_davis_png(
    folder: str | os.PathLike[str], *, size_hw: tuple[int, int] | None = None
) -> Iterator[tuple[str, Segments]]:
    """(name, segments) of every PNG in a folder, in natural order of the names."""
    room = Path(folder)
    images = frame_paths(room) if room.is_dir() else []
    paths = [path for path in images if path.suffix.lower() == ".png"]
    if not paths:
        raise PixelkinError(f"folder {room} holds no PNG masks; choose the folder that does")
    return (
        (path.stem, segments_from_labels(read_indexed_png(path, size_hw=size_hw))) for path in paths
    )


def write_coco_json(
    path: str | os.PathLike[str],
    segments: Iterable[Segments],
    names: Iterable[str],
    *,
    video_name: str = "",
    categories: Mapping[int, str] | None = None,
) -> int:
    """Write the objects of a clip as COCO annotations with compressed run lengths.

    Every frame is an image with `video_id` and `frame_index`, every object of a frame an
    annotation with `object_id`, and `score` where there is one. Objects without a pixel are left
    out, since COCO knows no empty ones.

    Args:
        path: the .json file.
        segments: one per frame.
        names: file name of each frame.
        video_name: name of the clip.
        categories: object id → category name; "object <id>" where it has none. Objects of one
            name share a category.

    Returns the number of annotations.
    """
    given = categories or {}
    category_ids: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    count = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        # Annotations, the bulk, go out as they come; the short lists follow.
        file.write('{"annotations": [')
        for name, found in _pairs(names, segments, "names", "masks"):
            height, width = found.size_hw
            images.append(
                {
                    "id": len(images) + 1,
                    "file_name": name,
                    "height": height,
                    "width": width,
                    "video_id": 1,
                    "frame_index": len(images),
                }
            )
            for object_id in found.object_ids:
                area = rle_area(found.rles[object_id], found.size_hw)
                if area == 0:
                    continue
                category = given.get(object_id, f"object {object_id}")
                category_id = category_ids.setdefault(category, len(category_ids) + 1)
                entry = _annotation(found, object_id, area)
                entry |= {"id": count + 1, "image_id": len(images), "category_id": category_id}
                file.write((",\n" if count else "\n") + json.dumps(entry))
                count += 1
        video = {"id": 1, "name": video_name, "length": len(images)}
        rest = {
            "info": {"description": f"Segments of {video_name or 'a clip'}, by pixelkin"},
            "licenses": [],
            "videos": [video],
            "images": images,
            "categories": [{"id": i, "name": name} for name, i in category_ids.items()],
        }
        file.write("\n],\n" + json.dumps(rest)[1:] + "\n")
    return count


def _annotation(found: Segments, object_id: int, area: int) -> dict[str, Any]:
    counts = found.rles[object_id]
    entry: dict[str, Any] = {
        "video_id": 1,
        "object_id": object_id,
        "segmentation": {"size": list(found.size_hw), "counts": counts.decode("ascii")},
        "area": area,
        "bbox": list(rle_box_xywh(counts, found.size_hw)),
        "iscrowd": 0,
    }
    if object_id in found.scores:
        entry["score"] = found.scores[object_id]
    return entry


def read_coco_json(path: str | os.PathLike[str]) -> dict[str, Segments]:
    """Frame name → segments, of a file that `write_coco_json` wrote.

    Raises `PixelkinError` where the file is missing, no JSON, lacks a field, or has
    run lengths of another size.
    """
    file = Path(path)
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        rles: dict[int, dict[int, bytes]] = {image["id"]: {} for image in whole["images"]}
        scores: dict[int, dict[int, float]] = {image["id"]: {} for image in whole["images"]}
        for entry in whole["annotations"]:
            image_id, object_id = entry["image_id"], int(entry["object_id"])
            rles[image_id][object_id] = entry["segmentation"]["counts"].encode("ascii")
            if "score" in entry:
                scores[image_id][object_id] = float(entry["score"])
        found = {
            image["file_name"]: Segments(
                (image["height"], image["width"]), rles[image["id"]], scores[image["id"]]
            )
            for image in whole["images"]
        }
    except OSError as error:
        raise PixelkinError(f"cannot read {file}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise PixelkinError(
            f"{file} is damaged or no JSON, expected COCO annotations; write it again"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise PixelkinError(
            f"{file} has no field {error}, expected COCO annotations with object_id and compressed "
            "run lengths; write it with write_coco_json"
        ) from error
    for segments in found.values():
        for counts in segments.rles.values():
            decode_rle(counts, segments.size_hw)
    return found


# Pictures


def write_overlay_video(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    segments: Iterable[Segments],
    *,
    fps: float,
    opacity: float = 0.5,
) -> int:
    """Write the frames with their objects tinted and outlined. Returns the number of frames."""

    def draw(frame: Frame, found: Segments) -> UInt8[np.ndarray, "h w c"]:
        return overlay(frame, labels_from_segments(found), opacity=opacity)

    return _write_video(path, frames, segments, draw, fps=fps, alpha=False)


def write_cutout_video(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    segments: Iterable[Segments],
    *,
    fps: float,
    object_ids: Collection[int] | None = None,
) -> int:
    """Write the objects (all, or `object_ids`) on a transparent ground, to .mov or .webm.

    Returns the number of frames.
    """

    def draw(frame: Frame, found: Segments) -> UInt8[np.ndarray, "h w c"]:
        return cutout(frame, found, object_ids=object_ids)

    return _write_video(path, frames, segments, draw, fps=fps, alpha=True)


def write_cutout_png(
    folder: str | os.PathLike[str],
    frames: Iterable[Frame],
    segments: Iterable[Segments],
    names: Iterable[str],
    *,
    object_ids: Collection[int] | None = None,
) -> int:
    """Write one RGBA PNG per frame, `<name>.png`. Returns the number of frames."""
    room, count = Path(folder), 0
    both = _pairs(frames, segments, "frames", "masks")
    for name, (frame, found) in _pairs(names, both, "names", "frames"):
        image = Image.fromarray(cutout(frame, found, object_ids=object_ids))
        with atomic_path(room / f"{_plain(name)}.png") as temporary:
            image.save(temporary, format="PNG", compress_level=3)
        count += 1
    return count


def cutout(
    frame: Frame, segments: Segments, *, object_ids: Collection[int] | None = None
) -> UInt8[np.ndarray, "h w 4"]:
    """RGBA image: objects (all, or `object_ids`) opaque, everything else transparent black."""
    _check_size(frame, segments)
    chosen = segments.object_ids if object_ids is None else object_ids
    alpha = np.zeros(segments.size_hw, np.uint8)
    for object_id in chosen:
        # An object may be absent from a frame; that is no mistake.
        if object_id in segments.rles:
            alpha[decode_rle(segments.rles[object_id], segments.size_hw)] = 255
    return np.dstack([cv2.bitwise_and(frame, frame, mask=alpha), alpha])


def contact_sheet(
    images: Iterable[Frame], *, columns: int, width_px: int, gap_px: int = 4
) -> UInt8[np.ndarray, "h w 3"]:
    """Images in rows on white, each scaled to one width; a row is as high as its highest.

    Args:
        images: uint8 (H, W, 3) of any sizes, RGB; each is scaled down as it comes.
        columns: images per row.
        width_px: width of the sheet.
        gap_px: white between images.
    """
    cell = (width_px - (columns - 1) * gap_px) // columns if columns > 0 else 0
    if cell < 1:
        raise PixelkinError(
            f"{columns} columns do not fit into {width_px} pixels, expected at least one pixel "
            "each; give fewer columns or a larger width"
        )
    small = []
    for image in images:
        height = max(1, round(image.shape[0] * cell / image.shape[1]))
        small.append(cv2.resize(image, (cell, height), interpolation=cv2.INTER_AREA))
    if not small:
        raise PixelkinError("a contact sheet has no images, expected at least one; give some")
    rows = [small[i : i + columns] for i in range(0, len(small), columns)]
    heights = [max(image.shape[0] for image in row) for row in rows]
    sheet = np.full((sum(heights) + gap_px * (len(rows) - 1), width_px, 3), 255, np.uint8)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        for column, image in enumerate(row):
            left = column * (cell + gap_px)
            sheet[top : top + image.shape[0], left : left + cell] = image
        top += height + gap_px
    return sheet


def _write_video(
    path: str | os.PathLike[str],
    frames: Iterable[Frame],
    segments: Iterable[Segments],
    draw: Callable[[Frame, Segments], UInt8[np.ndarray, "h w c"]],
    *,
    fps: float,
    alpha: bool,
) -> int:
    pairs = _pairs(frames, segments, "frames", "masks")
    first = next(pairs, None)
    if first is None:
        raise PixelkinError(f"no frame for {path}, expected at least one; give a clip with frames")
    size_hw = (first[0].shape[0], first[0].shape[1])
    count = 0
    with VideoWriter(path, fps=fps, size_hw=size_hw, alpha=alpha) as video:
        for frame, found in chain([first], pairs):
            _check_size(frame, found)
            video.write(draw(frame, found))
            count += 1
    return count


def _check_size(frame: Frame, segments: Segments) -> None:
    if frame.shape[:2] != tuple(segments.size_hw):
        raise PixelkinError(
            f"the masks are {segments.size_hw[1]}×{segments.size_hw[0]}, expected "
            f"{frame.shape[1]}×{frame.shape[0]} like the frame; give the masks of this clip"
        )


def _pairs(left: Iterable[T], right: Iterable[U], one: str, other: str) -> Iterator[tuple[T, U]]:
    """Both in step. Unequal lengths are a mistake that would shift masks against frames."""
    lefts, rights, count = iter(left), iter(right), 0
    while True:
        a, b = next(lefts, _END), next(rights, _END)
        if a is _END and b is _END:
            return
        if a is _END or b is _END:
            short, long = (one, other) if a is _END else (other, one)
            raise PixelkinError(
                f"there are {count} {short} but more {long}, expected as many; "
                "give one for each frame"
            )
        yield a, b
        count += 1


_END: Any = object()


def _plain(name: str) -> str:
    """A frame's name without image suffix; it must not lead out of its folder."""
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in FRAME_SUFFIXES else name
    if Path(name).name != name or not stem or stem.startswith("."):
        raise PixelkinError(
            f"frame name '{name}' is no plain file name, expected one like 00001; rename it"
        )
    return stem
