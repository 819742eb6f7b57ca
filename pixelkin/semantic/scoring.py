"""A segmenter judged on annotated class maps: the numbers are those of what users run."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

import numpy as np
from jaxtyping import Int64, Integer

from pixelkin.data.source import SemanticSource
from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import SemanticEvaluation
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.structures import Sample


def evaluate_semantic(
    segmenter: SemanticSegmenter,
    source: SemanticSource,
    *,
    measures: Collection[str] | None = None,
    evaluation: SemanticEvaluation | None = None,
    progress: Callable[[int, int], None] | None = None,
    seen: Callable[[Sample, Integer[np.ndarray, "h w"]], None] | None = None,
) -> dict[str, float]:
    """Every still through `segment`, its result against the truth.

    Args:
        segmenter: of the source's classes, in any order.
        source: annotated stills.
        measures: of `evaluation.semantic.MEASURES`; None takes those that always apply.
        evaluation: takes the stills in, in place of a new one; afterwards it holds the confusion
            of classes too.
        progress: called with stills done and stills in all.
        seen: called with every still and its result, as indices into the source's classes.

    Returns:
        "measure/value" and "measure/value/class" → number, and "seconds_per_image", of the
        segmenter alone.

    Raises:
        PixelkinError: the model's classes are not those of the source.
    """
    order = class_order(segmenter.class_names, source.class_names)
    if evaluation is None:
        evaluation = SemanticEvaluation(source.class_names, measures=measures)
    spent = 0.0
    for index in range(len(source)):
        still = source[index]
        start = time.perf_counter()
        found = segmenter.segment(still.image)
        spent += time.perf_counter() - start
        found = order[found]
        evaluation.update(still.labels, found)
        if seen is not None:
            seen(still, found)
        if progress is not None:
            progress(index + 1, len(source))
    return evaluation.compute() | {"seconds_per_image": spent / max(len(source), 1)}


def class_order(model: Sequence[str], source: Sequence[str]) -> Int64[np.ndarray, " c"]:
    """The model's class index → that of the source.

    Raises:
        PixelkinError: one of them has a class that the other has not.
    """
    for have, lack, mend in (
        (source, model, "choose a model of these classes"),
        (model, source, "choose data of these classes"),
    ):
        alone = [name for name in have if name not in lack]
        if alone:
            which = "the data has" if have is source else "the model has"
            raise PixelkinError(
                f"{which} the class {alone[0]!r}, the other side knows {', '.join(lack)}; "
                f"rename it, or {mend}"
            )
    return np.array([source.index(name) for name in model], np.int64)
