"""Spatial pyramid pooling: what lies in an image, at several grids, whatever its size.

K. He, X. Zhang, S. Ren, J. Sun: "Spatial Pyramid Pooling in Deep Convolutional Networks for Visual
Recognition", ECCV 2014, section 2.2: a vector of fixed length from maps of any size.
H. Zhao, J. Shi, X. Qi, X. Wang, J. Jia: "Pyramid Scene Parsing Network", CVPR 2017, section 3.2:
the same grids, brought back to every pixel as context.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.upsampling import bilinear_upsampling


class SpatialPyramidPooling(nn.Module):
    """The largest value of each channel in every bin of several grids.

    Bin i of n covers rows ⌊i · H / n⌋ … ⌈(i + 1) · H / n⌉ − 1: all rows are covered, and where
    there are fewer rows than bins, bins share them.

    Args:
        grids: bins per side of each grid, fine to coarse; the paper's four.

    Attributes:
        bins: of all grids together; 50 for the paper's four.
    """

    def __init__(self, grids: tuple[int, ...] = (6, 3, 2, 1)) -> None:
        super().__init__()
        _check_grids(grids)
        self.grids = grids
        self.bins = sum(n * n for n in grids)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """(N, C · bins): grid by grid, within each channel by channel, within it row by row."""
        return torch.cat([F.adaptive_max_pool2d(maps, n).flatten(1) for n in self.grids], dim=1)


class PyramidContext(nn.Module):
    """Maps, and beside them their means over the bins of several grids.

    Each grid is mixed to `channels` // len(`grids`) channels (1×1 convolution, BN, ReLU) and
    brought back bilinearly.

    Args:
        channels: of the maps.
        grids: bins per side of each grid; the paper's four.

    Attributes:
        out_channels: of the result; twice `channels` where the number of grids divides it.
    """

    def __init__(self, channels: int, grids: tuple[int, ...] = (1, 2, 3, 6)) -> None:
        super().__init__()
        _check_grids(grids)
        self.grids = grids
        mixed = channels // len(grids)
        if mixed == 0:
            raise PixelkinError(
                f"{channels} channels cannot be shared by {len(grids)} grids; "
                "give at least one channel per grid"
            )
        self.mixes = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, mixed, 1, bias=False), nn.BatchNorm2d(mixed), nn.ReLU()
            )
            for _ in grids
        )
        self.out_channels = channels + mixed * len(grids)

    def forward(self, maps: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o h w"]:
        """The maps first, then the grids in their order."""
        size_hw = (maps.shape[-2], maps.shape[-1])
        context = [
            bilinear_upsampling(mix(F.adaptive_avg_pool2d(maps, n)), size_hw)
            for n, mix in zip(self.grids, self.mixes, strict=True)
        ]
        return torch.cat([maps, *context], dim=1)


def _check_grids(grids: tuple[int, ...]) -> None:
    if not grids or min(grids) < 1:
        raise PixelkinError(
            f"the grids are {grids}: expected at least one, of at least one bin per side; "
            "give some such as (6, 3, 2, 1)"
        )
