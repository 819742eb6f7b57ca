"""`pixelkin train NAME DATA`: instance trainings on anybody's annotated stills.

Image scale, seeds and units follow from the sizes of the objects, so that a newcomer needs no
option; every one of them can be given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from torch import nn

from pixelkin.data.instances.sources import open_source
from pixelkin.data.memory import InMemory
from pixelkin.data.source import InstanceSource, Subset, split_source
from pixelkin.engine import AppliesTo, Training
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import build_segmenter
from pixelkin.instances.scoring import evaluate_segmenter
from pixelkin.instances.segmenter import shrunk
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.backbones import check_start
from pixelkin.trainings.instance_losses import MetricLosses
from pixelkin.trainings.instance_model import Method, ModelPlan, NetworkShape
from pixelkin.trainings.instances import SMALLEST_PX, instance_training
from pixelkin.trainings.optimisation import Optimisation

LARGE_PX = 96.0
"""Objects whose typical side exceeds this are seen shrunk: what a network sees around a cell is
about 400 px, and a pedestrian should fit in."""

UNITS_PER_OBJECT = 2.5
"""How many units of the embedding a typical object's side spans: its pixels start about so far
apart, neighbours too, and both distances are of the size at which the losses act."""


@dataclass(frozen=True)
class ObjectSizes:
    """What the annotation says of the objects.

    Attributes:
        side_px: median over objects of the square root of their pixels, in pixels.
        most: objects in the fullest still.
    """

    side_px: float
    most: int


def object_sizes(samples: Sequence[Sample]) -> ObjectSizes:
    """Sizes of all instances; raises `PixelkinError` where there is none."""
    areas: list[float] = []
    most = 0
    for index in range(len(samples)):
        _, counts = np.unique(_instances_only(samples[index].labels), return_counts=True)
        areas += counts.tolist()
        most = max(most, len(counts))
    if not areas:
        raise PixelkinError(
            "none of the training stills has an annotated object; run pixelkin check on the data"
        )
    return ObjectSizes(math.sqrt(float(np.median(areas))), most)


def _instances_only(labels: np.ndarray) -> np.ndarray:
    known: np.ndarray = labels[(labels != 0) & (labels != IGNORE)]
    return known


def shrink_sample(sample: Sample, factor: int) -> Sample:
    """The still as the network will see it: image averaged, labels taken at the middle."""
    if factor == 1:
        return sample
    h, w = sample.labels.shape
    whole = np.pad(sample.labels, ((0, -h % factor), (0, -w % factor)), mode="edge")
    middle = whole[factor // 2 :: factor, factor // 2 :: factor]
    return replace(sample, image=shrunk(sample.image, factor), labels=np.ascontiguousarray(middle))


def train_on(
    train: InstanceSource,
    held_out: InstanceSource | None,
    plan: ModelPlan,
    *,
    optimisation: Optimisation,
    windows: Windows = Windows(),  # noqa: B008
    metric: MetricLosses = MetricLosses(),  # noqa: B008
    seeds: int = 0,
    progress: Callable[[int, int], None] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Training:
    """A training on one part of a data set, validated at its end on another.

    Args:
        train: stills to train on; read into memory.
        held_out: stills to judge by, or None.
        plan: what is trained. Its class names are those of `train`; a `shrink` of 0, and
            `px_per_unit` below 0, are taken from the objects' sizes.
        optimisation, windows, metric: see `instance_training`.
        seeds: of the grouping of the method `seeds`; 0 takes it from the fullest still.
        progress: called while stills are read, with stills done and in all.
        config: written to run.json too.
    """
    # Before all is read.
    check_start(optimisation.weights)
    samples: Sequence[Sample] = InMemory(train, progress=progress)  # type: ignore[assignment]
    plan = fitted(plan, object_sizes(samples), seeds=seeds)
    if plan.shrink > 1:
        samples = [shrink_sample(samples[i], plan.shrink) for i in range(len(samples))]
    return instance_training(
        samples,
        replace(plan, class_names=train.class_names),
        optimisation=optimisation,
        windows=windows,
        metric=metric,
        validate=None if held_out is None else lambda m, c: validate(m, c, held_out),
        config=config,
    )


def fitted(plan: ModelPlan, sizes: ObjectSizes, *, seeds: int = 0) -> ModelPlan:
    """The plan with what it leaves open: scale, units, seeds and the least size of objects."""
    shrink = plan.shrink or max(1, round(sizes.side_px / LARGE_PX + 0.25))
    network, grouping = plan.network, dict(plan.grouping)
    if network.px_per_unit < 0:
        unit_px = max(sizes.side_px / shrink / UNITS_PER_OBJECT, 2)
        network = replace(network, px_per_unit=2.0 ** round(math.log2(unit_px)))
    if plan.method == "seeds":
        grouping.setdefault("seeds", seeds or max(100, 100 * math.ceil(1.5 * sizes.most / 100)))
    if plan.method in ("seeds", "discriminative"):
        grouping.setdefault("min_cells", max(4, SMALLEST_PX // network.stride**2))
    return replace(plan, shrink=shrink, network=network, grouping=grouping)


def validate(model: nn.Module, config: dict[str, Any], stills: InstanceSource) -> dict[str, float]:
    """COCO AP of a model on stills, through the segmenter that users run."""
    segmenter = build_segmenter(model, config, device=next(model.parameters()).device)
    values = evaluate_segmenter(segmenter, stills, measures=["coco"])
    return {name: values[f"coco/{name}"] for name in ("AP", "AP50", "AP75")}


@dataclass(frozen=True)
class Stills:
    """Which part of the user's annotated stills trains.

    Attributes:
        images: folder of the images, where it does not lie beside the annotations.
        masks: folder of the masks, of formats that have one.
        split: part of the data set that its own lists name, such as train.
        validation: share that is held out, by name, and judged at the end; 0 trains on all.
    """

    images: Path | None = None
    masks: Path | None = None
    split: str | None = None
    validation: float = 0.2


def recipe(
    *,
    method: Method,
    data: str,
    stills: Stills = Stills(),
    optimisation: Optimisation = Optimisation(),  # noqa: B008
    windows: Windows = Windows(),  # noqa: B008
    shrink: int = 0,
    network: NetworkShape = NetworkShape(px_per_unit=-1.0),  # noqa: B008
    metric: MetricLosses = MetricLosses(),  # noqa: B008
    seeds: Annotated[int, AppliesTo("seeds")] = 0,
) -> Training:
    """A training on FORMAT:PATH; see `train_on`."""
    source = open_source(data, images=stills.images, masks=stills.masks, split=stills.split)
    train: InstanceSource
    held_out: InstanceSource | None
    train, held_out = Subset(source, range(len(source))), None
    if stills.validation > 0:
        train, held_out = split_source(source, validation=stills.validation)
    return train_on(
        train,
        held_out,
        ModelPlan(method, shrink=shrink, network=network),
        optimisation=optimisation,
        windows=windows,
        metric=metric,
        seeds=seeds,
        config={
            "validation": stills.validation,
            "held_out": 0 if held_out is None else len(held_out),
        },
    )


def on_user_data(method: Method) -> Callable[..., Training]:
    """The training behind `pixelkin train NAME DATA` for one method."""
    return partial(recipe, method=method)
