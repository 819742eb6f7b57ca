"""`pixelkin train NAME DATA`: semantic trainings on anybody's class maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pixelkin.data.class_maps.place import classes_given
from pixelkin.data.class_maps.sources import open_semantic_source, semantic_parts
from pixelkin.data.memory import InMemory
from pixelkin.data.source import SemanticSource, split_source
from pixelkin.engine import Training
from pixelkin.errors import PixelkinError
from pixelkin.results.class_maps import class_overlay
from pixelkin.semantic.checkpoints import build_segmenter
from pixelkin.semantic.scoring import class_order, evaluate_semantic
from pixelkin.structures import Sample
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.semantic import (
    Balance,
    Hooks,
    Picture,
    semantic_training,
)
from pixelkin.trainings.semantic_networks import NetworkName, NetworkOptions

VALIDATION = 0.2
"""Share held out where the data set has no part of its own for it."""

MEMORY_BYTES = 4 << 30
"""Stills that need more are read from disk at every visit."""

JUDGING = ("val",)
"""How the names of parts begin that judge: val, validation, val2017."""

SHOWN = 4
"""Stills that are shown at validations."""


@dataclass(frozen=True)
class MapStills:
    """Which part of the user's class maps trains, and which judges.

    Attributes:
        images: folder of the images, where it does not lie beside the maps.
        masks: folder of the maps, of formats that have one.
        classes: names of the classes, or a text file of them, of formats that do not say.
        split: part of the data set to train on, such as train.
        judged: part of the data set that is judged at the end, such as val.
        validation: share of the stills that is held out by name and judged, in place of `judged`; 0
            trains on all. Where neither is given, the data set's own val, else a fifth.
        window: of volumes, the Hounsfield units that become black and white, such as -200,250; the
            model keeps it.
    """

    images: Path | None = None
    masks: Path | None = None
    classes: tuple[str, ...] = ()
    split: str | None = None
    judged: str | None = None
    validation: float | None = None
    window: tuple[float, float] | None = None

    def open(self, data: str, split: str | None) -> SemanticSource:
        """A part of the data."""
        return open_semantic_source(
            data,
            images=self.images,
            masks=self.masks,
            split=split,
            classes=classes_given(self.classes),
            window=self.window,
        )

    @property
    def share(self) -> float:
        """Held out by name, where no part of the data judges."""
        return VALIDATION if self.validation is None else self.validation

    def own_judges(self, data: str) -> SemanticSource | None:
        """The part that the data set itself keeps for judging; None where it has none.

        Raises:
            PixelkinError: it has one, which cannot be read.
        """
        names = semantic_parts(data)
        own = [name for start in JUDGING for name in names if name.lower().startswith(start)]
        return self.open(data, own[0]) if own else None

    def parts(self, data: str) -> tuple[SemanticSource, SemanticSource | None]:
        """What trains and what judges; they have no still in common.

        Raises:
            PixelkinError: a part is not there, or both ways to hold out are asked for.
        """
        if self.judged is not None and self.validation is not None:
            raise PixelkinError(
                f"judged is {self.judged} and validation {self.validation:g}: expected one of "
                "them; leave one out"
            )
        train = self.open(data, self.split)
        if self.judged is not None:
            return train, self.open(data, self.judged)
        held_out = self.own_judges(data) if self.validation is None else None
        if held_out is not None and not set(held_out.names) & set(train.names):
            return train, held_out
        return split_source(train, validation=self.share) if self.share > 0 else (train, None)


def train_on_maps(
    train: SemanticSource,
    held_out: SemanticSource | None,
    network: NetworkName,
    *,
    options: NetworkOptions = NetworkOptions(),  # noqa: B008
    optimisation: Optimisation = Optimisation(),  # noqa: B008
    windows: Windows = Windows(crop_px=256),  # noqa: B008
    balance: Balance = Balance(),  # noqa: B008
    config: Mapping[str, Any] | None = None,
) -> Training:
    """A training on one part of a data set, validated on another.

    Args:
        train: stills to train on; read into memory where they fit.
        held_out: stills to judge by, or None.
        network: by name.
        options, optimisation, windows, balance, config: see `semantic_training`.
    """
    hooks = Hooks()
    if held_out is not None:
        class_order(held_out.class_names, train.class_names)  # raises where they differ
        hooks = Hooks(
            validate=lambda m, c: validate(m, c, held_out),
            pictures=lambda m, c: show(m, c, held_out),
        )
    counted = {"held_out": 0 if held_out is None else len(held_out)}
    return semantic_training(
        in_memory(train),
        network,
        class_names=train.class_names,
        options=options,
        optimisation=optimisation,
        windows=windows,
        balance=balance,
        hooks=hooks,
        config={**counted, **(config or {})},
    )


def in_memory(source: SemanticSource) -> Sequence[Sample]:
    """The stills in memory, or the source itself where they would need more than there may be."""
    first = source[0]
    maps = first.labels.size * (1 if first.objects is None else 2)
    if len(source) * (first.image.nbytes + maps) > MEMORY_BYTES:
        return source  # type: ignore[return-value]
    return InMemory(source)  # type: ignore[return-value]


def validate(model: nn.Module, config: dict[str, Any], stills: SemanticSource) -> dict[str, float]:
    """mIoU and accuracies of a model on stills, through the segmenter that users run."""
    segmenter = build_segmenter(model, config, device=next(model.parameters()).device)
    values = evaluate_semantic(segmenter, stills, measures=["overlap"])
    return {
        name: values[f"overlap/{name}"] for name in ("mIoU", "pixel_accuracy", "class_accuracy")
    }


def show(model: nn.Module, config: dict[str, Any], stills: SemanticSource) -> dict[str, Picture]:
    """A few stills as they are, with their true classes, and with those that the model gives."""
    segmenter = build_segmenter(model, config, device=next(model.parameters()).device)
    order = class_order(segmenter.class_names, stills.class_names)
    shown = {}
    for index in np.unique(np.linspace(0, len(stills) - 1, SHOWN).astype(int)):
        still = stills[int(index)]
        found = order[segmenter.segment(still.image)]
        row = [still.image, *(class_overlay(still.image, maps) for maps in (still.labels, found))]
        shown[still.name or str(index)] = np.concatenate(row, axis=1)
    return shown


def map_recipe(
    *,
    network: NetworkName,
    data: str,
    stills: MapStills = MapStills(),
    options: NetworkOptions = NetworkOptions(),  # noqa: B008
    optimisation: Optimisation = Optimisation(),  # noqa: B008
    windows: Windows = Windows(crop_px=256),  # noqa: B008
    balance: Balance = Balance(),  # noqa: B008
) -> Training:
    """A training on FORMAT:PATH; see `train_on_maps`."""
    train, held_out = stills.parts(data)
    return train_on_maps(
        train,
        held_out,
        network,
        options=options,
        optimisation=optimisation,
        windows=windows,
        balance=balance,
        config={"data": data, "validation": stills.share},
    )


def on_user_maps(network: NetworkName) -> Callable[..., Training]:
    """The training behind `pixelkin train NAME DATA` for one semantic network."""
    return partial(map_recipe, network=network)
