"""What the trainings on tagged photos, and on confident regions of them, have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from pixelkin.data.appearance import ColourJitter
from pixelkin.data.instance_crops import InstanceCrops
from pixelkin.data.semantic_crops import collate_semantic
from pixelkin.data.transforms import Compose, RandomWindow
from pixelkin.engine import Training
from pixelkin.structures import Batch, Sample
from pixelkin.trainings.optimisation import NO_BOOSTS, Optimisation, adamw

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
    optimisation: Optimisation,
    window_hw: tuple[int, int],
    save: Callable[[nn.Module, Path], None],
    config: Mapping[str, Any],
    boosts: Mapping[nn.Module, float] = NO_BOOSTS,
) -> Training:
    """A training of `model` on windows of photos and regions.

    Args:
        model: the network, whose backbone is filled here.
        samples: labels are confident regions: 0 background, classes from 1, `IGNORE` neutral.
        loss, loss_weights: see `Training`.
        optimisation: see there.
        window_hw: height and width of the windows in pixels, divisible by 32.
        save: see `Training`.
        config: options to write to run.json beside these.
        boosts: see `adamw`.
    """
    return photo_training(
        model,
        InstanceCrops(
            samples,
            photo_windows(window_hw, scale=(0.7, 1.4)),
            repeats=optimisation.repeats(len(samples)),
        ),
        collate=collate_semantic,
        loss=loss,
        loss_weights=loss_weights,
        optimisation=optimisation,
        save=save,
        config={**config, "images": len(samples), "window_hw": list(window_hw)},
        boosts=boosts,
    )


def photo_windows(window_hw: tuple[int, int], *, scale: tuple[float, float]) -> Compose:
    """A random window of a tagged photo, and another look of its pixels."""
    window = RandomWindow(window_hw, scale=scale, rotate_degrees=LEAN_DEGREES, flip=True)
    return Compose((window, COLOUR))


def photo_training(
    model: nn.Module,
    data: Dataset[Any],
    *,
    collate: Callable[[list[Any]], Any],
    loss: Callable[[nn.Module, Any], dict[str, Tensor]],
    loss_weights: Mapping[str, float],
    optimisation: Optimisation,
    save: Callable[[nn.Module, Path], None],
    config: Mapping[str, Any],
    boosts: Mapping[nn.Module, float] = NO_BOOSTS,
) -> Training:
    """A training of `model`, whose backbone is filled here, on windows; nothing is held out."""
    optimizer, schedule = adamw(model, optimisation, boosts=boosts)
    return Training(
        model=model,
        loss=loss,
        loss_weights=loss_weights,
        optimizer=optimizer,
        schedule=schedule,
        data=data,
        collate=collate,
        batch_size=optimisation.batch_size,
        steps=optimisation.steps,
        workers=optimisation.workers,
        clip_norm=5.0,
        ema_decay=optimisation.ema_decay,
        save=save,
        config={**config, **asdict(optimisation)},
    )
