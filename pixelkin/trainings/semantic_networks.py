"""The semantic networks that `pixelkin train` knows by name, and what of them can be chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pixelkin.errors import PixelkinError

NetworkName = Literal[
    "light", "timm-fcn", "deeplab-v3-plus", "deeplab-v2", "unet", "segnet", "fcn32s", "fcn16s",
    "fcn8s", "patch",
]  # fmt: skip


@dataclass(frozen=True)
class KnownNetwork:
    """A network by name.

    Attributes:
        architecture: key of `semantic.checkpoints.ARCHITECTURES`.
        learning_rate: at which AdamW trains it well; without batch normalisation a low one.
        takes: option of `NetworkOptions` that it has → argument of its constructor.
        arguments: of its constructor, where nothing is chosen.
        far_taps: whether it has atrous filters that reach beyond a usual training window. What
            they weigh there was never learnt, so in use it is given windows of the same size. (The
            paper's remark on 3×3 filters that degenerate to 1×1: L.-C. Chen et al., "Rethinking
            Atrous Convolution for Semantic Image Segmentation", 2017, section 3.3.)
    """

    architecture: str
    learning_rate: float
    takes: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    far_taps: bool = False


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_LIGHT = _same("backbone", "widths")
_V3_PLUS = _same("backbone", "output_stride", "channels", "separable")
_V2 = _same("backbone", "output_stride")
_UNET = _same("channels", "batch_norm", "grey")
_FCN = _same("widths", "head_channels")
_PATCH = {"channels": "width", "head_channels": "hidden"}

NETWORKS: dict[NetworkName, KnownNetwork] = {
    "light": KnownNetwork("semantic_light", 2e-3, _LIGHT),
    "timm-fcn": KnownNetwork("semantic_timm_fcn", 2e-3, _same("backbone")),
    "deeplab-v3-plus": KnownNetwork("semantic_deeplab_v3_plus", 1e-3, _V3_PLUS, far_taps=True),
    "deeplab-v2": KnownNetwork("semantic_deeplab_v2", 5e-4, _V2, far_taps=True),
    # The paper's has no batch normalisation, with which photos are learned in far fewer steps.
    "unet": KnownNetwork("semantic_unet", 1e-3, _UNET, {"batch_norm": True}),
    "segnet": KnownNetwork("semantic_segnet", 1e-3, _same("widths")),
    "fcn32s": KnownNetwork("semantic_fcn", 1e-4, _FCN, {"stride": 32}),
    "fcn16s": KnownNetwork("semantic_fcn", 1e-4, _FCN, {"stride": 16}),
    "fcn8s": KnownNetwork("semantic_fcn", 1e-4, _FCN, {"stride": 8}),
    # Trained densely: the patches of a window share their convolutions (`PatchNetwork.forward`).
    "patch": KnownNetwork("semantic_patch", 1e-3, _PATCH),
}
"""From light and pretrained to heavy and from nothing."""

RATE_WITHOUT_NORM = 1e-4
"""Learning rate of a network whose batch normalisation is left out by option."""


@dataclass(frozen=True)
class NetworkOptions:
    """What of a network can be chosen; what it has not, it refuses.

    Attributes:
        backbone: timm model name, for light, timm-fcn, deeplab-v3-plus and deeplab-v2; empty for
            the network's own.
        output_stride: of the DeepLabs, 8, 16 or 32; 0 for the network's own.
        channels: of the first level of unet, of the ASPP of deeplab-v3-plus, of the convolutions of
            patch; 0 as above.
        head_channels: of the last layers of the fcns, of the first full layer of patch; 0 as above.
        widths: of the decoder of light, of the five stages of segnet and the fcns; empty as above.
        batch_norm: of unet; false for the paper's, which has none. None as above.
        grey: whether unet sees grey values alone, as in the paper; None as above.
        separable: of deeplab-v3-plus: depthwise-separable convolutions in ASPP and decoder; None as
            above.
    """

    backbone: str = ""
    output_stride: int = 0
    channels: int = 0
    head_channels: int = 0
    widths: tuple[int, ...] = ()
    batch_norm: bool | None = None
    grey: bool | None = None
    separable: bool | None = None

    def chosen(self) -> dict[str, Any]:
        """Those that are given, as JSON has them."""
        given = {
            "backbone": self.backbone,
            "output_stride": self.output_stride,
            "channels": self.channels,
            "head_channels": self.head_channels,
            "widths": list(self.widths),
            "batch_norm": self.batch_norm,
            "grey": self.grey,
            "separable": self.separable,
        }
        return {name: value for name, value in given.items() if value or value is False}


def described(
    name: NetworkName, class_names: tuple[str, ...], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The `config.json` of a network by name.

    Args:
        name: key of `NETWORKS`.
        class_names: of the data.
        options: see `NetworkOptions.chosen`.

    Raises:
        PixelkinError: there is no such network, or it has no such option.
    """
    if name not in NETWORKS:
        raise PixelkinError(
            f"there is no semantic network {name!r}: expected one of {', '.join(NETWORKS)}; "
            "choose one"
        )
    known = NETWORKS[name]
    foreign = [option for option in options if option not in known.takes]
    if foreign:
        # As command lines write them.
        wrong, *own = (option.replace("_", "-") for option in (foreign[0], *known.takes))
        raise PixelkinError(
            f"{name} has no option {wrong}, expected among {', '.join(own) or 'none'}; leave it out"
        )
    chosen = {known.takes[option]: value for option, value in options.items()}
    return {
        "architecture": known.architecture,
        "class_names": list(class_names),
        "network": {**known.arguments, **chosen},
    }


def own_rate(name: NetworkName, options: NetworkOptions) -> float:
    """The learning rate of a network where none is chosen."""
    return RATE_WITHOUT_NORM if options.batch_norm is False else NETWORKS[name].learning_rate
