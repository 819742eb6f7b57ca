"""What the training of a semantic network starts from.

One option says it, `weights`:

- none: random weights;
- auto: the shipped ones where the backbone is theirs, else none;
- shipped, imagenet: for backbones EfficientNet-Lite0, see `backbones.STARTS`;
- timm: what timm fetches for the backbone;
- vgg16: torchvision's ImageNet weights, which it fetches, for the FCNs and SegNet;
- a checkpoint folder: of a trained model of the same network, whatever its classes; of the next
  coarser FCN, as FCN's paper trains in stages (section 4.2); or torchvision's vgg16 or vgg16_bn as
  `pixelkin convert` makes it of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pixelkin.checkpoint import WEIGHTS, load_into, load_state, read_config
from pixelkin.errors import PixelkinError
from pixelkin.models import fcn, segnet
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.fcn import FCN
from pixelkin.models.segnet import SegNet
from pixelkin.semantic.checkpoints import ARCHITECTURES, build_network
from pixelkin.trainings.backbones import (
    load_shipped,
    names_in,
    shipped_tensors,
    start_from,
)


@dataclass(frozen=True)
class Started:
    """A network at the start of its training.

    Attributes:
        model: the network.
        trained: names of the tensors of its state that come from an earlier training, and learn
            more slowly. Batch normalisation among them keeps its statistics; so that of a trained
            model's own decoder is not among them.
        start: what they come from; "none" where there are none.
    """

    model: nn.Module
    trained: frozenset[str]
    start: str


def start_network(config: Mapping[str, Any], weights: str) -> Started:
    """The network that a configuration describes, filled with what it starts from.

    Args:
        config: as in `config.json`.
        weights: see above.

    Raises:
        PixelkinError: those weights are not there, or are not for this network.
    """
    model = build_network(config)
    fitting, path = _fitting(model), Path(weights)
    # A checkpoint wins over a name: it is what the user has. Any other folder may be called auto.
    if (path / WEIGHTS).is_file() or (weights not in fitting and path.exists()):
        return Started(model, _from_folder(model, config, weights), weights)
    if weights not in fitting:
        raise PixelkinError(
            f"{_named(config)} cannot start from {weights!r}, and there is no such folder: "
            f"expected one of {', '.join(fitting)}, or the folder of a trained model of this "
            "network; correct the option weights"
        )
    if weights == "auto":
        weights = "shipped" if "shipped" in fitting else "none"
    if weights == "none":
        return Started(model, frozenset(), weights)
    if weights == "vgg16":
        return Started(model, _from_vgg16(model, config, _fetch_vgg16()), weights)
    if weights == "timm":
        model = build_network({**config, "network": {**config["network"], "pretrained": True}})
    backbone = _backbone(model)
    assert backbone is not None
    if weights == "shipped":
        # What lies above them starts at random, and its batch normalisation learns.
        return Started(model, names_in(model, backbone, load_shipped(backbone)), weights)
    if weights == "imagenet":
        start_from(backbone, weights)
    return Started(model, names_in(model, backbone, backbone.state_dict()), weights)


def _backbone(model: nn.Module) -> TimmBackbone | None:
    return next((m for m in model.modules() if isinstance(m, TimmBackbone)), None)


def _fitting(model: nn.Module) -> list[str]:
    """The names of weights that a network can start from."""
    backbone = _backbone(model)
    if isinstance(model, FCN | SegNet):
        return ["auto", "none", "vgg16"]
    if backbone is None:
        return ["auto", "none"]
    lite = bool(shipped_tensors(backbone))
    return ["auto", "none", *(("shipped", "imagenet") if lite else ()), "timm"]


def _from_folder(model: nn.Module, config: Mapping[str, Any], folder: str) -> frozenset[str]:
    state = load_state(folder)
    if "features.0.weight" in state:
        return _from_vgg16(model, config, state)
    other = read_config(folder)
    if other.get("architecture") not in ARCHITECTURES:
        raise PixelkinError(
            f"{folder} is no model that gives every pixel a class, nor torchvision's vgg16; give "
            "the folder model of such a training"
        )
    mine, theirs = _arguments(config), _arguments(other)
    if isinstance(model, FCN) and other["architecture"] == config["architecture"]:
        coarser = build_network(other)
        assert isinstance(coarser, FCN)
        if coarser.stride != model.stride:
            load_into(coarser, state, source=folder)
            _require_classes(config, other, folder)
            fcn.load_coarser(model, coarser)
            copied = set(coarser.state_dict()) - {_last_up(coarser)}
            return frozenset(copied & set(model.state_dict()))
    if (other["architecture"], theirs) != (config["architecture"], mine):
        raise PixelkinError(
            f"{folder} is a {_named(other)} with {_shown(theirs)}, the training is of a "
            f"{_named(config)} with {_shown(mine)}; give the options of that model, or the folder "
            "of another"
        )
    if other["class_names"] == config["class_names"]:
        load_into(model, state, source=folder)
        copied = set(state)
    else:
        copied = _other_classes(model, config, state)
    return frozenset(copied) - _own_norms(model)


def _named(config: Mapping[str, Any]) -> str:
    return str(config["architecture"]).removeprefix("semantic_")


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.get("network", {}).items() if value is not None}


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in arguments.items()) or "no options"


def _require_classes(config: Mapping[str, Any], other: Mapping[str, Any], folder: str) -> None:
    if other["class_names"] != config["class_names"]:
        raise PixelkinError(
            f"the classes of {folder} are {', '.join(other['class_names'])}, expected those of the "
            f"data, {', '.join(config['class_names'])}; train the coarser network on the same data"
        )


def _last_up(network: FCN) -> str:
    return f"ups.{len(network.ups) - 1}.weight"


def _other_classes(
    model: nn.Module, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> set[str]:
    """Fill what does not depend on the classes; the names of these tensors.

    Raises:
        PixelkinError: there is nothing of the same shape.
    """
    more = build_network({**config, "class_names": [*config["class_names"], "one more"]})
    own, wider = model.state_dict(), more.state_dict()
    common = {
        name: tensor
        for name, tensor in state.items()
        if name in own and own[name].shape == tensor.shape == wider[name].shape
    }
    model.load_state_dict(common, strict=False)
    return set(common)


def _own_norms(model: nn.Module) -> set[str]:
    """Tensors of the batch normalisation outside of a backbone: of a trained model it learns on."""
    backbone = _backbone(model)
    inside = set() if backbone is None else set(backbone.modules())
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d) and module not in inside
        for name in module.state_dict()
    }


def _from_vgg16(
    model: nn.Module, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> frozenset[str]:
    """Fill a network on VGG16 from torchvision's; the names of the tensors."""
    if isinstance(model, FCN):
        fcn.load_vgg16(model, state)
        whole = any(key.startswith("classifier.") for key in state)
        return _below(model, ("stages", "head") if whole else ("stages",))
    if isinstance(model, SegNet):
        segnet.load_vgg16(model, state)
        normed = any(key.endswith("running_mean") for key in state)
        return _below(model, ("encoder",)) - (frozenset() if normed else _own_norms(model))
    raise PixelkinError(
        f"{_named(config)} does not stand on VGG16: expected one of fcn32s, fcn16s, fcn8s, "
        "segnet to start from it; choose other weights"
    )


def _below(model: nn.Module, parts: Iterable[str]) -> frozenset[str]:
    kept = set(parts)
    return frozenset(name for name in model.state_dict() if name.split(".")[0] in kept)


def _fetch_vgg16() -> Mapping[str, Tensor]:
    """torchvision's VGG16 of ImageNet, from its cache or the network.

    Raises:
        PixelkinError: it is in neither.
    """
    from torchvision.models import VGG16_Weights

    wanted = VGG16_Weights.IMAGENET1K_V1
    try:
        # The digest is in the file's name, so that the pickle is the one that torchvision means.
        state: Mapping[str, Tensor] = wanted.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
    except (OSError, RuntimeError) as error:
        name = wanted.url.rpartition("/")[2]
        raise PixelkinError(
            f"torchvision's VGG16 could not be fetched from {wanted.url} ({type(error).__name__}); "
            f"bring the file here, run pixelkin convert {name} FOLDER, and give --weights FOLDER"
        ) from error
    return state
