"""`pixelkin train NAME DATA`: instance trainings on anybody's annotated stills.

Image scale, seeds and units follow from the sizes of the objects, so that a newcomer needs no
option; every one of them can be given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pixelkin.data.memory import InMemory
from pixelkin.data.source import InstanceSource, Subset, split_source
from pixelkin.data.sources import open_source
from pixelkin.engine import Training
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import build_segmenter
from pixelkin.instances.scoring import evaluate_segmenter
from pixelkin.instances.segmenter import shrunk
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.backbones import Weights
from pixelkin.trainings.instances import SMALLEST_PX, Method, instance_training

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
    *,
    method: Method,
    shrink: int = 0,
    px_per_unit: float = -1.0,
    seeds: int = 0,
    progress: Callable[[int, int], None] | None = None,
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Training:
    """A training on one part of a data set, validated at its end on another.

    Args:
        train: stills to train on; read into memory.
        held_out: stills to judge by, or None.
        method: see `instance_training`.
        shrink: whole number that stills are shrunk by; 0 takes it from the objects' sizes.
        px_per_unit: see `InstanceNet`; below 0 takes it from the objects' sizes.
        seeds: of the grouping; 0 takes it from the fullest still.
        progress: called while stills are read, with stills done and in all.
        config: written to run.json too.
        options: of `instance_training`.
    """
    samples: Sequence[Sample] = InMemory(train, progress=progress)  # type: ignore[assignment]
    sizes = object_sizes(samples)
    if shrink == 0:
        shrink = max(1, round(sizes.side_px / LARGE_PX + 0.25))
    if px_per_unit < 0:
        px_per_unit = 2.0 ** round(math.log2(max(sizes.side_px / shrink / UNITS_PER_OBJECT, 2)))
    grouping = dict(options.pop("grouping", None) or {})
    if method == "seeds":
        grouping.setdefault("seeds", seeds or max(100, 100 * math.ceil(1.5 * sizes.most / 100)))
    if method in ("seeds", "discriminative"):
        stride = options.get("stride", 2)
        grouping.setdefault("min_cells", max(4, SMALLEST_PX // stride**2))
    if shrink > 1:
        samples = [shrink_sample(samples[i], shrink) for i in range(len(samples))]
    return instance_training(
        samples,
        method=method,
        class_names=train.class_names,
        shrink=shrink,
        px_per_unit=px_per_unit,
        grouping=grouping,
        validate=None if held_out is None else lambda m, c: validate(m, c, held_out),
        config=config,
        **options,
    )


def validate(model: nn.Module, config: dict[str, Any], stills: InstanceSource) -> dict[str, float]:
    """COCO AP of a model on stills, through the segmenter that users run."""
    segmenter = build_segmenter(model, config, device=next(model.parameters()).device)
    values = evaluate_segmenter(segmenter, stills, measures=["coco"])
    return {name: values[f"coco/{name}"] for name in ("AP", "AP50", "AP75")}


def on_user_data(method: Method) -> Callable[..., Training]:
    """The training behind `pixelkin train NAME DATA` for one method."""

    def recipe(
        *,
        data: str,
        images: Path | None = None,
        masks: Path | None = None,
        split: str | None = None,
        validation: float = 0.2,
        steps: int = 1500,
        batch_size: int = 8,
        crop_px: int = 192,
        rotate: bool = False,
        shrink: int = 0,
        stride: int = 2,
        dimensions: int = 16,
        px_per_unit: float = -1.0,
        seeds: int = 0,
        learning_rate: float = 2e-3,
        weights: Weights = "shipped",
        workers: int = 1,
        seed: int = 0,
    ) -> Training:
        source = open_source(data, images=images, masks=masks, split=split)
        train: InstanceSource
        held_out: InstanceSource | None
        train, held_out = Subset(source, range(len(source))), None
        if validation > 0:
            train, held_out = split_source(source, validation=validation)
        return train_on(
            train, held_out, method=method, shrink=shrink, px_per_unit=px_per_unit, seeds=seeds,
            steps=steps, batch_size=batch_size, crop_px=crop_px, rotate=rotate, stride=stride,
            dimensions=dimensions, learning_rate=learning_rate, weights=weights,
            workers=workers, seed=seed,
            config={"validation": validation, "held_out": 0 if held_out is None else len(held_out)},
        )  # fmt: skip

    return recipe
