"""Video files out, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from jaxtyping import UInt8

from pixelkin.errors import PixelkinError
from pixelkin.files import PartwiseWriter

_VIDEO_SUFFIXES = (".mp4", ".webm")
_ALPHA_SUFFIXES = (".mov", ".webm")

# BT.709 at video range, said to the converter and written into the file: players guess otherwise.
_BT709 = 1
_VIDEO_RANGE = 1

# VP9 plays in every browser, in .mp4 as in .webm, and its encoder is free of the GPL.
_VP9 = {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "auto-alt-ref": "0"}


class VideoWriter(PartwiseWriter):
    """Write frames into a video file, which is there whole or not at all.

    The suffix decides the coding: .mp4 and .webm are VP9, which every browser plays; with `alpha`
    .webm is VP9 with alpha and .mov is ProRes 4444, which editors take. These codings need even
    sizes: odd ones are padded by one repeated row or column.

    Example:
        with VideoWriter("out.mp4", fps=24, size_hw=(480, 854)) as video:
            for frame in frames:
                video.write(frame)

    When the block raises, nothing is left and a file that stood there stays. `PixelkinError` on
    another suffix or frame size, on no frame at all, and on every failure to write.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float,
        size_hw: tuple[int, int],
        alpha: bool = False,
    ) -> None:
        super().__init__(path)
        self.size_hw = (int(size_hw[0]), int(size_hw[1]))
        self.alpha = alpha
        suffix, expected = self.path.suffix.lower(), _ALPHA_SUFFIXES if alpha else _VIDEO_SUFFIXES
        if suffix not in expected:
            raise PixelkinError(
                f"cannot write a video {'with alpha ' if alpha else ''}to {self.path}: its suffix "
                f"is '{suffix}', expected {' or '.join(expected)}; rename it"
            )
        if not fps > 0:
            raise PixelkinError(f"fps is {fps}, expected more than 0; give frames per second")
        self._rate = Fraction(fps).limit_denominator(1001)
        self._prores = suffix == ".mov"
        self._pixels = "yuva444p10le" if self._prores else "yuva420p" if alpha else "yuv420p"
        self._count = 0

    def _open(self, temporary: Path, stack: ExitStack) -> None:
        with self._failing_as_oserror():
            # The index in front: browsers start to play before they have the whole file.
            front = {} if self.path.suffix.lower() == ".webm" else {"movflags": "faststart"}
            self._container: Any = av.open(str(temporary), "w", options=front)
            stack.callback(self._abandon)
            name = "prores_aw" if self._prores else "libvpx-vp9"
            options = {} if self._prores else _VP9
            stream: Any = self._container.add_stream(name, rate=self._rate, options=options)
        stream.height, stream.width = (side + side % 2 for side in self.size_hw)
        stream.pix_fmt = self._pixels
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _VIDEO_RANGE
        self._stream = stream

    def write(self, frame: UInt8[np.ndarray, "h w c"]) -> None:
        """Append one frame: uint8 (H, W, 3) RGB, or (H, W, 4) RGBA with `alpha`."""
        expected = (*self.size_hw, 4 if self.alpha else 3)
        if frame.shape != expected or frame.dtype != np.uint8:
            raise PixelkinError(
                f"frame {self._count} of {self.path.name} is {frame.dtype} {frame.shape}, "
                f"expected uint8 {expected}; convert it"
            )
        rows, columns = self._stream.height - frame.shape[0], self._stream.width - frame.shape[1]
        if rows or columns:
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame), format="rgba" if self.alpha else "rgb24"
        ).reformat(
            format=self._pixels,
            dst_colorspace=_BT709,
            dst_color_range=_VIDEO_RANGE,
            # With several threads swscale spoils alpha at the borders of their slices (FFmpeg 8).
            threads=1,
        )
        with self._failing_as_oserror():
            self._container.mux(self._stream.encode(picture))
        self._count += 1

    def _finish(self) -> None:
        if self._count == 0:
            raise PixelkinError(f"no frame was written to {self.path}; expected at least one")
        with self._failing_as_oserror():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def _abandon(self) -> None:
        # On a full disk closing fails once more; the first failure is the one to tell.
        with suppress(FFmpegError, OSError):
            self._container.close()

    @contextmanager
    def _failing_as_oserror(self) -> Iterator[None]:
        try:
            yield
        except FFmpegError as error:
            known = error.errno is not None and error.errno < 2**16
            raise OSError(error.errno if known else None, error.strerror) from error
