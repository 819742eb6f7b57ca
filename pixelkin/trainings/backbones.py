"""What a training starts from."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from pixelkin.checkpoint import load_state
from pixelkin.errors import PixelkinError
from pixelkin.loading import DEFAULT
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.imagenet import load_efficientnet_lite0

STARTS = ("auto", "imagenet", "shipped", "none")
"""What a backbone EfficientNet-Lite0 starts from: `models.imagenet` (a package of its own), the
weights of the model for clips that comes with pixelkin (up to stride 16), or random ones.

"auto" takes the shipped ones where they are enough, and the kind of training says when. Where all
batch normalisation of the backbone is frozen they must fill it; else ImageNet's are taken
(`start_from`). Networks of class maps have more to start from (`semantic_start.start_network`)."""

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


def start_from(backbone: TimmBackbone, weights: str) -> None:
    """Fill a whole backbone EfficientNet-Lite0 with what its training starts from.

    Raises:
        PixelkinError: the ImageNet weights are not installed, or the shipped ones are of another
            network, or end below the backbone's last stage: batch normalisation is frozen in
            these trainings, and a stage that starts at random could not be; also what
            `check_start` raises.
    """
    check_start(weights)
    if weights == "none":
        return
    shipped = {} if weights == "imagenet" else shipped_tensors(backbone)
    missing = [key for key in backbone.net.state_dict() if key not in shipped]
    if weights == "imagenet" or (weights == "auto" and missing):
        load_efficientnet_lite0(backbone)
        return
    if shipped and missing:
        raise PixelkinError(
            f"the shipped weights have no {missing[0]}: they end at stride 16; "
            "choose the weights imagenet or none"
        )
    load_shipped(backbone)


def check_start(weights: str) -> None:
    """Raise `PixelkinError` for weights that `start_from` does not know."""
    if weights not in STARTS:
        raise PixelkinError(
            f"option weights is {weights!r}, expected one of {', '.join(STARTS)}: others are for "
            "networks of class maps; correct the value"
        )


def load_shipped(backbone: TimmBackbone) -> frozenset[str]:
    """Fill a backbone EfficientNet-Lite0 with the shipped weights as far as these reach.

    Returns:
        Names of the tensors, as in the backbone's `state_dict()`.

    Raises:
        PixelkinError: the backbone is another network.
    """
    shipped = shipped_tensors(backbone)
    if not shipped:
        raise PixelkinError(
            "the shipped weights are of EfficientNet-Lite0, the network's backbone is another; "
            "choose the weights none, or timm where the training knows them"
        )
    backbone.net.load_state_dict(shipped, strict=False)
    return frozenset(f"net.{key}" for key in shipped)


def names_in(model: nn.Module, backbone: TimmBackbone, tensors: Iterable[str]) -> frozenset[str]:
    """What tensors of its backbone are called in the model."""
    prefix = next(name for name, module in model.named_modules() if module is backbone)
    return frozenset(f"{prefix}.{key}" if prefix else key for key in tensors)


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
