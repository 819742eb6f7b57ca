"""Seeds by the greedy rule, few pixels of which are looked at.

Lazy greedy: M. Minoux, "Accelerated greedy algorithms for maximizing submodular set functions",
1978. A priority computed earlier bounds today's, because distances to the seeds only shrink.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.grouping.blocks import UNDERFLOW, PixelBlocks, squared_apart, squares_over

_SHARE = 0.7
"""A pool begins with pixels whose bound is this share of the highest."""

_ACTIVE = 0.01
"""Runs with a bound of this share of the highest are kept up to date."""

_MOST_RUNS, _MOST_CANDIDATES, _MOST_PIXELS = 4096, 6144, 2048
"""Runs, and pixels of them, to bound one by one, and pixels in a pool. Half as many cost more, in
fillings; twice as many, in pixels."""

_LEAST_WEIGHT, _LEAST_BOUND = 1e-37, 1e-44
"""Least weight and least product of a bound in 32 bits."""


def choose_lazily(
    blocks: PixelBlocks,
    scores: Float[Tensor, " n"],
    count: int,
    alpha: float,
    floor: float,
) -> list[int] | None:
    """The pixels that `choose_seeds` describes, for `usable` blocks and α ≥ 0.01.

    While the best pixel of a pool reaches what no pixel outside can exceed, it is the best of all;
    then the pool is filled anew. Bounds come from balls around runs of pixels, rounded up; what is
    chosen is decided by differences. None where 32 bits cannot tell the priorities that are left.
    """
    field = _Field(blocks, scores, count, alpha, floor)
    while len(field.chosen) < count:
        pool = field.pool()
        if pool is None:
            break
        field.choose_from(pool)
    return None if field.stuck else field.chosen


@dataclass
class _Pool:
    """The pixels of highest priority.

    Attributes:
        places: int64 (K,), ascending, into the active runs' pixels.
        pixels: int64 (K,), ascending, into all.
        rows: their embeddings, float32 (K, D).
        weights: float64 (K,).
        apart: float32 (K,), least squared distance to a seed.
        least: no pixel outside reaches it.
    """

    places: Int64[Tensor, " k"]
    pixels: Int64[Tensor, " k"]
    rows: Float[Tensor, "k d"]
    weights: Float[Tensor, " k"]
    apart: Float[Tensor, " k"]
    least: float

    def part(self, which: Int64[Tensor, " m"]) -> _Pool:
        return _Pool(
            self.places[which],
            self.pixels[which],
            self.rows.index_select(0, which),
            self.weights[which],
            self.apart[which],
            self.least,
        )


class _Active:
    """Runs that may hold the next seeds, side by side.

    Attributes:
        runs: int64 (A,), which they are, ascending.
        least: the bounds of all other runs are lower.
        weights: float32 (A, size), no less than each pixel's, 0 for what cannot be a seed.
        upper: float32 (A, size), no less than each pixel's squared distance to the seeds.
        bounds: float32 (A,), no less than any priority in a run.
        middle: float32 (A,), no less than each anchor's squared distance to the first `seen` seeds.
    """

    def __init__(
        self,
        blocks: PixelBlocks,
        weights: Float[Tensor, "b s"],
        upper: Float[Tensor, "b s"],
        bounds: Float[Tensor, " b"],
        least: float,
    ) -> None:
        self.least, self.seen, self.blocks = least, 0, blocks
        self.runs = (bounds >= least).nonzero()[:, 0]
        self.weights, self.upper = weights[self.runs], upper[self.runs]
        self.bounds = bounds[self.runs]
        self.heaviest = self.weights.amax(1)
        self.anchors, self.radii = blocks.anchors[self.runs], blocks.radii[self.runs]
        self.apart = blocks.apart[self.runs]
        self.norms = blocks.norms[self.runs] * (1 + blocks.rounding)
        self.middle = torch.full_like(self.bounds, torch.inf)

    def refresh(self, seeds: Float[Tensor, "t d"]) -> None:
        """Bound every run by its anchor's distances to the seeds (less `origin`) that are new."""
        if self.seen == len(seeds):
            return
        new = seeds[self.seen :]
        squares = new.square().sum(1) * (1 + self.blocks.rounding)
        apart = torch.addmm(squares, self.anchors, new.T, alpha=-2).amin(1) + self.norms
        self.middle = torch.minimum(self.middle, apart.clamp_min_(0))
        far = squares_over(self.middle.sqrt() + self.radii, self.blocks)
        self.bounds = torch.minimum(self.bounds, _product(self.heaviest, far))
        self.seen = len(seeds)

    def set_upper(self, runs: Int64[Tensor, " k"], upper: Float[Tensor, "k s"]) -> None:
        self.upper[runs] = upper
        bounds = _product(self.weights.index_select(0, runs), upper).amax(1)
        self.bounds[runs] = torch.minimum(bounds, self.bounds[runs])


