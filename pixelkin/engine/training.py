"""What a recipe hands to the engine, and what the engine hands back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset

from pixelkin.errors import PixelkinError

Loss = Callable[[nn.Module, Any], dict[str, Tensor]]


@dataclass(frozen=True)
class Ramp:
    """A loss weight that grows from 0 to `final`, in a line over `steps` optimiser steps."""

    final: float
    steps: int

    def at(self, step: int) -> float:
        """The weight at a step (from 0)."""
        return self.final * min(step / self.steps, 1.0)


@dataclass(kw_only=True)
class Training:
    """One training, complete: everything is here, nothing is inherited.

    Attributes:
        model: trained in place; its initial weights are the recipe's business.
        loss: (model, batch) → named scalars. Runs under mixed precision together with the model.
            Each is a mean over the batch, so that shards of a batch average to the whole.
        loss_weights: name → factor in the sum that is minimised, a number or a `Ramp`. A scalar
            without a factor is only reported.
        optimizer: over parameters of `model`, without state yet.
        schedule: stepped once per optimiser step, or None.
        data: map-style, with a length. Item i may draw from the global random generators of
            Python, NumPy and torch: they are seeded for each visit from the seed and the visit's
            number, so what it draws does not depend on workers, processes or resuming.
        collate: list of items → batch; a tensor, a collection of tensors, or an object with
            `.to(device)`.
        batch_size: items per optimiser step over ALL processes.
        steps: optimiser steps.
        validate: model (eval mode, no gradients; the average where `ema_decay` is set) →
            numbers. Runs in the first process.
        pictures: model (as above) → name → uint8 (H, W, 3); shown in TensorBoard, where that is
            installed, after each validation.
        validate_every: in steps; the last step is always validated.
        monitor: key of `validate`'s dict by which the best model is chosen; empty: the latest.
        monitor_mode: whether larger ("max") or smaller ("min") is better.
        patience: validations without gain before stopping; 0 never stops.
        workers: data processes per training process; 0 loads in the training process.
        clip_norm: upper bound of the gradient's 2-norm; 0 does not clip.
        ema_decay: decay of an exponential moving average of the weights, which is then validated
            and saved instead of the raw weights; 0 keeps none. The first steps decay faster,
            min(decay, (1 + step) / (10 + step)).
        save: (model, folder) → None; writes the deployable checkpoint of the best model.
        config: the resolved options of the recipe, written to run.json.
    """

    model: nn.Module
    loss: Loss
    loss_weights: Mapping[str, float | Ramp]
    optimizer: Optimizer
    schedule: LRScheduler | None
    data: Dataset[Any]
    collate: Callable[[list[Any]], Any]
    batch_size: int
    steps: int
    validate: Callable[[nn.Module], dict[str, float]] | None = None
    pictures: Callable[[nn.Module], Mapping[str, UInt8[np.ndarray, "h w 3"]]] | None = None
    validate_every: int = 500
    monitor: str = ""
    monitor_mode: Literal["max", "min"] = "max"
    patience: int = 0
    workers: int = 0
    clip_norm: float = 0.0
    ema_decay: float = 0.0
    save: Callable[[nn.Module, Path], None] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps", "validate_every"):
            if getattr(self, name) < 1:
                raise PixelkinError(
                    f"{name} is {getattr(self, name)}, expected 1 or more; give a larger number"
                )
        if not 0 <= self.ema_decay < 1:
            raise PixelkinError(
                f"ema_decay is {self.ema_decay}, expected 0 or more and below 1; try 0.999"
            )
        if self.monitor and self.validate is None:
            raise PixelkinError(
                f"monitor is {self.monitor!r} but there is no validate function; give one"
            )
        if self.patience and not self.monitor:
            raise PixelkinError(
                f"patience is {self.patience} but nothing is monitored; set monitor to a key of "
                "validate's result"
            )
        if len(self.data) < 1:  # type: ignore[arg-type]
            raise PixelkinError("the training data is empty; check the data folder")


@dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        out: its folder: `last.ckpt`, `model`, `metrics.csv`, `run.json`, `tensorboard`.
        step: optimiser steps done in all.
        stopped: "steps" (all done), "patience", "time" or "interrupted".
        best: best value of the monitored metric, None where none was computed.
        best_step: the step it was reached at.
        metrics: the last row of metrics.csv.
    """

    out: Path
    step: int
    stopped: Literal["steps", "patience", "time", "interrupted"]
    best: float | None
    best_step: int | None
    metrics: dict[str, float]
