"""Similarity of pixels by the distance of their embeddings.

Fathi et al., "Semantic Instance Segmentation via Deep Metric Learning", arXiv 1703.10277,
section 3.1. Every distance here is a SQUARED Euclidean one, as in the paper's formula.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.grouping.blocks import PixelBlocks, changes_of_masks

SMALLEST_DISTANCE = 1e-4
"""Below it `log_dissimilarity` is flat (−9.9, gradient 0); its steepest gradient is 10⁴.

The logarithm is −∞ at 0. Rounding of `squared_distances` reaches this size at distances of about
100 from the centre, so that smaller values would say nothing.
"""

_CHUNK_VALUES = 1 << 18
"""Distances per matrix product on a CPU: 1 MB of float32, which stays in a usual L2 cache."""

_LEAST_BLOCKS = 4096
"""Pixels below which balls cost more than they save."""


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Squared Euclidean distance of every row of `a` to every row of `b`.

    Args:
        a: float (N, D).
        b: float (M, D).

    Returns:
        float32 (N, M), never negative, differentiable. By a matrix product, so equal rows may be
        some 10⁻⁶ of the squared spread of the rows apart.

    Raises:
        PixelkinError: unequal dimensions.
    """
    _check_rows(a, b)
    # Under autocast the product would come in 16 bits, with no correct digit for near pixels.
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        if len(b):
            # Products of centred rows cancel less.
            centre = b.detach().mean(0)
            a, b = a - centre, b - centre
        norms = a.square().sum(1, keepdim=True) + b.square().sum(1)
        return torch.addmm(norms, a, b.T, alpha=-2).clamp_min(0)


