"""Backbones: any timm network as a list of feature maps."""

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError


class TimmBackbone(nn.Module):
    """A timm network cut down to feature maps.

    Args:
        name: timm model name, such as "resnet101" or "tf_efficientnet_lite0".
        strides: strides of the maps to return, ascending. A stride that the network reaches more
            than once (dilated networks do) gives its deepest map.
        output_stride: where the network stops downsampling and dilates instead; None keeps its own.
        pretrained: fetch timm's weights. The default builds the network without them: a
            checkpoint brings its own.

    Attributes:
        channels: channels of each returned map.
        strides: strides of each returned map.
    """

    def __init__(
        self,
        name: str,
        *,
        strides: tuple[int, ...],
        output_stride: int | None = None,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        options = {} if output_stride is None else {"output_stride": output_stride}
        probe = timm.create_model(name, features_only=True, **options)
        reductions = probe.feature_info.reduction()
        missing = [stride for stride in strides if stride not in reductions]
        if missing:
            raise PixelkinError(
                f"{name} has no feature map at stride {missing[0]}: it has "
                f"{sorted(set(reductions))}; choose among these, or set output_stride"
            )
        levels = tuple(
            max(i for i, reduction in enumerate(reductions) if reduction == stride)
            for stride in strides
        )
        self.net = timm.create_model(
            name, features_only=True, out_indices=levels, pretrained=pretrained, **options
        )
        _cut_above(self.net, self.net.feature_info.module_name()[-1])
        self.channels: tuple[int, ...] = tuple(self.net.feature_info.channels())
        self.strides = tuple(strides)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Tensor]:
        """Feature maps of normalised images, fine to coarse."""
        features: list[Tensor] = self.net(images)
        return features


def _cut_above(net: nn.Module, last: str) -> None:
    """Drop the blocks above the last map: timm's EfficientNets keep and run them for nothing."""
    blocks = getattr(net, "blocks", None)
    if isinstance(blocks, nn.Sequential) and last.startswith("blocks."):
        net.blocks = blocks[: int(last.split(".")[1]) + 1]


def freeze_batch_norm(module: nn.Module) -> None:
    """Put every BatchNorm of `module` into evaluation mode, its affine part included.

    Batches of a few clips give poor statistics; fine-tuning keeps those of the pretraining. Call
    after `module.train()`, which would undo it.
    """
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eval()
            for parameter in child.parameters():
                parameter.requires_grad_(False)


def trainable(module: nn.Module) -> list[torch.nn.Parameter]:
    """Parameters of `module` that ask for gradients."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
