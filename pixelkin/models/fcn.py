"""FCN: a classification network made fully convolutional, with skips that are added.

J. Long, E. Shelhamer, T. Darrell: "Fully Convolutional Networks for Semantic Segmentation", CVPR
2015, sections 3 and 4; layers, paddings and crops as in the authors' published networks for VOC.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.semantic_network import AnySizeNetwork, check_size
from pixelkin.models.upsampling import fill_bilinear
from pixelkin.models.vgg16 import (
    WIDTHS,
    fill,
    load_convolutions,
    start_as_he,
    vgg_stages,
)

PAD_PX = 100
"""Zeros around the image, by which even one pixel fills the field of the last convolution."""

FIRST_CROP = {32: 19, 16: 27, 8: 31}
"""By output stride: pixels cut off above and to the left of the enlarged scores."""

SKIP_CROPS: dict[int, tuple[int, ...]] = {32: (), 16: (5,), 8: (5, 9)}
"""By output stride: cells cut off above and to the left of the scores of pool4 and pool3."""


class FCN(AnySizeNetwork):
    """FCN-32s, FCN-16s or FCN-8s on VGG16; takes images of any size.

    The last transposed convolution is bilinear and fixed, the earlier ones start so and learn. The
    scores of the skips start at zero, so that a finer network starts as the coarser one; those of
    fc7 start small (the paper: at zero, where a network without trained weights could not start).

    Args:
        classes: C.
        stride: 32, 16 or 8: pixels per cell of the finest map that is scored.
        widths: channels of VGG16's five stages.
        head_channels: of fc6 and fc7.
        dropout: probability that a channel of fc6 or fc7 is dropped in training.
        mean, std: per RGB channel, for inputs in [0, 1]; ImageNet's, as torchvision's VGG16 has.
    """

    def __init__(
        self,
        classes: int,
        *,
        stride: int = 8,
        widths: tuple[int, ...] = WIDTHS,
        head_channels: int = 4096,
        dropout: float = 0.5,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ) -> None:
        super().__init__(classes, mean=mean, std=std)
        if stride not in FIRST_CROP:
            raise PixelkinError(f"FCN has no stride {stride}; choose 32, 16 or 8")
        self.stride = stride
        self.stages = nn.ModuleList(vgg_stages(widths))
        next(m for m in self.stages.modules() if isinstance(m, nn.Conv2d)).padding = (PAD_PX,) * 2
        self.head = nn.Sequential(
            nn.Conv2d(widths[4], head_channels, 7),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
            nn.Conv2d(head_channels, head_channels, 1),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )
        start_as_he(self)
        self.score = nn.Conv2d(head_channels, classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        nn.init.zeros_(self.score.bias)  # type: ignore[arg-type]
        self.skip_crops = SKIP_CROPS[stride]
        self.skip_scores = nn.ModuleList(
            nn.Conv2d(width, classes, 1)
            for width, _ in zip((widths[3], widths[2]), self.skip_crops, strict=False)
        )
        for parameter in self.skip_scores.parameters():
            nn.init.zeros_(parameter)
        ups = [
            nn.ConvTranspose2d(classes, classes, 2 * factor, stride=factor, bias=False)
            for factor in (*(2 for _ in self.skip_crops), stride)
        ]
        for up in ups:
            fill_bilinear(up)
        ups[-1].requires_grad_(False)
        self.ups = nn.ModuleList(ups)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """Logits, (N, C, H, W), of RGB images in [0, 1]."""
        height, width = images.shape[-2:]
        check_size(self, (height, width))
        maps = (images - self.mean) / self.std
        pooled = []
        for stage in self.stages:
            maps = F.max_pool2d(stage(maps), 2, ceil_mode=True)
            pooled.append(maps)
        scores = self.score(self.head(maps))
        skips = zip(self.skip_scores, (pooled[3], pooled[2]), self.skip_crops, strict=False)
        for up, (skip_score, features, crop) in zip(self.ups, skips, strict=False):
            scores = up(scores)
            h, w = scores.shape[-2:]
            scores = scores + skip_score(features)[..., crop : crop + h, crop : crop + w]
        full: Tensor = self.ups[-1](scores)
        crop = FIRST_CROP[self.stride]
        return full[..., crop : crop + height, crop : crop + width]


def load_vgg16(network: FCN, state: Mapping[str, Tensor]) -> None:
    """Fill an FCN from the state dict of torchvision's `vgg16`, in place.

    fc6 and fc7 come from the classifier's first two layers, whose weights are the same numbers in
    the same order. Where the state has no classifier, they stay as they are.

    Raises:
        PixelkinError: the tensors do not fit.
    """
    load_convolutions(network.stages, state)
    if not any(key.startswith("classifier.") for key in state):
        return
    for layer, name in ((network.head[0], "classifier.0"), (network.head[3], "classifier.3")):
        for key, tensor in layer.named_parameters():
            fill(tensor, state, f"{name}.{key}")


def load_coarser(network: FCN, coarser: FCN) -> None:
    """Start FCN-16s from a trained FCN-32s, or FCN-8s from FCN-16s, in place.

    All that both have is copied. At the start the finer network gives nearly the coarser one's
    scores: theirs are enlarged in one step, its own in two (section 4.2).

    Raises:
        PixelkinError: the networks differ in classes or widths, or `coarser` is not the coarser.
    """
    if coarser.stride <= network.stride or coarser.classes != network.classes:
        raise PixelkinError(
            f"got an FCN-{coarser.stride}s of {coarser.classes} classes to start an "
            f"FCN-{network.stride}s of {network.classes}: expected a larger stride and as many "
            "classes; train the coarser one first"
        )
    own = network.state_dict()
    common = {
        name: tensor
        for name, tensor in coarser.state_dict().items()
        if name in own and not name.startswith(f"ups.{len(coarser.ups) - 1}.")
    }
    wrong = [name for name, tensor in common.items() if own[name].shape != tensor.shape]
    if wrong:
        raise PixelkinError(
            f"{wrong[0]} has the shape {tuple(common[wrong[0]].shape)}, expected "
            f"{tuple(own[wrong[0]].shape)}; build both networks with the same widths"
        )
    network.load_state_dict(common, strict=False)
