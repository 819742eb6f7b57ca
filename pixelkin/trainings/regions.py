"""What the trainings on confident regions of tagged photos have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from pixelkin.data.appearance import ColourJitter
from pixelkin.data.instance_crops import InstanceCrops
from pixelkin.data.semantic_crops import collate_semantic
from pixelkin.data.transforms import Compose, RandomWindow
from pixelkin.engine import Training
from pixelkin.structures import Batch, Sample
from pixelkin.trainings.optimisation import Optimisation

COLOUR = ColourJitter(brightness=0.2, contrast=0.3, gamma=0.2, saturation=0.3, hue_degrees=5)
"""How tagged photos change their look; colours stay what they are called."""

LEAN_DEGREES = 8.0
"""How far tagged photos lean to either side."""


def region_training(
    model: nn.Module,
    samples: Sequence[Sample],
    *,
    loss: Callable[[nn.Module, Batch], dict[str, Tensor]],
    loss_weights: Mapping[str, float],
    optimisers: tuple[AdamW, LambdaLR],
    optimisation: Optimisation,
    window_hw: tuple[int, int],
    save: Callable[[nn.Module, Path], None],
    config: Mapping[str, Any],
) -> Training:
    """A training of `model` on windows of photos and regions.

    Args:
        model: the network.
        samples: labels are confident regions: 0 background, classes from 1, `IGNORE` neutral.
        loss, loss_weights: see `Training`.
        optimisers: of the model: `optimisation.adamw`.
        optimisation: that these were made from.
        window_hw: height and width of the windows in pixels, divisible by 32.
        save: see `Training`.
        config: options to write to run.json beside these.
    """
    return Training(
        model=model,
        loss=loss,
        loss_weights=loss_weights,
        optimizer=optimisers[0],
        schedule=optimisers[1],
        data=InstanceCrops(
            samples,
            Compose(
                (
                    RandomWindow(
                        window_hw, scale=(0.7, 1.4), rotate_degrees=LEAN_DEGREES, flip=True
                    ),
                    COLOUR,
                )
            ),
            repeats=optimisation.repeats(len(samples)),
        ),
        collate=collate_semantic,
        batch_size=optimisation.batch_size,
        steps=optimisation.steps,
        workers=optimisation.workers,
        clip_norm=5.0,
        save=save,
        config={
            **config,
            **asdict(optimisation),
            "images": len(samples),
            "window_hw": list(window_hw),
        },
    )
