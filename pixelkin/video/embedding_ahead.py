"""Embedding the frames of a clip, ahead of the questions where they come in order."""

from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

import cv2
import numpy as np
from jaxtyping import UInt8

from pixelkin.errors import PixelkinError
from pixelkin.media import Clip
from pixelkin.runtime import Runtime
from pixelkin.video.store import Arrays, ArrayStore

BACKWARD_STRETCH = 32
"""Frames embedded at a time when a clip is followed backward: decoding is forward only."""

STRETCH_BYTES = 64 * 2**20
"""Most memory for the decoded frames of such a stretch."""


AHEAD = 4
"""Frames embedded per core at a time when frames come in order."""


class EmbeddingAhead:
    """Embeds each frame once and keeps the result, in float16, in a store.

    When frames are needed in order, a few are embedded at once, one per core: whole frames side by
    side use several cores better than one frame split over them. The caller waits for all of them:
    measured, working ahead while the caller computes is slower, since both then fight for cores.

    Args:
        runtime: its `workers` frames are embedded at a time.
        clip: where frames come from.
        store: frame → (embeddings, details…), under the keys ("fields", frame).
        work_hw: size at which frames are embedded.
    """

    def __init__(
        self, runtime: Runtime, clip: Clip, store: ArrayStore, *, work_hw: tuple[int, int]
    ) -> None:
        self.runtime = runtime
        self.clip = clip
        self.store = store
        self.work_hw = work_hw
        self.workers = runtime.workers
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="embed")
        self._pending: dict[int, Future[Arrays]] = {}
        self._scan: Generator[UInt8[np.ndarray, "h w 3"], None, None] | None = None
        self._scan_at = -1
        self._last = -2
        frame_bytes = 3 * clip.size_hw[0] * clip.size_hw[1]
        self._stretch = max(1, min(BACKWARD_STRETCH, STRETCH_BYTES // frame_bytes))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and let the clip go."""
        for future in self._pending.values():
            future.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._pending.clear()
        self._rewind(None)

    def get(self, frame: int) -> Arrays:
        """The embedded frame."""
        found = self.store.get(("fields", frame))
        if found is None:
            for wanted in self._order(frame):
                self._submit(wanted)
            if frame == self._last + 1:
                self._look_ahead(frame)
            for waiting in [f for f in self._pending if f != frame] + [frame]:
                found = self._pending.pop(waiting).result()
                self.store.put(("fields", waiting), found)
        assert found is not None
        self._last = frame
        return found

    def _order(self, frame: int) -> range:
        """What to embed for `frame`: itself, or the stretch that ends with it."""
        backward = ("fields", frame + 1) in self.store and frame != self._scan_at
        return range(max(0, frame - self._stretch + 1) if backward else frame, frame + 1)

    def _look_ahead(self, frame: int) -> None:
        for later in range(frame + 1, min(len(self.clip), frame + AHEAD * self.workers)):
            try:
                self._submit(later)
            except PixelkinError:
                # A frame that cannot be read fails when it is asked for, not before.
                return

    def _submit(self, frame: int) -> None:
        if frame in self._pending or ("fields", frame) in self.store:
            return
        if self._scan is None or frame != self._scan_at:
            self._rewind(frame)
        assert self._scan is not None
        try:
            image = next(self._scan)
        except BaseException:
            # A generator that raised is used up: the next question starts another.
            self._rewind(None)
            raise
        self._scan_at += 1
        self._pending[frame] = self._pool.submit(self._embed, image)

    def _rewind(self, frame: int | None) -> None:
        if self._scan is not None:
            self._scan.close()
        self._scan = None if frame is None else self.clip.frames(frame)
        self._scan_at = -1 if frame is None else frame

    def _embed(self, image: UInt8[np.ndarray, "h w 3"]) -> Arrays:
        if image.shape[:2] != self.work_hw:
            size = (self.work_hw[1], self.work_hw[0])
            image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        fields = self.runtime.embed(image)
        return tuple(a.half().cpu().numpy() for a in (fields.embeddings, *fields.details))
