"""Two ways up from coarse maps: bilinear interpolation, and transposed convolution.

M. D. Zeiler, D. Krishnan, G. W. Taylor, R. Fergus: "Deconvolutional networks", CVPR 2010, for the
latter; J. Long, E. Shelhamer, T. Darrell: "Fully Convolutional Networks for Semantic
Segmentation", CVPR 2015, section 3.3, for its start as bilinear interpolation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def transposed_size(side: int, *, kernel_px: int, stride: int, padding_px: int = 0) -> int:
    """Side of what a transposed convolution makes of maps of `side` cells.

    (side − 1) · stride + kernel − 2 · padding: kernel 3 and stride 2 make 5 of 2, not 4.
    """
    return (side - 1) * stride + kernel_px - 2 * padding_px


def bilinear_kernel(kernel_px: int) -> Float[Tensor, "k k"]:
    """The tent by which a transposed convolution of stride (k + 1) // 2 interpolates bilinearly."""
    factor = (kernel_px + 1) // 2
    centre = factor - 1 if kernel_px % 2 else factor - 0.5
    tent = 1 - (torch.arange(kernel_px) - centre).abs() / factor
    return torch.outer(tent, tent)


@torch.no_grad()
def fill_bilinear(conv: nn.ConvTranspose2d) -> None:
    """Let each channel start as bilinear interpolation of itself, in place; no bias.

    The convolution has one group, as many channels out as in, and a square kernel.
    """
    conv.weight.zero_()
    diagonal = torch.arange(conv.in_channels, device=conv.weight.device)
    conv.weight[diagonal, diagonal] = bilinear_kernel(conv.kernel_size[0]).to(conv.weight)
    if conv.bias is not None:
        conv.bias.zero_()


def transposed_upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """A learnable enlargement of maps by `factor`; it starts as bilinear interpolation.

    (N, C, h, w) → (N, C, factor · h, factor · w). At the start it equals `bilinear_upsampling` but
    for the outermost (factor + 1) // 2 pixels, where the interpolation repeats the outermost cells
    and a convolution sees zeros.
    """
    kernel_px = 2 * factor - factor % 2
    conv = nn.ConvTranspose2d(channels, channels, kernel_px, stride=factor, padding=factor // 2)
    fill_bilinear(conv)
    return conv


def bilinear_upsampling(
    maps: Float[Tensor, "n c h w"], size_hw: tuple[int, int]
) -> Float[Tensor, "n c H W"]:
    """Maps at another size; pixels are areas (`align_corners=False`), as in all of pixelkin."""
    if tuple(maps.shape[-2:]) == size_hw:
        return maps
    return F.interpolate(maps, size_hw, mode="bilinear", align_corners=False)