def similarity(distances: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """σ = 2 / (1 + exp d) of squared distances d ≥ 0: 1 at d = 0, towards 0 far away."""
    # The sigmoid, unlike exp, cannot overflow.
    return 2 * torch.sigmoid(-distances)


def log_similarity(distances: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """log σ = log 2 − softplus(d), finite for every finite d."""
    return math.log(2) - functional.softplus(distances)


def log_dissimilarity(distances: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """log(1 − σ) = log tanh(d / 2), with d clamped to `SMALLEST_DISTANCE` from below.

    Value and gradient are finite everywhere; the gradient is 0 below the clamp.
    """
    return torch.log(torch.tanh(distances.clamp_min(SMALLEST_DISTANCE) / 2))


def distance_at(similarity: float) -> float:
    """The squared distance d with σ(d) = `similarity`: d = ln(2 / τ − 1).

    Raises:
        PixelkinError: `similarity` is not in (0, 1].
    """
    if not 0 < similarity <= 1:
        raise PixelkinError(
            f"similarity {similarity} is out of range: expected more than 0 and at most 1"
        )
    return math.log(2 / similarity - 1)


def similar(
    embeddings: Float[Tensor, "n d"],
    seeds: Float[Tensor, "t d"],
    distances: Float[Tensor, " t"],
    *,
    chunk: int | None = None,
) -> Iterator[Bool[Tensor, "m t"]]:
    """Which pixels lie within each seed's distance, a chunk of pixels at a time.

    The N × T distances never exist at once; concatenate the chunks (`torch.cat`) for a small N, or
    take what is needed of each chunk.

    Args:
        embeddings: float (N, D).
        seeds: float (T, D), embeddings of the seeds.
        distances: float (T,), squared; a pixel belongs where its distance is no larger.
        chunk: pixels at a time; by default as many as keep the distances in a CPU's cache, and
            64 times as many on a GPU.

    Yields:
        bool (M, T) for M consecutive pixels, from the first to the last. NaN belongs nowhere.

    Raises:
        PixelkinError: unequal dimensions or lengths, or `chunk` < 1.
    """
    _check_seeds(embeddings, seeds, distances)
    if chunk is None:
        chunk = max(_CHUNK_VALUES // max(len(seeds), 1), 256)
        chunk *= 1 if embeddings.device.type == "cpu" else 64
    if chunk < 1:
        raise PixelkinError(f"chunk = {chunk}: expected 1 or more pixels")
    return _similar(embeddings.detach(), seeds.detach().float(), distances.detach().float(), chunk)


def _similar(
    embeddings: Float[Tensor, "n d"],
    seeds: Float[Tensor, "t d"],
    distances: Float[Tensor, " t"],
    chunk: int,
) -> Iterator[Bool[Tensor, "m t"]]:
    if not len(embeddings):
        return
    # Products of centred rows cancel less; near the origin that is not worth a pass over them.
    centre = seeds.mean(0) if len(seeds) else seeds.new_zeros(seeds.shape[1])
    spread = (seeds - centre).square().sum(1).sum() / max(len(seeds), 1)
    if centre.square().sum() < 4 * spread:
        centre.zero_()
    far = bool(centre.any())
    seeds = seeds - centre
    columns = seeds.T.contiguous()
    # d ≤ r  ⇔  |x|² + |s|² − r ≤ 2 x·s: the seeds' part is made once.
    limit = seeds.square().sum(1) - distances
    for start in range(0, len(embeddings), chunk):
        rows = embeddings[start : start + chunk].float()
        rows = rows - centre if far else rows
        norms = rows.square().sum(1, keepdim=True)
        yield torch.addmm(limit, rows, columns, alpha=-2).le(-norms)


def similar_rles(
    embeddings: Float[Tensor, "n d"],
    seeds: Float[Tensor, "t d"],
    distances: Float[Tensor, " t"],
    *,
    size_hw: tuple[int, int],
    blocks: PixelBlocks | None = None,
) -> list[bytes]:
    """`similar` as run lengths, one mask per seed, made without any mask in memory.

    Args:
        embeddings: float (H·W, D), pixels in COLUMN-major order, as run lengths have them:
            `field.permute(2, 1, 0).reshape(-1, D)` of a field (D, H, W).
        seeds: float (T, D), embeddings of the seeds.
        distances: float (T,), squared.
        size_hw: height and width of the field in pixels.
        blocks: of these embeddings, where they were made before; on a CPU only.

    Returns:
        COCO compressed counts of each seed.

    Raises:
        PixelkinError: unequal dimensions or lengths, or another number of pixels.
    """
    pixels = size_hw[0] * size_hw[1]
    if len(embeddings) != pixels:
        raise PixelkinError(
            f"{len(embeddings)} embeddings for {size_hw[1]}×{size_hw[0]} pixels: "
            f"expected {pixels}, column by column"
        )
    if blocks is None and embeddings.device.type == "cpu" and pixels >= _LEAST_BLOCKS:
        blocks = PixelBlocks(embeddings)
    if blocks is not None and blocks.usable:
        _check_seeds(embeddings, seeds, distances)
        owner, place = np.divmod(changes_of_masks(blocks, seeds, distances), pixels + 1)
        inner = place < pixels
        return _compress(place[inner], np.bincount(owner[inner], minlength=len(seeds)), pixels)
    # Eight seeds to a machine word; nothing is near the ones that fill the last word.
    fill = -len(seeds) % 8
    found_seeds, found_places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    start, last = 0, np.zeros((1, (len(seeds) + fill) // 8), np.uint64)
    for part in similar(
        embeddings,
        functional.pad(seeds, (0, 0, 0, fill)),
        functional.pad(distances.float(), (0, fill), value=-torch.inf),
    ):
        words = np.ascontiguousarray(part.cpu().numpy()).view(np.uint64)
        changes = words ^ np.concatenate([last, words[:-1]])
        which = np.flatnonzero(changes)
        word, seed = np.nonzero(changes.ravel()[which].view(np.uint8).reshape(-1, 8))
        row, column = np.divmod(which[word], words.shape[1])
        found_seeds.append(column * 8 + seed)
        found_places.append(start + row)
        start, last = start + len(words), words[-1:].copy()
    order = np.argsort(np.concatenate(found_seeds).astype(np.uint16), kind="stable")
    places = np.concatenate(found_places)[order]
    changes_of = np.bincount(np.concatenate(found_seeds), minlength=len(seeds))[: len(seeds)]
    return _compress(places, changes_of, pixels)


def _compress(
    places: Int64[np.ndarray, " k"], changes: Int64[np.ndarray, " t"], pixels: int
) -> list[bytes]:
    """COCO's compressed counts of T masks from the pixels at which each begins or ends.

    Each count is the difference to the last but one, in digits of 5 bits with a sign, the lowest
    first, as the reference implementation of the COCO API writes it.
    """
    ends = np.cumsum(changes + 1)
    bounds = np.insert(places, np.cumsum(changes), pixels)
    index = np.arange(len(bounds)) - np.repeat(ends - changes - 1, changes + 1)
    counts = bounds.copy()
    counts[1:] -= np.where(index[1:] > 0, bounds[:-1], 0)
    rest = counts.copy()
    rest[2:] -= np.where(index[2:] > 2, counts[:-2], 0)
    digits, used = [], []
    more = np.ones(len(rest), bool)
    while more.any():
        used.append(more)
        digit, rest = rest & 31, rest >> 5
        more = more & (rest != np.where(digit & 16, -1, 0))
        digits.append((digit + 32 * more + 48).astype(np.uint8))
    if not digits:
        return []
    taken = np.stack(used, 1)
    text = np.stack(digits, 1)[taken].tobytes()
    stops = np.cumsum(taken.sum(1))[ends - 1].tolist()
    return [text[a:b] for a, b in zip([0, *stops[:-1]], stops, strict=True)]


def _check_seeds(
    embeddings: Float[Tensor, "n d"], seeds: Float[Tensor, "t d"], distances: Float[Tensor, " t"]
) -> None:
    _check_rows(embeddings, seeds)
    if distances.shape != seeds.shape[:1]:
        raise PixelkinError(
            f"distances {tuple(distances.shape)} for {len(seeds)} seeds: expected one per seed"
        )


def _check_rows(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise PixelkinError(
            f"embeddings {tuple(a.shape)} and {tuple(b.shape)}: expected (N, D) and (M, D)"
        )
