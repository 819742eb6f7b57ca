"""Measures that need the confusion matrix only."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.confusion import ConfusionMatrix, Counts
from pixelkin.evaluation.semantic.measure import MapPair, Measure
from pixelkin.evaluation.semantic.scores import (
    ade_score,
    binary_scores,
    class_accuracy,
    f1_by_class,
    frequency_weighted_iou,
    iou_by_class,
    mean_iou,
    pixel_accuracy,
    precision_by_class,
    recall_by_class,
)


class CountedMeasure(Measure):
    """A measure that follows from the pixels of all stills together."""

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(class_names)
        self.confusion = ConfusionMatrix(len(self.class_names))

    def add(self, pair: MapPair) -> None:
        """Count one still in, of which other measures may know too."""
        self.confusion.add(pair.counts)

    def _merge(self, other: Self) -> None:
        self.confusion.merge(other.confusion)

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        return self._values(self.confusion.compute())

    @abstractmethod
    def _values(self, counts: Counts) -> dict[str, float]: ...


class Overlap(CountedMeasure):
    """mIoU, pixel_accuracy, class_accuracy, fwIoU; IoU, precision, recall and F1 by class.

    Args:
        class_names: in the order of their indices.
        absent: what a class counts in mIoU that neither truth nor prediction has; None leaves it
            out.
    """

    def __init__(self, class_names: Sequence[str], *, absent: float | None = None) -> None:
        super().__init__(class_names)
        self.absent = absent

    def _values(self, counts: Counts) -> dict[str, float]:
        values = {
            "mIoU": mean_iou(counts, absent=self.absent),
            "pixel_accuracy": pixel_accuracy(counts),
            "class_accuracy": class_accuracy(counts),
            "fwIoU": frequency_weighted_iou(counts),
        }
        return (
            values
            | self.by_class("IoU", iou_by_class(counts))
            | self.by_class("precision", precision_by_class(counts))
            | self.by_class("recall", recall_by_class(counts))
            | self.by_class("F1", f1_by_class(counts))
        )


class AdeScore(CountedMeasure):
    """score: the mean of pixel accuracy and mIoU, by which ADE20K's scene parsing is ranked."""

    def _values(self, counts: Counts) -> dict[str, float]:
        return {"score": ade_score(counts)}


class BinaryScores(CountedMeasure):
    """accuracy, precision, recall, F1 and IoU of the second of two classes, such as skin.

    Args:
        class_names: two, of which the second is what is looked for.

    Raises:
        PixelkinError: there are not two classes.
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        super().__init__(class_names)
        if len(self.class_names) != 2:
            raise PixelkinError(
                f"binary scores of {len(self.class_names)} classes: expected 2, the second of "
                "which is looked for; join the classes, or ask for the measure 'overlap'"
            )

    def _values(self, counts: Counts) -> dict[str, float]:
        return binary_scores(counts)
