"""Following one object from its references through a clip, lazily and repeatably.

Every mask is a pure function of the frames' embeddings and of the references. An object's frames
with references are its anchors. The one with most marked pixels is the seed; from it the object is
followed outward to the other anchors, which correct it, and a frame between two anchors belongs to
the nearer one (of equals, the one nearer the seed). What a frame's mask depends on is thus a path:
the anchors passed from the seed, and the direction. Results are cached by that path, so adding a
reference keeps every result that does not depend on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pixelkin.grouping.evidence import Memory, discriminant, join, label_parts, local_bias, parts_of
from pixelkin.runtime import Runtime, pad_image
from pixelkin.tracking import FrameCells, Question, remember
from pixelkin.video.prompting import Prompt
from pixelkin.video.store import ArrayStore

SURE = 12.0
"""Logit of a pixel that the user marked."""

_MEMORIES_KEPT = 4


@dataclass(frozen=True)
class FollowSettings:
    """How the past is remembered.

    Attributes:
        memory_every: every how many frames a followed frame joins the memory (online adaptation).
        memory_frames: how many such frames are kept, the latest.
        anchors: how many anchors are kept: the seed and the latest.
    """

    memory_every: int = 5
    memory_frames: int = 1
    anchors: int = 3


@dataclass(frozen=True)
class Path:
    """What a mask depends on besides embeddings.

    Attributes:
        object_id: whose.
        anchors: (frame, digest of its prompt) from the seed to the last anchor passed.
        step: 1 forward, −1 backward from the last anchor.
    """

    object_id: int
    anchors: tuple[tuple[int, int], ...]
    step: int

    @property
    def start(self) -> int:
        """Frame of the last anchor passed."""
        return self.anchors[-1][0]


class Plan:
    """Which path leads to which frame, for one object."""

    def __init__(self, object_id: int, prompts: dict[int, Prompt]) -> None:
        self.object_id = object_id
        self.prompts = prompts
        self.seed = max(sorted(prompts), key=lambda frame: prompts[frame].strength)

    @cached_property
    def anchors(self) -> list[int]:
        """Frames of the anchors, ascending."""
        return sorted(self.prompts)

    @cached_property
    def digests(self) -> dict[int, int]:
        """A fingerprint of each anchor's prompt."""
        return {
            frame: hash((prompt.marks.tobytes(), prompt.exact.tobytes()))
            for frame, prompt in self.prompts.items()
        }

    def path_to(self, frame: int) -> Path:
        """The path whose last anchor is nearest to `frame`, on the way from the seed or beyond."""
        before = [a for a in self.anchors if a <= frame]
        after = [a for a in self.anchors if a >= frame]
        if not before:
            return self._path(after[0], -1)
        if not after or before[-1] == frame:
            return self._path(before[-1], 1)
        left, right = frame - before[-1], after[0] - frame
        nearer_seed_left = before[-1] >= self.seed
        take_left = left < right or (left == right and nearer_seed_left)
        return self._path(before[-1], 1) if take_left else self._path(after[0], -1)

    def approach(self, path: Path) -> Path | None:
        """The path that leads to `path`'s last anchor; None for the seed."""
        if len(path.anchors) == 1:
            return None
        step = 1 if path.start > self.seed else -1
        return Path(self.object_id, path.anchors[:-1], step)

    def _path(self, anchor: int, step: int) -> Path:
        if anchor >= self.seed:
            passed = [a for a in self.anchors if self.seed <= a <= anchor]
        else:
            passed = [a for a in reversed(self.anchors) if anchor <= a <= self.seed]
        return Path(self.object_id, tuple((a, self.digests[a]) for a in passed), step)


