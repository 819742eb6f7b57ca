"""AffinityNet: features whose distance tells whether two neighbouring pixels are of one class.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018, section 3.2 and figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD

CODE_WIDTHS = (64, 128, 256)
"""Channels taken from the three levels in the authors' code, whose scores were published."""

PAPER_WIDTHS = (128, 256, 512)
"""The same in the paper."""


class LastLevels(TimmBackbone):
    """The last maps of a timm network, of which several may have one stride.

    `TimmBackbone` gives one map per stride; a network at output stride 8 has its last three there.

    Args:
        name: timm model name.
        levels: how many maps, from the deepest upwards.
        output_stride: where the network stops downsampling and dilates instead; None keeps its own.
        pretrained: fetch timm's weights.

    Attributes:
        channels, strides: of each returned map, fine to coarse.
    """

    def __init__(
        self,
        name: str,
        *,
        levels: int = 3,
        output_stride: int | None = 8,
        pretrained: bool = False,
    ) -> None:
        nn.Module.__init__(self)
        options = {} if output_stride is None else {"output_stride": output_stride}
        count = len(timm.create_model(name, features_only=True, **options).feature_info.reduction())
        if not 1 <= levels <= count:
            raise PixelkinError(
                f"{name} has {count} levels, {levels} were asked for: "
                f"expected 1 to {count}; choose another number or network"
            )
        self.net = timm.create_model(
            name,
            features_only=True,
            out_indices=tuple(range(count - levels, count)),
            pretrained=pretrained,
            **options,
        )
        self.channels = tuple(self.net.feature_info.channels())
        self.strides = tuple(self.net.feature_info.reduction())


class AffinityNet(nn.Module):
    """Backbone → three levels, each through a 1×1 convolution → joined, and one more of these.

    Levels that are not at `stride` are brought there: finer ones by their mean, coarser ones
    bilinearly. In the paper all three are at stride 8.

    Args:
        backbone: of three maps or more, the last three of which count: `LastLevels("resnet50")`.
        widths: channels taken from each of them, fine to coarse: `CODE_WIDTHS` or `PAPER_WIDTHS`.
            The result has their sum.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        stride: pixels per cell of the features.

    Attributes:
        multiple: height and width of the input must be divisible by this.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: TimmBackbone,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        widths: tuple[int, int, int] = CODE_WIDTHS,
        stride: int = 8,
    ) -> None:
        super().__init__()
        channels, self.strides = backbone.channels[-3:], backbone.strides[-3:]
        if len(channels) < 3:
            raise PixelkinError(
                f"the backbone gives {len(channels)} maps, expected 3 or more; "
                "build it with LastLevels(name) or three strides"
            )
        if any(other % stride and stride % other for other in self.strides):
            raise PixelkinError(
                f"the backbone's maps are at strides {self.strides}: expected divisors or "
                f"multiples of {stride}; choose others"
            )
        self.backbone = backbone
        self.stride = stride
        self.multiple = max(stride, *backbone.strides)
        # Without biases, and with these initial weights, as in the authors' code.
        self.levels = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 1, bias=False)
            for c_in, c_out in zip(channels, widths, strict=True)
        )
        self.join = nn.Conv2d(sum(widths), sum(widths), 1, bias=False)
        for level in self.levels:
            assert isinstance(level, nn.Conv2d)
            nn.init.kaiming_normal_(level.weight)
        nn.init.xavier_uniform_(self.join.weight, gain=4)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d h w"]:
        """f_aff, the features that `grouping.affinity` compares.

        Args:
            images: RGB in [0, 1]; height and width divisible by `multiple`.

        Returns:
            (N, sum of widths, H / stride, W / stride).

        Raises:
            PixelkinError: height or width is not divisible; names the nearest valid size.
        """
        check_divisible(images, self.multiple)
        maps: Sequence[Tensor] = self.backbone((images - self.mean) / self.std)[-3:]
        size_hw = (images.shape[2] // self.stride, images.shape[3] // self.stride)
        parts = []
        for features, of, level in zip(maps, self.strides, self.levels, strict=True):
            if of < self.stride:
                features = F.avg_pool2d(features, self.stride // of)
            part = F.elu(level(features))
            if of > self.stride:
                part = F.interpolate(part, size_hw, mode="bilinear", align_corners=False)
            parts.append(part)
        return F.elu(self.join(torch.cat(parts, dim=1)))


def small_affinity_net(*, last_stride: int = 32) -> AffinityNet:
    """AffinityNet on EfficientNet-Lite0, for two CPU cores.

    Args:
        last_stride: of the backbone's last stage that is used: 32 takes the maps at strides 8, 16
            and 32; 16 those at 4, 8 and 16.
    """
    if last_stride not in (16, 32):
        raise PixelkinError(f"last_stride is {last_stride}: expected 16 or 32")
    strides = (last_stride // 4, last_stride // 2, last_stride)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=strides)
    return AffinityNet(backbone, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def check_divisible(images: Float[Tensor, "n 3 h w"], multiple: int) -> None:
    """Raise `PixelkinError`, naming the next larger valid size, where a side does not fit."""
    h, w = images.shape[-2:]
    if h % multiple or w % multiple:
        raise PixelkinError(
            f"the image is {w}×{h}, expected sides divisible by {multiple}; "
            f"pad it to {w + -w % multiple}×{h + -h % multiple}"
        )
