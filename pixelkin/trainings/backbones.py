"""What a training starts from, and how fast which part of a network learns."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from pixelkin.checkpoint import load_state
from pixelkin.errors import PixelkinError
from pixelkin.loading import DEFAULT
from pixelkin.models.backbone import TimmBackbone, freeze_batch_norm, trainable
from pixelkin.models.imagenet import load_efficientnet_lite0

Weights = Literal["auto", "imagenet", "shipped", "none"]
"""What a backbone starts from: `models.imagenet` (a package of its own), the weights of the model
for clips that comes with pixelkin (they end at stride 16), or random ones. "auto" takes the shipped
ones where they reach, else ImageNet's."""

FROZEN_STAGES = 2
"""The backbone's stem and so many of its stages keep ImageNet's weights: edges and colours are the
same everywhere, and their gradients at high resolution would take a fifth of the time."""

WEIGHT_DECAY = 1e-4

_STAGES = "blocks."


def backbone_of(model: nn.Module) -> TimmBackbone:
    """The one backbone of a network; raises `PixelkinError` where it has none."""
    for module in model.modules():
        if isinstance(module, TimmBackbone):
            return module
    raise PixelkinError(
        f"{type(model).__name__} has no TimmBackbone; build the network with one to start from "
        "trained weights"
    )


def start_from(backbone: TimmBackbone, weights: Weights) -> None:
    """Fill a backbone EfficientNet-Lite0 with what its training starts from.

    Raises:
        PixelkinError: the ImageNet weights are not installed, or the shipped ones are of another
            network, or end below the backbone's last stage: batch normalisation is frozen in
            these trainings, and a stage that starts at random could not be.
    """
    if weights == "none":
        return
    shipped = {} if weights == "imagenet" else shipped_tensors(backbone)
    missing = [key for key in backbone.net.state_dict() if key not in shipped]
    if weights == "imagenet" or (weights == "auto" and missing):
        load_efficientnet_lite0(backbone)
        return
    if not shipped:
        raise PixelkinError(
            "the shipped weights are of EfficientNet-Lite0, the network's backbone is another; "
            "choose the weights none, or timm where the training knows them"
        )
    if missing:
        raise PixelkinError(
            f"the shipped weights have no {missing[0]}: they end at stride 16; "
            "choose the weights imagenet or none"
        )
    backbone.net.load_state_dict(shipped)


def shipped_tensors(backbone: TimmBackbone) -> dict[str, Tensor]:
    """The shipped tensors that a backbone has too; none where it is another network."""
    prefix = "embedding.backbone.net."
    own = {
        key.removeprefix(prefix): tensor
        for key, tensor in load_state(DEFAULT).items()
        if key.startswith(prefix)
    }
    wanted = backbone.net.state_dict()
    stages = {_stage(key) for key in own}
    # Other EfficientNets have these tensors too, and more between them.
    more = [key for key in wanted if _stage(key) in stages and key not in own]
    common = {key: own[key] for key in wanted if key in own}
    if more or any(wanted[key].shape != tensor.shape for key, tensor in common.items()):
        return {}
    return common


def _stage(key: str) -> str:
    """The top-level part that a tensor belongs to, such as blocks.3."""
    return ".".join(key.split(".")[: 2 if key.startswith(_STAGES) else 1])


def frozen_stages(weights: Weights) -> int:
    """`FROZEN_STAGES` of a backbone that knows something: random edges are nothing to keep."""
    return -1 if weights == "none" else FROZEN_STAGES


def parameter_groups(
    model: nn.Module,
    backbone: TimmBackbone,
    *,
    learning_rate: float,
    backbone_rate: float,
    weight_decay: float = WEIGHT_DECAY,
    frozen_stages: int = FROZEN_STAGES,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: the backbone's parameters, then all others of `model`.

    The backbone's lowest stages and all of its batch normalisation are frozen on the way. The
    engine's `train()` switches the statistics on again: call `freeze_batch_norm` in the loss.

    Args:
        model: what holds the backbone.
        backbone: of timm's EfficientNet kind, whose stages are called `blocks.0`, `blocks.1`, …
        learning_rate: of decoder and heads.
        backbone_rate: the backbone's learning rate as a share of that.
        weight_decay: of both.
        frozen_stages: the stem and so many stages do not learn; 0 only the stem, -1 nothing.

    Raises:
        PixelkinError: stages are to be frozen, and the backbone's are called otherwise.
    """
    names = [name for name, _ in backbone.net.named_parameters()]
    if frozen_stages >= 0 and not any(name.startswith(_STAGES) for name in names):
        raise PixelkinError(
            f"the backbone has no stages {_STAGES}0, {_STAGES}1, …, expected an EfficientNet's; "
            "give frozen_stages=-1"
        )
    for name, parameter in backbone.net.named_parameters():
        stage = int(name.split(".")[1]) if name.startswith(_STAGES) else -1
        parameter.requires_grad_(stage >= frozen_stages)
    freeze_batch_norm(backbone)
    slow = trainable(backbone)
    known = {id(p) for p in backbone.parameters()}
    fast = [p for p in model.parameters() if id(p) not in known]
    return [
        {"params": slow, "lr": learning_rate * backbone_rate, "weight_decay": weight_decay},
        {"params": fast, "lr": learning_rate, "weight_decay": weight_decay},
    ]


def poly_schedule(optimizer: Optimizer, steps: int, warmup: int = 100) -> LambdaLR:
    """The learning rate grows in a line over `warmup` steps, and falls by (1 - step/steps)^0.9.

    The power is DeepLab's (Chen et al., TPAMI 2018, section 4.1.1).
    """
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / max(warmup, 1)) * max(0.0, 1 - step / steps) ** 0.9,
    )
