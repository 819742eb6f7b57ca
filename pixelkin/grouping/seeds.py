"""Seeds: which pixels shall each grow into a mask.

Fathi et al., "Semantic Instance Segmentation via Deep Metric Learning", arXiv 1703.10277,
section 3.3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError

_BLOCK = 16
"""Pixels that share a bound. Measured: 8 and 32 cost 10 to 30 % more on a 480×640 field."""

_FIRST, _MORE = 32, 1024
"""Blocks to refresh at once, before and after a priority is known to be reached."""

_LEAST_LAZY = 4096
"""Pixels below which bounds cost more than they save."""

_TINY = 1e-300
"""Less than any priority but 0."""

_CHUNK = 4096
"""Pixels at a time, which stay in a cache."""


class Seeds(NamedTuple):
    """Chosen pixels, in the order of choice.

    Attributes:
        indices: int64 (T,), rows of the embeddings.
        scores: float32 (T,), their seediness.
    """

    indices: Int64[Tensor, " t"]
    scores: Float[Tensor, " t"]


def seediness(
    probabilities: Float[Tensor, "t c n"],
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """How likely each pixel is to grow into a good mask of an object.

    The maximum over similarity cuts and over classes other than background (section 3.3).

    Args:
        probabilities: float (T, 1 + C, N), of each class at each of T cuts; class 0 is background.

    Returns:
        Scores, float (N,); the cut that has the maximum, int64 (N,) in 0 … T−1; and its category,
        int64 (N,) in 0 … C−1 (category 0 is class 1). Of equal maxima, any. NaN gives NaN.

    Raises:
        PixelkinError: other dimensions, no cut, or no class besides background.
    """
    if probabilities.ndim != 3 or probabilities.shape[0] < 1 or probabilities.shape[1] < 2:
        raise PixelkinError(
            f"probabilities {tuple(probabilities.shape)}: expected (cuts, 1 + categories, pixels), "
            "with background as class 0"
        )
    categories = probabilities.shape[1] - 1
    scores, best = probabilities[:, 1:].flatten(0, 1).max(0)
    return scores, best.div(categories, rounding_mode="floor"), best.remainder(categories)


def choose_seeds(
    embeddings: Float[Tensor, "n d"],
    scores: Float[Tensor, " n"],
    *,
    count: int,
    alpha: float = 0.3,
    floor: float = 0.0,
) -> Seeds:
    """Seeds that score high and lie far from each other, by the paper's greedy rule, exactly.

    p₁ = argmax S; p_t = argmax [log S_p + α log D(p, {p₁ … p_{t−1}})], D the least squared distance
    to the seeds so far (section 3.3). Of equal pixels the one with the lowest index is taken.
    Pixels that coincide with a seed are never taken, whatever α.

    Args:
        embeddings: float (N, D).
        scores: float (N,), seediness S.
        count: seeds at most. There are fewer where no other pixel with a score above `floor` lies
            apart from the seeds.
        alpha: weight of the distance, 0 or more; the paper sweeps .1 to .6.
        floor: only scores above it can be seeds; 0 or more.

    Returns:
        `Seeds`, at most `count`. Scores that are not finite, and pixels whose embedding is not,
        are passed over.

    Raises:
        PixelkinError: shapes that do not match, or a count, alpha or floor below 0.
    """
    if embeddings.ndim != 2 or scores.shape != embeddings.shape[:1]:
        raise PixelkinError(
            f"embeddings {tuple(embeddings.shape)} and scores {tuple(scores.shape)}: expected "
            "(N, D) and (N,)"
        )
    if not (count >= 0 and alpha >= 0 and floor >= 0):
        raise PixelkinError(
            f"count {count}, alpha {alpha}, floor {floor}: none of them can be negative"
        )
    embeddings, scores = embeddings.detach().float().contiguous(), scores.detach().float()
    lazy = embeddings.device.type == "cpu" and alpha > 0 and len(scores) >= _LEAST_LAZY
    found = (_lazy if lazy else _plain)(embeddings, scores, min(count, len(scores)), alpha, floor)
    indices = torch.tensor(found, dtype=torch.int64, device=scores.device)
    return Seeds(indices, scores[indices])


def _plain(
    embeddings: Float[Tensor, "n d"],
    scores: Float[Tensor, " n"],
    count: int,
    alpha: float,
    floor: float,
) -> list[int]:
    """The rule as it stands: every pixel's distance to every seed."""
    weights = _weights(scores.where(embeddings.isfinite().all(1), -torch.inf), alpha, floor)
    priority = scores.where(weights > 0, -torch.inf).double()
    distances = torch.full_like(scores, torch.inf)
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(priority.argmax())
        if not priority[best] > 0:
            break
        chosen.append(best)
        distances = torch.fmin(distances, _apart(embeddings, embeddings[best]))
        priority = (weights * (distances if alpha else distances.sign())).nan_to_num(nan=0.0)
    return chosen


