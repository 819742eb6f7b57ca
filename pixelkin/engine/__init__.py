"""Training: a recipe's `Training` in, checkpoints and metrics out. One process or many."""

from pixelkin.engine.loop import train
from pixelkin.engine.recipe import AppliesTo, load_recipe, parse_recipe_options, recipe_options
from pixelkin.engine.state import can_resume
from pixelkin.engine.training import Ramp, Training, TrainingResult

__all__ = [
    "AppliesTo",
    "Ramp",
    "Training",
    "TrainingResult",
    "can_resume",
    "load_recipe",
    "parse_recipe_options",
    "recipe_options",
    "train",
]
