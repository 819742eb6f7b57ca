"""Clips in, clips out: video files and folders of frames through PyAV and Pillow."""

from __future__ import annotations

import os
from pathlib import Path

from pixelkin.errors import PixelkinError
from pixelkin.media.clip import Clip, DamagedClipError, Frame
from pixelkin.media.folder import FRAME_SUFFIXES, FrameFolder, frame_paths, read_image
from pixelkin.media.memory import MemoryClip
from pixelkin.media.video_file import VideoFile
from pixelkin.media.writer import VideoWriter

__all__ = [
    "FRAME_SUFFIXES",
    "Clip",
    "DamagedClipError",
    "Frame",
    "MemoryClip",
    "VideoWriter",
    "frame_paths",
    "open_clip",
    "read_image",
]


def open_clip(path: str | os.PathLike[str], *, fps: float = 24.0, threads: int = 1) -> Clip:
    """Open a video file of any codec, or a folder of frames in natural order of their names.

    Args:
        path: the file or folder; a single image is a clip of one frame.
        fps: frames per second of a folder, which does not say; files know theirs.
        threads: threads of the codec.

    Raises `PixelkinError`, before any frame is asked for, when the file is missing, truncated or
    not a video, when there is no frame, and when the frames of a folder differ in size.
    """
    given = Path(path)
    if given.is_dir():
        paths = frame_paths(given)
        if not paths:
            raise PixelkinError(
                f"folder {given} holds no frames, expected images "
                f"({', '.join(FRAME_SUFFIXES)}); choose the folder that does"
            )
        return FrameFolder(given, paths, fps=fps)
    if not given.exists():
        raise PixelkinError(f"no clip at {given}, expected a video or a folder of frames; check it")
    if given.suffix.lower() in FRAME_SUFFIXES:
        return FrameFolder(given, [given], fps=fps)
    return VideoFile(given, threads=threads)
