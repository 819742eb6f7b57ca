"""Mask R-CNN over a feature pyramid: the box-based rival, on the embedding networks' backbone.

He, Gkioxari, Dollár, Girshick, "Mask R-CNN", ICCV 2017, with the feature pyramid of Lin et al.,
CVPR 2017; proposals, heads and losses are torchvision's, narrower than published so that two CPU
cores train them. Coordinates are torchvision's: the centre of pixel i lies at i, a box around the
pixels a … b runs from a − ½ to b + ½. Its targets of masks are exact under this convention alone.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone

STRIDES = (4, 8, 16, 32)
"""Of the pyramid's levels."""

BOX_CELLS = 7
"""Cells per side that the box head sees of a region; 7 in the paper."""

MASK_CELLS = 14
"""Cells per side that the mask head sees of a region; its masks have 28. As in the paper."""


class PyramidBackbone(nn.Module):
    """A backbone with a feature pyramid on top.

    Args:
        backbone: images → feature maps, fine to coarse.
        channels: of every level of the pyramid.

    Attributes:
        out_channels: `channels`, under the name that torchvision asks for.
    """

    def __init__(self, backbone: TimmBackbone, *, channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.pyramid = FeaturePyramidNetwork(list(backbone.channels), channels)
        self.out_channels = channels

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> dict[str, Tensor]:
        """Levels "0", "1", … from fine to coarse."""
        features = self.backbone(images)
        levels: dict[str, Tensor] = self.pyramid(
            OrderedDict((str(i), feature) for i, feature in enumerate(features))
        )
        return levels


class UnscaledTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalises and pads, but neither scales images nor pastes masks.

    torchvision's own scales every image to a given size, which makes small objects of some images
    large and of others smaller, and pastes masks into N full images at once, which hundreds of
    objects do not allow. Images are padded right and bottom by their edge. The padded size is
    given on as the image's: torchvision guesses the strides of the pyramid from it, and guesses
    wrong for small images if it is not. In evaluation `masks` therefore are (N, 1, 28, 28), each
    spread over its box, and boxes may reach into the padding.
    """

    def __init__(self) -> None:
        super().__init__(1, 1, [0.5] * 3, [0.5] * 3, size_divisible=STRIDES[-1])

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Images (3, H, W) in [0, 1] of any sizes → one batch; targets stay as they are."""
        height = max(image.shape[-2] for image in images)
        width = max(image.shape[-1] for image in images)
        height += -height % self.size_divisible
        width += -width % self.size_divisible
        batch = images[0].new_empty((len(images), 3, height, width))
        for i, image in enumerate(images):
            right, bottom = width - image.shape[-1], height - image.shape[-2]
            batch[i] = F.pad(self.normalize(image)[None], (0, right, 0, bottom), "replicate")[0]
        return ImageList(batch, [(height, width)] * len(images)), targets

    def postprocess(
        self,
        result: list[dict[str, Tensor]],
        image_shapes: list[tuple[int, int]],
        original_image_sizes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """The detections as they are."""
        return result


def mask_rcnn(
    classes: int,
    *,
    backbone: TimmBackbone | None = None,
    channels: int = 64,
    anchor_sizes_px: tuple[tuple[float, ...], ...] = ((8, 12), (16, 24), (32, 48), (64, 96)),
    aspect_ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
    proposals: int = 1000,
    regions_per_image: int = 128,
    max_detections: int = 500,
    box_nms_iou: float = 0.5,
) -> MaskRCNN:
    """Mask R-CNN that sees images as large as they are.

    Called as torchvision's: in training a list of images (3, H, W) in [0, 1] and the targets of
    `losses.boxes`, which gives a dict of losses; in evaluation the images alone, which gives one
    dict per image of boxes, labels (category + 1), scores, best first, and masks as told at
    `UnscaledTransform`.

    Args:
        classes: object classes; the background is not counted.
        backbone: with maps at `STRIDES`; None is EfficientNet-Lite0.
        channels: of the pyramid and the mask head; the box head has four times as many. 256 in
            the paper.
        anchor_sizes_px: per level √area of its anchors, the same number for each level.
        aspect_ratios: height / width of the anchors.
        proposals: regions kept before non-maximum suppression in each level, and after it in all.
        regions_per_image: on which the heads train in an image, a quarter of them on objects.
        max_detections: at most so many objects in an image. 100 in the paper: too few for cells.
        box_nms_iou: of two boxes of one class that overlap more the worse is dropped.

    Raises:
        PixelkinError: the backbone has other strides, or the anchors do not fit the levels.
    """
    if backbone is None:
        backbone = TimmBackbone("tf_efficientnet_lite0", strides=STRIDES)
    if backbone.strides != STRIDES:
        raise PixelkinError(
            f"the backbone has maps at strides {backbone.strides}: expected {STRIDES}; "
            "build it with these"
        )
    if len(anchor_sizes_px) != len(STRIDES) or len({len(sizes) for sizes in anchor_sizes_px}) != 1:
        raise PixelkinError(
            f"anchor sizes are {anchor_sizes_px}: expected {len(STRIDES)} levels with the same "
            "number of sizes; give one tuple per stride"
        )
    levels = [str(i) for i in range(len(STRIDES))]
    model = MaskRCNN(
        PyramidBackbone(backbone, channels=channels),
        rpn_anchor_generator=AnchorGenerator(
            anchor_sizes_px, (tuple(aspect_ratios),) * len(STRIDES)
        ),
        rpn_pre_nms_top_n_train=proposals,
        rpn_pre_nms_top_n_test=proposals,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        box_roi_pool=MultiScaleRoIAlign(levels, BOX_CELLS, sampling_ratio=2),
        box_head=TwoMLPHead(channels * BOX_CELLS**2, 4 * channels),
        box_predictor=FastRCNNPredictor(4 * channels, classes + 1),
        box_nms_thresh=box_nms_iou,
        box_detections_per_img=max_detections,
        box_batch_size_per_image=regions_per_image,
        mask_roi_pool=MultiScaleRoIAlign(levels, MASK_CELLS, sampling_ratio=2),
        mask_head=MaskRCNNHeads(channels, (channels,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes + 1),
    )
    model.transform = UnscaledTransform()
    return model
