"""Nuclei of the Data Science Bowl 2018 by four methods under one budget.

    pixelkin train recipes/nuclei.py --data DSB2018 --out runs/nuclei --precision bf16-mixed
    pixelkin train recipes/nuclei.py --data DSB2018 --out runs/rcnn --method mask_rcnn

DSB2018 holds `<id>/images/*.png` and `<id>/masks/*.png`. A fifth of the images, by a hash of their
names, is held out for the table in docs/model_zoo.md and never trained on. Choices (ablations) were
made on another part, `--judge development`, held out of the rest.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.source import Subset, split_source
from pixelkin.data.splits import split_by_name
from pixelkin.engine import AppliesTo, Training
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.instance_losses import MetricLosses
from pixelkin.trainings.instance_model import Method, ModelPlan, NetworkShape
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.user_data import train_on

VALIDATION = 0.2
DEVELOPMENT = 0.15


def recipe(
    *,
    data: Path,
    method: Method = "seeds",
    judge: Literal["validation", "development"] = "validation",
    optimisation: Optimisation = Optimisation(steps=1200, weights="imagenet"),  # noqa: B008
    network: NetworkShape = NetworkShape(stride=1, px_per_unit=8.0),  # noqa: B008
    metric: MetricLosses = MetricLosses(),  # noqa: B008
    paper_pairs: Annotated[bool, AppliesTo("seeds")] = False,
) -> Training:
    """Everything of this training.

    Args:
        data: folder of DSB 2018, stage 1, training part.
        method: network and losses.
        judge: held-out part that the model is judged on at the end.
        optimisation: windows of 128 px seen = steps · batch_size.
        network, metric: of the methods by embedding.
        paper_pairs: weigh pairs by the paper's formula alone.
    """
    train, held_out = split_source(Nuclei(data), validation=VALIDATION)
    if judge == "development":
        kept, judged = split_by_name(train.names, validation=DEVELOPMENT, seed_text="development")
        train, held_out = Subset(train, kept), Subset(train, judged)
    return train_on(
        train,
        held_out,
        ModelPlan(method, network=network),
        optimisation=optimisation,
        windows=Windows(crop_px=128, scale=(0.6, 1.6), rotate=True),
        metric=replace(metric, shares=None) if paper_pairs else metric,
        seeds=500,
        config={"data": data.name, "judge": judge, "held_out": len(held_out)},
    )
