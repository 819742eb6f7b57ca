"""A segmenter judged on annotated class maps: the numbers are those of what users run."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64, Integer

from pixelkin.data.source import Case, ObjectIds, SemanticSource, cases, in_window, object_ids
from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import AVERAGE_PX, VOLUMES, SemanticEvaluation
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.structures import IGNORE, Sample

OFFICIAL: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "sceneparse": ("ade",),
        "bdd-lanes": ("lanes",),
        "bdd-lane-styles": ("lanes",),
        "bdd-lane-directions": ("lanes",),
    }
)
"""Format of a data set → measures that its authors rank by, beside those that always apply."""


def evaluation_of(
    source: SemanticSource, *, measures: Collection[str] | None = None, format_name: str = ""
) -> SemanticEvaluation:
    """An evaluation with the measures of a data set.

    Args:
        source: annotated stills.
        measures: of `evaluation.semantic.MEASURES` and `VOLUMES`. None takes those that always
            apply, "cityscapes" where the source tells objects apart, "volumes" where its stills
            are slices, and the `OFFICIAL` ones of its format.
        format_name: of the source, one of `data.class_maps.sources.SEMANTIC_FORMATS`.

    Raises:
        PixelkinError: a measure is unknown or does not apply.
    """
    if measures is None:
        chosen = list(SemanticEvaluation(source.class_names).measures)
        if len(source) and object_ids(source, 0) is not None:
            chosen.append("cityscapes")
        chosen += OFFICIAL.get(format_name, ())
        if cases(source):
            chosen.append(VOLUMES)
        measures = chosen
    own_px = source.average_px if isinstance(source, ObjectIds) else None
    return SemanticEvaluation(
        source.class_names, measures=measures, average_px=AVERAGE_PX if own_px is None else own_px
    )


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
        source: annotated stills; slices of volumes are seen in the segmenter's window of Hounsfield
            units, where it has one.
        measures: as `evaluation_of` takes them.
        evaluation: takes the stills in, in place of a new one; afterwards it holds the confusion
            of classes too.
        progress: called with stills done and stills in all.
        seen: called with every still and its result, as indices into the source's classes.

    Returns:
        "measure/value" and "measure/value/class" → number, and "seconds_per_image", of the
        segmenter alone.

    Raises:
        PixelkinError: the model's classes are not those of the source; volumes are to be judged
            and the stills are no slices.
    """
    order = class_order(segmenter.class_names, source.class_names)
    source = in_window(source, segmenter.window_hu)
    if evaluation is None:
        evaluation = evaluation_of(source, measures=measures)
    volumes = None if evaluation.volumes is None else _Volumes(source, evaluation)
    objects = "cityscapes" in evaluation.measures
    spent = 0.0
    for index in range(len(source)):
        still = source[index]
        start = time.perf_counter()
        found = segmenter.segment(still.image)
        spent += time.perf_counter() - start
        found = order[found]
        ids = object_ids(source, index) if objects else None
        evaluation.update(still.labels, found, instances=ids)
        if volumes is not None:
            volumes.add(index, still.labels, found)
        if seen is not None:
            seen(still, found)
        if progress is not None:
            progress(index + 1, len(source))
    return evaluation.compute() | {"seconds_per_image": spent / max(len(source), 1)}


class _Volumes:
    """Slices put together to the volumes that are judged, one volume in memory at a time."""

    def __init__(self, source: SemanticSource, evaluation: SemanticEvaluation) -> None:
        self._evaluation = evaluation
        self._case_of: dict[int, Case] = {n: case for case in cases(source) for n in case.slices}
        if len(self._case_of) < len(source):
            raise PixelkinError(
                f"{VOLUMES!r} judges volumes, and the stills of this data set are no slices; "
                "choose other measures"
            )
        self._dtype = np.min_scalar_type(max(len(source.class_names), IGNORE))
        self._pair = np.empty((2, 0, 0, 0), self._dtype)

    def add(
        self, index: int, truth: Integer[np.ndarray, "h w"], found: Integer[np.ndarray, "h w"]
    ) -> None:
        case = self._case_of[index]
        if index == case.slices[0]:
            self._pair = np.empty((2, len(case.slices), *truth.shape), self._dtype)
        self._pair[:, index - case.slices[0]] = truth, found
        if index == case.slices[-1]:
            self._evaluation.update_volume(
                *self._pair, spacing_mm=case.spacing_zyx_mm, name=case.name
            )


def class_order(model: Sequence[str], source: Sequence[str]) -> Int64[np.ndarray, " c"]:
    """The model's class index → that of the source.

    Raises:
        PixelkinError: one of them has a class that the other has not.
    """
    for have, side, lack, other in (
        (source, "data", model, "model"),
        (model, "model", source, "data"),
    ):
        alone = [name for name in have if name not in lack]
        if alone:
            raise PixelkinError(
                f"the {side} has {len(have)} classes and the {other} {len(lack)}: of the {side}'s, "
                f"{', '.join(map(repr, alone[:3]))} are not among the {other}'s, "
                f"{', '.join(lack[:40])}; rename them, or choose another {other}"
            )
    return np.array([source.index(name) for name in model], np.int64)
