"""Nuclei of the Data Science Bowl 2018 by four methods under one budget.

    pixelkin train recipes/nuclei.py --data DSB2018 --out runs/nuclei --precision bf16-mixed
    pixelkin train recipes/nuclei.py --data DSB2018 --out runs/rcnn --method mask_rcnn

DSB2018 holds `<id>/images/*.png` and `<id>/masks/*.png`. A fifth of the images, by a hash of their
names, is held out for the table in docs/model_zoo.md and never trained on. Choices (ablations) were
made on another part, `--judge development`, held out of the rest.
"""

from pathlib import Path
from typing import Literal

from pixelkin.data.nuclei import Nuclei
from pixelkin.data.source import Subset, split_source
from pixelkin.data.splits import split_by_name
from pixelkin.engine import Training
from pixelkin.losses.metric_instances import PIXELS_PER_INSTANCE
from pixelkin.models.instance_embedding import CUTS
from pixelkin.trainings.user_data import train_on

VALIDATION = 0.2
DEVELOPMENT = 0.15


def recipe(
    *,
    data: Path,
    method: Literal["seeds", "discriminative", "boundary", "mask_rcnn"] = "seeds",
    judge: Literal["validation", "development"] = "validation",
    steps: int = 1200,
    batch_size: int = 8,
    dimensions: int = 16,
    px_per_unit: float = 8.0,
    cuts: tuple[float, ...] = CUTS,
    pixels_per_instance: int = PIXELS_PER_INSTANCE,
    hard_scores: bool = False,
    paper_pairs: bool = False,
    seed: int = 0,
    workers: int = 1,
) -> Training:
    """Everything of this training.

    Args:
        data: folder of DSB 2018, stage 1, training part.
        method: network and losses.
        judge: held-out part that the model is judged on at the end.
        steps, batch_size: windows of 128 px seen = steps · batch_size.
        dimensions, px_per_unit, cuts: see `small_instance_network`.
        pixels_per_instance, hard_scores: see `losses.metric_instances`.
        paper_pairs: weigh pairs by the paper's formula alone.
        seed: of the initial weights.
        workers: processes that make windows.
    """
    train, held_out = split_source(Nuclei(data), validation=VALIDATION)
    if judge == "development":
        kept, judged = split_by_name(train.names, validation=DEVELOPMENT, seed_text="development")
        train, held_out = Subset(train, kept), Subset(train, judged)
    return train_on(
        train, held_out, method=method, steps=steps, batch_size=batch_size, crop_px=128,
        scale=(0.6, 1.6), rotate=True, shrink=1, stride=1, dimensions=dimensions,
        px_per_unit=px_per_unit, cuts=cuts, pixels_per_instance=pixels_per_instance,
        hard_scores=hard_scores, seeds=500, seed=seed, workers=workers,
        config={"data": data.name, "judge": judge, "held_out": len(held_out)},
        **({"shares": None} if paper_pairs else {}),
    )  # fmt: skip
