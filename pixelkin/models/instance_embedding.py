"""Networks that find the instances of a still: an embedding and class scores for every cell.

A. Fathi, Z. Wojna, V. Rathod, P. Wang, H. O. Song, S. Guadarrama, K. P. Murphy: "Semantic Instance
Segmentation via Deep Metric Learning", arXiv 1703.10277, 2017: `paper_instance_network`.
`small_instance_network` is ours, for two CPU cores.

Two things are ours. A convolution sees no place: two equal nuclei far apart get equal embeddings.
So the place of a cell is added to the first two dimensions (D. Novotny, S. Albanie, D. Larlus,
A. Vedaldi: "Semi-convolutional Operators for Instance Segmentation", ECCV 2018): the network
learns the way to a point that all pixels of an object agree on. And one dimension is how much a
pixel looks like background, between 0 and a bound, learned as such beside the pairs: whether a
pixel belongs to any object is a simpler question than to which, and outlines are sharp as soon as
it is answered.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.heads import EmbeddingHead
from pixelkin.structures import InstanceFields

CUTS = (0.25, 0.5, 0.75, 0.9)
"""Similarities at which a pixel's mask is cut (Fathi et al. 2017, section 3.2)."""

PAPER_SCALES = (0.25, 0.5, 1.0, 2.0)
"""Scales of the input in the paper's configuration (section 4.1)."""


class TopDown(nn.Module):
    """From the coarsest map to the finest, each joined on the way (a U-Net's expanding half).

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        channels: of the decoder at the same strides, fine to coarse.
    """

    def __init__(self, in_channels: Sequence[int], channels: Sequence[int]) -> None:
        super().__init__()
        pairs = zip(in_channels, channels, strict=True)
        self.lateral = nn.ModuleList(nn.Conv2d(c_in, c_out, 1) for c_in, c_out in pairs)
        self.narrow = nn.ModuleList(
            nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(channels)
        )
        self.merge = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(inplace=True)
            )
            for c in channels
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The finest map, `channels[0]` wide."""
        x: Tensor = self.merge[-1](self.lateral[-1](features[-1]))
        for level in reversed(range(len(features) - 1)):
            # Nearest, then a convolution: no checkerboard, and a third of bilinear's time.
            x = F.interpolate(self.narrow[level](x), scale_factor=2.0, mode="nearest")
            x = self.merge[level](x + self.lateral[level](features[level]))
        return x


class FullResolution(nn.Module):
    """From stride 2 to every pixel, with a look at the image itself.

    An object of ten pixels loses a seventh of its overlap to cells of two: what the backbone has
    thrown away first, the pixels, is given back last.

    Args:
        encoder: images → features at stride 2.
        in_channels: of these.
        channels: of the result.
    """

    def __init__(self, encoder: nn.Module, in_channels: int, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.spread = nn.Sequential(
            nn.Conv2d(in_channels, 4 * channels, 1), nn.PixelShuffle(2), nn.ReLU(inplace=True)
        )
        self.look = nn.Conv2d(3, channels, 3, padding=1)
        self.merge = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, H, W)."""
        merged: Tensor = self.merge(self.spread(self.encoder(images)) + self.look(images))
        return merged


class MultiScale(nn.Module):
    """One encoder at several scales of the input, its maps brought to one size and concatenated.

    Fathi et al. 2017, section 4.1. Takes and gives what `TopDown(backbone(...))` does.

    Args:
        encoder: images → (N, C, h, w) at a fixed stride.
        scales: of the input; the map of scale 1 sets the size.
    """

    def __init__(self, encoder: nn.Module, scales: Sequence[float]) -> None:
        super().__init__()
        if 1.0 not in scales:
            raise PixelkinError(f"scales are {tuple(scales)}: expected 1 among them; add it")
        self.encoder = encoder
        self.scales = tuple(scales)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C · scales, h, w) at the encoder's stride of scale 1."""
        maps = [
            self.encoder(
                images
                if scale == 1.0
                else F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=scale < 1)
            )
            for scale in self.scales
        ]
        size = maps[self.scales.index(1.0)].shape[-2:]
        return torch.cat(
            [
                m if m.shape[-2:] == size else F.interpolate(m, size=size, mode="bilinear")
                for m in maps
            ],
            dim=1,
        )


