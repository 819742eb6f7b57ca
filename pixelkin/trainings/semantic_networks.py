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
    Weights,
    backbone_of,
    load_shipped,
    names_in,
    shipped_tensors,
    start_from,
)

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
        far_taps: whether it has atrous filters that reach beyond a usual training window. What
            they weigh there was never learnt, so in use it is given windows of the same size. (The
            paper's remark on 3×3 filters that degenerate to 1×1: L.-C. Chen et al., "Rethinking
            Atrous Convolution for Semantic Image Segmentation", 2017, section 3.3.)
    """

    architecture: str
    learning_rate: float
    options: Mapping[str, Any] = field(default_factory=dict)
    far_taps: bool = False


NETWORKS: dict[NetworkName, KnownNetwork] = {
    "light": KnownNetwork("semantic_light", 2e-3),
    "timm-fcn": KnownNetwork("semantic_timm_fcn", 2e-3),
    "deeplab-v3-plus": KnownNetwork("semantic_deeplab_v3_plus", 1e-3, far_taps=True),
    "deeplab-v2": KnownNetwork("semantic_deeplab_v2", 5e-4, far_taps=True),
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
    start: Weights


def start_network(config: Mapping[str, Any], start: Weights) -> Started:
    """The network that a configuration describes, filled with what it starts from.

    Raises:
        PixelkinError: those weights are not there, or are not of this network's backbone.
    """
    if start == "timm":
        config = {**config, "network": {**config["network"], "pretrained": True}}
    model = build_network(config)
    if start == "none" or (start == "auto" and not _fits_shipped(model)):
        return Started(model, frozenset(), "none")
    backbone = backbone_of(model)
    if start in ("auto", "shipped"):
        # What lies above them starts at random, and its batch normalisation learns.
        return Started(model, names_in(model, backbone, load_shipped(backbone)), "shipped")
    if start == "imagenet":
        start_from(backbone, start)
    return Started(model, names_in(model, backbone, backbone.state_dict()), start)


def _fits_shipped(model: nn.Module) -> bool:
    return any(isinstance(m, TimmBackbone) and bool(shipped_tensors(m)) for m in model.modules())
