"""All measures of class maps at once, and their table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.boundary import BoundaryF
from pixelkin.evaluation.semantic.cityscapes import AVERAGE_PX, CityscapesIoU
from pixelkin.evaluation.semantic.confusion import ConfusionMatrix, Labels
from pixelkin.evaluation.semantic.lanes import LaneF1
from pixelkin.evaluation.semantic.measure import MapPair, Measure, check_class_names
from pixelkin.evaluation.semantic.overlap import AdeScore, BinaryScores, Overlap
from pixelkin.evaluation.semantic.volume import Spacing, VolumeScores, structures_of

MEASURES = ("overlap", "boundary", "cityscapes", "ade", "binary", "lanes")
"""Measures of stills that `SemanticEvaluation` knows, in the order of its table."""

VOLUMES = "volumes"
"""The measure of volumes that it knows beside."""


class SemanticEvaluation:
    """Several measures over the same stills; each still's pixels are counted once.

    Args:
        class_names: in the order of their indices.
        measures: some of `MEASURES` and `VOLUMES`. None: "overlap" and "boundary", and "binary"
            for two classes.
        absent: what a class counts in mIoU that neither truth nor prediction has; None leaves it
            out.
        tolerance: of "boundary": a share of the image's diagonal below 1, pixels from 1 on.
        background: classes that "lanes" and "volumes" do not judge.
        average_px: of "cityscapes": class → pixels of its average object.

    Attributes:
        volumes: scores of the volumes so far; None where "volumes" is not among the measures.
        confusion: pixels of all stills so far by true and predicted class.

    Raises:
        PixelkinError: a measure is unknown or does not apply, or a class name is missing or twice.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        measures: Collection[str] | None = None,
        absent: float | None = None,
        tolerance: float = 0.0075,
        background: Collection[str] = ("background",),
        average_px: Mapping[str, float] = AVERAGE_PX,
    ) -> None:
        self.class_names = check_class_names(class_names)
        if measures is None:
            measures = ("overlap", "boundary", *(["binary"] if len(class_names) == 2 else []))
        unknown = sorted(set(measures) - {*MEASURES, VOLUMES})
        if unknown or not measures:
            raise PixelkinError(
                f"measure {unknown[0] if unknown else 'none'!r} is unknown; "
                f"expected one or more of {', '.join((*MEASURES, VOLUMES))}"
            )
        makers: dict[str, Callable[[], Measure]] = {
            "overlap": lambda: Overlap(class_names, absent=absent),
            "boundary": lambda: BoundaryF(class_names, tolerance=tolerance),
            "cityscapes": lambda: CityscapesIoU(class_names, average_px=average_px),
            "ade": lambda: AdeScore(class_names),
            "binary": lambda: BinaryScores(class_names),
            "lanes": lambda: LaneF1(class_names, background=background),
        }
        self.measures: dict[str, Measure] = {m: makers[m]() for m in MEASURES if m in measures}
        self.confusion = ConfusionMatrix(len(self.class_names))
        self.volumes: VolumeScores | None = None
        if VOLUMES in measures:
            self.volumes = VolumeScores(structures_of(self.class_names, background=background))

    def update(self, truth: Labels, predicted: Labels, *, instances: Labels | None = None) -> None:
        """Count one still in.

        Args:
            truth: (H, W) indices into `class_names` or `IGNORE`, such as `Sample.labels`.
            predicted: (H, W) indices into `class_names`.
            instances: (H, W) ids of the true single objects, 0 elsewhere; for "cityscapes".

        Raises:
            PixelkinError: not maps of indices, sizes differ, or a label is out of range.
        """
        pair = MapPair(truth, predicted, len(self.class_names), instances=instances)
        for measure in self.measures.values():
            measure.add(pair)
        self.confusion.add(pair.counts)

    def update_volume(
        self, truth: Labels, predicted: Labels, *, spacing_mm: Spacing | None, name: str = ""
    ) -> None:
        """Count one volume in, whose slices `update` was given too; see `VolumeScores.update`.

        Raises:
            PixelkinError: "volumes" is not among the measures; as `VolumeScores.update`.
        """
        if self.volumes is None:
            raise PixelkinError(f"{VOLUMES!r} is not among the measures: expected it; add it")
        self.volumes.update(truth, predicted, spacing_mm=spacing_mm, name=name)

    def merge(self, other: SemanticEvaluation) -> None:
        """Count in all stills of `other`, such as another process's part.

        Raises:
            PixelkinError: class names or measures differ.
        """
        if other.names != self.names:
            raise PixelkinError(
                f"measures {', '.join(self.names)} and {', '.join(other.names)} differ; "
                "merge evaluations of the same measures"
            )
        for name, measure in self.measures.items():
            measure.merge(other.measures[name])
        self.confusion.merge(other.confusion)
        if self.volumes is not None and other.volumes is not None:
            self.volumes.merge(other.volumes)

    @property
    def names(self) -> list[str]:
        """The measures, in the order of the table."""
        return [*self.measures, *([] if self.volumes is None else [VOLUMES])]

    def compute(self) -> dict[str, float]:
        """Values of all stills so far under "measure/value" and "measure/value/class"."""
        values = {name: measure.compute() for name, measure in self.measures.items()}
        if self.volumes is not None:
            values[VOLUMES] = self.volumes.compute()
        return {
            f"{name}/{key}": value for name, row in values.items() for key, value in row.items()
        }


def evaluate_maps(
    pairs: Iterable[tuple[Labels, Labels]],
    class_names: Sequence[str],
    *,
    measures: Collection[str] | None = None,
    absent: float | None = None,
    tolerance: float = 0.0075,
    background: Collection[str] = ("background",),
) -> dict[str, float]:
    """What `SemanticEvaluation` computes from pairs of true and predicted maps."""
    evaluation = SemanticEvaluation(
        class_names,
        measures=measures,
        absent=absent,
        tolerance=tolerance,
        background=background,
    )
    for truth, predicted in pairs:
        evaluation.update(truth, predicted)
    return evaluation.compute()
