"""Affinity of neighbouring pixels from learned features.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018, section 3.2: W_ij = exp(−‖f_i − f_j‖₁) for the pairs
of cells that lie less than γ apart.

A pair is kept at its first cell: entry (k, y, x) is that of (y, x) and its neighbour at
`offsets[k]`. The memory is that of the pairs, never that of all neighbours' features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pixelkin.errors import PixelkinError

RADIUS_CELLS = 5
"""γ: pairs farther apart than this, or just as far, are not looked at (the paper's)."""

Offsets = Sequence[tuple[int, int]]
"""(dy, dx) in cells, as `half_plane_offsets` gives them."""

Norm = Literal["mean", "sum"]
"""How |f_i − f_j| becomes one number. "mean" over the channels is what the authors' code does and
what their published scores come from: it is the default everywhere here. The paper's formula is the
"sum", which over 448 channels takes nearly every affinity of an untrained network to 0."""

_CHUNK_VALUES = 1 << 18
"""Differences at a time on a CPU: 1 MB of float32, which stays in a usual L2 cache."""


def half_plane_offsets(radius: int = RADIUS_CELLS) -> tuple[tuple[int, int], ...]:
    """(dy, dx) from a cell to every neighbour strictly nearer than `radius`, each pair once.

    Half of the disc stands for all of it, since affinity is symmetric: the cells to the right in
    the same row, then those of the rows below. 34 for the paper's radius of 5.

    Args:
        radius: in cells, 2 or more.
    """
    if radius < 2:
        raise PixelkinError(
            f"the radius is {radius} cells, which leaves no neighbour: expected 2 or more; "
            f"the paper's is {RADIUS_CELLS}"
        )
    return tuple(
        (dy, dx)
        for dy in range(radius)
        for dx in range(-radius + 1, radius)
        if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius
    )


def pair_windows(
    size_hw: tuple[int, int], offset: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where in a field the first cells of all pairs with one offset lie, and where the second.

    Both windows have one size; it is empty where the offset is as large as the field.
    """
    first, second = [], []
    for size, step in zip(size_hw, offset, strict=True):
        length = max(size - abs(step), 0)
        first.append(slice(max(-step, 0), max(-step, 0) + length))
        second.append(slice(max(step, 0), max(step, 0) + length))
    return (first[0], first[1]), (second[0], second[1])


def pairs_in_field(
    size_hw: tuple[int, int], offsets: Offsets, *, device: torch.device | str = "cpu"
) -> Bool[Tensor, "k h w"]:
    """Which pairs exist: those whose second cell lies in the field too."""
    inside = torch.zeros(len(offsets), *size_hw, dtype=torch.bool, device=device)
    for k, offset in enumerate(offsets):
        (rows, columns), _ = pair_windows(size_hw, offset)
        inside[k, rows, columns] = True
    return inside


def pair_distances(
    features: Float[Tensor, "n c h w"], offsets: Offsets, *, norm: Norm = "mean"
) -> Float[Tensor, "n k h w"]:
    """‖f_i − f_j‖₁ = −log W_ij of every cell and its neighbours; differentiable once.

    The losses take these rather than the affinities: exp(−104) is 0 in single precision, and its
    logarithm no number.

    Args:
        features: float (N, C, h, w); 16-bit ones are taken to float32 first.
        offsets: (dy, dx) in cells, K of them.
        norm: "mean" over the channels (the code's, and the default) or "sum" (the paper's).

    Returns:
        (N, K, h, w); infinite where the neighbour lies outside the field.
    """
    if features.ndim != 4 or features.shape[1] < 1:
        raise PixelkinError(
            f"features have shape {tuple(features.shape)}: expected (N, C, h, w) with a channel "
            "at least; add the missing dimension"
        )
    if norm not in ("mean", "sum"):
        raise PixelkinError(f"norm {norm!r}: expected 'mean' (the code's) or 'sum' (the paper's)")
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    found: Tensor = _PairDistances.apply(features, tuple(offsets))
    return found / features.shape[1] if norm == "mean" else found


def affinities(
    features: Float[Tensor, "n c h w"], offsets: Offsets, *, norm: Norm = "mean"
) -> Float[Tensor, "n k h w"]:
    """W_ij = exp(−‖f_i − f_j‖₁) of every cell and its neighbours.

    Args:
        features: float (N, C, h, w).
        offsets: (dy, dx) in cells, K of them.
        norm: "mean" over the channels (the code's, and the default) or "sum" (the paper's).

    Returns:
        (N, K, h, w) in [0, 1]; 0 where the neighbour lies outside the field.
    """
    return torch.exp(-pair_distances(features, offsets, norm=norm))


def affinity_of_cell(
    features: Float[Tensor, "c h w"], cell_xy: tuple[int, int], *, norm: Norm = "mean"
) -> Float[Tensor, "h w"]:
    """W of one cell and every cell of the field, however far, to be looked at; 1 at itself."""
    x, y = cell_xy
    h, w = features.shape[1:]
    if not (0 <= x < w and 0 <= y < h):
        raise PixelkinError(
            f"cell ({x}, {y}) is outside the field of {w}×{h} cells; choose one inside it"
        )
    distances = (features - features[:, y, x, None, None]).abs().float()
    return torch.exp(-(distances.mean(0) if norm == "mean" else distances.sum(0)))


class _PairDistances(torch.autograd.Function):
    """Sums of absolute differences.

    By hand, since autograd would keep the signs of all differences: C times the memory of the
    result, 1.5 GB for eight crops of 448 px.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, offsets: Offsets) -> Tensor:
        ctx.save_for_backward(features)
        ctx.offsets = offsets
        n, _, h, w = features.shape
        distances = features.new_zeros(n, len(offsets), h, w)
        for channels in _channel_chunks(features):
            part = features[:, channels]
            for k, offset in enumerate(offsets):
                (rows, columns), far = pair_windows((h, w), offset)
                difference = part[:, :, rows, columns] - part[:, :, far[0], far[1]]
                distances[:, k, rows, columns] += difference.abs_().sum(1)
        inside = pairs_in_field((h, w), offsets, device=features.device)
        return distances.masked_fill_(~inside, torch.inf)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        features = cast(Tensor, ctx.saved_tensors[0])
        size_hw = (features.shape[2], features.shape[3])
        result = torch.zeros_like(features)
        for channels in _channel_chunks(features):
            part, sums = features[:, channels], result[:, channels]
            for k, offset in enumerate(ctx.offsets):
                (rows, columns), far = pair_windows(size_hw, offset)
                sign = (part[:, :, rows, columns] - part[:, :, far[0], far[1]]).sign_()
                sign *= gradient[:, k, None, rows, columns]
                sums[:, :, rows, columns] += sign
                sums[:, :, far[0], far[1]] -= sign
        return result, None


def _channel_chunks(features: Tensor) -> Iterator[slice]:
    n, channels, h, w = features.shape
    values = _CHUNK_VALUES * (1 if features.device.type == "cpu" else 64)
    count = max(values // max(n * h * w, 1), 1)
    for start in range(0, channels, count):
        yield slice(start, start + count)
