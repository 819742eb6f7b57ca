"""Pedestrians of Penn-Fudan by four methods under one budget.

    pixelkin train recipes/pedestrians.py --data PENN_FUDAN --out runs/pedestrians \
        --precision bf16-mixed

PENN_FUDAN holds `PNGImages` and `PedMasks`. A quarter of the photos, by a hash of their names, is
held out for the table in docs/model_zoo.md and never trained on.
"""

from pathlib import Path
from typing import Literal

from pixelkin.data.penn_fudan import PennFudan
from pixelkin.data.source import split_source
from pixelkin.engine import Training
from pixelkin.trainings.user_data import train_on

VALIDATION = 0.25
ANCHORS = [[16, 24], [32, 48], [64, 96], [128, 192]]


def recipe(
    *,
    data: Path,
    method: Literal["seeds", "discriminative", "boundary", "mask_rcnn"] = "seeds",
    steps: int = 300,
    batch_size: int = 8,
    dimensions: int = 16,
    px_per_unit: float = 32.0,
    seed: int = 0,
    workers: int = 1,
) -> Training:
    """Everything of this training.

    Args:
        data: folder of the data set.
        method: network and losses.
        steps, batch_size: windows of 192 px of photos at half size seen = steps · batch_size.
        dimensions, px_per_unit: see `small_instance_network`.
        seed: of the initial weights.
        workers: processes that make windows.
    """
    train, held_out = split_source(PennFudan(data), validation=VALIDATION)
    network = {"anchor_sizes_px": ANCHORS, "aspect_ratios": [1.0, 2.0, 3.0]}
    return train_on(
        train, held_out, method=method, steps=steps, batch_size=batch_size, crop_px=192,
        scale=(0.7, 1.4), shrink=2, stride=2, dimensions=dimensions, px_per_unit=px_per_unit,
        network=network if method == "mask_rcnn" else None, seed=seed, workers=workers,
        config={"data": data.name, "held_out": len(held_out)},
    )  # fmt: skip
