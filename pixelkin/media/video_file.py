"""Video files as clips, through PyAV."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from pixelkin.errors import PixelkinError
from pixelkin.media.clip import Clip, DamagedClipError, Frame
from pixelkin.media.folder import check_pixels


class VideoFile(Clip):
    """A video file. Packets are listed once, so that frame numbers are exact and seeks land."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self.path = path
        self._threads = threads
        with self._stream() as (container, stream):
            rate = stream.average_rate or stream.guessed_rate or 25
            self._pts, keys = _list_packets(path, container, stream)
        if self._pts is None:
            # Without times in the packets only decoding tells how many frames there are.
            with self._stream() as (container, stream):
                length, keys = sum(1 for _ in self._decode(container, stream)), [0]
        else:
            length = len(self._pts)
        self._keys = keys
        self._walk: Generator[tuple[int, Any], None, None] | None = None
        self._next = 0
        with self._stream() as (container, stream):
            first = next(self._decode(container, stream), None)
            if first is None:
                raise PixelkinError(
                    f"{path} holds no frames that can be decoded, expected at least one; "
                    "choose another file"
                )
            self._coded_hw = (first.height, first.width)
            turned = round(first.rotation / 90) % 2
        size_hw = self._coded_hw[::-1] if turned else self._coded_hw
        super().__init__(path, length=length, fps=float(rate), size_hw=size_hw)

    def close(self) -> None:
        """Close the file and forget the frames kept."""
        super().close()
        with self._lock:
            self._restart(None)

    @contextmanager
    def _stream(self) -> Iterator[tuple[Any, Any]]:
        try:
            # A playlist must not make the library fetch from the network.
            container = av.open(str(self.path), options={"protocol_whitelist": "file"})
        except FFmpegError as error:
            raise DamagedClipError(_why_unreadable(self.path, error)) from error
        with container:
            if not container.streams.video or container.format.name == "tty":
                raise PixelkinError(f"{self.path} is not a video; choose a video file")
            stream = container.streams.video[0]
            check_pixels(self.path, stream.codec_context.width, stream.codec_context.height)
            stream.thread_count = self._threads
            stream.thread_type = "AUTO"
            yield container, stream

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """Frames as the codec gives them; without those before the first whole one."""
        try:
            for frame in container.decode(stream):
                if self._pts is None or (frame.pts is not None and frame.pts >= self._pts[0]):
                    yield frame
        except FFmpegError as error:
            raise DamagedClipError(
                f"{self.path} is damaged: {error.strerror}; copy it again, or re-encode it"
            ) from error

    def _from(self, start: int) -> Generator[tuple[int, Any], None, None]:
        """(number, frame) from the last reachable keyframe at or before `start` to the end."""
        with self._stream() as (container, stream):
            at = bisect_right(self._keys, start) - 1
            # Demuxers may land late (open groups, edit lists): then take the keyframe before.
            for key in [self._keys[i] for i in (at, at - 1) if i > 0]:
                assert self._pts is not None
                container.seek(self._pts[key], stream=stream)
                frames = self._decode(container, stream)
                first = next(frames, None)
                if first is not None and first.pts <= self._pts[start]:
                    yield from self._numbered(chain([first], frames))
                    return
        with self._stream() as (container, stream):
            yield from self._numbered(self._decode(container, stream))

    def _numbered(self, frames: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        expected = None if self._pts is not None else 0
        for frame in frames:
            if (frame.height, frame.width) != self._coded_hw:
                height, width = self._coded_hw
                raise DamagedClipError(
                    f"{self.path} changes its frame size to {frame.width}×{frame.height}, expected "
                    f"{width}×{height} throughout; cut it there, or re-encode it at one size"
                )
            if self._pts is None:
                number = expected or 0
            else:
                number = bisect_left(self._pts, frame.pts)
                if expected is not None and number > expected:
                    raise self._lost(expected)
            yield number, frame
            expected = number + 1
        if (expected or 0) < len(self):
            raise self._lost(expected or 0)

    def _lost(self, number: int) -> DamagedClipError:
        return DamagedClipError(
            f"{self.path} is damaged: frame {number} of {len(self)} cannot be decoded; "
            "copy it again, or re-encode it"
        )

    def _read(self, index: int) -> None:
        near = bisect_right(self._keys, index) - 1
        if self._walk is None or index < self._next or self._keys[near] > self._next:
            self._restart(index)
        assert self._walk is not None
        for number, frame in self._walk:
            self._next = number + 1
            # Frames passed on the way are kept, so that stepping backwards does not seek anew.
            if number > index - self._cache_size:
                self._keep(number, _rgb(frame))
            if number >= index:
                break
        if index not in self._cache:
            self._restart(None)
            raise self._lost(index)

    def _restart(self, index: int | None) -> None:
        if self._walk is not None:
            self._walk.close()
        self._walk = None if index is None else self._from(index)
        self._next = 0 if index is None else index

    def _scan(self, start: int, stop: int) -> Generator[Frame, None, None]:
        if start == stop:
            return
        with closing(self._from(start)) as frames:
            for number, frame in frames:
                if number >= start:
                    yield _rgb(frame)
                if number + 1 >= stop:
                    return


def _rgb(frame: av.VideoFrame) -> Frame:
    # Several threads slow the conversion down and fight the caller's for the cores.
    rgb: np.ndarray = frame.to_ndarray(format="rgb24", threads=1)
    quarters = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, quarters)) if quarters else rgb


