"""Clip sessions: mark objects in any frame, ask for any frame's masks.

    with open_clip("clip.mp4") as clip, ClipSession(pixelkin.load(), clip) as session:
        session.add(Click(frame=0, point_xy=(320, 240), object_id=1))
        masks = session.segments(40)

References are plain data (pixelkin.grouping.references). Each frame is embedded once, when it is
first needed; after that a reference costs retrieval and one pass of the small decoder per frame
that depends on it. What a session answers depends on its references alone, not on how it came to
them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from pixelkin.errors import PixelkinError
from pixelkin.grouping.evidence import PART_PX
from pixelkin.grouping.references import Reference, check_reference, reference_object_ids
from pixelkin.masks import segments_from_labels
from pixelkin.media import Clip
from pixelkin.runtime import MULTIPLE, Runtime
from pixelkin.structures import IGNORE, Fields, Segments
from pixelkin.tracking import FrameCells, frame_cells
from pixelkin.video.embedding_ahead import EmbeddingAhead
from pixelkin.video.following import Follower, FollowSettings, Plan
from pixelkin.video.prompting import Prompt, prompt_for, speaks_of
from pixelkin.video.store import ArrayStore

_RECENT_CELLS = 8


class ClipSession:
    """References on a clip, and the masks that follow from them.

    Args:
        runtime: the model, from `pixelkin.load`.
        clip: the frames, from `open_clip`; or any sequence of uint8 (H, W, 3) arrays with
            `size_hw` and `frames(start)`.
        budget_mb: memory for embeddings and masks; what is more goes to a temporary file.
        spill_dir: where that file lies; None takes the system's temporary folder.
        settings: how the past is remembered.
        max_pixels: larger frames are scaled down to this many for the network; masks come back at
            full size. Retrieval costs the square of it, and the shipped model knows objects at
            this scale.
    """

    def __init__(
        self,
        runtime: Runtime,
        clip: Clip,
        *,
        budget_mb: float = 512,
        spill_dir: Path | None = None,
        settings: FollowSettings | None = None,
        max_pixels: int = 540 * 960,
    ) -> None:
        self.runtime = runtime
        self.clip = clip
        self.store = ArrayStore(int(budget_mb * 2**20), directory=spill_dir)
        self.work_hw = fit(clip.size_hw, max_pixels)
        self._embeddings = EmbeddingAhead(runtime, clip, self.store, work_hw=self.work_hw)
        self._follower = Follower(runtime, self._cells, self.store, settings or FollowSettings())
        self._references: tuple[Reference, ...] = ()
        self._past: list[tuple[Reference, ...]] = []
        self._plans: dict[int, Plan] = {}
        self._prompts: dict[tuple[object, ...], Prompt] = {}
        self._recent: OrderedDict[int, FrameCells] = OrderedDict()

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
        """Give memory and the temporary file back."""
        self._embeddings.close()
        self._recent.clear()
        self.store.close()

    # References

    @property
    def references(self) -> tuple[Reference, ...]:
        """All references, in the order in which they were added."""
        return self._references

    @property
    def object_ids(self) -> list[int]:
        """Ids of the objects that can be followed: marked somewhere, not only excluded."""
        return sorted(self._plans)

    def add(self, *references: Reference) -> None:
        """Add references. Of strokes that overlap, the later counts."""
        self._set((*self._references, *references))

    def remove(self, reference: Reference) -> None:
        """Remove a reference that is equal to the one given."""
        self._set(_without(self._references, reference))

    def change(self, old: Reference, new: Reference) -> None:
        """Put a reference in the place of another."""
        _without(self._references, old)
        place = self._references.index(old)
        self._set((*self._references[:place], new, *self._references[place + 1 :]))

    def replace_all(self, references: Sequence[Reference]) -> None:
        """Set all references at once."""
        self._set(tuple(references))

    def undo(self) -> None:
        """Take back the last edit of the references; without one, an error."""
        if not self._past:
            raise PixelkinError("there is nothing to undo: no reference was added or removed")
        self._apply(self._past.pop())

    def _set(self, references: tuple[Reference, ...]) -> None:
        for reference in references:
            check_reference(reference, self.clip.size_hw, len(self.clip))
        before = self._references
        self._apply(references)
        self._past.append(before)

    def _apply(self, references: tuple[Reference, ...]) -> None:
        self._references = references
        objects = sorted({i for r in references for i in reference_object_ids(r)})
        plans: dict[int, Plan] = {}
        prompts: dict[tuple[object, ...], Prompt] = {}
        for object_id in objects:
            frames = sorted({r.frame for r in references if speaks_of(r, object_id)})
            found = {}
            for frame in frames:
                here = tuple(r for r in references if r.frame == frame)
                key = (object_id, here)
                prompts[key] = self._prompts.get(key) or prompt_for(
                    here, object_id, self.clip.size_hw, self.work_hw
                )
                found[frame] = prompts[key]
            if any(prompt.strength for prompt in found.values()):
                plans[object_id] = Plan(object_id, found)
        self._prompts = prompts
        self._plans = plans
        self._forget_unused()

    def _forget_unused(self) -> None:
        """Drop results of anchors that are gone; what an undo may need again is recomputed."""
        alive = {(i, a) for i, plan in self._plans.items() for a in plan.digests.items()}
        for key in list(self.store):
            if isinstance(key, tuple) and key[0] == "logits":
                _, object_id, anchors, *_ = key
                if any((object_id, anchor) not in alive for anchor in anchors):
                    self.store.discard(key)

    # Masks

    def labels(self, frame: int) -> UInt8[np.ndarray, "h w"]:
        """Label map of a frame, uint8 (H, W): object ids, 0 background."""
        check_frame(frame, len(self.clip))
        h, w = self.clip.size_hw
        best = np.zeros((h, w), np.float32)
        labels = np.zeros((h, w), np.uint8)
        for object_id, plan in self._plans.items():
            logits = upsample_logits(
                self._follower.logits(plan, frame), (h, w), work_hw=self.work_hw
            )
            if frame in plan.prompts:
                exact = plan.prompts[frame].exact
                logits = np.where(exact == IGNORE, logits, np.where(exact == 1, np.inf, -np.inf))
            if len(self._plans) == 1:
                return (logits > 0).astype(np.uint8) * np.uint8(object_id)
            won = logits > best
            labels[won] = object_id
            best = np.maximum(best, logits)
        return labels

    def segments(self, frame: int) -> Segments:
        """Masks of a frame, run-length encoded."""
        return segments_from_labels(self.labels(frame))

    def all_labels(self) -> Iterator[UInt8[np.ndarray, "h w"]]:
        """Label maps of all frames, in order."""
        return (self.labels(frame) for frame in range(len(self.clip)))

    # Embeddings

    def embed(self, frame: int) -> None:
        """Embed a frame now, so that a later question finds it done."""
        check_frame(frame, len(self.clip))
        self._embeddings.get(frame)

    def _cells(self, frame: int) -> FrameCells:
        cells = self._recent.get(frame)
        if cells is None:
            arrays = self._embeddings.get(frame)
            with torch.inference_mode():
                tensors = [torch.from_numpy(a).to(self.runtime.device).float() for a in arrays]
                cells = frame_cells(Fields(tensors[0], tuple(tensors[1:]), MULTIPLE))
            self._recent[frame] = cells
            while len(self._recent) > _RECENT_CELLS:
                self._recent.popitem(last=False)
        self._recent.move_to_end(frame)
        return cells


def fit(size_hw: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    """The largest size of the same shape with at most `max_pixels`; never larger than given."""
    h, w = size_hw
    scale = math.sqrt(max_pixels / (h * w))
    if scale >= 1:
        return size_hw
    return max(1, math.floor(h * scale)), max(1, math.floor(w * scale))


def upsample_logits(
    logits: Float[np.ndarray, "h4 w4"],
    size_hw: tuple[int, int],
    *,
    work_hw: tuple[int, int] | None = None,
) -> Float[np.ndarray, "h w"]:
    """Logits at stride 4 of the padded working frame, bilinearly at full size, float32 (H, W)."""
    h4, w4 = logits.shape
    h, w = work_hw or size_hw
    padded = (w4 * PART_PX, h4 * PART_PX)
    full = cv2.resize(logits.astype(np.float32), padded, interpolation=cv2.INTER_LINEAR)[:h, :w]
    if (h, w) != size_hw:
        full = cv2.resize(full, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR)
    return full


def check_frame(frame: int, count: int) -> None:
    """Raise `PixelkinError` where a frame index is outside the clip."""
    if not 0 <= frame < count:
        raise PixelkinError(
            f"frame {frame} is outside the clip: it has {count} frames, numbered 0 to "
            f"{count - 1}; choose one of them"
        )


def _without(references: tuple[Reference, ...], reference: Reference) -> tuple[Reference, ...]:
    if reference not in references:
        raise PixelkinError(
            f"the session has no such reference: {type(reference).__name__} in frame "
            f"{reference.frame}; see session.references"
        )
    place = references.index(reference)
    return (*references[:place], *references[place + 1 :])
