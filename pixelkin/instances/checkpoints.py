"""Instance models as checkpoints: what `config.json` says, and what is built from it.

    {"architecture": "instance_seeds", "class_names": ["nucleus"], "shrink": 1,
     "network": {...}, "grouping": {...}}

`network` and `grouping` are the keyword arguments of the constructors in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
from pixelkin.grouping.cluster_instances import ClusterGrouping
from pixelkin.grouping.seed_instances import SeedGrouping
from pixelkin.grouping.watershed import WatershedGrouping
from pixelkin.instances.mask_rcnn import MaskRcnnSegmenter
from pixelkin.instances.segmenter import FieldSegmenter, Grouping, Segmenter
from pixelkin.models.inference import for_inference
from pixelkin.models.instance_embedding import CUTS, InstanceNet, small_instance_network
from pixelkin.models.mask_rcnn import mask_rcnn
from pixelkin.runtime import pick_device

Options = Mapping[str, Any]


class Architecture(NamedTuple):
    """How an instance model is built.

    Attributes:
        logits: number of classes and grouping options → channels of the class head; None where the
            network takes the number of classes itself.
        grouping: keyword options → fields to objects; None where the network finds objects itself.
    """

    logits: Callable[[int, Options], int] | None
    grouping: Callable[..., Grouping] | None


def _seeds(**options: Any) -> Grouping:
    return SeedGrouping(cuts=tuple(options.pop("cuts", CUTS)), **options)


def _seed_logits(classes: int, grouping: Options) -> int:
    return len(grouping.get("cuts", CUTS)) * (classes + 1)


ARCHITECTURES = {
    "instance_seeds": Architecture(_seed_logits, _seeds),
    "instance_discriminative": Architecture(lambda classes, _: classes + 1, ClusterGrouping),
    "instance_boundary": Architecture(lambda classes, _: 3, WatershedGrouping),
    "instance_mask_rcnn": Architecture(None, None),
}
"""Fathi et al. 2017; De Brabandere et al. 2017; a U-Net with watershed; Mask R-CNN."""


SHIPPED = {
    name: Path(__file__).parents[1] / "weights" / name.replace("-", "_")
    for name in (
        "nuclei",
        "nuclei-discriminative",
        "pedestrians",
        "pedestrians-discriminative",
    )
}
"""Name → folder of the instance models inside the package."""


def model_folder(source: str | Path) -> Path:
    """The local folder of a checkpoint: a folder, the name of a shipped model, or a hub id.

    A folder that exists is preferred to a shipped model of that name.
    """
    if isinstance(source, str) and source in SHIPPED and not Path(source).exists():
        return SHIPPED[source]
    return resolve(source)


def build_network(config: Options) -> nn.Module:
    """The untrained network that a configuration describes."""
    architecture = _architecture(config)
    classes = len(config["class_names"])
    options = dict(config.get("network", {}))
    if architecture.logits is None:
        boxes: nn.Module = mask_rcnn(classes, **options)
        return boxes
    return small_instance_network(
        architecture.logits(classes, config.get("grouping", {})), **options
    )


def build_segmenter(
    model: nn.Module,
    config: Options,
    *,
    device: torch.device | str = "cpu",
    tile_px: int = 1024,
) -> Segmenter:
    """A model together with the grouping that its configuration describes."""
    architecture = _architecture(config)
    names = tuple(config["class_names"])
    options = dict(config.get("grouping", {}))
    if config["architecture"] == "instance_seeds":
        # Of the network itself: with two dimensions it has none, whatever was asked for.
        options.setdefault("ground_units", getattr(model, "ground_units", 0.0))
    shrink = int(config.get("shrink", 1))
    if architecture.grouping is None:
        return MaskRcnnSegmenter(model, class_names=names, device=device, shrink=shrink, **options)
    return FieldSegmenter(
        model,  # type: ignore[arg-type]
        architecture.grouping(**options),
        class_names=names,
        device=device,
        shrink=shrink,
        tile_px=tile_px,
    )


def load_segmenter(
    source: str | Path, *, device: str = "auto", tile_px: int = 1024, **grouping: Any
) -> Segmenter:
    """A trained instance model, ready to find objects.

    Args:
        source: a checkpoint folder, a key of `SHIPPED`, or a hub id.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        tile_px: larger images are embedded in tiles; 0 never.
        grouping: options of the grouping to change, such as `seeds=400`.

    Raises:
        PixelkinError: no such checkpoint, another architecture, or an unknown option.
    """
    folder = model_folder(source)
    model, config = load_instance_network(folder), read_config(folder)
    if isinstance(model, InstanceNet):
        model = for_inference(model, torch.zeros(1, 3, model.multiple, model.multiple))
    config = {**config, "grouping": {**config.get("grouping", {}), **grouping}}
    try:
        return build_segmenter(model, config, device=pick_device(device), tile_px=tile_px)
    except (TypeError, ValueError) as error:
        raise PixelkinError(
            f"{folder}, a model of {config['architecture']}: {error}; correct the option"
        ) from error


def load_instance_network(source: str | Path) -> nn.Module:
    """The network of a trained instance model as it was trained, on the CPU.

    Raises:
        PixelkinError: no such checkpoint, or another architecture.
    """
    folder = model_folder(source)
    config = read_config(folder)
    _check_config(config, folder / CONFIG)
    try:
        model = build_network(config)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PixelkinError(
            f"{folder} does not describe an instance model ({error}); copy or train it again"
        ) from error
    load_into(model, load_state(folder), source=folder)
    return model


def _check_config(config: Options, path: Path) -> None:
    """Raise `PixelkinError` where a key that is there holds another type than it should."""
    check_described(config, path, example="nucleus", objects=("network", "grouping"))
    shrink = config.get("shrink", 1)
    if type(shrink) is not int or shrink < 1:
        raise bad_key(path, "shrink", shrink, "a whole number from 1, such as 1")


def save_instance_model(model: nn.Module, folder: Path, config: Options, card: str) -> None:
    """Write a checkpoint that `load_segmenter` reads."""
    save_checkpoint(folder, model.state_dict(), config, card)


def is_instance_model(source: str | Path) -> bool:
    """Whether a checkpoint is one of these, not a model for clips."""
    return read_config(model_folder(source)).get("architecture") in ARCHITECTURES


def _architecture(config: Options) -> Architecture:
    name = config.get("architecture")
    if name not in ARCHITECTURES:
        raise PixelkinError(
            f"the architecture is {name!r}: expected one of {', '.join(ARCHITECTURES)}; "
            "choose another checkpoint"
        )
    return ARCHITECTURES[name]
