"""A clip whose frames are in memory already: an image, or frames that a program made."""

from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pixelkin.errors import PixelkinError
from pixelkin.media.clip import Clip, Frame


class MemoryClip(Clip):
    """Frames of a list or an array as a clip, without a file.

    Args:
        frames: uint8 (T, H, W, 3), or T arrays of uint8 (H, W, 3), RGB; kept, not copied: do not
            write into them while the clip is in use.
        fps: frames per second.
        name: stands for the file's name, in `name` and in messages.

    Raises:
        PixelkinError: there is no frame; a frame is not uint8 (H, W, 3), is empty, or has another
            size than the first; fps is not above 0.
    """

    def __init__(
        self,
        frames: Sequence[Frame] | UInt8[np.ndarray, "t h w 3"],
        *,
        fps: float = 24.0,
        name: str = "memory",
    ) -> None:
        if len(frames) == 0:
            raise PixelkinError(f"{name} holds no frames, expected 1 or more; give some")
        if not fps > 0:
            raise PixelkinError(f"fps is {fps}, expected more than 0; give frames per second")
        first = frames[0]
        for number, frame in enumerate(frames):
            _check_image(frame, f"frame {number} of {name}")
            if frame.shape != first.shape:
                raise PixelkinError(
                    f"frame {number} of {name} is {frame.shape[1]}×{frame.shape[0]}, expected "
                    f"{first.shape[1]}×{first.shape[0]} like frame 0; make all frames one size"
                )
        size_hw = (first.shape[0], first.shape[1])
        super().__init__(Path(name), length=len(frames), fps=fps, size_hw=size_hw)
        self._frames = frames

    def frames(
        self, start: int = 0, stop: int | None = None, *, prefetch: int = 0
    ) -> Generator[Frame, None, None]:
        """See `Clip.frames`. Nothing is decoded, so no thread runs ahead unless it is asked for."""
        return super().frames(start, stop, prefetch=prefetch)

    def _read(self, index: int) -> None:
        self._keep(index, self._frames[index])

    def _scan(self, start: int, stop: int) -> Generator[Frame, None, None]:
        for index in range(start, stop):
            yield self._frames[index].copy()


def _check_image(image: np.ndarray, what: str) -> None:
    """Raise `PixelkinError` where `image` is not uint8 (H, W, 3) of 1 pixel or more."""
    kind = getattr(image, "dtype", type(image).__name__)
    shape: tuple[int, ...] = getattr(image, "shape", ())
    if kind != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise PixelkinError(
            f"{what} is {kind} of shape {shape}, expected uint8 (height, width, 3), RGB; convert it"
        )
