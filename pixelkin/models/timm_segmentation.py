"""Any timm backbone with a class for every pixel, at little cost.

`timm_fcn`: scores at several strides, upsampled and added (J. Long, E. Shelhamer, T. Darrell:
"Fully Convolutional Networks for Semantic Segmentation", CVPR 2015), on a modern backbone. The
paper's own networks are in `pixelkin.models.fcn`.

`small_semantic_network` is ours, for two CPU cores: context at the coarsest stride, then a thin
top-down decoder. Its ideas are those of T.-Y. Lin et al.: "Feature Pyramid Networks", CVPR 2017;
H. Zhao et al.: "Pyramid Scene Parsing Network", CVPR 2017 (pooled context); M. Oršić, I. Krešo,
P. Bevandić, S. Šegvić: "In Defense of Pre-trained ImageNet Architectures for Real-time Semantic
Segmentation of Road-driving Images", CVPR 2019 (a pretrained encoder and so thin a decoder).

The same backbones in DeepLab's style: `pixelkin.models.deeplab_v3_plus`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.instance_embedding import TopDown
from pixelkin.models.pixel_embedding import pad_to_multiple
from pixelkin.models.semantic_network import AnySizeNetwork
from pixelkin.models.upsampling import bilinear_upsampling

STRIDES, WIDTHS = (4, 8, 16, 32), (48, 64, 96, 128)
"""Of the small network's decoder, fine to coarse."""


class TimmFCN(AnySizeNetwork):
    """A 1×1 score on every map of a backbone; coarse scores upsampled bilinearly and added.

    Args:
        backbone: maps fine to coarse, each stride twice or more the one before, or equal.
        classes: C.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        dropout: of channels, before each score.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        classes: int,
        *,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(classes, mean=mean, std=std)
        self.backbone = backbone
        self.dropout = nn.Dropout2d(dropout)
        self.scores = nn.ModuleList(nn.Conv2d(c, classes, 1) for c in backbone.channels)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Scores (logits) of every pixel.

        Sides that the coarsest stride does not divide are padded inside, by repeating the last row
        and column, and the result is cropped.
        """
        h, w = images.shape[-2:]
        padded = pad_to_multiple((images - self.mean) / self.std, self.backbone.strides[-1])
        maps = self.backbone(padded)
        total: Tensor = self.scores[-1](self.dropout(maps[-1]))
        for score, features in zip(reversed(self.scores[:-1]), reversed(maps[:-1]), strict=True):
            size_hw = (features.shape[2], features.shape[3])
            total = bilinear_upsampling(total, size_hw) + score(self.dropout(features))
        return bilinear_upsampling(total, (padded.shape[2], padded.shape[3]))[..., :h, :w]


class PooledContext(nn.Module):
    """Every cell beside the means of its surroundings, mixed by one 1×1 convolution.

    The means are over windows that move with the cell. A mean over the whole map would see no
    farther than the largest window on photos of 500 px, and would forbid exact tiles of large ones.

    Args:
        in_channels: of the maps.
        out_channels: of the result.
        windows: sides of the windows in cells, odd. What lies beyond the map does not count.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, windows: Sequence[int] = (5, 9, 17)
    ) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.mix = nn.Sequential(
            nn.Conv2d((len(self.windows) + 1) * in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h w"]:
        """Maps of the same size."""
        means = [
            F.avg_pool2d(maps, side, stride=1, padding=side // 2, count_include_pad=False)
            for side in self.windows
        ]
        mixed: Tensor = self.mix(torch.cat([maps, *means], dim=1))
        return mixed


class TopDownNet(AnySizeNetwork):
    """Backbone → context on the coarsest map → top-down decoder → scores, upsampled bilinearly.

    Args:
        backbone: maps fine to coarse, each stride twice the one before.
        classes: C.
        widths: channels of the decoder, fine to coarse, one per map.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        dropout: of channels, before the scores.
    """

    def __init__(
        self,
        backbone: TimmBackbone,
        classes: int,
        *,
        widths: Sequence[int] = WIDTHS,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(classes, mean=mean, std=std)
        strides = backbone.strides
        if len(widths) != len(strides) or any(
            coarse != 2 * fine for fine, coarse in pairwise(strides)
        ):
            raise PixelkinError(
                f"{len(widths)} widths for a backbone of strides {strides}: expected one width "
                "per stride, and each stride twice the one before; such as "
                f"{STRIDES} and {WIDTHS}"
            )
        self.backbone = backbone
        self.context = PooledContext(backbone.channels[-1], widths[-1])
        self.decoder = TopDown([*backbone.channels[:-1], widths[-1]], widths)
        self.dropout = nn.Dropout2d(dropout)
        self.score = nn.Conv2d(widths[0], classes, 1)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Scores (logits) of every pixel.

        Sides that the coarsest stride does not divide are padded inside, by repeating the last row
        and column, and the result is cropped.
        """
        h, w = images.shape[-2:]
        padded = pad_to_multiple((images - self.mean) / self.std, self.backbone.strides[-1])
        maps = self.backbone(padded)
        fine = self.decoder([*maps[:-1], self.context(maps[-1])])
        scores = self.score(self.dropout(fine))
        return bilinear_upsampling(scores, (padded.shape[2], padded.shape[3]))[..., :h, :w]


