"""Training: a recipe's `Training` in, checkpoints and metrics out. One process or many."""

from pixelkin.engine.loop import train
from pixelkin.engine.recipe import AppliesTo, load_recipe, parse_recipe_options, recipe_options
from pixelkin.engine.training import Ramp, Training, TrainingResult

__all__ = [
    "AppliesTo",
    "Ramp",
    "Training",
    "TrainingResult",
    "load_recipe",
    "parse_recipe_options",
    "recipe_options",
    "train",
]
