"""How long, how fast and from where a network learns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from pixelkin.trainings.backbones import (
    Weights,
    backbone_of,
    frozen_stages,
    parameter_groups,
    poly_schedule,
    start_from,
)


@dataclass(frozen=True)
class Optimisation:
    """The budget and the optimiser of a training; methods with the same one can be compared.

    Attributes:
        steps: of the optimiser.
        batch_size: windows per step.
        learning_rate: of decoder and heads, at its highest.
        backbone_rate: the backbone's learning rate as a share of that.
        weights: what the backbone starts from.
        seed: of the initial weights.
        workers: processes that make windows.
    """

    steps: int
    batch_size: int = 8
    learning_rate: float = 2e-3
    backbone_rate: float = 0.25
    weights: Weights = "imagenet"
    seed: int = 0
    workers: int = 1

    def repeats(self, items: int) -> int:
        """How often each item must come so that one pass over the data is the whole training.

        An epoch's end would leave the data processes idle.
        """
        return max(1, self.steps * self.batch_size // max(items, 1) + 1)


def adamw(model: nn.Module, optimisation: Optimisation) -> tuple[AdamW, LambdaLR]:
    """AdamW over a network with one backbone, which is filled here, and the schedule of its rates.

    Raises:
        PixelkinError: there is no backbone, or its weights are not there; see `start_from`.
    """
    backbone = backbone_of(model)
    start_from(backbone, optimisation.weights)
    optimizer = torch.optim.AdamW(
        parameter_groups(
            model,
            backbone,
            learning_rate=optimisation.learning_rate,
            backbone_rate=optimisation.backbone_rate,
            frozen_stages=frozen_stages(optimisation.weights),
        )
    )
    return optimizer, poly_schedule(optimizer, optimisation.steps)
