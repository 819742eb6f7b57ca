"""`pixelkin train`: a recipe, trained."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Literal

from pixelkin.cli.options import Flag, check_writable
from pixelkin.errors import PixelkinError


def train(
    recipe: Path,
    /,
    *,
    out: Path,
    resume: Flag = False,
    accelerator: str = "auto",
    devices: str = "1",
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true",
    seed: int = 0,
    max_seconds: float | None = None,
    **options: str,
) -> int:
    """Train the model of a recipe. A recipe is code: run only what you have read.

    Ctrl-C ends the training after the current step, with everything saved; --resume goes on.

    Args:
        recipe: Python file with a function recipe.
        out: new folder for the run; with --resume, one that holds last.ckpt.
        resume: go on from the last checkpoint.
        accelerator: auto, cpu, cuda or mps.
        devices: how many processes, or device numbers separated by commas, or auto.
        precision: of the computation; weights are always float32.
        seed: of the order of the data, and of the recipe where it takes a seed.
        max_seconds: stop after so long, with everything saved.
        options: parameters of the recipe's own function.
    """
    from pixelkin.engine import load_recipe, parse_recipe_options
    from pixelkin.engine import train as run_training

    function = load_recipe(recipe)
    if "seed" in inspect.signature(function).parameters:
        options = {"seed": str(seed), **options}
    arguments = parse_recipe_options(function, options)
    chosen = _read_devices(devices)
    check_writable(out)
    result = run_training(
        function(**arguments),
        out=out,
        resume=resume,
        accelerator=accelerator,
        devices=chosen,
        precision=precision,
        seed=seed,
        max_seconds=max_seconds,
    )
    best = "" if result.best is None else f", best {result.best:.4f} at step {result.best_step}"
    print(f"{result.out}: step {result.step}, stopped by {result.stopped}{best}")
    return 0


def _read_devices(text: str) -> int | str | list[int]:
    if text == "auto":
        return text
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise PixelkinError(
            f"--devices is {text!r}, expected a count, numbers such as 0,1, or auto"
        ) from error
    return numbers if "," in text else numbers[0]
