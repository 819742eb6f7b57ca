"""DeepLab v3+.

L.-C. Chen, Y. Zhu, G. Papandreou, F. Schroff, H. Adam: "Encoder-Decoder with Atrous Separable
Convolution for Semantic Image Segmentation", ECCV 2018. ASPP with image pooling (that of DeepLab
v3, arXiv 1706.05587) and a decoder that joins features at stride 4; on Modified Aligned Xception or
on any timm network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.deeplab_v2 import check_output_stride, crop, pad_to_grid, resize_grid
from pixelkin.models.semantic_network import AnySizeNetwork
from pixelkin.models.separable import SeparableConv, atrous_conv
from pixelkin.models.timm_segmentation import (
    named_backbone,
    timm_normalisation,
)
from pixelkin.models.xception import XCEPTION65


class AtrousPyramid(nn.Module):
    """ASPP: 1×1, three atrous 3×3 and image pooling, concatenated and mixed by a 1×1 (figure 2).

    Args:
        in_channels: of the features.
        channels: of each branch and of the result; 256 in the paper.
        rates: of the atrous branches.
        separable: their convolutions are depthwise-separable.
        dropout: after the mix; 0.1 in the authors' code.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: Sequence[int],
        separable: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.point = _conv_norm_relu(in_channels, channels, 1)
        self.atrous = nn.ModuleList(
            _conv3(in_channels, channels, rate=rate, separable=separable) for rate in rates
        )
        self.pooled = _conv_norm_relu(in_channels, channels, 1)
        self.mix = _conv_norm_relu((2 + len(self.atrous)) * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h w"]:
        """Maps of the same size.

        Raises:
            PixelkinError: one image alone in training mode, of which batch normalisation after
                the pooling has no statistics.
        """
        if self.training and len(features) == 1:
            raise PixelkinError(
                "DeepLab v3+ got a batch of 1 in training: batch normalisation after image pooling "
                "needs 2 images or more in each process; give a batch size of 2 or more"
            )
        whole = self.pooled(features.mean(dim=(2, 3), keepdim=True))
        parts = [self.point(features), *(branch(features) for branch in self.atrous)]
        parts.append(whole.expand(-1, -1, *features.shape[2:]))
        mixed: Tensor = self.dropout(self.mix(torch.cat(parts, dim=1)))
        return mixed


class DeepLabV3Plus(AnySizeNetwork):
    """Backbone → ASPP → to stride 4 → joined with thin low-level features → scores → upsampled.

    Args:
        backbone: gives two maps, the low-level one and that of the output stride.
        classes: C.
        rates: of ASPP; 6, 12, 18 at output stride 16 and twice these at 8.
        separable: depthwise-separable convolutions in ASPP and decoder, as in the paper's best.
        channels: of ASPP and decoder.
        low_channels: what the low-level map is thinned to (table 1).
        dropout: at the end of ASPP.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        classes: int,
        *,
        rates: Sequence[int] = (6, 12, 18),
        separable: bool = True,
        channels: int = 256,
        low_channels: int = 48,
        dropout: float = 0.1,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(classes, mean=mean, std=std)
        if len(backbone.channels) != 2:
            raise PixelkinError(
                f"the backbone gives {len(backbone.channels)} maps, expected the low-level one and "
                "the last; build it with strides=(4, output_stride)"
            )
        self.backbone = backbone
        low, high = backbone.channels
        self.pyramid = AtrousPyramid(
            high, channels, rates=rates, separable=separable, dropout=dropout
        )
        self.thin = _conv_norm_relu(low, low_channels, 1)
        self.decoder = nn.Sequential(
            _conv3(channels + low_channels, channels, rate=1, separable=separable),
            _conv3(channels, channels, rate=1, separable=separable),
        )
        self.score = nn.Conv2d(channels, classes, 1)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Scores (logits) of every pixel.

        Sides of a multiple of the output stride and one more (513 in the paper) fit the grid of
        the features; others are padded inside with the mean colour, as the authors do, and the
        result is cropped.

        Raises:
            PixelkinError: one image alone in training mode.
        """
        size_hw = (images.shape[2], images.shape[3])
        padded = pad_to_grid((images - self.mean) / self.std, self.backbone.strides[-1])
        low, high = self.backbone(padded)
        context = resize_grid(self.pyramid(high), (low.shape[2], low.shape[3]))
        scores = self.score(self.decoder(torch.cat([context, self.thin(low)], dim=1)))
        return crop(resize_grid(scores, (padded.shape[2], padded.shape[3])), size_hw)


def deeplab_v3_plus(
    classes: int,
    backbone: str = XCEPTION65,
    *,
    output_stride: int = 16,
    separable: bool = True,
    channels: int = 256,
    pretrained: bool = False,
) -> DeepLabV3Plus:
    """DeepLab v3+ on a timm network by name, with its own normalisation.

    Args:
        classes: C.
        backbone: timm model name; a tag after a dot names the weights. The paper's by default.
        output_stride: 8, 16 or 32; the rates of ASPP span the same pixels at each.
        separable: depthwise-separable convolutions in ASPP and decoder.
        channels: of ASPP and decoder; fewer for small backbones.
        pretrained: fetch timm's weights.

    Raises:
        PixelkinError: timm has no such network at this output stride; another output stride.
    """
    mean, std = timm_normalisation(backbone)
    net = named_backbone(
        backbone,
        strides=(4, check_output_stride(output_stride)),
        output_stride=output_stride,
        pretrained=pretrained,
    )
    return DeepLabV3Plus(
        net,
        classes,
        rates=[rate * 16 // output_stride for rate in (6, 12, 18)],
        separable=separable,
        channels=channels,
        mean=mean,
        std=std,
    )


def _conv_norm_relu(
    in_channels: int, channels: int, kernel_px: int, *, rate: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        atrous_conv(in_channels, channels, kernel_px, rate=rate),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


def _conv3(in_channels: int, channels: int, *, rate: int, separable: bool) -> nn.Module:
    if separable:
        return SeparableConv(in_channels, channels, 3, rate=rate)
    return _conv_norm_relu(in_channels, channels, 3, rate=rate)
