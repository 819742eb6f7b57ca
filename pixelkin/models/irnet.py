"""IRNet: where classes meet, and where every pixel's object has its centre.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019, section 4.1 and figure 3; numbers of channels from the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.affinity_net import check_divisible
from pixelkin.models.backbone import TimmBackbone


class PixelRelations(NamedTuple):
    """What IRNet says of N images.

    Attributes:
        logits: (N, h, w), of a class boundary, before the sigmoid.
        displacement: (N, 2, h, w), (dy, dx) in cells from a cell to its object's centre.
    """

    logits: Float[Tensor, "n h w"]
    displacement: Float[Tensor, "n 2 h w"]


class IRNet(nn.Module):
    """A frozen backbone, and two heads that gather all of its levels at `stride`.

    Each level goes through a 1×1 convolution, group normalisation and ReLU. The boundary head joins
    them at `stride`. The displacement head joins those coarser than `stride` at the finest stride
    among them, then these with the others.

    Maps finer than `stride` come there by their maximum (ResNet's stem pools so itself).

    Args:
        backbone: `LastLevels("resnet50", levels=5, output_stride=16)` is the authors'; maps at
            `stride` or finer and maps coarser than that, of 2 or more.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        boundary_width: channels taken from each level for boundaries, a multiple of 8.
        displacement_width: channels taken from each coarse level for displacements, a multiple of
            32; half of it from the last of the fine ones, a quarter from those before.
        freeze_backbone: as in the authors' code: no gradients, and always in evaluation mode.
        stride: pixels per cell of the results.

    Attributes:
        multiple: height and width of the input must be divisible by this.
        boundary, displacement: the heads; the authors train the second at ten times the rate.
    """

    mean: Tensor
    std: Tensor
    displacement_mean: Tensor

    def __init__(
        self,
        backbone: TimmBackbone,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        boundary_width: int = 32,
        displacement_width: int = 256,
        freeze_backbone: bool = True,
        stride: int = 4,
    ) -> None:
        super().__init__()
        _check_strides(backbone.strides, stride)
        if (
            boundary_width % 8
            or displacement_width % 32
            or min(boundary_width, displacement_width) < 1
        ):
            raise PixelkinError(
                f"widths {boundary_width} and {displacement_width}: expected multiples of 8 and "
                "of 32; the authors' are 32 and 256"
            )
        self.backbone = backbone
        self.frozen = freeze_backbone
        self.stride = stride
        self.multiple = max(stride, *backbone.strides)
        levels = list(zip(backbone.channels, backbone.strides, strict=True))
        self.boundary = BoundaryHead(levels, width=boundary_width, stride=stride)
        self.displacement = DisplacementHead(levels, width=displacement_width, stride=stride)
        if freeze_backbone:
            backbone.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        # The losses compare displacements only: what all have in common is anyone's guess.
        self.register_buffer("displacement_mean", torch.zeros(1, 2, 1, 1))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> PixelRelations:
        """Boundaries and displacements; in evaluation mode, without their training mean.

        Args:
            images: RGB in [0, 1]; height and width divisible by `multiple`.

        Returns:
            Logits (N, H / stride, W / stride) and displacements (N, 2, H / stride, W / stride).

        Raises:
            PixelkinError: height or width is not divisible; names the nearest valid size.
        """
        check_divisible(images, self.multiple)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps: Sequence[Tensor] = self.backbone((images - self.mean) / self.std)
        size_hw = (images.shape[2] // self.stride, images.shape[3] // self.stride)
        maps = [_pooled(features, size_hw) for features in maps]
        displacement = self.displacement(maps)
        if not self.training:
            displacement = displacement - self.displacement_mean
        return PixelRelations(self.boundary(maps)[:, 0], displacement)

    def train(self, mode: bool = True) -> IRNet:
        """Training mode for the heads; for the backbone too where it is not frozen."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self


class BoundaryHead(nn.Module):
    """Levels of a backbone → one logit per cell.

    Args:
        levels: channels and stride of each, fine to coarse.
        width: channels taken from each.
        stride: of the result.
    """

    def __init__(self, levels: Sequence[tuple[int, int]], *, width: int, stride: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Level(channels, width) for channels, _ in levels)
        self.join = nn.Conv2d(width * len(levels), 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "n 1 h w"]:
        """Logits of maps of the backbone, none finer than the result; the first has its size."""
        size_hw = maps[0].shape[2:]
        parts = [level(map_, size_hw) for level, map_ in zip(self.levels, maps, strict=True)]
        joined: Tensor = self.join(torch.cat(parts, dim=1))
        return joined


class DisplacementHead(nn.Module):
    """Levels of a backbone → (dy, dx) per cell.

    Args:
        levels: channels and stride of each, fine to coarse.
        width: channels taken from each coarse one.
        stride: of the result.
    """

    def __init__(self, levels: Sequence[tuple[int, int]], *, width: int, stride: int) -> None:
        super().__init__()
        fine = [channels for channels, own in levels if own <= stride]
        coarse = [channels for channels, own in levels if own > stride]
        widths = [width // 4] * (len(fine) - 1) + [width // 2]
        self.fine = nn.ModuleList(map(Level, fine, widths))
        self.coarse = nn.ModuleList(Level(channels, width) for channels in coarse)
        self.middle = Level(width * len(coarse), width)
        self.join = Level(sum(widths) + width, width)
        self.last = nn.Conv2d(width, 2, 1, bias=False)

    def forward(self, maps: Sequence[Tensor]) -> Float[Tensor, "n 2 h w"]:
        """Displacements of maps of the backbone, none finer than the result."""
        fine, coarse = maps[: len(self.fine)], maps[len(self.fine) :]
        middle_hw, size_hw = coarse[0].shape[2:], fine[0].shape[2:]
        parts = [level(map_, middle_hw) for level, map_ in zip(self.coarse, coarse, strict=True)]
        middle = self.middle(torch.cat(parts, dim=1), size_hw)
        parts = [level(map_, size_hw) for level, map_ in zip(self.fine, fine, strict=True)]
        joined = self.join(torch.cat([*parts, middle], dim=1), size_hw)
        displacement: Tensor = self.last(joined)
        return displacement


class Level(nn.Module):
    """1×1 convolution, group normalisation, bilinear upsampling and ReLU."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(c_in, c_out, 1, bias=False)
        # 8 channels to a group, but no more than 16 groups, in every layer of the authors' code.
        self.norm = nn.GroupNorm(min(c_out // 8, 16), c_out)

    def forward(
        self, features: Float[Tensor, "n c h w"], size_hw: Sequence[int]
    ) -> Float[Tensor, "n d H W"]:
        """At `size_hw`, which the features may already have."""
        found: Tensor = self.norm(self.convolution(features))
        if found.shape[2:] != tuple(size_hw):
            found = F.interpolate(found, tuple(size_hw), mode="bilinear", align_corners=False)
        return F.relu(found)


def _pooled(features: Float[Tensor, "n c h w"], size_hw: tuple[int, int]) -> Tensor:
    """Finer maps at the result's size, others as they are."""
    factor = features.shape[2] // size_hw[0]
    return F.max_pool2d(features, factor) if factor > 1 else features


def _check_strides(strides: Sequence[int], stride: int) -> None:
    if any(other % stride and stride % other for other in strides):
        raise PixelkinError(
            f"the backbone's maps are at strides {tuple(strides)}: expected divisors or multiples "
            f"of {stride}; choose others"
        )
    if not min(strides) <= stride < max(strides):
        raise PixelkinError(
            f"the backbone's maps are at strides {tuple(strides)}: expected some up to {stride} "
            f"and some beyond; build it with LastLevels(name, levels=5, output_stride=16)"
        )


@torch.no_grad()
def measure_displacement_mean(
    net: IRNet, batches: Iterable[Float[Tensor, "n 3 h w"]]
) -> Float[Tensor, " 2"]:
    """After training: what all displacements have in common, stored in the network.

    From then on `net.eval()` takes it away from what it returns. Every cell counts alike. A
    distributed training measures in one process, or in each over the same images.

    Args:
        net: is left in evaluation mode.
        batches: training images, RGB in [0, 1], on the network's device, without padding.

    Returns:
        (dy, dx) in cells.

    Raises:
        PixelkinError: there are no batches.
    """
    net.eval()
    net.displacement_mean.zero_()
    total, cells = torch.zeros(2, dtype=torch.float64), 0
    for images in batches:
        displacement = net(images).displacement
        # float64 is nothing that every device has.
        total += displacement.cpu().double().sum((0, 2, 3))
        cells += displacement[:, 0].numel()
    if not cells:
        raise PixelkinError("there are no images to measure displacements on; give some batches")
    net.displacement_mean.copy_((total / cells).view(1, 2, 1, 1))
    return net.displacement_mean.flatten().clone()


@torch.no_grad()
def relations_of_image(net: IRNet, image: Float[Tensor, "3 h w"]) -> PixelRelations:
    """Boundaries, averaged over the image and its mirror image, and displacements of an image.

    Args:
        net: in evaluation mode.
        image: RGB in [0, 1], of any size: it is padded below and to the right by its border, and
            the padding's cells are cut off.

    Returns:
        Of N = 1, ⌈H / stride⌉ × ⌈W / stride⌉ cells. The sigmoid of the logits is what
        `grouping.instance_centroids` takes.
    """
    if net.training:
        raise PixelkinError("the network is in training mode; call its eval() first")
    h, w = image.shape[1:]
    rows = torch.arange(h + -h % net.multiple, device=image.device).clamp_max(h - 1)
    columns = torch.arange(w + -w % net.multiple, device=image.device).clamp_max(w - 1)
    padded = image[:, rows][:, :, columns]
    found = net(torch.stack([padded, padded.flip(-1)]))
    logits = (found.logits[:1] + found.logits[1:].flip(-1)) / 2
    inside = (..., slice(-(-h // net.stride)), slice(-(-w // net.stride)))
    return PixelRelations(logits[inside], found.displacement[:1][inside])
