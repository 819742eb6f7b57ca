"""From label maps to the targets of networks that find boxes, and the losses of Mask R-CNN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, InstanceBatch


def box_targets(batch: InstanceBatch) -> list[dict[str, Tensor]]:
    """What torchvision's detectors train on, one dict per image, for every instance that shows.

    Instances without a pixel (cropped away, or covered) are left out; an image without any has
    empty tensors. `IGNORE` pixels belong to no mask; torchvision knows no unknown region, so a box
    there counts as background.

    Returns:
        Per image, in ascending order of the instances' labels: boxes float32 (M, 4) of x1, y1, x2,
        y2 in pixels, where the centre of the first pixel is 0, 0, so that the pixels a … b give
        a − ½ to b + ½; labels int64 (M,), category + 1; masks uint8 (M, H, W).

    Raises:
        PixelkinError: an instance has no category.
    """
    return [
        _image_targets(labels, categories)
        for labels, categories in zip(batch.labels, batch.categories, strict=True)
    ]


def _image_targets(labels: Tensor, categories: Tensor) -> dict[str, Tensor]:
    present = torch.unique(labels)
    ids = present[(present > 0) & (present != IGNORE)]
    # `nth_instance_id`, the other way round.
    index = torch.where(ids < IGNORE, ids - 1, ids - 2)
    known = index < len(categories)
    known[known.clone()] = categories[index[known]] >= 0
    if not known.all():
        raise PixelkinError(
            f"the instance with label {int(ids[~known][0])} has no category: expected one for "
            "each instance of a label map; give 0 where a data set has one class"
        )
    masks = labels == ids[:, None, None]
    return {
        "boxes": torch.stack([*_extent(masks.any(1)), *_extent(masks.any(2))], 1)[:, [0, 2, 1, 3]],
        "labels": categories[index] + 1,
        "masks": masks.to(torch.uint8),
    }


def _extent(covered: Tensor) -> tuple[Tensor, Tensor]:
    """First − ½ and last + ½ position in each row of a bool (M, L); every row has one."""
    m, length = covered.shape
    positions = torch.arange(length, device=covered.device).expand(m, length)
    if m == 0:
        nothing = torch.zeros(0, device=covered.device)
        return nothing, nothing
    first = positions.masked_fill(~covered, length).amin(1).float() - 0.5
    last = positions.masked_fill(~covered, -1).amax(1).float() + 0.5
    return first, last


def mask_rcnn_losses(model: nn.Module, batch: InstanceBatch) -> dict[str, Tensor]:
    """The five losses of a torchvision Mask R-CNN in training mode, under short names.

    Returns:
        Scalars: proposal (objectness) and proposal_box of the region proposals; class, box and
        mask of the heads. The paper adds them up as they are.

    Raises:
        PixelkinError: the model is in evaluation mode, or an instance has no category.
    """
    if not model.training:
        raise PixelkinError(
            "the model is in evaluation mode: losses come in training mode; call model.train()"
        )
    losses = model(list(batch.images), box_targets(batch))
    return {
        "proposal": losses["loss_objectness"],
        "proposal_box": losses["loss_rpn_box_reg"],
        "class": losses["loss_classifier"],
        "box": losses["loss_box_reg"],
        "mask": losses["loss_mask"],
    }
