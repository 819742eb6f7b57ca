"""Trainings of instance models: two by embedding, and two rivals under the same budget.

All four share backbone, data, augmentation, optimiser and number of steps, so that a table of them
compares methods. `seeds` is Fathi et al. 2017, `discriminative` De Brabandere et al. 2017,
`boundary` a U-Net-style network with watershed, `mask_rcnn` is Mask R-CNN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkin.data.instance_crops import InstanceCrops, collate_instances
from pixelkin.engine import Ramp, Training
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import build_network, save_instance_model
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
from pixelkin.structures import IGNORE, InstanceBatch, Sample
from pixelkin.trainings.augmentation import augmentation
from pixelkin.trainings.backbones import (
    Weights,
    backbone_of,
    frozen_stages,
    parameter_groups,
    poly_schedule,
    start_from,
)

Method = Literal["seeds", "discriminative", "boundary", "mask_rcnn"]

SCORE_WEIGHT = 0.2
"""λ of the mask scores, reached after a ramp (Fathi et al. 2017, section 3.4)."""

SMALLEST_PX = 12
"""Instances of fewer pixels in a window are ignored: scraps at its edge."""

RAMP_SHARE = 0.25
"""Share of the steps that the ramp takes. The paper does not state it; early masks are random, and
scores learned on them would have to be unlearned."""

UNKNOWN_CLASS = -1
"""In place of a class. Not `IGNORE`: a data set may have more than 255 classes."""


def instance_training(
    samples: Sequence[Sample],
    *,
    method: Method,
    class_names: tuple[str, ...],
    steps: int,
    batch_size: int = 8,
    crop_px: int = 192,
    scale: tuple[float, float] = (0.6, 1.6),
    rotate: bool = False,
    shrink: int = 1,
    stride: int = 2,
    dimensions: int = 16,
    px_per_unit: float = 8.0,
    ground_units: float = 2.0,
    cuts: tuple[float, ...] = CUTS,
    pixels_per_instance: int = PIXELS_PER_INSTANCE,
    shares: tuple[float, float, float] | None = SHARES,
    hard_scores: bool = False,
    learning_rate: float = 2e-3,
    backbone_rate: float = 0.25,
    grouping: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    weights: Weights = "imagenet",
    seed: int = 0,
    workers: int = 1,
    validate: Callable[[nn.Module, dict[str, Any]], dict[str, float]] | None = None,
    config: dict[str, Any] | None = None,
) -> Training:
    """Everything of one training.

    Args:
        samples: stills with instance labels, in memory, already shrunk by `shrink`.
        method: which network and losses.
        class_names: of the data.
        steps, batch_size, crop_px: windows seen = steps · batch_size.
        scale: range of random scaling.
        rotate: whether objects may lie in any direction, as nuclei do and pedestrians do not.
        shrink: kept in the checkpoint; see `FieldSegmenter`.
        stride, dimensions, px_per_unit, ground_units: see `small_instance_network`; the last is for
            `seeds` alone.
        cuts, pixels_per_instance, shares, hard_scores: see `losses.metric_instances`.
        learning_rate: of decoder and heads; the backbone's is `backbone_rate` of it.
        grouping: options of the grouping, kept in the checkpoint.
        network: further options of Mask R-CNN.
        weights: what the backbone starts from: "imagenet" (`models.imagenet`, a package of its
            own), "shipped" (those of the model for clips that comes with pixelkin, which end at
            stride 16), or "none".
        seed: of the initial weights.
        workers: processes that make windows.
        validate: (model, its configuration) → numbers.
        config: options to write to run.json beside these.
    """
    torch.manual_seed(seed)
    described = _described(
        method, class_names, shrink=shrink, stride=stride, dimensions=dimensions,
        px_per_unit=px_per_unit, ground_units=ground_units, cuts=cuts,
        grouping=grouping or {}, network=network or {},
    )  # fmt: skip
    model = build_network(described)
    backbone = backbone_of(model)
    start_from(backbone, weights)
    optimizer = torch.optim.AdamW(
        parameter_groups(
            model,
            backbone,
            learning_rate=learning_rate,
            backbone_rate=backbone_rate,
            frozen_stages=frozen_stages(weights),
        )
    )
    loss, loss_weights = _losses(
        method, steps=steps, cuts=cuts, pixels_per_instance=pixels_per_instance,
        shares=shares, hard_scores=hard_scores, placed=px_per_unit > 0,
        grounded=ground_units > 0 and dimensions >= 3,
    )  # fmt: skip
    # Enough repeats that an epoch's end does not leave the data processes idle.
    repeats = max(1, steps * batch_size // max(len(samples), 1) + 1)
    return Training(
        model=model,
        loss=loss,
        loss_weights=loss_weights,
        optimizer=optimizer,
        schedule=poly_schedule(optimizer, steps),
        data=InstanceCrops(
            samples, augmentation(crop_px, scale, rotate), repeats=repeats, min_pixels=SMALLEST_PX
        ),
        collate=collate_instances,
        batch_size=batch_size,
        steps=steps,
        validate=None if validate is None else lambda m: validate(m, described),
        validate_every=steps,
        workers=workers,
        clip_norm=5.0,
        ema_decay=0.995,
        save=lambda m, folder: save_instance_model(m, folder, described, CARD),
        config={**described, "samples": len(samples), "steps": steps, "batch_size": batch_size,
                "crop_px": crop_px, "scale": list(scale), "rotate": rotate, "seed": seed,
                "pixels_per_instance": pixels_per_instance, "shares": shares,
                "hard_scores": hard_scores, "learning_rate": learning_rate,
                "backbone_rate": backbone_rate, "loss_weights": _written(loss_weights),
                **(config or {})},
    )  # fmt: skip


def _written(weights: dict[str, float | Ramp]) -> dict[str, Any]:
    return {k: asdict(w) if isinstance(w, Ramp) else w for k, w in weights.items()}


def _described(
    method: Method,
    class_names: tuple[str, ...],
    *,
    shrink: int,
    stride: int,
    dimensions: int,
    px_per_unit: float,
    ground_units: float,
    cuts: tuple[float, ...],
    grouping: dict[str, Any],
    network: dict[str, Any],
) -> dict[str, Any]:
    """The `config.json` of the model."""
    if method == "seeds" and not cuts:
        raise PixelkinError("there are no similarity cuts; give one or more, such as 0.5")
    options: dict[str, Any] = {"stride": stride, "dimensions": dimensions}
    options["px_per_unit"] = px_per_unit
    if method == "boundary":
        options = {"stride": stride, "dimensions": 0}
    elif method == "mask_rcnn":
        options = network
    if method == "seeds":
        options["ground_units"] = ground_units
        grouping = {"cuts": list(cuts), **grouping}
    return {
        "architecture": f"instance_{method}",
        "class_names": list(class_names),
        "shrink": shrink,
        "network": options,
        "grouping": grouping,
    }


def _losses(
    method: Method,
    *,
    steps: int,
    cuts: tuple[float, ...],
    pixels_per_instance: int,
    shares: tuple[float, float, float] | None,
    hard_scores: bool,
    placed: bool,
    grounded: bool,
) -> tuple[Callable[[nn.Module, InstanceBatch], dict[str, Tensor]], dict[str, float | Ramp]]:
    """(model, batch) → named scalars, and what each weighs."""
    if method == "seeds":
        loss = partial(
            seeds_loss,
            cuts=cuts,
            per_instance=pixels_per_instance,
            shares=shares,
            hard=hard_scores,
            # Cells with a place cannot all lie together, and the background need not.
            pull_background=not placed,
        )
        ramp = Ramp(SCORE_WEIGHT, max(1, int(RAMP_SHARE * steps)))
        weights: dict[str, float | Ramp] = {"pairs": 1.0, "scores": ramp}
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


CARD = """# A model of `pixelkin.trainings.instances`

The options of the training, its versions and its numbers stand in `run.json` and `metrics.csv`
beside this folder. `pixelkin predict "this folder" IMAGES --out OUT` runs it.
"""
