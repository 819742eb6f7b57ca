"""Logits of any part of an image of any size, the same as the whole image would give.

A convolution's output depends on the pixels within its receptive field and on nothing else. A tile
that is cut with that much around it, on the network's own grid, gives the very values that the
whole image would have given (`region_logits`). For networks without padding this is the overlap-
tile strategy of U-Net (Ronneberger et al. 2015, figure 2): what lies beyond the image is mirrored.

A network that pools over the whole image, as DeepLab's image features and PSPNet's pyramid do, sees
all pixels from everywhere: no tile can give what the whole would. Its images are taken in
overlapping windows, averaged where they overlap (`window_weights`); so are those of a network that
sees so far that a tile with its surroundings would be many times the tile (`tile_cost`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from pixelkin.models.semantic_network import SemanticNetwork, next_multiple

COARSEST_PX = 32
"""Networks halve images five times at most. Tiles begin at multiples of this, so that their cells
are those of the whole image."""

SEEN_AFAR_PX = 1024
"""A receptive field that reaches much farther than this is taken for one that sees everything."""


class Region(NamedTuple):
    """A part of an image: rows `top` … `bottom` − 1, columns `left` … `right` − 1."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


def fitting_size(model: SemanticNetwork, size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size, at least `size_hw`, at which a network sees images of that size.

    The network's next valid one. A network that takes any size gets a multiple of the coarsest
    cell: otherwise its upsampling by sizes, not by factors, would depend on where a tile ends.
    """
    h, w = model.valid_size(size_hw)
    step = _valid_step(model, (h, w))
    return next_multiple((h, w), COARSEST_PX) if step == 1 else (h, w)


def grid_px(model: SemanticNetwork) -> int:
    """Tiles whose corners are multiples of this have cells of the whole image's grid."""
    return math.lcm(_valid_step(model, model.valid_size((1, 1))), COARSEST_PX)


def _valid_step(model: SemanticNetwork, valid_hw: tuple[int, int]) -> int:
    return model.valid_size((valid_hw[0] + 1, valid_hw[1]))[0] - valid_hw[0]


def region_logits(
    model: SemanticNetwork,
    image: UInt8[np.ndarray, "h w 3"],
    region: Region,
    *,
    radius_px: int,
    device: torch.device | str = "cpu",
) -> Float[Tensor, "c H W"]:
    """The logits of a part of an image, of which only the surroundings are looked at.

    Args:
        model: in evaluation mode, on `device`.
        image: RGB. Beyond it lies its mirror image for networks without padding, its border
            repeated for others.
        region: within the image.
        radius_px: how far the network sees (`receptive_radius_px`); of one without padding no
            more than its margin need be.
        device: where the model is; the logits stay there.
    """
    margin, grid = model.margin_px, grid_px(model)
    radius_px = max(radius_px, margin)
    outer = fitting_size(model, (image.shape[0] + 2 * margin, image.shape[1] + 2 * margin))
    # Counted from the corner of the image with the margin around it.
    spans: list[tuple[int, int]] = []
    for first, last, length in ((*region[:2], outer[0]), (*region[2:], outer[1])):
        start = max((first + margin - radius_px) // grid * grid, 0)
        spans.append((start, min(last + margin + radius_px, length) - start))
    (y, height), (x, width) = spans
    height, width = fitting_size(model, (height, width))
    mirrored = margin > 0
    rows = _within(np.arange(y, y + height) - margin, image.shape[0], mirrored=mirrored)
    columns = _within(np.arange(x, x + width) - margin, image.shape[1], mirrored=mirrored)
    assert isinstance(model, nn.Module)
    dtype = next(model.parameters()).dtype
    logits = model(_to_tensor(image[rows[:, None], columns], device, dtype))[0]
    return logits[
        :, region.top - y : region.bottom - y, region.left - x : region.right - x
    ]  # fmt: skip


def _within(
    index: Int64[np.ndarray, " n"], length: int, *, mirrored: bool
) -> Int64[np.ndarray, " n"]:
    """Indices beyond 0 … length − 1 brought back, by repeating the border or by mirrors at it."""
    if not mirrored or length == 1:
        clipped: Int64[np.ndarray, " n"] = np.clip(index, 0, length - 1)
        return clipped
    period = 2 * (length - 1)
    folded: Int64[np.ndarray, " n"] = np.minimum(index % period, -index % period)
    return folded


def _to_tensor(
    image: UInt8[np.ndarray, "h w 3"], device: torch.device | str, dtype: torch.dtype
) -> Float[Tensor, "1 3 h w"]:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.permute(2, 0, 1)[None].to(dtype).div(255).contiguous()


@torch.inference_mode()
def receptive_radius_px(model: SemanticNetwork) -> int | None:
    """How far away a pixel can change a class score, measured; None where it is everywhere.

    A not-a-number pixel makes everything that depends on it not a number, whatever the weights
    are: the farthest such score is the answer. The network is run on one strip, in which a whole
    block of the coarsest grid is set, so that the position on the grid does not matter.

    Args:
        model: in evaluation mode, else its statistics are spoilt.
    """
    assert isinstance(model, nn.Module)
    grid, margin = grid_px(model), model.margin_px
    like = next(model.parameters())
    half = 256 // grid * grid + grid
    while True:
        size = fitting_size(model, (2 * half + grid + 2 * margin, grid + 2 * margin))
        strip = like.new_zeros(1, 3, *size)
        block = half + margin // grid * grid
        strip[:, :, block : block + grid] = torch.nan
        rows = model(strip).isnan().any(dim=3).any(dim=1)[0]
        told = rows.nonzero().flatten()
        first, last = int(told.min()), int(told.max()) + 1
        if first > 0 and last < len(rows):
            middle = block - margin
            # A maximum that moves to another pixel of its cell (SegNet) leaves a 0 behind, no NaN.
            return max(middle - first, last - middle - grid, 0) + grid
        if half > SEEN_AFAR_PX:
            return None
        half *= 2


def tile_cost(radius_px: int, tile_px: int) -> float:
    """How many times its own pixels a tile has with what must be seen around it."""
    return (1 + 2 * radius_px / tile_px) ** 2


def windows(length: int, *, size: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of `size` that cover `length`, evenly spread, at least `overlap` in common."""
    if length <= size:
        return [(0, length)]
    count = math.ceil((length - overlap) / (size - overlap))
    starts = np.linspace(0, length - size, count).round().astype(int)
    return [(int(start), int(start) + size) for start in starts]


def window_weights(
    spans: list[tuple[int, int]], *, overlap: int
) -> list[Float32[np.ndarray, " size"]]:
    """What each pixel of each window counts: falls off over the overlap; the sum is 1 everywhere.

    Args:
        spans: of `windows`.
        overlap: pixels from a window's inner border over which it fades.
    """
    length = max(stop for _, stop in spans)
    total = np.zeros(length, np.float64)
    raw = []
    for start, stop in spans:
        place = np.arange(start, stop)
        inside = np.full(stop - start, float(overlap + 1))
        # The border of the image is no border to fade to.
        if start > 0:
            inside = np.minimum(inside, place - start + 1)
        if stop < length:
            inside = np.minimum(inside, stop - place)
        raw.append(inside)
        total[start:stop] += inside
    return [
        (weight / total[start:stop]).astype(np.float32)
        for weight, (start, stop) in zip(raw, spans, strict=True)
    ]
