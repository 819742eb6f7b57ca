"""A segmenter judged on annotated stills: the numbers are those of what users run."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance import InstanceEvaluation
from pixelkin.instances.segmenter import Segmenter
from pixelkin.structures import Instances, InstanceSample

MAX_DETS = 500
"""Objects of a class and still that COCO's measures count; COCO's own 100 are too few for cells."""


class Stills(Protocol):
    """Annotated stills: a length, `class_names`, and one sample per index."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the categories."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> InstanceSample: ...


def evaluate_segmenter(
    segmenter: Segmenter,
    stills: Stills,
    *,
    measures: Collection[str] | None = None,
    max_dets: int = MAX_DETS,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[InstanceSample, Instances], None] | None = None,
) -> dict[str, float]:
    """Every still through `segment`, its result against the truth.

    Args:
        segmenter: any.
        stills: with the classes that the segmenter knows, under any order.
        measures: of `evaluation.instance.MEASURES`; None takes all that apply.
        max_dets: objects of a class and still that COCO's measures count.
        progress: called with stills done and stills in all.
        seen: called with every still and its result, for pictures and files.

    Returns:
        "measure/value" and "measure/value/class" → number, "objects", "objects_found", and
        "seconds_per_image".

    Raises:
        PixelkinError: the model does not know a class of the stills.
    """
    order = _category_order(segmenter.class_names, stills.class_names)
    evaluation = InstanceEvaluation(stills.class_names, measures=measures, max_dets=max_dets)
    spent, objects, found_in_all = 0.0, 0, 0
    for index in range(len(stills)):
        still = stills[index]
        start = time.perf_counter()
        found = segmenter.segment(still.image)
        spent += time.perf_counter() - start
        found = _renamed(found, order)
        evaluation.update(still, found)
        objects += sum(not one.crowd for one in still.instances)
        found_in_all += len(found)
        if seen is not None:
            seen(still, found)
        if progress is not None:
            progress(index + 1, len(stills))
    values = evaluation.compute()
    values["objects"], values["objects_found"] = float(objects), float(found_in_all)
    values["seconds_per_image"] = spent / max(len(stills), 1)
    return values


def _category_order(model: Sequence[str], stills: Sequence[str]) -> dict[int, int]:
    """The model's category → that of the stills; categories that the stills lack are left out."""
    if len(model) == len(stills) == 1:
        return {0: 0}  # one class has many names: nucleus, cell, object
    missing = [name for name in stills if name not in model]
    if missing:
        raise PixelkinError(
            f"the data has the class {missing[0]!r}, the model knows {', '.join(model)}; "
            "rename the classes of the data, or choose another model"
        )
    return {model.index(name): index for index, name in enumerate(stills)}


def _renamed(found: Instances, order: dict[int, int]) -> Instances:
    kept = [i for i, category in enumerate(found.categories) if category in order]
    return Instances(
        found.size_hw,
        tuple(found.rles[i] for i in kept),
        tuple(order[found.categories[i]] for i in kept),
        tuple(found.scores[i] for i in kept),
    )
