"""Balls around runs of pixels, by which most pairs of a pixel and a seed need no distance.

Neighbouring pixels mostly belong to one object, and so lie close together. By the triangle
inequality, a seed that is far from the middle of a run is far from all its pixels, and one that is
near enough is near to them all; only what lies between is looked at pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

SIZE = 16
"""Pixels in a run."""

_LARGEST = 1e15
"""Beyond it squares and their sums may overflow."""

_FEW = 8
"""Seeds near a run that are compared with all its pixels at once; where more are, as on outlines
of objects, its parts are asked first."""

_AT_ONCE = 1 << 18
"""Values per step: 1 MB of float32, which stays in a usual L2 cache."""

UNDERFLOW = 1e-29
"""More than squares that vanish can do to a bound."""

_EPS = torch.finfo(torch.float32).eps


class PixelBlocks:
    """Runs of `size` consecutive pixels, each inside a ball; made once, asked often.

    Attributes:
        embeddings: float32 (N, D), contiguous.
        size: pixels per run; the last run may be short.
        anchors: float32 (B, D), a centre of each run, less `origin`.
        origin: float32 (D,), so that products of anchors cancel less.
        norms: float32 (B,), squares of the anchors' lengths.
        apart: float32 (B, size), no less than each pixel's distance (not squared) to its run's
            anchor; infinite in a run that holds a pixel without numbers.
        radii: float32 (B,), the largest of `apart`.
        odd: int64 (K,), pixels of which some value is not finite.
        rounding: distances squared, when made by products, err by less than this share of the sum
            of both squared lengths.
        usable: no value is so large that squares overflow.
    """

    def __init__(self, embeddings: Float[Tensor, "n d"], *, size: int = SIZE) -> None:
        self.embeddings = embeddings.detach().float().contiguous()
        self.size = size
        pixels, dimensions = self.embeddings.shape
        self.whole = pixels // size
        runs = self.embeddings[: self.whole * size].view(self.whole, size, dimensions)
        rest = self.embeddings[self.whole * size :][None]
        anchors, apart = _balls(runs)
        if rest.shape[1]:
            last, far = _balls(rest)
            anchors = torch.cat([anchors, last])
            apart = torch.cat([apart, functional.pad(far, (0, size - rest.shape[1]))])
        self.apart = apart.mul_(1 + (dimensions + 8) * _EPS)
        self.radii = self.apart.amax(1) if len(apart) else apart.new_zeros(0)
        lengths = anchors.square().sum(1).sqrt_()
        strange = (~(self.radii + lengths).isfinite()).nonzero()[:, 0]
        self.odd, overflow = self._odd_pixels(strange)
        anchors[strange], lengths[strange] = 0, 0
        self.apart[strange], self.radii[strange] = torch.inf, torch.inf
        largest = lengths + self.radii.where(self.radii.isfinite(), 0)
        self.usable = bool((largest < _LARGEST).all()) and not overflow
        self.origin = anchors.sum(0) / max(len(anchors) - len(strange), 1)
        self.anchors = anchors.sub_(self.origin)
        self.anchors[strange] = 0
        self.norms = self.anchors.square().sum(1)
        self.rounding = 8 * (dimensions + 8) * _EPS

    def _odd_pixels(self, runs: Int64[Tensor, " k"]) -> tuple[Int64[Tensor, " m"], bool]:
        """Pixels of `runs` without numbers, and whether others are too large."""
        pixels = (runs[:, None] * self.size + torch.arange(self.size)).flatten()
        pixels = pixels[pixels < len(self.embeddings)]
        rows = self.embeddings[pixels]
        odd = ~rows.isfinite().all(1)
        return pixels[odd], bool((rows[~odd].abs() >= _LARGEST).any())


def _balls(
    runs: Float[Tensor, "b s d"],
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b s"]]:
    if runs.shape[1] == 1:
        return runs[:, 0].clone(), runs.new_zeros(runs.shape[:2])
    anchors = runs.mean(1)
    # By differences: equal pixels are 0 apart.
    far = torch.cdist(runs, anchors[:, None], compute_mode="donot_use_mm_for_euclid_dist")
    return anchors, far[..., 0]


def squared_apart(a: Float[Tensor, "*s d"], b: Float[Tensor, "*s d"]) -> Float[Tensor, "*s"]:
    """Squared distance by differences: 0 for equal pixels, and rounded alike wherever it stands."""
    return (a - b).square_().sum(-1)


def squares_over(distances: Float[Tensor, "*s"], blocks: PixelBlocks) -> Float[Tensor, "*s"]:
    """Squares of sums of distances, in place, no less than `squared_apart` can give."""
    return distances.square_().mul_(1 + blocks.rounding).add_(UNDERFLOW)


def changes_of_masks(
    blocks: PixelBlocks, seeds: Float[Tensor, "t d"], distances: Float[Tensor, " t"]
) -> Int64[np.ndarray, " k"]:
    """Where the mask of each seed begins or ends, the pixels taken as one row.

    Exactly what the differences of every pixel to every seed would give.

    Args:
        blocks: `usable`.
        seeds: float (T, D).
        distances: float (T,), squared; a pixel belongs where its distance is no larger.

    Returns:
        seed · (N + 1) + pixel, ascending; an even number of them per seed, in turns the first
        pixel of a run and the first one behind it (N where that is none).
    """
    seeds, distances = seeds.detach().float(), distances.detach().float()
    pixels = len(blocks.embeddings)
    found: list[Tensor] = []
    starts = torch.arange(len(blocks.anchors)) * blocks.size
    level = blocks
    while len(starts) and len(seeds):
        block, seed, crowded = _near(level, seeds, distances)
        for pair, place in _turns(level, block, seed, seeds, distances):
            begin = starts[block[pair]] + place
            found.append(seed[pair] * (pixels + 1) + begin.clamp_max(pixels))
        # What is crowded is asked again in parts; behind the last pixel there are copies of it.
        size = max(level.size // 4, 1)
        starts = (starts[crowded, None] + torch.arange(0, level.size, size)).flatten()
        starts = starts[starts < pixels]
        inner = (starts[:, None] + torch.arange(size)).flatten().clamp_max(pixels - 1)
        level = PixelBlocks(blocks.embeddings.index_select(0, inner), size=size)
    changes = np.sort(torch.cat(found).numpy()) if found else np.zeros(0, np.int64)
    # A run that ends where the next begins goes on.
    same = np.flatnonzero(changes[1:] == changes[:-1])
    return np.delete(changes, np.concatenate([same, same + 1]))


def _near(
    blocks: PixelBlocks, seeds: Float[Tensor, "t d"], distances: Float[Tensor, " t"]
) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"], Bool[Tensor, " b"]]:
    """Pairs of a run and a seed whose balls may meet, and which runs have too many of them."""
    # |a − s| ≤ R + ρ, squared: the product of R and ρ is one more dimension of that of a and s.
    reach = distances.clamp(0, _LARGEST**2).sqrt()
    seeds = seeds - blocks.origin
    columns = torch.cat([seeds, reach[:, None]], 1).T.contiguous()
    less, more = 1 - blocks.rounding, 1 + blocks.rounding
    squares = seeds.square().sum(1) * less - reach.square() * more
    # Nothing is within a negative distance.
    squares = squares.where(distances >= 0, torch.inf)
    fill = -len(seeds) % 8
    columns = functional.pad(columns, (0, fill))
    squares = functional.pad(squares, (0, fill), value=torch.inf)
    odd = blocks.radii.isinf()
    radii = blocks.radii.where(~odd, 0)
    limits = radii.square() * more - blocks.norms * less + UNDERFLOW
    # Below infinity, or it would reach what nothing is within.
    limits = limits.where(~odd, torch.finfo(torch.float32).max)
    rows = torch.cat([blocks.anchors, radii[:, None]], 1)
    step = max(_AT_ONCE // len(seeds), 256)
    crowded = torch.zeros(len(rows), dtype=torch.bool)
    # A short last run has no rows of full length.
    crowded[blocks.whole :] = True
    found_blocks, found_seeds = [], []
    for start in range(0, len(rows), step):
        part = torch.addmm(squares, rows[start : start + step], columns, alpha=-2)
        # Eight seeds to a machine word.
        words = part.le(limits[start : start + step, None]).numpy().view(np.uint64)
        if blocks.size > 1:
            many = crowded[start : start + step].numpy()
            # Adds bytes of 0 or 1: exact below 256 words, and wrong only in cost beyond.
            many |= words.sum(1).view(np.uint8).reshape(-1, 8).sum(1) > _FEW
            words[many] = 0
        some = np.flatnonzero(words)
        word, seed = np.nonzero(words.ravel()[some].view(np.uint8).reshape(-1, 8))
        block, column = np.divmod(some[word], words.shape[1])
        found_blocks.append(block + start)
        found_seeds.append(column * 8 + seed)
    block, seed = np.concatenate(found_blocks), np.concatenate(found_seeds)
    return torch.from_numpy(block), torch.from_numpy(seed), crowded


def _turns(
    blocks: PixelBlocks,
    block: Int64[Tensor, " p"],
    seed: Int64[Tensor, " p"],
    seeds: Float[Tensor, "t d"],
    distances: Float[Tensor, " t"],
) -> Iterator[tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]]:
    """Of pairs of a run and a seed: which pair, and where in the run its mask begins or ends.

    Masks begin and end with their run, too.
    """
    size, dimensions = blocks.size, blocks.embeddings.shape[1]
    runs = blocks.embeddings[: blocks.whole * size].view(blocks.whole, size * dimensions)
    step = max(_AT_ONCE // (size * dimensions), 16)
    for start in range(0, len(block), step):
        s = seed[start : start + step]
        rows = runs.index_select(0, block[start : start + step]).view(-1, size, dimensions)
        apart = squared_apart(rows, seeds.index_select(0, s)[:, None])
        inside = functional.pad(apart <= distances.index_select(0, s)[:, None], (1, 1))
        pair, place = np.nonzero((inside[:, 1:] != inside[:, :-1]).numpy())
        yield torch.from_numpy(pair) + start, torch.from_numpy(place)
