"""Pedestrians of Penn-Fudan by four methods under one budget.

    pixelkin train recipes/pedestrians.py --data PENN_FUDAN --out runs/pedestrians \
        --precision bf16-mixed

PENN_FUDAN holds `PNGImages` and `PedMasks`. A quarter of the photos, by a hash of their names, is
held out for the table in docs/model_zoo.md and never trained on.
"""

from pathlib import Path

from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.data.source import split_source
from pixelkin.engine import Training
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.instance_model import Method, ModelPlan, NetworkShape
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.user_data import train_on

VALIDATION = 0.25
ANCHORS = [[16, 24], [32, 48], [64, 96], [128, 192]]


def recipe(
    *,
    data: Path,
    method: Method = "seeds",
    optimisation: Optimisation = Optimisation(steps=300, weights="imagenet"),  # noqa: B008
    network: NetworkShape = NetworkShape(px_per_unit=32.0),  # noqa: B008
) -> Training:
    """Everything of this training.

    Args:
        data: folder of the data set.
        method: network and losses.
        optimisation: windows of 192 px of photos at half size seen = steps · batch_size.
        network: of all methods but Mask R-CNN.
    """
    train, held_out = split_source(PennFudan(data), validation=VALIDATION)
    boxes = {"anchor_sizes_px": ANCHORS, "aspect_ratios": [1.0, 2.0, 3.0]}
    return train_on(
        train,
        held_out,
        ModelPlan(method, shrink=2, network=network, boxes=boxes),
        optimisation=optimisation,
        windows=Windows(crop_px=192, scale=(0.7, 1.4)),
        config={"data": data.name, "held_out": len(held_out)},
    )
