"""A foreground network with side outputs: what OSVOS and MaskTrack are built on here.

S. Caelles, K.-K. Maninis, J. Pont-Tuset, L. Leal-Taixé, D. Cremers, L. Van Gool: "One-Shot Video
Object Segmentation", CVPR 2017, section 3.1: side branches on the stages of a classification
network, brought to one size, concatenated, and fused by one linear layer. Theirs stands on VGG-16;
this one on any `TimmBackbone`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.pixel_embedding import pad_to_multiple


class SideOutputNet(nn.Module):
    """Image (and previous mask) → foreground logits.

    Args:
        backbone: strides ascending. With `mask_input` its first convolution is changed in place.
        mask_input: take the previous mask as a fourth channel (MaskTrack). Its weights start at
            zero (ours), so that training starts from the network of the image alone.
        side_channels: of each side branch; 16 in the paper.
        mean, std: per RGB channel, for inputs in [0, 1]; EfficientNet-Lite0's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: TimmBackbone,
        *,
        mask_input: bool = False,
        side_channels: int = 16,
        mean: tuple[float, float, float] = (0.5, 0.5, 0.5),
        std: tuple[float, float, float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        if mask_input:
            add_input_channel(backbone)
        self.backbone = backbone
        self.mask_input = mask_input
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, side_channels, 3, padding=1) for channels in backbone.channels
        )
        self.sides = nn.ModuleList(nn.Conv2d(side_channels, 1, 1) for _ in backbone.channels)
        self.fuse = nn.Conv2d(side_channels * len(backbone.channels), 1, 1)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"],
        masks: Float[Tensor, "n 1 h w"] | None = None,
        *,
        sides: bool = False,
    ) -> Float[Tensor, "n s h w"]:
        """Logits at full resolution.

        Args:
            images: RGB in [0, 1], of any size.
            masks: previous masks in [0, 1]; exactly for networks with `mask_input`.
            sides: give the logits of the side outputs too, for deep supervision.

        Returns:
            Channel 0 the fused output; with `sides`, channels 1 … the side outputs, fine to coarse.
        """
        if (masks is not None) != self.mask_input:
            got, expected = ("no masks", "masks") if self.mask_input else ("masks", "none")
            raise PixelkinError(f"the network got {got}, expected {expected} (see mask_input)")
        inputs = (images - self.mean) / self.std
        if masks is not None:
            inputs = torch.cat([inputs, masks * 2 - 1], dim=1)
        height, width = images.shape[-2:]
        padded = pad_to_multiple(inputs, self.backbone.strides[-1])
        maps = [
            branch(features)
            for branch, features in zip(self.branches, self.backbone(padded), strict=True)
        ]
        # Fused at the finest stride: a 1×1 convolution and bilinear upsampling commute, and
        # sixteen channels per branch at full resolution would cost most of the time.
        finest = maps[0].shape[-2:]
        outputs = [self.fuse(torch.cat([_resize(m, finest) for m in maps], dim=1))]
        if sides:
            outputs += [side(m) for side, m in zip(self.sides, maps, strict=True)]
        full = [_resize(output, padded.shape[-2:]) for output in outputs]
        return torch.cat(full, dim=1)[..., :height, :width]


def _resize(maps: Tensor, size_hw: tuple[int, ...]) -> Tensor:
    if maps.shape[-2:] == size_hw:
        return maps
    return F.interpolate(maps, size_hw, mode="bilinear", align_corners=False)


def add_input_channel(backbone: TimmBackbone) -> None:
    """Give the backbone's first convolution one more input channel, with weights of zero."""
    first = next(m for m in backbone.modules() if isinstance(m, nn.Conv2d))
    extra = torch.zeros_like(first.weight[:, :1])
    first.weight = nn.Parameter(torch.cat([first.weight.detach(), extra], dim=1))
    first.in_channels += 1
