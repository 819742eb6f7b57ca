"""Trainings that come with pixelkin: what `pixelkin train NAME DATA` runs."""

from collections.abc import Callable

from pixelkin.engine import Training
from pixelkin.trainings.semantic_networks import NETWORKS
from pixelkin.trainings.semantic_user_data import on_user_maps
from pixelkin.trainings.user_data import on_user_data

TRAININGS: dict[str, Callable[..., Training]] = {
    "seeds": on_user_data("seeds"),
    "discriminative": on_user_data("discriminative"),
    "boundary": on_user_data("boundary"),
    "mask-rcnn": on_user_data("mask_rcnn"),
    **{name: on_user_maps(name) for name in NETWORKS},
}
"""Name → a function with a parameter `data` and typed options, like that of a recipe file."""

__all__ = ["TRAININGS"]
