"""DeepLab v2 on ResNet-101.

L.-C. Chen, G. Papandreou, I. Kokkinos, K. Murphy, A. L. Yuille: "DeepLab: Semantic Image
Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully Connected CRFs", TPAMI
2018. Output stride 8 by atrous convolutions in the last two stages, ASPP of four rates, scores
summed and upsampled bilinearly. The CRF is `pixelkin.grouping.dense_crf`; the three input scales of
section 4.1.2 are `max_fusion`. timm's ResNet has its strides in the 3×3 convolutions, the paper's
in the 1×1 before them, which costs fewer MACs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.semantic_network import AnySizeNetwork, SemanticNetwork
from pixelkin.models.separable import atrous_conv
from pixelkin.models.timm_segmentation import (
    named_backbone,
    timm_normalisation,
)

RATES = (6, 12, 18, 24)
"""Of the four branches of ASPP-L (section 4.1.2); ASPP-S has 2, 4, 8 and 12."""


class DeepLabV2(AnySizeNetwork):
    """Backbone → four parallel 3×3 atrous convolutions to C scores, summed → bilinear upsampling.

    Args:
        backbone: gives one map; stride 8 in the paper.
        classes: C.
        rates: of the branches.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        classes: int,
        *,
        rates: Sequence[int] = RATES,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(classes, mean=mean, std=std)
        self.backbone = backbone
        self.branches = nn.ModuleList(
            atrous_conv(backbone.channels[-1], classes, rate=rate, bias=True) for rate in rates
        )
        for branch in self.branches:
            assert isinstance(branch, nn.Conv2d)
            assert branch.bias is not None
            # As in the authors' network file: the last layers start small.
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Scores (logits) of every pixel.

        Sides of a multiple of the stride and one more (321 in the paper) fit the grid of the
        features; others are padded inside with the mean colour, and the result is cropped.
        """
        size_hw = (images.shape[2], images.shape[3])
        padded = pad_to_grid((images - self.mean) / self.std, self.backbone.strides[-1])
        features = self.backbone(padded)[-1]
        scores = self.branches[0](features)
        for branch in self.branches[1:]:
            scores = scores + branch(features)
        return crop(resize_grid(scores, (padded.shape[2], padded.shape[3])), size_hw)


def deeplab_v2(
    classes: int,
    backbone: str = "resnet101.tv_in1k",
    *,
    output_stride: int = 8,
    pretrained: bool = False,
) -> DeepLabV2:
    """The paper's network: ResNet-101 at output stride 8.

    Args:
        classes: C.
        backbone: timm model name with a tag, which names weights and normalisation.
        output_stride: 8, 16 or 32; the rates shrink with it so that they span the same pixels.
        pretrained: fetch timm's weights.

    Raises:
        PixelkinError: timm has no such network at this output stride; another output stride.
    """
    mean, std = timm_normalisation(backbone)
    net = named_backbone(
        backbone,
        strides=(check_output_stride(output_stride),),
        output_stride=output_stride,
        pretrained=pretrained,
    )
    rates = [max(rate * 8 // output_stride, 1) for rate in RATES]
    return DeepLabV2(net, classes, rates=rates, mean=mean, std=std)


def max_fusion(
    network: SemanticNetwork,
    images: Float[Tensor, "n 3 h w"],
    *,
    scales: Sequence[float] = (0.5, 0.75, 1.0),
) -> Float[Tensor, "n c h w"]:
    """The largest score of each class and pixel over several scales of the input.

    TPAMI 2018, section 4.1.2, there in training too; here it is inference.

    Args:
        network: takes any size, and has no margin.
        images: RGB in [0, 1].
        scales: of the input; the paper's three.

    Raises:
        PixelkinError: the network has a margin, or does not take a scaled size.
    """
    if network.margin_px:
        raise PixelkinError(
            f"{type(network).__name__} lacks {network.margin_px} px on each side, which scales do "
            "not share; use a padded network for max_fusion"
        )
    h, w = images.shape[-2:]
    fused: Tensor | None = None
    for scale in scales:
        size_hw = (max(round(h * scale), 1), max(round(w * scale), 1))
        scores = resize_grid(network(resize_grid(images, size_hw)), (h, w))
        fused = scores if fused is None else torch.maximum(fused, scores)
    if fused is None:
        raise PixelkinError("max_fusion got no scales; give one or more, such as (0.5, 0.75, 1.0)")
    return fused


def pad_to_grid(images: Float[Tensor, "n c h w"], stride: int) -> Float[Tensor, "n c H W"]:
    """Zeros right and below, up to sides of a multiple of `stride` and one more.

    Convolutions of odd kernels whose padding is symmetric have their cells on pixels 0, `stride`,
    2 · `stride` …: at these sizes the last cell lies on the last pixel, and `resize_grid` puts
    every score where it was made. That is why the authors crop to 321 and 513.
    """
    h, w = images.shape[-2:]
    return F.pad(images, (0, -(w - 1) % stride, 0, -(h - 1) % stride))


def resize_grid(
    maps: Float[Tensor, "n c h w"], size_hw: tuple[int, int]
) -> Float[Tensor, "n c H W"]:
    """Bilinear, the outermost cells on the outermost pixels (`align_corners`)."""
    if tuple(maps.shape[-2:]) == size_hw:
        return maps
    return F.interpolate(maps, size_hw, mode="bilinear", align_corners=True)


def crop(maps: Float[Tensor, "n c H W"], size_hw: tuple[int, int]) -> Float[Tensor, "n c h w"]:
    """The upper left `size_hw`, in a view."""
    return maps[..., : size_hw[0], : size_hw[1]]


def check_output_stride(output_stride: int) -> int:
    """Return `output_stride`, or raise `PixelkinError` where it is not 8, 16 or 32."""
    if output_stride not in (8, 16, 32):
        raise PixelkinError(f"output stride {output_stride}: expected 8, 16 or 32; choose one")
    return output_stride
