"""Semantic models as checkpoints: what `config.json` says, and what is built from it.

    {"architecture": "semantic_unet", "class_names": ["sky", "road"], "network": {"channels": 32}}

`network` holds keyword arguments of the constructor in `ARCHITECTURES`. Models for slices of
volumes have `window_hu` too, the Hounsfield units that are black and white: [-200, 250].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pixelkin.checkpoint import (
    CONFIG,
    bad_key,
    check_described,
    load_into,
    load_state,
    read_config,
    resolve,
    save_checkpoint,
)
from pixelkin.errors import PixelkinError
from pixelkin.models.inference import for_inference
from pixelkin.runtime import pick_device
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.semantic.tiling import fitting_size

Options = Mapping[str, Any]


# Imports within: to run one network needs none of the others.


def _fcn(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.fcn import FCN

    return FCN(classes, **options)


def _unet(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.unet import UNet

    return UNet(classes, **options)


def _segnet(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.segnet import SegNet

    return SegNet(classes, **options)


def _deeplab_v2(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.deeplab_v2 import deeplab_v2

    return deeplab_v2(classes, **options)


def _deeplab_v3_plus(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.deeplab_v3_plus import deeplab_v3_plus

    return deeplab_v3_plus(classes, **options)


def _patch(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.patch_network import PatchNetwork

    return PatchNetwork(classes, **options)


def _timm_fcn(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.timm_segmentation import timm_fcn

    return timm_fcn(classes, **options)


def _light(classes: int, **options: Any) -> nn.Module:
    from pixelkin.models.timm_segmentation import small_semantic_network

    return small_semantic_network(classes, **options)


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "semantic_fcn": _fcn,
    "semantic_unet": _unet,
    "semantic_segnet": _segnet,
    "semantic_patch": _patch,
    "semantic_deeplab_v2": _deeplab_v2,
    "semantic_deeplab_v3_plus": _deeplab_v3_plus,
    "semantic_timm_fcn": _timm_fcn,
    "semantic_light": _light,
}
"""Name → (number of classes, options of the network) → an untrained `SemanticNetwork`."""


def build_network(config: Options) -> nn.Module:
    """The untrained network that a configuration describes.

    Raises:
        PixelkinError: the architecture is unknown, or there is no such option of it.
    """
    name = config.get("architecture")
    if name not in ARCHITECTURES:
        raise PixelkinError(
            f"the architecture is {name!r}: expected one of {', '.join(ARCHITECTURES)}; "
            "choose another checkpoint"
        )
    # JSON has no tuples.
    options = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.get("network", {}).items()
    }
    try:
        return ARCHITECTURES[name](len(config["class_names"]), **options)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PixelkinError(
            f"the configuration does not describe a {name} ({error}); correct the option, or "
            "train the model again"
        ) from error


def build_segmenter(
    model: nn.Module,
    config: Options,
    *,
    device: torch.device | str = "cpu",
    tile_px: int = 1024,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    window_hu: tuple[float, float] | None = None,
) -> SemanticSegmenter:
    """A model under the class names of its configuration; options as of `SemanticSegmenter`.

    A model with "window_px" in its configuration is never given more at a time, whatever `tile_px`.
    That in "window_hu" holds where `window_hu` says no other.
    """
    names = tuple(config["class_names"])
    own_hu = config.get("window_hu")
    if window_hu is None and own_hu is not None:
        window_hu = own_hu[0], own_hu[1]
    if window_px := config.get("window_px"):
        tile_px = min(tile_px or window_px, window_px)
    return SemanticSegmenter(
        model,
        class_names=names,
        device=device,
        tile_px=tile_px,
        scales=scales,
        flip=flip,
        window_hu=window_hu,
    )


def load_semantic_segmenter(
    source: str | Path,
    *,
    device: str = "auto",
    tile_px: int = 1024,
    scales: tuple[float, ...] = (1.0,),
    flip: bool = False,
    window_hu: tuple[float, float] | None = None,
) -> SemanticSegmenter:
    """A trained semantic model, ready to give every pixel a class.

    Its network is made for that alone (`models.inference`): one to train further, or to count, is
    that of `load_semantic_network`.

    Args:
        source: a checkpoint folder, or a hub id.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        tile_px, scales, flip: see `SemanticSegmenter`.
        window_hu: likewise, in place of the model's own.

    Raises:
        PixelkinError: no such checkpoint, or another architecture.
    """
    folder = resolve(source)
    model, config = load_semantic_network(folder), read_config(folder)
    window_px = config.get("window_px", 1)
    if not isinstance(window_px, int) or window_px < 1:
        raise bad_key(folder / CONFIG, "window_px", window_px, "pixels, such as 512")
    own_hu = config.get("window_hu")
    if own_hu is not None and not _is_window(own_hu):
        expected = "two Hounsfield units, the lower first, such as [-200, 250]"
        raise bad_key(folder / CONFIG, "window_hu", own_hu, expected)
    size_hw = fitting_size(model, (1, 1))  # type: ignore[arg-type]
    model = for_inference(model, torch.zeros(1, 3, *size_hw))
    return build_segmenter(
        model,
        config,
        device=pick_device(device),
        tile_px=tile_px,
        scales=scales,
        flip=flip,
        window_hu=window_hu,
    )


def _is_window(value: object) -> bool:
    numbers = isinstance(value, list) and all(type(one) in (int, float) for one in value)
    return numbers and len(value) == 2 and value[0] < value[1]  # type: ignore[arg-type, index]


def load_semantic_network(source: str | Path) -> nn.Module:
    """The network of a trained semantic model as it was trained, on the CPU.

    Args:
        source: a checkpoint folder, or a hub id.

    Raises:
        PixelkinError: no such checkpoint, or another architecture.
    """
    folder = resolve(source)
    config = read_config(folder)
    check_described(config, folder / CONFIG, example="road")
    try:
        model = build_network(config)
    except PixelkinError as error:
        raise PixelkinError(f"{folder}: {error}") from error
    load_into(model, load_state(folder), source=folder)
    return model


def save_semantic_model(model: nn.Module, folder: Path, config: Options, card: str) -> None:
    """Write a checkpoint that `load_semantic_segmenter` reads."""
    save_checkpoint(folder, model.state_dict(), config, card)


def is_semantic_model(source: str | Path) -> bool:
    """Whether a checkpoint is one of these, not of a model for clips or instances."""
    return read_config(resolve(source)).get("architecture") in ARCHITECTURES
