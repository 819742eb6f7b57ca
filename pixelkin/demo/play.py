"""One scene played through: mark, follow, add an object, write the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
from jaxtyping import UInt8

from pixelkin.demo.pictures import draw_reference
from pixelkin.demo.scenes import Scene, Stretch
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_write
from pixelkin.masks import labels_from_segments, overlay, segments_from_labels
from pixelkin.media import Clip
from pixelkin.results import (
    contact_sheet,
    cutout,
    write_cutout_video,
    write_davis_png,
    write_overlay_video,
)
from pixelkin.runtime import Runtime
from pixelkin.structures import Segments
from pixelkin.video import ClipSession

Frame = UInt8[np.ndarray, "h w 3"]

STAGES = ("decode", "embed", "answer", "upsample", "write")
_PAGE_WIDTH_PX = 640
_SHEET_FRAMES = 16


class Stopwatch:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add what the block takes to a stage."""
        begun = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - begun


@dataclass(frozen=True)
class Played:
    """What a scene gave.

    Attributes:
        scene: what was played.
        size_hw: height and width of its frames in pixels.
        frames: how many.
        seconds: per stage of `STAGES`; "answer" is retrieval and the mask decoder. Decoding runs
            in a thread beside embedding, so it is part of "embed" too.
        mark_ms: from the second object's marks to the mask of the current frame, in milliseconds.
        clip_s: from there to the masks of the whole clip, in seconds.
        pictures: name → uint8 (H, W, 3) RGB, or RGBA; for the report.
        preview: a small overlay .mp4.
    """

    scene: Scene
    size_hw: tuple[int, int]
    frames: int
    seconds: dict[str, float]
    mark_ms: float
    clip_s: float
    pictures: dict[str, UInt8[np.ndarray, "h w c"]] = field(repr=False)
    preview: bytes = field(repr=False)

    @property
    def total_s(self) -> float:
        """Seconds from the file to full-size masks of both objects, without writing."""
        return sum(self.seconds[s] for s in ("embed", "answer", "upsample"))

    @property
    def fps(self) -> float:
        """Frames per second from the file to full-size masks."""
        return self.frames / self.total_s


def play(
    runtime: Runtime, clip: Clip, scene: Scene, room: Path, *, step: Callable[[str], None]
) -> Played:
    """Follow a scene's objects and write the results into the folder `room`.

    Args:
        runtime: the model.
        clip: the whole clip.
        scene: which stretch, and the references.
        room: is made; gets overlay.mp4, cutout.webm, contact_sheet.jpg and masks/*.png.
        step: called with the stage after every frame, three times per frame in all.
    """
    watch = Stopwatch()
    part = Stretch(clip, scene.start, scene.stop)
    frames = range(len(part))
    with ClipSession(runtime, part) as session:
        session.add(scene.first)
        for frame in frames:
            with watch("embed"):
                session.embed(frame)
            step("embed")
        with watch("follow"):
            session.labels(frames[-1])
        with watch("mark"):
            for mark in (scene.second, *scene.ground):
                session.add(mark)
            session.labels(scene.second.frame)
        found: list[Segments] = []
        for frame in frames:
            with watch("rest"):
                session.labels(frame)
            # Asked again only the last stage is left: scaling up and comparing the objects.
            with watch("upsample"):
                labels = session.labels(frame)
            found.append(segments_from_labels(labels))
            step("follow")
    seconds = watch.seconds
    asked = seconds["follow"] + seconds["mark"] + seconds["rest"]
    decode_s = part.decode_seconds
    with watch("write"):
        _write(part, found, room, step=step)
    return Played(
        scene=scene,
        size_hw=part.size_hw,
        frames=len(part),
        seconds={
            "decode": decode_s,
            "embed": seconds["embed"],
            "answer": max(0.0, asked - seconds["upsample"]),
            "upsample": seconds["upsample"],
            "write": seconds["write"],
        },
        mark_ms=1000 * seconds["mark"],
        clip_s=seconds["mark"] + seconds["rest"],
        pictures=_pictures(part, scene, found),
        preview=_preview(part, found, room),
    )


def _write(clip: Clip, found: list[Segments], room: Path, *, step: Callable[[str], None]) -> None:
    def told() -> Iterator[Segments]:
        for segments in found:
            yield segments
            step("write")

    room.mkdir(parents=True)
    names = [f"{frame:05d}" for frame in range(len(found))]
    write_overlay_video(room / "overlay.mp4", clip.frames(), told(), fps=clip.fps)
    write_cutout_video(room / "cutout.webm", clip.frames(), found, fps=clip.fps)
    write_davis_png(room / "masks", found, names)
    atomic_write(room / "contact_sheet.jpg", encode(_sheet(clip, found), ".jpg"))


def _sheet(clip: Clip, found: list[Segments]) -> Frame:
    """Frames evenly over the clip, with their objects."""
    count = len(found)
    chosen = sorted({round(i * (count - 1) / (_SHEET_FRAMES - 1)) for i in range(_SHEET_FRAMES)})
    images = (_tinted(clip[frame], found[frame]) for frame in chosen)
    return contact_sheet(images, columns=min(4, len(chosen)), width_px=1280)


def _tinted(image: Frame, segments: Segments) -> Frame:
    return overlay(image, labels_from_segments(segments))


def _pictures(
    clip: Clip, scene: Scene, found: list[Segments]
) -> dict[str, UInt8[np.ndarray, "h w c"]]:
    first, second = scene.first.frame, scene.second.frame
    later, image = found[second], clip[second]
    marked = _page_size(image)
    for mark in (scene.second, *scene.ground):
        marked = draw_reference(marked, mark, clip.size_hw)
    return {
        "first": draw_reference(_page_size(clip[first]), scene.first, clip.size_hw),
        "second": marked,
        "answer": _page_size(_tinted(image, later)),
        "cutout": _page_size(cutout(image, later)),
        "sheet": _sheet(clip, found),
    }


def _page_size(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w c"]:
    """Scaled to the width that the page shows."""
    height = round(image.shape[0] * _PAGE_WIDTH_PX / image.shape[1])
    smaller = image.shape[1] > _PAGE_WIDTH_PX
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (_PAGE_WIDTH_PX, height), interpolation=how), np.uint8)


def _preview(clip: Clip, found: list[Segments], room: Path) -> bytes:
    """The overlay small enough to lie inside the page."""
    if clip.size_hw[1] <= _PAGE_WIDTH_PX:
        return (room / "overlay.mp4").read_bytes()
    images = (_page_size(_tinted(i, s)) for i, s in zip(clip.frames(), found, strict=True))
    path = room / "preview.mp4"
    empty = _page_size(clip[0])
    nothing = segments_from_labels(np.zeros(empty.shape[:2], np.uint8))
    write_overlay_video(path, images, [nothing] * len(found), fps=clip.fps)
    data = path.read_bytes()
    path.unlink()
    return data


def encode(image: UInt8[np.ndarray, "h w c"], suffix: str) -> bytes:
    """An RGB or RGBA image as the bytes of a .jpg, .png or .webp file."""
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    quality = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 85], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 85]}
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, code), quality.get(suffix, []))
    if not done:
        raise PixelkinError(f"this OpenCV cannot write {suffix}; install opencv-python-headless")
    return bytes(data)
