"""SegNet: a decoder that puts values back where the encoder's pooling took them from.

V. Badrinarayanan, A. Kendall, R. Cipolla: "SegNet: A Deep Convolutional Encoder-Decoder
Architecture for Image Segmentation", TPAMI 2017 (arXiv 2015), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.semantic_network import check_size
from pixelkin.models.vgg16 import (
    DEPTHS,
    WIDTHS,
    load_convolutions,
    start_as_he,
    vgg_stages,
)


class SegNet(nn.Module):
    """VGG16's 13 convolutions with batch normalisation, and their mirror image.

    Args:
        classes: C.
        widths: channels of VGG16's five stages.
        mean, std: per RGB channel, for inputs in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int,
        *,
        widths: tuple[int, ...] = WIDTHS,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.margin_px = 0
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.encoder = nn.ModuleList(vgg_stages(widths, batch_norm=True))
        outs = (*reversed(widths[:-1]), classes)
        self.decoder = nn.ModuleList(
            _decoder_stage(depth, width, out, scores=index == len(outs) - 1)
            for index, (depth, width, out) in enumerate(
                zip(reversed(DEPTHS), reversed(widths), outs, strict=True)
            )
        )
        start_as_he(self)

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Any size is valid of which five halvings leave a cell: 32 pixels and more."""
        return max(size_hw[0], 32), max(size_hw[1], 32)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Logits, (N, C, H, W), of RGB images in [0, 1].

        Where a stage has an odd side, pooling leaves out its last row or column, and the decoder
        starts from zeros there.
        """
        check_size(self, (images.shape[-2], images.shape[-1]))
        maps = (images - self.mean) / self.std
        taken = []
        for stage in self.encoder:
            maps = stage(maps)
            size_hw = (maps.shape[-2], maps.shape[-1])
            maps, indices = F.max_pool2d(maps, 2, return_indices=True)
            taken.append((indices, size_hw))
        for stage, (indices, size_hw) in zip(self.decoder, reversed(taken), strict=True):
            maps = stage(unpool(maps, indices, size_hw))
        return maps


def unpool(
    maps: Float[Tensor, "n c h w"], indices: Int64[Tensor, "n c h w"], size_hw: tuple[int, int]
) -> Float[Tensor, "n c H W"]:
    """Each value where the maximum was, zero elsewhere: `F.max_unpool2d`, written out.

    That function refuses to run under `torch.use_deterministic_algorithms`, and its check of sizes
    refuses tracing. Windows do not overlap, so that no place is written twice.

    Args:
        maps: what was pooled, or computed since.
        indices: as `F.max_pool2d` gives them: row · W + column, within each channel.
        size_hw: of the maps before the pooling.
    """
    (n, c), area = maps.shape[:2], size_hw[0] * size_hw[1]
    starts = torch.arange(n * c, device=maps.device).view(n, c, 1, 1) * area
    flat = maps.new_zeros(n * c * area).scatter(0, (indices + starts).flatten(), maps.flatten())
    return flat.view(n, c, *size_hw)


def load_vgg16(network: SegNet, state: Mapping[str, Tensor]) -> None:
    """Fill the encoder from the state dict of torchvision's `vgg16` or `vgg16_bn`, in place.

    Raises:
        PixelkinError: the tensors do not fit.
    """
    load_convolutions(network.encoder, state)


def _decoder_stage(depth: int, width: int, out: int, *, scores: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    layers.append(nn.Conv2d(width, out, 3, padding=1))
    # Scores are neither normalised nor cut off at zero.
    if not scores:
        layers += [nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers)
