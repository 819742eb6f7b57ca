"""Image sessions: embed once, ask many times.

    with ImageSession(pixelkin.load()) as session:
        session.set_image(image)
        session.add(Click(frame=0, point_xy=(320, 240), object_id=1))
        masks = session.segments()

An image is a clip of one frame: references name frame 0, and a clip session answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from jaxtyping import UInt8

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Reference
from pixelkin.media import MemoryClip
from pixelkin.runtime import Runtime
from pixelkin.structures import Segments
from pixelkin.video import ClipSession


class ImageSession:
    """References on one image at a time, and the masks that follow from them.

    Everything but `set_image` and `close` raises `PixelkinError` while there is no image.

    Args:
        runtime: the model, from `pixelkin.load`.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._session: ClipSession | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give memory back; the image and its references are forgotten."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def set_image(self, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """Embed an image. References to the image before it are forgotten.

        Args:
            image: uint8 (H, W, 3), RGB, of any size.

        Raises:
            PixelkinError: `image` is something else; the image before it stays.
        """
        session = ClipSession(self.runtime, MemoryClip([image], name="image"))
        session.embed(0)
        self.close()
        self._session = session

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the image in pixels."""
        return self._asked.clip.size_hw

    @property
    def references(self) -> tuple[Reference, ...]:
        """All references, in the order in which they were added."""
        return self._asked.references

    @property
    def object_ids(self) -> list[int]:
        """Ids of the objects that are marked, ascending."""
        return self._asked.object_ids

    def add(self, *references: Reference) -> None:
        """Add references, all in frame 0. Of strokes that overlap, the later counts."""
        self._asked.add(*references)

    def remove(self, reference: Reference) -> None:
        """Remove a reference that is equal to the one given."""
        self._asked.remove(reference)

    def change(self, old: Reference, new: Reference) -> None:
        """Put a reference in the place of another."""
        self._asked.change(old, new)

    def replace_all(self, references: Sequence[Reference]) -> None:
        """Set all references at once."""
        self._asked.replace_all(references)

    def undo(self) -> None:
        """Take back the last edit of the references; without one, an error."""
        self._asked.undo()

    def labels(self) -> UInt8[np.ndarray, "h w"]:
        """Label map, uint8 (H, W): object ids, 0 background."""
        return self._asked.labels(0)

    def segments(self) -> Segments:
        """Masks, run-length encoded."""
        return self._asked.segments(0)

    @property
    def _asked(self) -> ClipSession:
        if self._session is None:
            raise PixelkinError("the session has no image; call set_image first")
        return self._session
