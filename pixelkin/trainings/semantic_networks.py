"""The semantic networks that `pixelkin train` knows by name, and what they start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.semantic.checkpoints import build_network
from pixelkin.trainings.backbones import (
    FROZEN_STAGES,
    backbone_of,
    shipped_tensors,
    start_from,
)

Start = Literal["auto", "imagenet", "shipped", "timm", "none"]
"""What a backbone starts from: `models.imagenet` (a package of its own), the weights of the model
for clips that comes with pixelkin (of EfficientNet-Lite0, up to stride 16; what lies above starts
at random), those that timm fetches, or none. "auto" takes the shipped ones where they fit."""

NetworkName = Literal[
    "light", "timm-fcn", "deeplab-v3-plus", "deeplab-v2", "unet", "segnet", "fcn32s", "fcn16s",
    "fcn8s",
]  # fmt: skip


@dataclass(frozen=True)
class KnownNetwork:
    """A network by name.

    Attributes:
        architecture: key of `semantic.checkpoints.ARCHITECTURES`.
        learning_rate: at which AdamW trains it well; without batch normalisation a low one.
        options: of its constructor.
    """

    architecture: str
    learning_rate: float
    options: Mapping[str, Any] = field(default_factory=dict)


NETWORKS: dict[NetworkName, KnownNetwork] = {
    "light": KnownNetwork("semantic_light", 2e-3),
    "timm-fcn": KnownNetwork("semantic_timm_fcn", 2e-3),
    "deeplab-v3-plus": KnownNetwork("semantic_deeplab_v3_plus", 1e-3),
    "deeplab-v2": KnownNetwork("semantic_deeplab_v2", 5e-4),
    # The paper's has no batch normalisation, with which photos are learned in far fewer steps.
    "unet": KnownNetwork("semantic_unet", 1e-3, {"batch_norm": True}),
    "segnet": KnownNetwork("semantic_segnet", 1e-3),
    "fcn32s": KnownNetwork("semantic_fcn", 1e-4, {"stride": 32}),
    "fcn16s": KnownNetwork("semantic_fcn", 1e-4, {"stride": 16}),
    "fcn8s": KnownNetwork("semantic_fcn", 1e-4, {"stride": 8}),
}
"""From light and pretrained to heavy and from nothing."""


@dataclass(frozen=True)
class NetworkOptions:
    """What of a network can be chosen; what it has not, it refuses.

    Attributes:
        backbone: timm model name, for light, timm-fcn, deeplab-v3-plus and deeplab-v2; empty for
            the network's own.
        output_stride: of the DeepLabs; 0 for the network's own.
        channels: of the first level of unet, of the ASPP of deeplab-v3-plus; 0 as above.
        head_channels: of the last layers of the fcns; 0 as above.
        widths: of the decoder of light, of the five stages of segnet and the fcns; empty as above.
    """

    backbone: str = ""
    output_stride: int = 0
    channels: int = 0
    head_channels: int = 0
    widths: tuple[int, ...] = ()

    def chosen(self) -> dict[str, Any]:
        """Those that are given, as written to `config.json`."""
        given = {
            "backbone": self.backbone,
            "output_stride": self.output_stride,
            "channels": self.channels,
            "head_channels": self.head_channels,
            "widths": list(self.widths),
        }
        return {name: value for name, value in given.items() if value}


def described(
    name: NetworkName, class_names: tuple[str, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The `config.json` of a network by name.

    Raises:
        PixelkinError: there is no such network.
    """
    if name not in NETWORKS:
        raise PixelkinError(
            f"there is no semantic network {name!r}: expected one of {', '.join(NETWORKS)}; "
            "choose one"
        )
    known = NETWORKS[name]
    return {
        "architecture": known.architecture,
        "class_names": list(class_names),
        "network": {**known.options, **options},
    }


@dataclass(frozen=True)
class Started:
    """A network at the start of its training.

    Attributes:
        model: the network.
        trained: names of the tensors of its state that come from an earlier training.
        start: what they come from; "none" where there are none.
    """

    model: nn.Module
    trained: frozenset[str]
    start: Start

    def trained_norms(self) -> list[str]:
        """Names of the batch normalisations that come from an earlier training."""
        return [
            name
            for name, module in self.model.named_modules()
            if isinstance(module, nn.BatchNorm2d) and f"{name}.running_mean" in self.trained
        ]


def start_network(config: Mapping[str, Any], start: Start) -> Started:
    """The network that a configuration describes, filled with what it starts from.

    Raises:
        PixelkinError: those weights are not there, or are not of this network's backbone.
    """
    if start == "timm":
        fetched = {**config, "network": {**config["network"], "pretrained": True}}
        model = build_network(fetched)
        return Started(model, _names(model, backbone_of(model).state_dict()), start)
    model = build_network(config)
    if start == "none" or (start == "auto" and not _fits_shipped(model)):
        return Started(model, frozenset(), "none")
    backbone = backbone_of(model)
    if start == "imagenet":
        start_from(backbone, start)
        return Started(model, _names(model, backbone.state_dict()), start)
    shipped = shipped_tensors(backbone)
    if not shipped:
        raise PixelkinError(
            "the shipped weights are of EfficientNet-Lite0, the network's backbone is another; "
            "choose the weights timm or none"
        )
    # What lies above them starts at random, and its batch normalisation learns.
    backbone.net.load_state_dict(shipped, strict=False)
    return Started(model, _names(model, {f"net.{key}": None for key in shipped}), "shipped")


def _fits_shipped(model: nn.Module) -> bool:
    return any(isinstance(m, TimmBackbone) and bool(shipped_tensors(m)) for m in model.modules())


def _names(model: nn.Module, of_backbone: Mapping[str, Any]) -> frozenset[str]:
    backbone = backbone_of(model)
    prefix = next(name for name, module in model.named_modules() if module is backbone)
    return frozenset(f"{prefix}.{key}" for key in of_backbone)


def parameter_groups(
    started: Started,
    *,
    learning_rate: float,
    backbone_rate: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Groups for an optimiser: what starts at random, then what comes from an earlier training.

    The latter's batch normalisation does not learn, nor do the stem and the lowest stages of an
    EfficientNet (see `backbones.FROZEN_STAGES`).
    """
    norms = {f"{name}." for name in started.trained_norms()}
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in started.model.named_parameters():
        trained = name in started.trained
        if trained and (any(name.startswith(norm) for norm in norms) or _lowest(name)):
            parameter.requires_grad_(False)
        if parameter.requires_grad:
            groups[trained].append(parameter)
    rates = {True: learning_rate * backbone_rate, False: learning_rate}
    return [
        {"params": groups[trained], "lr": rates[trained], "weight_decay": weight_decay}
        # The rate that the log shows is that of the first group.
        for trained in (False, True)
        if groups[trained]
    ]


def _lowest(name: str) -> bool:
    """Whether a tensor lies in the stem or the lowest stages of an EfficientNet."""
    inner = name.split(".net.", 1)[-1]
    if inner.startswith("blocks."):
        return int(inner.split(".")[1]) < FROZEN_STAGES
    return inner.startswith("conv_stem.")
