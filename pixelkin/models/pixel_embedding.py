"""The network that embeds every pixel.

Y. Chen, J. Pont-Tuset, A. Montes, L. Van Gool: "Blazingly Fast Video Object Segmentation with
Pixel-Wise Metric Learning", CVPR 2018. `paper_network` is theirs; `small_network` is ours, for two
CPU cores.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.heads import EmbeddingHead, join_positions
from pixelkin.structures import Fields


class LastLevel(nn.Module):
    """The decoder that decodes nothing: the coarsest backbone map, no details."""

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return (coarsest map, no details)."""
        return features[-1], ()


class Projections(nn.Module):
    """Keep the coarsest map for the embedding, and a thin 1×1 projection of every map as details.

    The details are what a mask decoder sees of the frame; few channels, since a clip session keeps
    them for every frame.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        out_channels: of the details, fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 1) for c_in, c_out in zip(in_channels, out_channels, strict=True)
        )

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return (coarsest map, details coarse to fine)."""
        details = [layer(map_) for layer, map_ in zip(self.layers, features, strict=True)]
        return features[-1], tuple(reversed(details))


class PixelEmbeddingNet(nn.Module):
    """Backbone → decoder → embedding head, unit norm.

    Args:
        backbone: images → feature maps, fine to coarse; has `strides`.
        decoder: feature maps → (features to embed, details coarse to fine).
        head: features → embeddings.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        positions: join (x, y, t) to the features before the head.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: TimmBackbone,
        decoder: nn.Module,
        head: nn.Module,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.head = head
        self.positions = positions
        self.stride = backbone.strides[-1]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(
        self, images: Float[Tensor, "n 3 h w"], times: Float[Tensor, " n"] | None = None
    ) -> Fields:
        """Embed frames.

        Args:
            images: RGB in [0, 1]; height and width divisible by 16 (`pad_to_multiple`).
            times: for networks with `positions`: t of each frame in [-1, 1]; None means 0.
        """
        features, details = self.decoder(self.backbone((images - self.mean) / self.std))
        if self.positions:
            if times is None:
                times = images.new_zeros(images.shape[0])
            features = join_positions(features, times)
        embeddings = F.normalize(self.head(features), dim=1)
        return Fields(embeddings=embeddings, details=details, stride=self.stride)


def pad_to_multiple(images: Float[Tensor, "n c h w"], multiple: int) -> Float[Tensor, "n c H W"]:
    """Pad right and bottom by repeating the last row and column, up to a multiple of `multiple`."""
    h, w = images.shape[-2:]
    pad_h, pad_w = -h % multiple, -w % multiple
    if not (pad_h or pad_w):
        return images
    return F.pad(images, (0, pad_w, 0, pad_h), mode="replicate")


def paper_network(*, pretrained: bool = False) -> PixelEmbeddingNet:
    """DeepLab-v2's ResNet-101 at output stride 8, d = 128, (x, y, t) joined (Chen et al. 2018).

    For training and comparison by the paper's own retrieval (`pixelkin.grouping.retrieval`): it has
    no details for a mask decoder, so `pixelkin.load` and clip sessions do not take it.
    """
    backbone = TimmBackbone("resnet101", strides=(8,), output_stride=8, pretrained=pretrained)
    return PixelEmbeddingNet(
        backbone,
        LastLevel(),
        EmbeddingHead(backbone.channels[-1] + 3, hidden=256, dimensions=128),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        positions=True,
    )


def small_network() -> PixelEmbeddingNet:
    """EfficientNet-Lite0 up to stride 16, d = 64, details at strides 16, 8 and 4.

    Chosen by speed at 480×864 on two CPU cores: the frame rate of video leaves about 25 ms for the
    backbone, which this one needs (docs/adr/0003-small-network.md).
    """
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    return PixelEmbeddingNet(
        backbone,
        Projections(backbone.channels, (16, 32, 64)),
        EmbeddingHead(backbone.channels[-1], hidden=128, dimensions=64),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
