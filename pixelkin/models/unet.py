"""U-Net.

O. Ronneberger, P. Fischer, T. Brox: "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI 2015. Unpadded convolutions, so every score is made of real pixels alone: the
result lacks 92 px on each side, and large images are predicted by overlapping tiles whose margin is
mirrored (section 2). The border weight map of section 3 is in `pixelkin.losses.border_weights`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.channels import LUMA

MARGIN_PX = 92
"""What 18 unpadded 3×3 convolutions at four scales take from each side."""

SMALLEST_PX = 188
"""Height and width of the smallest input; its result has 4."""


class UNet(nn.Module):
    """Contract four times, expand four times, concatenate the centre of what was there before.

    Args:
        classes: C.
        channels: of the first level, doubled at each of the four below; 64 in the paper.
        grey: work on one grey channel, as in the paper. RGB becomes its luma inside; images of
            one channel are taken as they are.
        dropout: at the end of the contracting path: after its last two levels, as in the authors'
            network file; the rate is theirs.
        batch_norm: between convolution and ReLU, in place of the convolution's bias. Not in the
            paper; ours, for training from scratch on photos.
        mean, std: per RGB channel, for inputs in [0, 1]; of grey values with `grey`, the first of
            each. Buffers, so a checkpoint carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int,
        *,
        channels: int = 64,
        grey: bool = False,
        dropout: float = 0.5,
        batch_norm: bool = False,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.25, 0.25, 0.25),
    ) -> None:
        super().__init__()
        self.classes = classes
        self.margin_px = MARGIN_PX
        self.grey = grey
        in_channels = 1 if grey else 3
        widths = [channels << level for level in range(5)]
        self.contract = nn.ModuleList(
            _double_conv(c_in, c_out, batch_norm)
            for c_in, c_out in pairwise([in_channels, *widths])
        )
        self.dropout = nn.Dropout(dropout)
        steps = list(pairwise(reversed(widths)))
        self.up = nn.ModuleList(nn.ConvTranspose2d(c_in, c, 2, stride=2) for c_in, c in steps)
        self.expand = nn.ModuleList(_double_conv(2 * c, c, batch_norm) for _, c in steps)
        self.score = nn.Conv2d(channels, classes, 1)
        self.register_buffer("mean", torch.tensor(mean[:in_channels]).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std[:in_channels]).view(1, -1, 1, 1))
        self.apply(_initialise)

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The smallest height and width, at least `size_hw`, that `forward` takes."""
        h, w = (max(side + (12 - side) % 16, SMALLEST_PX) for side in size_hw)
        return h, w

    def forward(self, images: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c H W"]:
        """Scores (logits) of every pixel but a margin of 92.

        Args:
            images: RGB in [0, 1], or grey in one channel with `grey`; height and width at least
                188 and 12 more than a multiple of 16.

        Returns:
            (N, C, h − 184, w − 184).

        Raises:
            PixelkinError: height, width or channels do not fit; names the nearest valid size.
        """
        self._check(images)
        if self.grey and images.shape[1] == 3:
            images = (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
        x = (images - self.mean) / self.std
        skips = []
        for level, convolve in enumerate(self.contract):
            x = convolve(x if level == 0 else F.max_pool2d(x, 2))
            if level >= 3:
                x = self.dropout(x)
            skips.append(x)
        for up, expand, skip in zip(self.up, self.expand, reversed(skips[:-1]), strict=True):
            x = up(x)
            x = expand(torch.cat([centre_crop(skip, (x.shape[2], x.shape[3])), x], dim=1))
        scores: Tensor = self.score(x)
        return scores

    def _check(self, images: Tensor) -> None:
        channels, h, w = images.shape[1:]
        if channels != 3 and not (self.grey and channels == 1):
            expected = "3 (RGB) or 1 (grey)" if self.grey else "3 (RGB)"
            raise PixelkinError(
                f"the images have {channels} channels, expected {expected}; "
                "convert them, or build UNet with or without grey"
            )
        next_h, next_w = self.valid_size((h, w))
        if (next_h, next_w) != (h, w):
            near_h, near_w = (max((side - 4) // 16 * 16 + 12, SMALLEST_PX) for side in (h, w))
            raise PixelkinError(
                f"the image is {w}×{h}, expected sides of {SMALLEST_PX} or more that are 12 more "
                f"than a multiple of 16: the nearest valid size is {near_w}×{near_h}; "
                f"pad it to {next_w}×{next_h}, or predict by tiles"
            )


def centre_crop(maps: Float[Tensor, "n c h w"], size_hw: tuple[int, int]) -> Tensor:
    """The middle of (N, C, h, w) as (N, C, *size_hw), in a view; the differences are even."""
    top, left = ((a - b) // 2 for a, b in zip(maps.shape[-2:], size_hw, strict=True))
    return maps[..., top : top + size_hw[0], left : left + size_hw[1]]


def _double_conv(in_channels: int, channels: int, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for c_in in (in_channels, channels):
        layers.append(nn.Conv2d(c_in, channels, 3, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _initialise(module: nn.Module) -> None:
    """Normal weights of variance 2 / N, N incoming nodes of a neuron (section 3)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        # Of a 2×2 up-convolution by stride 2 each output sees one cell of the input.
        cells = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
        nn.init.normal_(module.weight, std=math.sqrt(2 / (cells * module.in_channels)))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
