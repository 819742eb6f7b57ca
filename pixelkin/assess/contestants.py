"""Who takes part in a comparison of semantic networks: trainings by name, and trained models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from pixelkin.engine import Training, parse_recipe_options, recipe_options
from pixelkin.errors import PixelkinError
from pixelkin.semantic.checkpoints import is_semantic_model
from pixelkin.trainings import TRAININGS
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.semantic import Balance
from pixelkin.trainings.semantic_networks import NETWORKS, NetworkName, NetworkOptions
from pixelkin.trainings.semantic_user_data import MapStills, map_recipe

OWN = (*(one.name for one in fields(NetworkOptions)), "weights", "learning_rate")
"""Options that a contestant may have of its own; all others are the budget, the same for all."""


@dataclass(frozen=True)
class Settings:
    """What a training is told; see `trainings.semantic_user_data.map_recipe`."""

    stills: MapStills = MapStills()  # noqa: RUF009
    options: NetworkOptions = NetworkOptions()  # noqa: RUF009
    optimisation: Optimisation = Optimisation()  # noqa: RUF009
    windows: Windows = Windows(crop_px=256)  # noqa: RUF009
    balance: Balance = Balance()  # noqa: RUF009


@dataclass(frozen=True)
class Contestant:
    """A network that is to be trained, or a trained model.

    Attributes:
        name: as it was asked for.
        network: which to train; None for a trained model.
        settings: of the training.
    """

    name: str
    network: NetworkName | None = None
    settings: Settings = field(default_factory=Settings)

    @property
    def folder_name(self) -> str:
        """The name as that of a folder."""
        return "".join(c if c.isalnum() or c in "-_." else "_" for c in self.name)


def read_contestants(names: Sequence[str], shared: Mapping[str, str]) -> list[Contestant]:
    """The contestants, in order.

    Args:
        names: each a network's name, with options of its own behind colons
            (unet:channels=16:weights=none), or a checkpoint folder or hub id.
        shared: options of all trainings as text, by name.

    Raises:
        PixelkinError: a name is unknown, stands there twice, or an option is wrong.
    """
    if not names:
        raise PixelkinError(
            f"nothing to compare: name networks ({', '.join(NETWORKS)}) or model folders"
        )
    found = [_read(name, shared) for name in names]
    for index, one in enumerate(found):
        if any(one.folder_name == other.folder_name for other in found[:index]):
            raise PixelkinError(f"{one.name} is named twice; leave one out")
    return found


def _read(name: str, shared: Mapping[str, str]) -> Contestant:
    network, *own = name.split(":")
    if network in NETWORKS:
        given = {**shared, **_own_options(name, network, own)}
        return Contestant(name, network, _settings(network, given))
    objects = "finds objects, and compare is for networks that give every pixel a class; "
    if name in TRAININGS:
        raise PixelkinError(
            f"{name} {objects}train each with pixelkin train, then judge all with one pixelkin "
            "evaluate --model A,B"
        )
    if not Path(name).exists() and "/" not in name:
        near = difflib.get_close_matches(network, NETWORKS, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise PixelkinError(
            f"there is no network {network!r}: expected {', '.join(NETWORKS)}, or a model "
            f"folder{hint}"
        )
    if not is_semantic_model(name):
        raise PixelkinError(f"{name} {objects}judge it with pixelkin evaluate --model A,B")
    # Options of trainings are checked although nothing is trained.
    return Contestant(name, None, _settings("light", shared))


def _own_options(name: str, network: NetworkName, own: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    takes = (*NETWORKS[network].takes, "weights", "learning_rate")
    known = [option.replace("_", "-") for option in takes]
    for part in own:
        key, equals, value = part.partition("=")
        if not equals:
            raise PixelkinError(
                f"{name}: {part!r} is no option; expected KEY=VALUE with KEY one of "
                f"{', '.join(known)}"
            )
        # Options of other networks are refused where the network is described.
        if key.replace("-", "_") not in OWN:
            raise PixelkinError(f"{name}: {_unknown(network, key.replace('_', '-'), known)}")
        options[key] = value
    return options


def _unknown(network: NetworkName, key: str, known: Sequence[str]) -> str:
    """What to say of an option that no network has alone."""
    if key.replace("-", "_") in recipe_options(_recipe(network)):
        return f"{key} is no option of one network alone; give --{key} for all"
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{network} has no option {key}; {hint}choose {', '.join(known)}"


def _settings(network: NetworkName, given: Mapping[str, str]) -> Settings:
    named = {name.replace("-", "_"): value for name, value in given.items()}
    if "seed" in named:
        raise PixelkinError("one seed is for one training; give --seeds, such as --seeds 0 1 2")
    parsed: dict[str, Any] = parse_recipe_options(_recipe(network), named, name=network)
    return Settings(**parsed)


def _recipe(network: NetworkName) -> partial[Training]:
    return partial(map_recipe, network=network, data="")
