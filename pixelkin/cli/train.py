"""`pixelkin train`: a recipe, or a training that comes with pixelkin, on the user's data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pixelkin.cli.options import Flag, check_writable
from pixelkin.cli.stills import check_holds_objects
from pixelkin.cli.words import did_you_mean
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.engine import Training


def train(
    recipe: str,
    data: str = "",
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
    """Train a model on annotated data.

    Three commands from annotated photos to a model and its measures on a fifth that it never saw:

    ```
    pixelkin check coco:ann.json --images img
    pixelkin train seeds coco:ann.json --images img --out run
    pixelkin evaluate coco:ann.json --images img --model run/model --validation .2
    ```

    And from class maps to a network that gives every pixel a class:

    ```
    pixelkin train light camvid:CamVid --out run
    pixelkin evaluate camvid:CamVid --model run/model
    ```

    Objects: seeds (Fathi et al. 2017), discriminative (De Brabandere et al. 2017), boundary
    (U-Net style, watershed), mask-rcnn. Data: FORMAT:PATH with FORMAT one of coco, panoptic, yolo,
    labelme, pngs, penn-fudan, nuclei, voc, sbd, cityscapes, kitti-instances, bdd-instances,
    ade20k-instances, ade20k-part-instances, cvppp.

    Classes: light (small, pretrained, for a machine without a GPU), timm-fcn, deeplab-v3-plus,
    deeplab-v2, unet, segnet, fcn32s, fcn16s, fcn8s, patch (sliding window). Data: FORMAT:PATH with
    FORMAT one of pngs, camvid, voc, sbd, context, cityscapes, kitti, bdd, ade20k, sceneparse,
    coco-stuff, panoptic, ccp, pratheepan, lits and their variants; or objects as coco, yolo,
    labelme, penn-fudan, nuclei, cvppp, kitti-instances and such, whose classes are painted over
    background. --weights says what they start from: auto, none, shipped, imagenet, timm, vgg16, or
    the folder of a trained model. --border-weight 10 weighs the ground between near objects as
    U-Net's paper does: of objects those annotated, also where they touch; of class maps connected
    regions of a class.

    A path alone will do where it is plain what lies there. A recipe of your own is a Python file,
    and code: run only what you have read.

    Further options, such as --images DIR, --steps 3000, --validation 0.2, --rotate true, are those
    of the training; a wrong one is answered by the list of all.

    Ctrl-C ends the training after the current step, with everything saved; --resume goes on.

    Args:
        recipe: name of a training, or a Python file with a function recipe.
        data: what to train on; recipe files may take it as --data too.
        out: new folder for the run; with --resume, one that holds last.ckpt.
        resume: go on from the last checkpoint.
        accelerator: auto, cpu, cuda or mps.
        devices: how many processes, or device numbers separated by commas, or auto.
        precision: of the computation; weights are always float32.
        seed: of the order of the data, and of the recipe where it takes a seed.
        max_seconds: stop after so long, with everything saved.
        options: parameters of the recipe's own function.
    """
    from pixelkin.engine import parse_recipe_options, recipe_options
    from pixelkin.engine import train as run_training

    function = _find(recipe, data)
    if data:
        options = {"data": data, **options}
    _check_data(recipe, options.get("data", ""))
    if "seed" in recipe_options(function):
        options = {"seed": str(seed), **options}
    arguments = parse_recipe_options(function, options, name=recipe)
    chosen = _read_devices(devices)
    check_writable(out)
    run_training(
        function(**arguments),
        out=out,
        resume=resume,
        accelerator=accelerator,
        devices=chosen,
        precision=precision,
        seed=seed,
        max_seconds=max_seconds,
    )
    return 0


def _find(recipe: str, data: str) -> Callable[..., Training]:
    """The function of a training by name, or of a recipe file."""
    from pixelkin.engine import load_recipe
    from pixelkin.trainings import TRAININGS

    if recipe in TRAININGS:
        return TRAININGS[recipe]
    if Path(recipe).suffix == ".py":
        return load_recipe(Path(recipe))
    if data in TRAININGS:
        raise PixelkinError(
            f"{data} is a training, and stands behind {recipe}: the name of the training stands "
            f"before DATA; write pixelkin train {data} {recipe}"
        )
    raise PixelkinError(
        f"there is no training {recipe!r}: {did_you_mean(recipe, TRAININGS)}choose "
        f"{', '.join(TRAININGS)}, or a .py file"
    )


def _check_data(recipe: str, data: str) -> None:
    """Raise `PixelkinError` where a training by name is not told what it can train on."""
    from pixelkin.trainings import TRAININGS
    from pixelkin.trainings.semantic_networks import NETWORKS

    if recipe not in TRAININGS:
        return
    if not data:
        example = "camvid:CamVid" if recipe in NETWORKS else "coco:annotations.json"
        raise PixelkinError(f"{recipe} needs DATA, such as {example}; write it behind the name")
    if recipe not in NETWORKS:
        check_holds_objects(
            data,
            asked_by=f"{recipe} learns to find objects",
            remedy="a training of classes, such as light",
        )


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