def timm_fcn(
    classes: int,
    backbone: str = "tf_efficientnet_lite0",
    *,
    strides: tuple[int, ...] = (8, 16, 32),
    pretrained: bool = False,
) -> TimmFCN:
    """`TimmFCN` on a timm network by name, with its own normalisation.

    Args:
        classes: C.
        backbone: timm model name; a tag after a dot names the weights.
        strides: of the maps that get scores, ascending; the default is that of FCN-8s.
        pretrained: fetch timm's weights.

    Raises:
        PixelkinError: see `named_backbone`.
    """
    mean, std = timm_normalisation(backbone)
    net = named_backbone(backbone, strides=strides, pretrained=pretrained)
    return TimmFCN(net, classes, mean=mean, std=std)


def small_semantic_network(
    classes: int,
    backbone: str = "tf_efficientnet_lite0",
    *,
    strides: tuple[int, ...] = STRIDES,
    widths: tuple[int, ...] = WIDTHS,
    pretrained: bool = False,
) -> TopDownNet:
    """`TopDownNet` on a timm network by name, with its own normalisation.

    By default EfficientNet-Lite0, whose ImageNet weights `imagenet.load_efficientnet_lite0` brings:
    `load_efficientnet_lite0(network.backbone)`.

    Args:
        classes: C.
        backbone: timm model name; a tag after a dot names the weights.
        strides: of the decoder, ascending, each twice the one before.
        widths: its channels, fine to coarse.
        pretrained: fetch timm's weights.

    Raises:
        PixelkinError: see `named_backbone` and `TopDownNet`.
    """
    mean, std = timm_normalisation(backbone)
    net = named_backbone(backbone, strides=strides, pretrained=pretrained)
    return TopDownNet(net, classes, widths=widths, mean=mean, std=std)


def named_backbone(
    name: str, *, strides: tuple[int, ...], output_stride: int | None = None, pretrained: bool
) -> TimmBackbone:
    """`TimmBackbone`, whose refusals by timm become one line.

    Raises:
        PixelkinError: timm has no such network, or not with these strides; or its weights are not
            there and the hub cannot be reached.
    """
    if not timm.is_model(name.split(".")[0]):
        raise PixelkinError(
            f"timm has no network {name}; choose one of timm.list_models(), such as "
            "tf_efficientnet_lite0 or resnet50"
        )
    try:
        net = TimmBackbone(name, strides=strides, output_stride=output_stride)
    except (AssertionError, RuntimeError, TypeError, NotImplementedError) as error:
        stride = "its own strides" if output_stride is None else f"output stride {output_stride}"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PixelkinError(
            f"timm cannot build {name} as feature maps at {stride} ({reason}); choose another "
            "output stride or tag, or another network, such as resnet50 or tf_efficientnet_lite0"
        ) from error
    if not pretrained:
        return net
    try:
        return TimmBackbone(name, strides=strides, output_stride=output_stride, pretrained=True)
    except (OSError, RuntimeError) as error:
        raise PixelkinError(
            f"the weights of {name} could not be fetched ({type(error).__name__}); check the "
            "network and the tag, or build it without pretrained and load a checkpoint"
        ) from error


def timm_normalisation(
    name: str,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std per RGB channel that timm's weights `name` expect; ImageNet's where unknown."""
    config = timm.get_pretrained_cfg(name)
    if config is None or len(config.mean) != 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(config.mean), tuple(config.std)
