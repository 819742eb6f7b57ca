"""How long, how fast and from where a network learns."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pixelkin.errors import PixelkinError
from pixelkin.trainings.backbones import backbone_of, names_in, start_from

FROZEN_STAGES = 2
"""The stem of an EfficientNet and so many of its stages keep the weights that they come with: edges
and colours are the same everywhere, and their gradients at high resolution would take a fifth of
the time."""

_STAGE = re.compile(r"(?:^|\.)net\.(?:conv_stem|blocks\.(\d+))\.")


@dataclass(frozen=True)
class Optimisation:
    """The budget and the optimiser of a training; networks with the same one can be compared.

    Attributes:
        steps: of the optimiser.
        batch_size: windows per step.
        learning_rate: of what starts at random, at its highest; 0 for the network's own.
        backbone_rate: learning rate of what is trained already, as a share of that.
        weight_decay: of AdamW.
        weights: what a backbone starts from, one of `backbones.STARTS`; networks of class maps have
            more, see `semantic_start`.
        ema_decay: of the averaged weights, which are judged and kept; 0 for none.
        validate_every: steps between validations, where something is held out; 0 validates at the
            end alone.
        seed: of the initial weights.
        workers: processes that make windows.
    """

    steps: int = 1500
    batch_size: int = 8
    learning_rate: float = 0.0
    backbone_rate: float = 0.25
    weight_decay: float = 1e-4
    weights: str = "auto"
    ema_decay: float = 0.995
    validate_every: int = 0
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise PixelkinError(
                    f"{name} is {getattr(self, name)}, expected 1 or more; give a larger number"
                )

    def at_rate(self, own: float) -> Optimisation:
        """The same, with the learning rate of the network where none was chosen."""
        return replace(self, learning_rate=self.learning_rate or own)

    def repeats(self, items: int) -> int:
        """How often each item must come so that one pass over the data is the whole training.

        An epoch's end would leave the data processes idle.
        """
        return max(1, self.steps * self.batch_size // max(items, 1) + 1)


NO_BOOSTS: Mapping[nn.Module, float] = MappingProxyType({})
"""Of `adamw`: all beside the backbone learns at one rate."""


def adamw(
    model: nn.Module,
    optimisation: Optimisation,
    *,
    boosts: Mapping[nn.Module, float] = NO_BOOSTS,
) -> tuple[AdamW, LambdaLR]:
    """AdamW over a network with one backbone, which is filled here, and the schedule of its rates.

    All of the backbone learns at its rate, and none of its batch normalisation.

    Args:
        model: the network.
        optimisation: the rates and the weight decay; see `Optimisation.at_rate`.
        boosts: parts beside the backbone → how many times faster than the others they learn.

    Raises:
        PixelkinError: there is no backbone, or its weights are not there; see `start_from`.
    """
    backbone = backbone_of(model)
    start_from(backbone, optimisation.weights)
    slow, fast = parameter_groups(
        model,
        names_in(model, backbone, backbone.state_dict()),
        optimisation,
        # Random edges are nothing to keep.
        frozen_stages=-1 if optimisation.weights == "none" else FROZEN_STAGES,
    )
    groups = [slow, fast]
    for part, times in boosts.items():
        own = set(map(id, part.parameters()))
        boosted = [parameter for parameter in fast["params"] if id(parameter) in own]
        fast["params"] = [parameter for parameter in fast["params"] if id(parameter) not in own]
        groups.append({**fast, "params": boosted, "lr": fast["lr"] * times})
    optimizer = AdamW(groups)
    return optimizer, poly_schedule(optimizer, optimisation.steps)


def parameter_groups(
    model: nn.Module,
    slow: Collection[str],
    optimisation: Optimisation,
    *,
    frozen_stages: int = FROZEN_STAGES,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Groups for an optimiser: what learns at the backbone's rate, then what at the full one.

    Of the former the batch normalisation is frozen on the way, and of an EfficientNet the stem and
    the lowest stages. The engine's `train()` switches statistics on again: put those of
    `batch_norms` into evaluation mode in the loss.

    Args:
        model: the network.
        slow: names of its tensors that are trained already.
        optimisation: the rates and the weight decay; see `Optimisation.at_rate`.
        frozen_stages: so many stages above the stem do not learn; 0 only the stem, -1 nothing.
    """
    norms = set(batch_norms(model, slow))
    parameters: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        trained = name in slow
        if trained and (name.rpartition(".")[0] in norms or _stage(name) < frozen_stages):
            parameter.requires_grad_(False)
        # A trained part that the network itself keeps from learning is among the slow ones: an
        # optimiser passes it over.
        elif trained or parameter.requires_grad:
            parameters[trained].append(parameter)
    rate, decay = optimisation.learning_rate, optimisation.weight_decay
    return (
        {
            "params": parameters[True],
            "lr": rate * optimisation.backbone_rate,
            "weight_decay": decay,
        },
        {"params": parameters[False], "lr": rate, "weight_decay": decay},
    )


def batch_norms(model: nn.Module, tensors: Collection[str]) -> list[str]:
    """Names of the batch normalisations whose statistics are among the named tensors."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and f"{name}.running_mean" in tensors
    ]


def _stage(name: str) -> int:
    """The stage of an EfficientNet that a tensor lies in, -1 for the stem; a high one elsewhere."""
    found = _STAGE.search(name)
    if found is None:
        return 1000
    return -1 if found[1] is None else int(found[1])


def poly_schedule(optimizer: Optimizer, steps: int, warmup: int = 100) -> LambdaLR:
    """The learning rate grows in a line over `warmup` steps, and falls by (1 - step/steps)^0.9.

    The power is DeepLab's (Chen et al., TPAMI 2018, section 4.1.1).
    """
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / max(warmup, 1)) * max(0.0, 1 - step / steps) ** 0.9,
    )