class _Field:
    """Upper bounds of every pixel's weight × distance to the seeds chosen so far.

    Attributes:
        chosen: the seeds, rows of the embeddings.
        weights, upper, bounds: as `_Active` has them, of all runs.
        stuck: bounds fall no more, though no pixel reaches them.
    """

    def __init__(
        self,
        blocks: PixelBlocks,
        scores: Float[Tensor, " n"],
        count: int,
        alpha: float,
        floor: float,
    ) -> None:
        self.blocks, self.alpha = blocks, alpha
        self.chosen: list[int] = []
        able = scores.isfinite() & (scores > floor)
        able[blocks.odd] = False
        self.scores = scores.where(able, -torch.inf)
        self.top_score = self.scores.max() if len(scores) else torch.tensor(-torch.inf)
        # The error of 32-bit logarithms, divided by α, too.
        error = 1e-4 + 5e-5 / alpha
        logs = (self.scores.log() - self.top_score.log()).div_(alpha).add_(error)
        weights = logs.exp_().clamp_min_(_LEAST_WEIGHT).masked_fill_(~able, 0)
        filled = len(blocks.anchors) * blocks.size
        self.weights = functional.pad(weights, (0, filled - len(scores))).view(-1, blocks.size)
        self.upper = torch.full_like(self.weights, torch.inf)
        self.bounds = torch.zeros(len(self.weights))
        self.seeds = self.centred = blocks.embeddings[:0]
        self.count, self.stuck = count, False
        # A pixel's bound exceeds its priority by less than this, once its distance is known.
        self.margin = 1 - 3 * error
        if count and self.top_score > -torch.inf:
            self.chosen.append(int(self.scores.argmax()))
            self._look_up()
            norm = self.centred[0].square().sum()
            apart = torch.addmv(blocks.norms, blocks.anchors, self.centred[0], alpha=-2)
            apart += norm + blocks.rounding * (blocks.norms + norm)
            far = squares_over(apart.clamp_min_(0).sqrt_().add_(blocks.radii), blocks)
            self.bounds = _product(self.weights.amax(1), far)
        self.active = self._activate()

    def _activate(self) -> _Active:
        least = _ACTIVE * float(self.bounds.max()) if len(self.bounds) else 0.0
        return _Active(self.blocks, self.weights, self.upper, self.bounds, least)

    def _look_up(self) -> None:
        """The embeddings of the seeds, and less `origin`."""
        self.seeds = self.blocks.embeddings[self.chosen]
        self.centred = self.seeds - self.blocks.origin

    def pool(self) -> _Pool | None:
        """Some pixels that none outside exceeds, or None where nothing is left."""
        self._look_up()
        while len(active := self.active.runs) and self.chosen and not self.stuck:
            self.active.refresh(self.centred)
            top = float(self.active.bounds.max())
            if self.margin * top < self.active.least or not top > 0:
                self.upper[active], self.bounds[active] = self.active.upper, self.active.bounds
                if not float(self.bounds.max()) > 0:
                    break
                self.active = self._activate()
                continue
            least = max(_SHARE * top, self.active.least, _LEAST_BOUND)
            found = self._fill(*_highest(self.active.bounds, least, _MOST_RUNS, self.margin))
            if found is not None:
                return found
            # As for weights that 32 bits cannot hold.
            self.stuck = float(self.active.bounds.max()) >= top
        return None

    def _fill(self, runs: Int64[Tensor, " k"], least: float) -> _Pool | None:
        """The pixels of `runs` whose priority reaches `least`, or fewer and a higher one."""
        active, size = self.active, self.blocks.size
        far = active.middle[runs].sqrt_()[:, None] + active.apart.index_select(0, runs)
        upper = torch.minimum(active.upper.index_select(0, runs), squares_over(far, self.blocks))
        flat, weights = upper.view(-1), active.weights.index_select(0, runs).view(-1)
        # The bound of a run may be lower than what is known of its pixels.
        limits = active.bounds[runs].repeat_interleave(size)
        values = torch.minimum(_product(weights, flat), limits)
        near, least = _highest(values, least, _MOST_CANDIDATES, self.margin)
        run = runs[near // size]
        pixels = active.runs[run] * size + near % size
        rows = self.blocks.embeddings.index_select(0, pixels)
        about, error = self._about(rows)
        flat[near] = torch.minimum(flat[near], about.amin(1) + error)
        values = torch.minimum(weights[near] * flat[near], limits[near])
        kept, least = _highest(values, least, _MOST_PIXELS, self.margin)
        near, pixels, rows = near[kept], pixels[kept], rows[kept]
        if len(near):
            apart = self._apart_from_all(rows, about[kept], error[kept])
            flat[near] = apart
        active.set_upper(runs, upper)
        if not len(near):
            return None
        exact = seed_weights(self.scores[pixels], self.alpha, -torch.inf, highest=self.top_score)
        if not float((exact * apart).max()) >= least:
            return None
        return _Pool(runs[near // size] * size + near % size, pixels, rows, exact, apart, least)

    def _about(
        self, rows: Float[Tensor, "k d"]
    ) -> tuple[Float[Tensor, "k t"], Float[Tensor, " k"]]:
        """Squared distances to all seeds by products, and by how much they may be wrong."""
        centred = rows - self.blocks.origin
        norms, squares = centred.square().sum(1, keepdim=True), self.centred.square().sum(1)
        about = torch.addmm(squares, centred, self.centred.T, alpha=-2).add_(norms)
        return about, (norms[:, 0] + squares.max()) * self.blocks.rounding + UNDERFLOW

    def _apart_from_all(
        self, rows: Float[Tensor, "k d"], about: Float[Tensor, "k t"], error: Float[Tensor, " k"]
    ) -> Float[Tensor, " k"]:
        """Least of `squared_apart` to all seeds, of those that may have it."""
        able = about <= (about.amin(1) + 2 * error)[:, None]
        pair, seed = np.nonzero(able.numpy())
        index = torch.from_numpy(pair), torch.from_numpy(seed)
        apart = squared_apart(rows.index_select(0, index[0]), self.seeds.index_select(0, index[1]))
        begins = np.searchsorted(pair, np.arange(len(rows)))
        return torch.from_numpy(np.minimum.reduceat(apart.numpy(), begins))

    def choose_from(self, pool: _Pool) -> None:
        """Take seeds as long as the best of all is in the pool."""
        priority, left = pool.weights * pool.apart, [pool.part(torch.zeros(0, dtype=torch.int64))]
        while len(self.chosen) < self.count and len(priority):
            best = int(priority.numpy().argmax())
            if not (priority[best] >= pool.least and priority[best] > 0):
                break
            self.chosen.append(int(pool.pixels[best]))
            pool.apart = torch.minimum(pool.apart, squared_apart(pool.rows, pool.rows[best]))
            priority = pool.weights * pool.apart
            able = priority >= pool.least
            if 2 * int(able.count_nonzero()) < len(able):
                left.append(pool)
                pool = pool.part(able.nonzero()[:, 0])
                priority = priority[able]
        # What was in the pool longest is written last.
        for part in (*left, pool):
            self.active.upper.view(-1)[part.places] = part.apart
        runs = torch.cat([part.places for part in (*left, pool)]) // self.blocks.size
        runs = torch.from_numpy(np.unique(runs.numpy()))
        self.active.set_upper(runs, self.active.upper[runs])


def _product(weights: Float[Tensor, "*s"], apart: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    # What weighs nothing may be infinitely far; what weighs little must not vanish.
    product = (weights * apart).clamp_min_(_LEAST_BOUND)
    return torch.where((weights > 0) & (apart > 0), product, 0.0)


def _highest(
    values: Float[Tensor, " n"], least: float, most: int, margin: float
) -> tuple[Int64[Tensor, " k"], float]:
    """Where values reach `least`, or where the `most`-th highest, less a margin, and what they do.

    With all values within the margin of one of them, so that ties are not cut.
    """
    found = torch.from_numpy(np.flatnonzero(values.numpy() >= least))
    if len(found) > most:
        reached = values[found]
        least = max(least, margin * float(np.partition(reached.numpy(), -most)[-most]))
        found = found[reached >= least]
    return found, least


def seed_weights(
    scores: Float[Tensor, " n"],
    alpha: float,
    floor: float,
    *,
    highest: Float[Tensor, ""] | None = None,
) -> Float[Tensor, " n"]:
    """S^(1/α), by which log S + α log D is largest where weight × D is; 0 for what cannot be.

    A product is rounded alike wherever it is made, so that equal pixels stay equal; a logarithm is
    not. Scores below 10⁻²⁵ of the highest (at the paper's least α) count as equal.
    """
    able = scores.isfinite() & (scores > floor)
    weights = torch.zeros_like(scores, dtype=torch.float64)
    if able.any():
        logs = scores[able].double().log()
        top = scores[able].max() if highest is None else highest
        # Not 0 even at the least α, and their products with the least distance neither.
        found = ((logs - top.double().log()) / (alpha or 1)).exp().clamp_min(1e-250)
        # Rounded to 41 bits (Veltkamp): exp and log err in the last ones, which would untie ties.
        scaled = found * 4097
        weights[able] = scaled - (scaled - found)
    return weights
