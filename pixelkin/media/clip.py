"""The clip that callers see: frames by number, or in order with decoding ahead."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import UInt8

from pixelkin.errors import PixelkinError

Frame = UInt8[np.ndarray, "h w 3"]


class DamagedClipError(PixelkinError):
    """A frame cannot be read, though the clip could be opened; frames before it may be whole."""


_CACHE_BYTES = 64 * 2**20


class Clip(ABC):
    """Frames of one size, in order; from `open_clip`.

    Attributes:
        name: the file or folder name without suffix.
        fps: frames per second.
        size_hw: height and width in pixels, as a person sees them (rotation applied).
    """

    def __init__(self, path: Path, *, length: int, fps: float, size_hw: tuple[int, int]) -> None:
        self.path = path
        self.name = path.stem
        self.fps = fps
        self.size_hw = size_hw
        self._length = length
        self._cache: OrderedDict[int, Frame] = OrderedDict()
        self._cache_size = min(32, max(2, _CACHE_BYTES // max(1, 3 * size_hw[0] * size_hw[1])))
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Frame:
        """Frame `index` as uint8 (H, W, 3), RGB; the caller may write into it."""
        if not 0 <= index < len(self):
            raise PixelkinError(
                f"frame {index} is outside {self.path.name}, expected 0 to {len(self) - 1}; "
                "choose a frame of the clip"
            )
        with self._lock:
            if index not in self._cache:
                self._read(index)
            self._cache.move_to_end(index)
            return self._cache[index].copy()

    def frames(
        self, start: int = 0, stop: int | None = None, *, prefetch: int = 4
    ) -> Generator[Frame, None, None]:
        """Frames `start` to `stop` (left out; None: the end) in order, uint8 (H, W, 3), RGB.

        A thread decodes up to `prefetch` frames ahead while the caller computes; 0 decodes in the
        caller's thread. The thread ends when the iterator is used up, closed or dropped.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise PixelkinError(
                f"frames {start} to {stop} are outside {self.path.name}, expected 0 to "
                f"{len(self)}; choose frames of the clip"
            )
        frames = self._scan(start, stop)
        return _read_ahead(frames, prefetch) if prefetch > 0 else frames

    def close(self) -> None:
        """Let go of the file. Iterators that are under way keep their own hold on it."""
        self._cache.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep(self, index: int, frame: Frame) -> None:
        self._cache[index] = frame
        while len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    @abstractmethod
    def _read(self, index: int) -> None:
        """Put frame `index` into the cache."""

    @abstractmethod
    def _scan(self, start: int, stop: int) -> Generator[Frame, None, None]:
        """Frames in order; several scans may run at once."""


class _End:
    """Marks the end of a queue of frames; carries what went wrong."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _read_ahead(frames: Generator[Frame, None, None], depth: int) -> Generator[Frame, None, None]:
    """The same frames, produced by a thread that runs up to `depth` ahead."""
    ready: queue.Queue[Frame | _End] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: Frame | _End) -> bool:
        while not stopped.is_set():
            with suppress(queue.Full):
                ready.put(item, timeout=0.05)
                return True
        return False

    def work() -> None:
        error: BaseException | None = None
        try:
            for frame in frames:
                if not put(frame):
                    break
        except BaseException as caught:  # handed to the caller's thread
            error = caught
        finally:
            frames.close()
        put(_End(error))

    thread = threading.Thread(target=work, name="pixelkin-decode", daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
