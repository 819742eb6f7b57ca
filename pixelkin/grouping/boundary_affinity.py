"""Affinity of neighbouring cells from class boundaries: no boundary between them, one class.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019, section 4.1: a_ij = 1 − max of the boundary map over the cells on the line
from i to j. Pairs are kept as in `grouping.affinity`: entry (k, y, x) is that of (y, x) and its
neighbour at `offsets[k]`. Unlike in the authors' code, the pairs of a field's border count too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import (
    Offsets,
    half_plane_offsets,
    pair_windows,
    pairs_in_field,
)
from pixelkin.grouping.random_walk import Transition, transition

TRAINING_RADIUS_CELLS = 10
"""Pairs strictly nearer than this train the network (the authors')."""

WALK_RADIUS_CELLS = 5
"""A walker's step is strictly shorter than this (the authors')."""

POWER = 10.0
"""β, the Hadamard power of the walk (the authors')."""


@cache
def path_cells(offset: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(dy, dx) of the cells between (0, 0) and `offset`, both of which belong to them.

    Those of the rectangle between the two whose centres lie less than a cell from the straight
    line (the authors' code); no boundary of touching cells, edge to edge or corner to corner, slips
    through such a path. By their distance from (0, 0), ascending.
    """
    dy, dx = offset
    squared = dy * dy + dx * dx
    if not squared:
        raise PixelkinError(
            "the offset is (0, 0), to which there is no path: expected another cell; "
            "half_plane_offsets gives the usual ones"
        )
    cells = [
        (y, x)
        for y in range(min(dy, 0), max(dy, 0) + 1)
        for x in range(min(dx, 0), max(dx, 0) + 1)
        if (dy * x - dx * y) ** 2 < squared
    ]
    return tuple(sorted(cells, key=lambda cell: (cell[0] ** 2 + cell[1] ** 2, cell)))


def path_maxima(boundaries: Float[Tensor, "n h w"], offsets: Offsets) -> Float[Tensor, "n k h w"]:
    """The largest value on the path of every cell to its neighbours; differentiable once.

    The maximum of scores is the score of the maximum: losses take those of logits, which keep the
    digits that probabilities near 1 have lost. The gradient goes to the first cell of the path
    that has the largest value, and is the same in every run.

    Args:
        boundaries: float (N, h, w), probabilities or logits of a class boundary; 16-bit ones are
            taken to float32 first.
        offsets: (dy, dx) in cells, K of them, up to 63 cells long.

    Returns:
        (N, K, h, w); −∞ where the neighbour lies outside the field.
    """
    if boundaries.ndim != 3 or not boundaries.is_floating_point():
        raise PixelkinError(
            f"boundaries are {boundaries.dtype} {tuple(boundaries.shape)}: expected float "
            "(N, h, w); take away the channel"
        )
    if any(abs(dy) > 63 or abs(dx) > 63 for dy, dx in offsets):
        raise PixelkinError("an offset is longer than 63 cells; choose a smaller radius")
    if boundaries.dtype in (torch.float16, torch.bfloat16):
        boundaries = boundaries.float()
    found: Tensor = _PathMaxima.apply(boundaries, tuple((int(dy), int(dx)) for dy, dx in offsets))
    return found


def boundary_affinities(
    boundaries: Float[Tensor, "n h w"], offsets: Offsets
) -> Float[Tensor, "n k h w"]:
    """a_ij = 1 − max of the boundary map on the path from i to j.

    Args:
        boundaries: float (N, h, w), probability of a class boundary, in [0, 1].
        offsets: (dy, dx) in cells, K of them.

    Returns:
        (N, K, h, w) in [0, 1]; 0 where the neighbour lies outside the field.
    """
    low, high = boundaries.detach().aminmax() if boundaries.numel() else (0.0, 0.0)
    if not (float(low) >= 0 and float(high) <= 1):
        raise PixelkinError(
            f"boundaries are {float(low):.3g} to {float(high):.3g}: expected probabilities, "
            "0 to 1; take the sigmoid of logits first"
        )
    h, w = boundaries.shape[-2:]
    outside = ~pairs_in_field((h, w), offsets, device=boundaries.device)
    return (1 - path_maxima(boundaries, offsets)).masked_fill(outside, 0)


def boundary_transition(
    boundaries: Float[Tensor, "h w"],
    *,
    radius: int = WALK_RADIUS_CELLS,
    power: float = POWER,
) -> Transition:
    """The walk that stops at class boundaries, for `random_walk.walk` (section 4.3).

    Args:
        boundaries: float (h, w), probability of a class boundary, in [0, 1].
        radius: steps are strictly shorter than this many cells.
        power: β > 0, the Hadamard power of the affinities.
    """
    offsets = half_plane_offsets(radius)
    return transition(boundary_affinities(boundaries[None], offsets)[0], offsets, power=power)


class _PathMaxima(torch.autograd.Function):
    """Pair by pair, with the place of each maximum in a byte: a path has up to 20 cells at radius
    10, so gathering them all would take 20 times the memory of the result."""

    @staticmethod
    def forward(ctx: Any, boundaries: Tensor, offsets: tuple[tuple[int, int], ...]) -> Tensor:
        n, h, w = boundaries.shape
        maxima = boundaries.new_full((n, len(offsets), h, w), -torch.inf)
        where = torch.zeros(maxima.shape, dtype=torch.uint8, device=boundaries.device)
        for k, offset in enumerate(offsets):
            (rows, columns), _ = pair_windows((h, w), offset)
            cells = [boundaries[:, r, c] for r, c in _path_windows((h, w), offset)]
            largest, place = torch.stack(cells).max(0)
            maxima[:, k, rows, columns] = largest
            where[:, k, rows, columns] = place.to(torch.uint8)
        ctx.save_for_backward(where)
        ctx.offsets = offsets
        return maxima

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (where,) = ctx.saved_tensors
        n, _, h, w = where.shape
        result = gradient.new_zeros(n, h, w)
        for k, offset in enumerate(ctx.offsets):
            (rows, columns), _ = pair_windows((h, w), offset)
            own, place = gradient[:, k, rows, columns], where[:, k, rows, columns]
            for step, (r, c) in enumerate(_path_windows((h, w), offset)):
                result[:, r, c] += torch.where(place == step, own, 0)
        return result, None


def _path_windows(
    size_hw: tuple[int, int], offset: tuple[int, int]
) -> Iterator[tuple[slice, slice]]:
    """Where the first cells of all paths to one offset lie, then where the second lie, and on."""
    (rows, columns), _ = pair_windows(size_hw, offset)
    for dy, dx in path_cells(offset):
        yield (
            slice(rows.start + dy, rows.stop + dy),
            slice(columns.start + dx, columns.stop + dx),
        )
