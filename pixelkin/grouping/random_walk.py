"""Maps carried along affinities by a random walk.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018, section 3.3: T = D⁻¹ W^∘β, and the walked maps are
T^t M. Pure functions on tensors; on a CPU and on a GPU.

W joins only cells less than a few cells apart, so T^t M is a chain of sparse products and no N × N
matrix ever exists. D^-½ W^∘β D^-½ is symmetric and similar to T, whose rows sum to 1, so T's
spectrum is real and in [−1, 1], where x^256 is a Chebyshev series of 78 terms: 78 products carry a
map as far as 256. The authors' code leaves the cells of the border without some of their edges;
here they keep every edge that ends inside the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Method = Literal["chebyshev", "products"]

# Subnormal numbers slow a product down, and what is left out here changes no digit of
# a float32: beside it in every row of W stands a 1.
_SMALLEST_WEIGHT = 1e-20

# Their places and their products stay in a CPU's cache; fewer cells would cost more calls.
_BLOCK_CELLS = 1024

# Pairs of cells whose similarity exists at once, 4 MB of them on a CPU.
_CHUNK_VALUES = 1 << 20


@dataclass(frozen=True)
class Transition:
    """The matrix T of a random walk on a grid: how much of each neighbour goes into a cell.

    Attributes:
        values: float32 (h·w, K), rows sum to 1: row p holds T between cell p and p + each offset,
            0 where that is outside the grid.
        offsets: K pairs (dy, dx) in cells, (0, 0) among them, in the order of rows, then columns.
        size_hw: height and width of the grid in cells.
    """

    values: Float[Tensor, "hw k"]
    offsets: tuple[tuple[int, int], ...]
    size_hw: tuple[int, int]


def transition(
    weights: Float[Tensor, "k h w"],
    offsets: Sequence[tuple[int, int]],
    *,
    power: float = 8,
) -> Transition:
    """T = D⁻¹ W^∘β, D the row sums of W^∘β: steps between similar neighbours.

    W is symmetric with 1 on its diagonal: the step from a cell to itself.

    Args:
        weights: affinities, float (k, h, w), 0 or more: `weights[i, y, x]` between (y, x) and
            (y + dy, x + dx) of `offsets[i]`. What stands where that is outside the grid is
            ignored, NaN too.
        offsets: k pairs (dy, dx) in cells, of every pair of opposite ones only one
            (`affinity.half_plane_offsets`).
        power: β > 0, the Hadamard power: larger ones stop the walk at fainter borders.

    Raises:
        PixelkinError: shapes or offsets that do not fit, an affinity that is negative or NaN, or
            `power` not above 0.
    """
    if weights.ndim != 3 or len(weights) != len(offsets) or not weights.numel():
        raise PixelkinError(
            f"affinities {tuple(weights.shape)} for {len(offsets)} offsets: expected (k, h, w) "
            "with one map per offset, h and w at least 1"
        )
    if not power > 0:
        raise PixelkinError(f"power {power}: expected above 0; the paper's is 8")
    half = [(int(dy), int(dx)) for dy, dx in offsets]
    full = sorted({(0, 0), *half, *((-dy, -dx) for dy, dx in half)})
    if len(full) != 2 * len(half) + 1:
        raise PixelkinError(
            f"{len(half)} offsets with (0, 0), an offset twice or two opposite ones among them: "
            "give one of each pair, as half_plane_offsets does"
        )
    _, height, width = weights.shape
    # Rows of neighbours, not maps: a product then reads its weights in one run.
    values = weights.new_zeros((height, width, len(full)), dtype=torch.float32)
    for (dy, dx), edge in zip(half, weights.detach(), strict=True):
        (rows, rows_there), (columns, columns_there) = _overlap(dy, height), _overlap(dx, width)
        values[rows, columns, full.index((dy, dx))] = edge[rows, columns].float()
        values[rows_there, columns_there, full.index((-dy, -dx))] = edge[rows, columns].float()
    if not (bool(values.min() >= 0) and bool(values.max() < math.inf)):
        raise PixelkinError("affinities are negative, infinite or NaN; expected 0 to 1")
    values[..., full.index((0, 0))] = 1
    values.pow_(power)
    values.masked_fill_(values < _SMALLEST_WEIGHT, 0.0)
    values /= values.sum(2, keepdim=True)
    return Transition(values.flatten(0, 1), tuple(full), (height, width))


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """The cells of a line whose place + `shift` is on the line too, and those places."""
    here = slice(max(-shift, 0), max(size - max(shift, 0), 0))
    there = slice(max(shift, 0), max(size + min(shift, 0), 0))
    return here, there


@torch.no_grad()
def walk(
    transition: Transition,
    maps: Float[Tensor, "c h w"],
    *,
    steps: int = 256,
    method: Method = "chebyshev",
    tolerance: float = 1e-6,
) -> Float[Tensor, "c h w"]:
    """T^t M for every map: what a walker of t steps from each cell finds on average.

    Constant maps stay constant, and so do the sums of a map weighted by the degrees D.

    Args:
        transition: of the grid, on the maps' device.
        maps: float (C, h, w), finite; classes at once cost less than one by one.
        steps: t ≥ 0; the paper's is 256.
        method: "products" multiplies t times; "chebyshev" sums the series of x^t, cut where its
            coefficients left out sum to `tolerance`. √t times a constant (4.9 for 1e-6) products
            are enough: 78 for 256 steps, and never more than t.
        tolerance: twice it bounds ‖found − T^t M‖ / ‖M‖, up to rounding, in the norm weighted by D
            (Σ_p D_p M_p²); of "chebyshev" only.

    Returns:
        float32 (C, h, w); cannot be differentiated.

    Raises:
        PixelkinError: maps of another grid or device, negative `steps`, an unknown method, or a
            tolerance not in (0, 1).
    """
    _check_maps(transition, maps)
    if method not in ("chebyshev", "products"):
        raise PixelkinError(f"method {method!r}: expected 'chebyshev' or 'products'")
    series = chebyshev_series(steps, tolerance)
    if steps == 0 or not len(maps):
        return maps.float().clone()
    values, cells = transition.values, len(transition.values)
    places, margin = _places(transition)
    inner = slice(margin, margin + cells)
    current = values.new_zeros(2 * margin + cells, len(maps))
    current[inner] = maps.reshape(len(maps), cells).T
    other = torch.zeros_like(current)
    if method == "products":
        for _ in range(steps):
            _multiply(values, places, current, other[inner])
            current, other = other, current
        result = current[inner]
    else:
        result = current[inner] * series.get(0, 0.0)
        for term in range(1, max(series) + 1):
            # T_1 = x, then T_k+1 = 2 x T_k − T_k-1, the last written over the last but one.
            _multiply(values, places, current, other[inner], factor=1 if term == 1 else 2)
            current, other = other, current
            if term in series:
                result.add_(current[inner], alpha=series[term])
    del current, other
    return result.T.reshape(maps.shape)


def _check_maps(transition: Transition, maps: Float[Tensor, "c h w"]) -> None:
    if maps.ndim != 3 or tuple(maps.shape[1:]) != transition.size_hw:
        raise PixelkinError(
            f"maps {tuple(maps.shape)} for a transition of {transition.size_hw} cells: expected "
            "(C, h, w) of the same grid; pool the maps to it"
        )
    if maps.device != transition.values.device:
        raise PixelkinError(
            f"maps on {maps.device}, transition on {transition.values.device}; move one"
        )


def chebyshev_series(steps: int, tolerance: float = 1e-6) -> dict[int, float]:
    """x^t = Σ_k c_k T_k(x) on [−1, 1], without the terms whose coefficients sum to `tolerance`.

    c_k = 2^(1−t) · binomial(t, (t − k) / 2) for k of t's parity, half of that for k = 0, else 0:
    all positive, so that the sum of those left out bounds their error. The others are divided by
    their sum, so that 1 stays 1, which at most doubles it.

    Returns:
        Coefficient of each k that has one, ascending.
    """
    if steps < 0:
        raise PixelkinError(f"{steps} steps: expected 0 or more; the paper's are 256")
    if not 0 < tolerance < 1:
        raise PixelkinError(f"tolerance {tolerance}: expected above 0 and below 1")
    term = steps % 2
    coefficient = math.comb(steps, steps // 2) / 2**steps * (2 if term else 1)
    series = {term: coefficient}
    left = 1 - coefficient
    while left > tolerance and term < steps:
        coefficient *= (steps - term) / (steps + term + 2) * (1 if term else 2)
        term += 2
        series[term] = coefficient
        left -= coefficient
    total = math.fsum(series.values())
    return {term: value / total for term, value in series.items()}


def _places(transition: Transition) -> tuple[Int[Tensor, "b k"], int]:
    """Rows of the neighbours of the first cells in padded maps, and the rows of their padding.

    Cell p's neighbours are p's plus the same shifts wherever p is, so the places of one block of
    cells serve all, counted from the block's first. A shift over the border falls on some other
    cell, or into the padding, with weight 0.
    """
    width = transition.size_hw[1]
    cells = len(transition.values)
    device = transition.values.device
    block = min(_BLOCK_CELLS * (1 if device.type == "cpu" else 64), cells)
    shifts = torch.tensor([dy * width + dx for dy, dx in transition.offsets], dtype=torch.int32)
    margin = int(shifts.abs().max())
    first = torch.arange(margin, margin + block, dtype=torch.int32, device=device)
    return first[:, None] + shifts.to(device), margin


def _multiply(
    values: Float[Tensor, "hw k"],
    places: Int[Tensor, "b k"],
    source: Float[Tensor, "padded c"],
    onto: Float[Tensor, "hw c"],
    *,
    factor: int = 1,
) -> None:
    """Overwrite `onto` by factor · T · source − (factor − 1) · onto, block by block."""
    block = len(places)
    for start in range(0, len(values), block):
        part = values[start : start + block]
        # Weighted sums of rows, about as fast as CSR products; one block's places serve all, so
        # that half of a CSR matrix's memory is enough.
        product = functional.embedding_bag(
            places[: len(part)], source[start:], mode="sum", per_sample_weights=part
        )
        onto[start : start + block].lerp_(product, float(factor))


@torch.no_grad()
def one_step(
    embeddings: Float[Tensor, "d h w"],
    confident: UInt8[Tensor, "h w"] | Int[Tensor, "h w"],
    *,
    classes: int,
    power: float = 1,
) -> Float[Tensor, "classes h w"]:
    """Mean similarity of each cell to each class's confident cells, wherever these are.

    score(c, p) = Σ_{q ∈ S_c} exp(−power · mean_d |f_p − f_q|) / |S_c|, S_c the cells labelled c,
    p itself among them where it is. One step to all of the image, against the walk's many short
    ones; costs cells × confident cells.

    Args:
        embeddings: float (D, h, w), AffinityNet's features: the similarity at power 1 is its
            affinity of two cells.
        confident: labels, 0 … `classes` − 1 (0 is background where the caller has one) or
            `IGNORE`, which belongs to no class.
        classes: number of classes, background included.
        power: β > 0, the Hadamard power, as of the walk.

    Returns:
        float32 (classes, h, w) in [0, 1]; 0 for a class without a confident cell; cannot be
        differentiated.

    Raises:
        PixelkinError: another grid, a label beyond the classes, or `power` not above 0.
    """
    if embeddings.ndim != 3 or embeddings.shape[1:] != confident.shape:
        raise PixelkinError(
            f"embeddings {tuple(embeddings.shape)} and labels {tuple(confident.shape)}: expected "
            "(D, h, w) and (h, w); label the cells of the same grid"
        )
    if not power > 0:
        raise PixelkinError(f"power {power}: expected above 0")
    labels = confident.flatten().to(torch.int64)
    chosen = (labels != IGNORE).nonzero()[:, 0]
    labels = labels[chosen]
    if len(chosen) and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise PixelkinError(
            f"labels {int(labels.min())} to {int(labels.max())} for {classes} classes: expected "
            f"0 to {classes - 1}, or {IGNORE} where no class is sure"
        )
    rows = embeddings.detach().float().flatten(1).T.contiguous()
    scores = rows.new_zeros(len(rows), classes)
    if len(chosen):
        share = functional.one_hot(labels, classes).float()
        share /= share.sum(0).clamp_min(1)
        chunk = max(_CHUNK_VALUES * (1 if rows.device.type == "cpu" else 64) // len(chosen), 1)
        for start in range(0, len(rows), chunk):
            distances = torch.cdist(rows[start : start + chunk], rows[chosen], p=1)
            distances.mul_(-power / rows.shape[1]).exp_()
            scores[start : start + chunk] = distances @ share
    return scores.T.reshape(classes, *confident.shape)