class Follower:
    """Computes and caches masks along paths.

    Args:
        runtime: decodes evidence to masks.
        cells_of: frame index → its embedded cells.
        store: keeps logits; shared with the embeddings under one memory budget.
    """

    def __init__(
        self,
        runtime: Runtime,
        cells_of: Callable[[int], FrameCells],
        store: ArrayStore,
        settings: FollowSettings,
    ) -> None:
        self.runtime = runtime
        self.cells_of = cells_of
        self.store = store
        self.settings = settings
        self._memories: OrderedDict[tuple[object, ...], tuple[tuple[Tensor, Tensor], Tensor]] = (
            OrderedDict()
        )
        self._bias: dict[tuple[int, int], Tensor] = {}

    def logits(self, plan: Plan, frame: int) -> Float[np.ndarray, "h4 w4"]:
        """Mask logits of the plan's object at stride 4 of the padded frame, float16."""
        path = plan.path_to(frame)
        # Anchors are solved from the seed outward, so that none has to call upon the one before:
        # a long list of clicks would else be as deep a recursion.
        for count in range(1, len(path.anchors) + 1):
            reached = Path(path.object_id, path.anchors[:count], path.step)
            if self._cached(reached, reached.start) is None:
                self._anchor(plan, reached)
        return self._along(plan, path, frame)

    def _along(self, plan: Plan, path: Path, frame: int) -> Float[np.ndarray, "h4 w4"]:
        known = frame
        while known != path.start and self._cached(path, known) is None:
            known -= path.step
        found = self._cached(path, known)
        if found is None:
            found = self._anchor(plan, path)
        for at in range(known + path.step, frame + path.step, path.step):
            found = self._keep(path, at, self._step(plan, path, at))
        return found

    @torch.inference_mode()
    def _step(self, plan: Plan, path: Path, frame: int) -> Tensor:
        memory, direction = self._memory(plan, path, frame)
        cells = self.cells_of(frame)
        before = self._parts(plan, path, frame - path.step)
        nearby = remember(self.cells_of(frame - path.step), before)
        question = Question(
            *memory, nearby.embeddings, nearby.columns(), self._bias_of(cells), before, direction
        )
        return self.runtime.answer(cells, question)[0, 0]

    @torch.inference_mode()
    def _anchor(self, plan: Plan, path: Path) -> Float[np.ndarray, "h4 w4"]:
        """The mask at an anchor: as marked where it is marked, else predicted."""
        frame = path.start
        prompt = plan.prompts[frame]
        marks = torch.from_numpy(pad_image(prompt.marks[..., None])[..., 0].copy())
        marks = marks.to(self.runtime.device)
        known, filled, weights = (x[None, None] for x in label_parts(marks, 1))
        if prompt.is_whole:
            h, w = marks.shape[0] // 16, marks.shape[1] // 16
            return self._keep(path, frame, _as_map((filled * 2 - 1) * SURE, (h, w)))
        cells = self.cells_of(frame)
        marked = remember(cells, filled, weights)
        bias = self._bias_of(cells)
        memory, nearby, previous = marked, marked, known
        approach = plan.approach(path)
        if approach is not None:
            propagated = self._along(plan, approach, frame)
            # Of this frame only the marked cells say anything; they are few.
            told = torch.nonzero(weights[0, 0])[:, 0]
            marked = _select(marked, told)
            memory = join([*self._remembered(plan, approach, frame), marked])
            near = self.cells_of(frame - approach.step)
            nearby = join(
                [remember(near, self._parts(plan, approach, frame - approach.step)), marked]
            )
            bias = torch.cat([bias, bias[:, told]], dim=1)
            previous = torch.where(known == 0.5, self._to_parts(propagated), known)
        question = Question(
            memory.embeddings,
            memory.columns(),
            nearby.embeddings,
            nearby.columns(),
            bias,
            previous,
            discriminant(memory),
        )
        logits = self.runtime.answer(cells, question)[0, 0]
        sure = _as_map((known * 2 - 1) * SURE, cells.grid_hw)
        return self._keep(path, frame, torch.where(sure == 0, logits, sure))

    def _memory(self, plan: Plan, path: Path, frame: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """(keys, columns) and discriminant of what is remembered on the way to `frame`."""
        key = (path, *self._followed(path, frame))
        if key not in self._memories:
            memory = join(self._remembered(plan, path, frame))
            table = (memory.embeddings, memory.columns())
            self._memories[key] = (table, discriminant(memory))
            while len(self._memories) > _MEMORIES_KEPT:
                self._memories.popitem(last=False)
        return self._memories[key]

    def _followed(self, path: Path, frame: int) -> list[int]:
        """Followed frames that are remembered: every so many from the last anchor, the latest."""
        every = self.settings.memory_every
        count = abs(frame - path.step - path.start) // every if every else 0
        first = max(1, count - self.settings.memory_frames + 1)
        return [path.start + path.step * every * k for k in range(first, count + 1)]

    def _remembered(self, plan: Plan, path: Path, frame: int) -> list[Memory]:
        """Anchors passed (the seed and the latest), and some followed frames."""
        count = len(path.anchors)
        kept = sorted({0, *range(max(0, count - self.settings.anchors + 1), count)})
        found = []
        for i in kept:
            reached = Path(path.object_id, path.anchors[: i + 1], 1)
            cells = self.cells_of(reached.start)
            mask = self._along(plan, reached, reached.start)
            found.append(remember(cells, self._to_parts(mask)))
        followed = self._followed(path, frame)
        return found + [remember(self.cells_of(t), self._parts(plan, path, t)) for t in followed]

    def _parts(self, plan: Plan, path: Path, frame: int) -> Tensor:
        return self._to_parts(self._along(plan, path, frame))

    def _to_parts(self, logits: Float[np.ndarray, "h4 w4"]) -> Tensor:
        kept = torch.from_numpy(logits).to(self.runtime.device).float()
        return parts_of(kept.sigmoid()[None, None])

    def _cached(self, path: Path, frame: int) -> Float[np.ndarray, "h4 w4"] | None:
        found = self.store.get(_key(path, frame))
        return None if found is None else found[0]

    def _keep(self, path: Path, frame: int, logits: Tensor) -> Float[np.ndarray, "h4 w4"]:
        kept = logits.clamp(-SURE, SURE).half().cpu().numpy()
        self.store.put(_key(path, frame), (kept,))
        return kept

    def _bias_of(self, cells: FrameCells) -> Tensor:
        if cells.grid_hw not in self._bias:
            self._bias = {cells.grid_hw: local_bias(cells.grid_hw).to(cells.embeddings.device)}
        return self._bias[cells.grid_hw]


def _select(memory: Memory, index: Tensor) -> Memory:
    return Memory(
        memory.embeddings[:, index],
        memory.features[:, index],
        memory.parts[:, :, index],
        memory.weights[:, :, index],
    )


def _key(path: Path, frame: int) -> tuple[object, ...]:
    # At the anchor itself both directions are the same.
    step = 0 if frame == path.start else path.step
    return ("logits", path.object_id, path.anchors, step, frame)


def _as_map(parts: Float[Tensor, "1 1 q p"], grid_hw: tuple[int, int]) -> Float[Tensor, "h4 w4"]:
    """Values per part of each cell as a map at stride 4: the inverse of `parts_of`."""
    side = int(parts.shape[-1] ** 0.5)
    blocks = parts[0, 0].T.reshape(1, side * side, *grid_hw)
    return torch.nn.functional.pixel_shuffle(blocks, side)[0, 0]