class Encoder(nn.Module):
    """Backbone and decoder in one: images → one feature map."""

    def __init__(self, backbone: TimmBackbone, decoder: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images."""
        features: Tensor = self.decoder(self.backbone(images))
        return features


class Coarsest(nn.Module):
    """The decoder that decodes nothing: the backbone's coarsest map."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The last map."""
        return features[-1]


class InstanceNet(nn.Module):
    """Encoder → embedding head and class head.

    Args:
        encoder: normalised images → features (N, C, h, w) at `stride`.
        embedding_head: features → embeddings; None for networks that have none.
        class_head: features → logits.
        stride: pixels per cell of the features.
        multiple: height and width of the input must be divisible by this.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        px_per_unit: pixels per unit of the first two dimensions, to which a cell's place is added;
            0 adds no place (the paper).
        ground_units: bound of the third dimension, which runs from 0 (object) to it (background)
            through a sigmoid; 0 leaves it free (the paper).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        embedding_head: nn.Module | None,
        class_head: nn.Module,
        *,
        stride: int,
        multiple: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        px_per_unit: float = 0.0,
        ground_units: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.embedding_head = embedding_head
        self.class_head = class_head
        self.stride = stride
        self.multiple = multiple
        self.px_per_unit = px_per_unit
        self.ground_units = ground_units
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(
        self, images: Float[Tensor, "n 3 h w"], corner_xy: tuple[int, int] = (0, 0)
    ) -> InstanceFields:
        """Embed and score.

        Args:
            images: RGB in [0, 1]; height and width divisible by `multiple`.
            corner_xy: place of the images' left upper pixel, where they are tiles of a larger one.

        Raises:
            PixelkinError: height or width is not divisible; names the nearest valid size.
        """
        h, w = images.shape[-2:]
        if h % self.multiple or w % self.multiple:
            fit = [size + -size % self.multiple for size in (h, w)]
            raise PixelkinError(
                f"the image is {w}×{h}, expected sides divisible by {self.multiple}; "
                f"pad it to {fit[1]}×{fit[0]}"
            )
        features = self.encoder((images - self.mean) / self.std)
        logits = self.class_head(features).float()
        if self.embedding_head is None:
            return InstanceFields(logits[:, :0], logits, self.stride)
        # float: half precision could not tell neighbouring places of a large image apart.
        embeddings = self.embedding_head(features).float()
        if self.px_per_unit:
            places = cell_places(embeddings.shape[-2:], self.stride, corner_xy)
            places = places.to(embeddings.device) / self.px_per_unit
            embeddings = torch.cat([embeddings[:, :2] + places, embeddings[:, 2:]], dim=1)
        if self.ground_units:
            ground = self.ground_units * torch.sigmoid(embeddings[:, 2:3])
            embeddings = torch.cat([embeddings[:, :2], ground, embeddings[:, 3:]], dim=1)
        return InstanceFields(embeddings, logits, self.stride)


def cell_places(
    size_hw: Sequence[int], stride: int, corner_xy: tuple[int, int] = (0, 0)
) -> Float[Tensor, "2 h w"]:
    """x and y of the cells' centres in pixels."""
    h, w = size_hw
    x = (torch.arange(w) + 0.5) * stride + corner_xy[0]
    y = (torch.arange(h) + 0.5) * stride + corner_xy[1]
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)])


def paper_instance_network(classes: int, *, pretrained: bool = False) -> InstanceNet:
    """DeepLab-v2's ResNet-101 at output stride 8, four scales, d = 64 (Fathi et al. 2017).

    The depth of the heads is not stated; two convolutions with 256 channels between are ours.
    """
    backbone = TimmBackbone("resnet101", strides=(8,), output_stride=8, pretrained=pretrained)
    encoder = MultiScale(Encoder(backbone, Coarsest()), PAPER_SCALES)
    channels = backbone.channels[-1] * len(PAPER_SCALES)
    return InstanceNet(
        encoder,
        EmbeddingHead(channels, hidden=256, dimensions=64),
        EmbeddingHead(channels, hidden=256, dimensions=len(CUTS) * (classes + 1)),
        stride=8,
        multiple=32,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def small_instance_network(
    logits: int,
    *,
    dimensions: int = 16,
    stride: int = 2,
    px_per_unit: float = 8.0,
    ground_units: float = 0.0,
    scales: Sequence[float] = (1.0,),
) -> InstanceNet:
    """EfficientNet-Lite0 up to stride 16, a thin decoder, and two heads.

    Args:
        logits: of the class head: cuts · (classes + 1) for Fathi et al., classes + 1 for a
            semantic head.
        dimensions: of the embedding; 0 builds no embedding head.
        stride: of the output, 1, 2 or 4. Objects of 10 px need 1.
        px_per_unit, ground_units: see `InstanceNet`; the second needs 3 dimensions.
        scales: of the input; more than one costs as much more time.
    """
    if stride not in (1, 2, 4):
        raise PixelkinError(f"stride is {stride}, expected 1, 2 or 4; choose one")
    strides = tuple(s for s in (2, 4, 8, 16) if s >= stride)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=strides)
    channels = (24, 32, 48, 64)[-len(strides) :]
    encoder: nn.Module = Encoder(backbone, TopDown(backbone.channels, channels))
    wide = channels[0]
    if stride == 1:
        encoder, wide = FullResolution(encoder, wide, 16), 16
    if tuple(scales) != (1.0,):
        encoder, wide = MultiScale(encoder, scales), wide * len(scales)
    return InstanceNet(
        encoder,
        EmbeddingHead(wide, hidden=32, dimensions=dimensions) if dimensions else None,
        EmbeddingHead(wide, hidden=32, dimensions=logits),
        stride=stride,
        multiple=int(16 / min(scales)),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        px_per_unit=px_per_unit if dimensions else 0.0,
        ground_units=ground_units if dimensions >= 3 else 0.0,
    )
