"""Trainings of instance models: two by embedding, and two rivals under the same budget.

All four share backbone, data, augmentation, optimiser and number of steps, so that a table of them
compares methods. `seeds` is Fathi et al. 2017, `discriminative` De Brabandere et al. 2017,
`boundary` a U-Net-style network with watershed, `mask_rcnn` is Mask R-CNN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from pixelkin.data.instance_crops import InstanceCrops, collate_instances
from pixelkin.engine import Ramp, Training
from pixelkin.instances.checkpoints import build_network, save_instance_model
from pixelkin.structures import Sample
from pixelkin.trainings.augmentation import Windows, augmentation
from pixelkin.trainings.instance_losses import MetricLosses, losses_of
from pixelkin.trainings.instance_model import CARD, ModelPlan
from pixelkin.trainings.optimisation import Optimisation, adamw

LEARNING_RATE = 2e-3
"""Of all methods, where none was chosen."""

SMALLEST_PX = 12
"""Instances of fewer pixels in a window are ignored: scraps at its edge."""


def instance_training(
    samples: Sequence[Sample],
    plan: ModelPlan,
    *,
    optimisation: Optimisation,
    windows: Windows = Windows(),  # noqa: B008
    metric: MetricLosses = MetricLosses(),  # noqa: B008
    validate: Callable[[nn.Module, dict[str, Any]], dict[str, float]] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Training:
    """Everything of one training.

    Args:
        samples: stills with instance labels, in memory, already shrunk by `plan.shrink`.
        plan: what is trained.
        optimisation: windows seen = steps · batch_size.
        windows: what is cut from the stills.
        metric: for the method `seeds` alone.
        validate: (model, its configuration) → numbers.
        config: options to write to run.json beside these.
    """
    optimisation = optimisation.at_rate(LEARNING_RATE)
    torch.manual_seed(optimisation.seed)
    described = plan.config()
    model = build_network(described)
    optimizer, schedule = adamw(model, optimisation)
    steps = optimisation.steps
    loss, loss_weights = losses_of(plan.method, network=plan.network, metric=metric, steps=steps)
    return Training(
        model=model,
        loss=loss,
        loss_weights=loss_weights,
        optimizer=optimizer,
        schedule=schedule,
        data=InstanceCrops(
            samples,
            augmentation(windows.crop_px, windows.scale, windows.rotate),
            repeats=optimisation.repeats(len(samples)),
            min_pixels=SMALLEST_PX,
        ),
        collate=collate_instances,
        batch_size=optimisation.batch_size,
        steps=steps,
        validate=None if validate is None else lambda m: validate(m, described),
        validate_every=optimisation.validate_every or steps,
        workers=optimisation.workers,
        clip_norm=5.0,
        ema_decay=optimisation.ema_decay,
        save=lambda m, folder: save_instance_model(m, folder, described, CARD),
        config={**described, "samples": len(samples), **asdict(optimisation), **asdict(windows),
                **asdict(metric), "loss_weights": _written(loss_weights), **(config or {})},
    )  # fmt: skip


def _written(weights: Mapping[str, float | Ramp]) -> dict[str, Any]:
    return {k: asdict(w) if isinstance(w, Ramp) else w for k, w in weights.items()}