def _list_packets(path: Path, container: Any, stream: Any) -> tuple[array[int] | None, list[int]]:
    """Times of all frames in the order shown, and which of them are keyframes.

    None where the packets do not tell. Raises `PixelkinError` where the file ends early.
    """
    times: list[int] = []
    keys: list[int] = []
    whole, untimed = 0, False
    with suppress(FFmpegError):
        for packet in container.demux(stream):
            if packet.is_corrupt or (packet.dts is packet.pts is None and packet.size == 0):
                continue
            whole += 1
            # AVI counts a frame that repeats the one before as a packet of no bytes.
            if packet.size == 0:
                continue
            # What comes before the first keyframe cannot be decoded.
            if not (keys or packet.is_keyframe or untimed):
                continue
            if packet.pts is None:
                untimed = True
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)
            # What an edit list cuts off is decoded for others' sake, and not shown.
            if not packet.is_discard:
                times.append(packet.pts)
    promised = max(stream.frames, _frames_by_duration(stream, times))
    if whole < promised:
        raise PixelkinError(
            f"{path} is truncated: {whole} of {promised} frames are readable; copy it again, "
            "or re-encode it to keep the readable part"
        )
    if untimed or not times or len(set(times)) < len(times):
        return None, [0]
    shown = array("q", sorted(time for time in times if time >= keys[0]))
    return shown, sorted({bisect_left(shown, key) for key in keys})


def _frames_by_duration(stream: Any, times: list[int]) -> int:
    """Frames that Matroska's own note of the stream's duration promises, 0 where it is kept."""
    note = re.fullmatch(r"(\d+):(\d+):(\d+\.\d+)", stream.metadata.get("DURATION", ""))
    if note is None or len(times) < 2:
        return 0
    promised_s = int(note[1]) * 3600 + int(note[2]) * 60 + float(note[3])
    span_s = float((max(times) - min(times)) * stream.time_base)
    frame_s = span_s / (len(times) - 1)
    # Rates may vary and the note counts from zero: only a clear gap is a loss.
    ends_s = float(max(times) * stream.time_base) + frame_s
    return round(promised_s / frame_s) if promised_s - ends_s > max(0.5, 2 * frame_s) else 0


def _why_unreadable(path: Path, error: FFmpegError) -> str:
    if isinstance(error, PermissionError):
        return f"cannot read {path}: permission denied; change it"
    size = path.stat().st_size if path.exists() else 0
    if size == 0:
        return f"{path} is empty, expected a video; copy it again"
    with open(path, "rb") as handle:
        is_mp4 = handle.read(8)[4:] == b"ftyp"
    if is_mp4:
        return (
            f"{path} is truncated: its index (moov) is missing after {size} bytes, so that no "
            "frame is readable; copy it again"
        )
    return f"{path} is not a video, or damaged beyond reading; choose another file"
