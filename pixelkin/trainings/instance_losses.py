"""The losses of instance trainings: each runs the network on a batch and names its terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkin.engine import AppliesTo, Ramp
from pixelkin.losses.boundary import boundary_losses
from pixelkin.losses.boxes import mask_rcnn_losses
from pixelkin.losses.discriminative import discriminative_loss
from pixelkin.losses.metric_instances import (
    BACKGROUND_PIXELS,
    PIXELS_PER_INSTANCE,
    SHARES,
    metric_instance_losses,
)
from pixelkin.models.backbone import freeze_batch_norm
from pixelkin.models.instance_embedding import CUTS, InstanceNet
from pixelkin.structures import IGNORE, InstanceBatch
from pixelkin.trainings.backbones import backbone_of
from pixelkin.trainings.instance_model import Method, NetworkShape

SCORE_WEIGHT = 0.2
"""λ of the mask scores, reached after a ramp (Fathi et al. 2017, section 3.4)."""

RAMP_SHARE = 0.25
"""Share of the steps that the ramp takes. The paper does not state it; early masks are random, and
scores learned on them would have to be unlearned."""

UNKNOWN_CLASS = -1
"""In place of a class. Not `IGNORE`: a data set may have more than 255 classes."""

InstanceLoss = Callable[[nn.Module, InstanceBatch], dict[str, Tensor]]


@dataclass(frozen=True)
class MetricLosses:
    """Choices of deep metric learning, see `losses.metric_instances`.

    Attributes:
        pixels_per_instance: K, pixels drawn from each instance.
        shares: what pairs of one instance, of two, and of an instance and the background weigh
            together; None weighs pairs by the paper's formula alone.
        hard_scores: whether a pixel's mask either counts as its instance or does not; the target
            is its overlap otherwise.
    """

    pixels_per_instance: Annotated[int, AppliesTo("seeds")] = PIXELS_PER_INSTANCE
    shares: Annotated[tuple[float, float, float] | None, AppliesTo("seeds")] = SHARES
    hard_scores: Annotated[bool, AppliesTo("seeds")] = False


def losses_of(
    method: Method, *, network: NetworkShape, metric: MetricLosses, steps: int
) -> tuple[InstanceLoss, dict[str, float | Ramp]]:
    """(model, batch) → named scalars, and what each weighs in a training of so many steps."""
    placed = network.px_per_unit > 0
    if method == "seeds":
        loss = partial(
            seeds_loss,
            cuts=network.cuts,
            per_instance=metric.pixels_per_instance,
            shares=metric.shares,
            hard=metric.hard_scores,
            # Cells with a place cannot all lie together, and the background need not.
            pull_background=not placed,
        )
        ramp = Ramp(SCORE_WEIGHT, max(1, int(RAMP_SHARE * steps)))
        weights: dict[str, float | Ramp] = {"pairs": 1.0, "scores": ramp}
        grounded = network.ground_units > 0 and network.dimensions >= 3
        return loss, {**weights, "ground": 1.0} if grounded else weights
    if method == "discriminative":
        return discriminative_losses, {
            "variance": 1.0,
            "distance": 1.0,
            # The paper's draws centres to the origin; with places added they lie where they lie.
            "regularisation": 0.0 if placed else 0.001,
            "semantic": 1.0,
        }
    if method == "boundary":
        return boundary_loss, {"cross_entropy": 1.0, "dice": 1.0}
    return box_loss, dict.fromkeys(("proposal", "proposal_box", "class", "box", "mask"), 1.0)


def cell_labels(labels: Tensor, stride: int) -> Tensor:
    """The label of the pixel at the middle of every cell, (N, h, w)."""
    return labels[:, stride // 2 :: stride, stride // 2 :: stride]


def _train_mode(model: nn.Module) -> None:
    # `train()` of the engine has switched the backbone's statistics on again.
    freeze_batch_norm(backbone_of(model))


def seeds_loss(
    model: nn.Module,
    batch: InstanceBatch,
    *,
    cuts: tuple[float, ...] = CUTS,
    per_instance: int = PIXELS_PER_INSTANCE,
    background: int = BACKGROUND_PIXELS,
    shares: tuple[float, float, float] | None = SHARES,
    hard: bool = True,
    pull_background: bool = True,
) -> dict[str, Tensor]:
    """ "pairs" and "scores" of Fathi et al. 2017, and "ground" where the network has it."""
    assert isinstance(model, InstanceNet)
    _train_mode(model)
    fields = model(batch.images)
    labels = cell_labels(batch.labels, fields.stride)
    losses = metric_instance_losses(
        fields.embeddings,
        fields.logits,
        labels,
        batch.categories,
        cuts=cuts,
        per_instance=per_instance,
        background=background,
        shares=shares,
        pull_background=pull_background,
        hard=hard,
    )
    if model.ground_units:
        losses["ground"] = ground_loss(fields.embeddings[:, 2] / model.ground_units, labels)
    return losses


def ground_loss(ground: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of how much every known cell looks like background, from 0 to 1."""
    known = labels != IGNORE
    # Half precision has no numbers between .996 and 1, and torch refuses it here.
    with torch.autocast(ground.device.type, enabled=False):
        truth = (labels == 0).float()
        costs = F.binary_cross_entropy(ground.float(), truth, reduction="none")
    return (costs * known).sum() / known.sum().clamp_min(1)


def discriminative_losses(model: nn.Module, batch: InstanceBatch) -> dict[str, Tensor]:
    """The terms of De Brabandere et al. 2017, and the cross-entropy of the semantic head."""
    assert isinstance(model, InstanceNet)
    _train_mode(model)
    fields = model(batch.images)
    labels = cell_labels(batch.labels, fields.stride)
    classes = semantic_labels(labels, batch.categories)
    semantic = F.cross_entropy(fields.logits, classes, ignore_index=UNKNOWN_CLASS, reduction="sum")
    counted = (classes != UNKNOWN_CLASS).sum().clamp_min(1)
    return {**discriminative_loss(fields.embeddings, labels), "semantic": semantic / counted}


def semantic_labels(labels: Tensor, categories: Tensor) -> Tensor:
    """Class of every cell, 0 background, category + 1, `UNKNOWN_CLASS` where unknown."""
    if categories.shape[1] == 0:
        return torch.where(labels == IGNORE, UNKNOWN_CLASS, 0)
    index = (labels - 1 - (labels > IGNORE).long()).clamp(0, categories.shape[1] - 1)
    known = categories.gather(1, index.flatten(1)).view_as(labels) + 1
    known = torch.where(labels == 0, 0, known)
    return torch.where(labels == IGNORE, UNKNOWN_CLASS, known)


def boundary_loss(model: nn.Module, batch: InstanceBatch) -> dict[str, Tensor]:
    """Losses of background, interior and boundary."""
    assert isinstance(model, InstanceNet)
    _train_mode(model)
    fields = model(batch.images)
    return boundary_losses(fields.logits, batch.labels, stride=fields.stride)


def box_loss(model: nn.Module, batch: InstanceBatch) -> dict[str, Tensor]:
    """The five losses of Mask R-CNN."""
    _train_mode(model)
    return mask_rcnn_losses(model, batch)
