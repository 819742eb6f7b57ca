"""A classifier of image tags that shows where it sees each: class activation maps.

B. Zhou, A. Khosla, A. Lapedriza, A. Oliva, A. Torralba: "Learning Deep Features for Discriminative
Localization", CVPR 2016; set up as in J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with
Image-level Supervision for Weakly Supervised Semantic Segmentation", CVPR 2018, section 3.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.models.affinity_net import check_divisible
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD


class TagClassifier(nn.Module):
    """Backbone → dropout → mean over the image → one score per class.

    The classifier has no bias, so that a class's score IS the mean of its activation map.

    Args:
        backbone: its last map counts; `TimmBackbone(name, strides=(8,), output_stride=8)`.
        classes: C.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
        dropout: share of the channels that is dropped in training.

    Attributes:
        stride: pixels per cell of the activation maps.
        multiple: height and width of the input must be divisible by this.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: TimmBackbone,
        classes: int,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise PixelkinError(f"there are {classes} classes, expected 1 or more; give some tags")
        self.backbone = backbone
        self.stride = backbone.strides[-1]
        self.multiple = max(backbone.strides)
        # Whole channels: single cells would make next to no difference to the mean over the image.
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(backbone.channels[-1], classes, 1, bias=False)
        nn.init.xavier_uniform_(self.classifier.weight)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """Score every class; the sigmoid of a score is the probability of the tag.

        Args:
            images: RGB in [0, 1]; height and width divisible by `multiple`.

        Raises:
            PixelkinError: height or width is not divisible; names the nearest valid size.
        """
        features = self.dropout(self._features(images))
        scores: Tensor = self.classifier(F.adaptive_avg_pool2d(features, 1))
        return scores.flatten(1)

    def activation_maps(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c h w"]:
        """How much every cell adds to the score of every class, negative values included.

        Args:
            images: as of `forward`; `grouping.activation_maps.scaled_size` gives fitting sizes.

        Returns:
            (N, C, H / stride, W / stride), whose mean over the cells is the score.
        """
        maps: Tensor = self.classifier(self._features(images))
        return maps

    def _features(self, images: Tensor) -> Tensor:
        check_divisible(images, self.multiple)
        features: Tensor = self.backbone((images - self.mean) / self.std)[-1]
        return features


def small_tag_classifier(
    classes: int, *, last_stride: int = 32, output_stride: int | None = None
) -> TagClassifier:
    """A classifier on EfficientNet-Lite0, for two CPU cores.

    One that was trained as it is can be read at half its stride: with `output_stride` the last
    stages are dilated instead, which has the same weights, gives the same values on the coarse
    cells, and further ones between them (Shift-and-Stitch). Training at stride 32 takes a quarter
    of the time of one at 16.

    Args:
        classes: C.
        last_stride: of the backbone's last stage that is used, 32 (all) or 16.
        output_stride: of the activation maps; None for `last_stride`.
    """
    stride = output_stride or last_stride
    name = "tf_efficientnet_lite0"
    if last_stride == stride:
        backbone = TimmBackbone(name, strides=(stride,))
    elif last_stride == 32:
        backbone = TimmBackbone(name, strides=(stride,), output_stride=stride)
    else:
        raise PixelkinError(
            f"output stride {output_stride} of a classifier that ends at stride {last_stride}: "
            f"expected {last_stride}; read a larger image instead"
        )
    return TagClassifier(backbone, classes, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def tag_loss(logits: Float[Tensor, "n c"], tags: Bool[Tensor, "n c"]) -> Float[Tensor, ""]:
    """The multi-label soft-margin loss: binary cross-entropy, mean over classes and images."""
    if logits.shape != tags.shape:
        raise PixelkinError(
            f"scores {tuple(logits.shape)} for tags {tuple(tags.shape)}: expected (N, C) of both; "
            "give one tag per class"
        )
    return F.multilabel_soft_margin_loss(logits, tags.to(logits.dtype))
