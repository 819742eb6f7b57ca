"""All measures of instances at once, and their table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance.cityscapes import CityscapesAP
from pixelkin.evaluation.instance.coco import CocoAP
from pixelkin.evaluation.instance.leaves import LeafScores
from pixelkin.evaluation.instance.measure import Measure
from pixelkin.evaluation.instance.microscopy import ThreatScore
from pixelkin.evaluation.instance.panoptic import PanopticQuality
from pixelkin.evaluation.instance.stills import AnnotatedStill, StillPair
from pixelkin.evaluation.instance.voc import VocRegionAP
from pixelkin.structures import Instances

MEASURES = ("coco", "voc", "cityscapes", "panoptic", "microscopy", "leaves")
"""Names that `InstanceEvaluation` knows, in the order of its table."""

_ONE_CLASS = frozenset({"leaves", "microscopy"})


class InstanceEvaluation:
    """Several measures over the same stills; each still's overlaps are counted once.

    Args:
        class_names: of the categories, in the order of their indices.
        measures: some of `MEASURES`. None: all that apply; "microscopy" and "leaves" are defined
            for one class and apply where there is one.
        max_dets: objects of each class and still that COCO's measures count.
        min_region_px: true objects under this size are not asked for by Cityscapes' measure.
        stuff_names: classes whose objects in one still are one segment to panoptic quality.

    Raises:
        PixelkinError: a measure or a stuff class is unknown, or a class name is missing or twice.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        measures: Collection[str] | None = None,
        max_dets: int = 100,
        min_region_px: int = 100,
        stuff_names: Collection[str] = (),
    ) -> None:
        if measures is None:
            measures = [m for m in MEASURES if len(class_names) == 1 or m not in _ONE_CLASS]
        unknown = sorted(set(measures) - set(MEASURES))
        if unknown or not measures:
            raise PixelkinError(
                f"measure {unknown[0] if unknown else 'none'!r} is unknown; "
                f"expected one or more of {', '.join(MEASURES)}"
            )
        makers: dict[str, Callable[[], Measure]] = {
            "coco": lambda: CocoAP(class_names, max_dets=max_dets),
            "voc": lambda: VocRegionAP(class_names),
            "cityscapes": lambda: CityscapesAP(class_names, min_region_px=min_region_px),
            "panoptic": lambda: PanopticQuality(class_names, stuff_names=stuff_names),
            "microscopy": lambda: ThreatScore(class_names),
            "leaves": lambda: LeafScores(class_names),
        }
        self.measures: dict[str, Measure] = {m: makers[m]() for m in MEASURES if m in measures}

    def update(self, truth: AnnotatedStill, found: Instances) -> None:
        """Count one still in: what is true of it, and what was found in it.

        Raises:
            PixelkinError: sizes differ, a category has no class name, a score is not finite, or
                run-length counts are malformed.
        """
        pair = StillPair(truth, found)
        for measure in self.measures.values():
            measure.add(pair)

    def compute(self) -> dict[str, float]:
        """Values of all stills so far under "measure/value" and "measure/value/class"."""
        return {
            f"{name}/{key}": value
            for name, measure in self.measures.items()
            for key, value in measure.compute().items()
        }


def evaluate_instances(
    pairs: Iterable[tuple[AnnotatedStill, Instances]],
    class_names: Sequence[str],
    *,
    measures: Collection[str] | None = None,
    max_dets: int = 100,
    min_region_px: int = 100,
    stuff_names: Collection[str] = (),
) -> dict[str, float]:
    """What `InstanceEvaluation` computes from stills, each with its truth and what was found."""
    evaluation = InstanceEvaluation(
        class_names,
        measures=measures,
        max_dets=max_dets,
        min_region_px=min_region_px,
        stuff_names=stuff_names,
    )
    for truth, found in pairs:
        evaluation.update(truth, found)
    return evaluation.compute()