def _lazy(
    embeddings: Float[Tensor, "n d"],
    scores: Float[Tensor, " n"],
    count: int,
    alpha: float,
    floor: float,
) -> list[int]:
    """The same pixels as `_plain`, few of which are looked at.

    Distances to the seeds only shrink, so that a priority computed earlier bounds today's: blocks
    of pixels whose bound lies below a priority that somewhere is reached need not be looked at
    (lazy greedy; Minoux 1978). Bounds come from matrix products, rounded up; what is chosen is
    decided by `_apart`, as in `_plain`.
    """
    if not count:
        return []
    field = _Bounds(embeddings, scores, alpha, floor)
    while 0 < len(field.chosen) < count:
        best = field.reach()
        while len(stale := field.stale(best, _FIRST if best == 0 else _MORE)):
            best = max(best, field.refresh(stale))
        index = field.first_best(best)
        if index is None:
            break
        field.add(index)
    return field.chosen


class _Bounds:
    """Upper bounds of every pixel's weight × distance to the seeds chosen so far.

    Attributes:
        chosen: the seeds, rows of the embeddings.
    """

    def __init__(
        self,
        embeddings: Float[Tensor, "n d"],
        scores: Float[Tensor, " n"],
        alpha: float,
        floor: float,
    ) -> None:
        self.chosen: list[int] = []
        self.last = 0.0
        pixels, dimensions = embeddings.shape
        # The last block may be short: it is filled up with pixels that weigh nothing.
        self.whole = pixels // _BLOCK
        self.embeddings = embeddings
        self.blocks = embeddings[: self.whole * _BLOCK].view(self.whole, _BLOCK * dimensions)
        self.filled = -(-pixels // _BLOCK) * _BLOCK
        self.tail = embeddings.new_zeros(1, _BLOCK * dimensions)
        rest = embeddings[self.whole * _BLOCK :].reshape(-1)
        self.tail[0, : len(rest)] = rest
        # Rounding of |x|² − 2 x·s + |s|² is less than this share of |x|² + |s|².
        self.slack = 1 + 4 * (dimensions + 4) * torch.finfo(torch.float32).eps
        weights = _weights(scores, alpha, floor)
        norms = torch.cat([part.square().sum(1) for part in torch.split(embeddings, _CHUNK)])
        if not norms.isfinite().all():
            whole = torch.ones_like(scores, dtype=torch.bool)
            odd = (~norms.isfinite()).nonzero()[:, 0]
            whole[odd] = embeddings[odd].isfinite().all(1)
            weights = _weights(scores.where(whole, -torch.inf), alpha, floor)
            norms = norms.where(whole, 0)
        self.weights = functional.pad(weights, (0, self.filled - pixels)).view(-1, _BLOCK)
        self.norms = functional.pad(norms, (0, self.filled - pixels)).view(-1, _BLOCK) * self.slack
        self.upper = torch.zeros(self.filled)
        self.bounds = np.zeros(len(self.weights))
        self.seen = np.zeros(len(self.weights), np.int64)
        self.seeds, self.seed_norms = embeddings[:0], norms[:0, None]
        if (weights > 0).any():
            self._begin(int(scores.where(weights > 0, -torch.inf).argmax()))

    def _begin(self, first: int) -> None:
        """Choose the first seed and bound every pixel by its distance to it."""
        self.add(first)
        seed, norms = self.seeds[0], self.norms.view(-1)
        for start in range(0, len(self.embeddings), _CHUNK):
            part = self.embeddings[start : start + _CHUNK]
            place = slice(start, start + len(part))
            self.upper[place] = torch.addmv(norms[place], part, seed, alpha=-2)
        self.upper = (self.upper + self.seed_norms[0]).view(-1, _BLOCK)
        # Overflow says nothing about a distance; what weighs nothing shall not be NaN.
        _unknown_where_overflown(self.upper).clamp_min_(0)
        self.upper.masked_fill_(self.weights == 0, 0)
        self.bounds = (self.weights * self.upper).amax(1).numpy()
        self.seen[:] = 1

    def add(self, index: int) -> None:
        """Take the pixel `index` as a seed; every bound stays one."""
        self.chosen.append(index)
        seed = self.embeddings[index : index + 1]
        self.seeds = torch.cat([self.seeds, seed])
        norm = seed.square().sum(1, keepdim=True) * self.slack
        self.seed_norms = torch.cat([self.seed_norms, norm])

    def stale(self, best: float, most: int) -> Int64[np.ndarray, " k"]:
        """Blocks, the highest bounds first of all, that may hold more than `best`."""
        # Priorities fall slowly: what lies far below the last one need not be sorted.
        found = self._above(best or self.last)
        if not best and not len(found):
            found = self._above(0.0)
        if len(found) > most:
            found = np.sort(found[np.argpartition(self.bounds[found], -most)[-most:]])
        return found

    def _above(self, least: float) -> Int64[np.ndarray, " k"]:
        found = np.flatnonzero(self.bounds >= max(least, _TINY))
        return found[self.seen[found] < len(self.chosen)]

    def refresh(self, blocks: Int64[np.ndarray, " k"]) -> float:
        """Bound `blocks` by all seeds, and return a priority that one of their pixels reaches."""
        index = torch.from_numpy(blocks)
        rows = self._rows(index)
        oldest = int(self.seen[blocks].min())
        apart = torch.addmm(self.seed_norms[oldest:], self.seeds[oldest:], rows.T, alpha=-2).amin(0)
        apart = apart.view(-1, _BLOCK).add_(self.norms.index_select(0, index))
        upper = self.upper.index_select(0, index)
        upper = torch.minimum(upper, _unknown_where_overflown(apart)).clamp_min_(0)
        self.upper.index_copy_(0, index, upper)
        bounds, place = self.weights.index_select(0, index).mul_(upper).max(1)
        self.bounds[blocks] = bounds.numpy()
        self.seen[blocks] = len(self.chosen)
        top = int(bounds.argmax())
        return self._priority(torch.tensor([int(blocks[top]) * _BLOCK + int(place[top])])).item()

    def reach(self) -> float:
        """A priority that some pixel of an up-to-date block reaches, 0 where there is none."""
        # Of all blocks none but the highest is worth asking: a stale one says nothing.
        block = int(self.bounds.argmax()) if len(self.bounds) else 0
        if (
            not len(self.bounds)
            or self.seen[block] < len(self.chosen)
            or not self.bounds[block] > 0
        ):
            return 0.0
        place = int((self.weights[block] * self.upper[block]).argmax())
        return self._priority(torch.tensor([block * _BLOCK + place])).item()

    def first_best(self, best: float) -> int | None:
        """The first pixel of highest priority, of those whose bound is at least `best`."""
        blocks = torch.from_numpy(np.flatnonzero(self.bounds >= max(best, _TINY)))
        bounds = self.weights.index_select(0, blocks) * self.upper.index_select(0, blocks)
        block, place = ((bounds >= best) & (bounds > 0)).nonzero(as_tuple=True)
        pixels = blocks[block] * _BLOCK + place
        if not len(pixels):
            return None
        chunk = max(1, (1 << 20) // self.seeds.numel())
        values = torch.cat([self._priority(part) for part in torch.split(pixels, chunk)])
        top = int(values.argmax())
        self.last = 0.95 * float(values[top])
        return int(pixels[top]) if values[top] > 0 else None

    def _priority(self, pixels: Int64[Tensor, " k"]) -> Float[Tensor, " k"]:
        apart = _apart(self.embeddings[pixels][:, None], self.seeds).amin(1)
        return self.weights.view(-1)[pixels] * apart

    def _rows(self, blocks: Int64[Tensor, " k"]) -> Float[Tensor, "m d"]:
        if int(blocks[-1]) < self.whole:
            rows = self.blocks.index_select(0, blocks)
        else:
            rows = torch.cat([self.blocks.index_select(0, blocks[:-1]), self.tail])
        return rows.view(-1, self.embeddings.shape[1])


def _unknown_where_overflown(bounds: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    return bounds.nan_to_num_(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)


def _apart(a: Float[Tensor, "*s d"], b: Float[Tensor, "*s d"]) -> Float[Tensor, "*s"]:
    """Squared distance by differences: 0 for equal pixels, and rounded alike wherever it stands."""
    return (a - b).square_().sum(-1)


def _weights(scores: Float[Tensor, " n"], alpha: float, floor: float) -> Float[Tensor, " n"]:
    """S^(1/α), by which log S + α log D is largest where weight × D is; 0 for what cannot be.

    A product is rounded alike wherever it is made, so that equal pixels stay equal; a logarithm is
    not. Scores below 10⁻²⁵ of the highest (at the paper's least α) count as equal.
    """
    able = scores.isfinite() & (scores > floor)
    weights = torch.zeros_like(scores, dtype=torch.float64)
    if able.any():
        logs = scores[able].double().log()
        # Not 0 even at the least α, and their products with the least distance neither.
        found = ((logs - logs.max()) / (alpha or 1)).exp().clamp_min(1e-250)
        # Rounded to 41 bits (Veltkamp): exp and log err in the last ones, which would untie ties.
        scaled = found * 4097
        weights[able] = scaled - (scaled - found)
    return weights
