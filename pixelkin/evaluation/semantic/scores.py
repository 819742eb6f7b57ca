"""Numbers that follow from a confusion matrix.

Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, section 5
(pixel accuracy, mean accuracy, mean IoU, frequency-weighted IoU); Zhou et al., "Scene Parsing
through ADE20K Dataset", CVPR 2017 (score of the SceneParsing challenge).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.confusion import Counts
from pixelkin.structures import IGNORE

ByClass = Float[np.ndarray, " classes"]


def iou_by_class(counts: Counts) -> ByClass:
    """TP / (TP + FP + FN) of each class; NaN of one that neither truth nor prediction has.

    Where there are more than 255 classes, 255 is nobody's and always NaN, here and below.
    """
    right = _named(np.diagonal(counts))
    return _ratio(right, counts.sum(axis=0) + counts.sum(axis=1) - right)


def precision_by_class(counts: Counts) -> ByClass:
    """TP / (TP + FP) of each class; NaN of one that was never predicted."""
    return _ratio(_named(np.diagonal(counts)), counts.sum(axis=0))


def recall_by_class(counts: Counts) -> ByClass:
    """TP / (TP + FN) of each class; NaN of one that the truth has not."""
    return _ratio(_named(np.diagonal(counts)), counts.sum(axis=1))


def f1_by_class(counts: Counts) -> ByClass:
    """2 TP / (2 TP + FP + FN), Dice, of each class; NaN of one that neither side has."""
    right = _named(np.diagonal(counts))
    return _ratio(2 * right, counts.sum(axis=0) + counts.sum(axis=1))


def mean_iou(counts: Counts, *, absent: float | None = None) -> float:
    """Mean of IoU over classes.

    Args:
        counts: of `ConfusionMatrix.compute`.
        absent: what a class counts that neither truth nor prediction has. None leaves it out;
            some published evaluations let it count 0 or 1.
    """
    values = iou_by_class(counts)
    if absent is not None:
        unseen = np.isnan(values)
        unseen[IGNORE : IGNORE + 1] = False
        values = np.where(unseen, absent, values)
    return mean(values)


def pixel_accuracy(counts: Counts) -> float:
    """Share of the known pixels whose class is right."""
    total = counts.sum()
    return float(np.trace(counts) / total) if total else math.nan


def class_accuracy(counts: Counts) -> float:
    """Mean of recall over the classes that the truth has."""
    return mean(recall_by_class(counts))


def frequency_weighted_iou(counts: Counts) -> float:
    """Mean of IoU over classes, weighted by their share of the true pixels."""
    total = counts.sum()
    if not total:
        return math.nan
    return float(np.nansum(iou_by_class(counts) * counts.sum(axis=1)) / total)


def ade_score(counts: Counts) -> float:
    """(pixel accuracy + mean IoU) / 2.

    Classes that neither side has are left out of the mean; the challenge's validation images have
    all 150.
    """
    return (pixel_accuracy(counts) + mean_iou(counts)) / 2


def binary_scores(counts: Counts, *, positive: int = 1) -> dict[str, float]:
    """accuracy, precision, recall, F1 and IoU of one class of two, over all pixels together.

    As skin detection is judged (Pratheepan). NaN where a denominator is 0.

    Raises:
        PixelkinError: there are not two classes, or `positive` is none of them.
    """
    if counts.shape != (2, 2) or positive not in (0, 1):
        raise PixelkinError(
            f"binary scores of class {positive} of {len(counts)}: expected class 0 or 1 of 2; "
            "join the classes into two, or ask for the scores by class"
        )
    return {
        "accuracy": pixel_accuracy(counts),
        "precision": float(precision_by_class(counts)[positive]),
        "recall": float(recall_by_class(counts)[positive]),
        "F1": float(f1_by_class(counts)[positive]),
        "IoU": float(iou_by_class(counts)[positive]),
    }


def mean(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN where there is none."""
    known = [float(value) for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _named(right: np.ndarray) -> ByClass:
    known = right.astype(np.float64)
    known[IGNORE : IGNORE + 1] = math.nan
    return known


def _ratio(part: np.ndarray, whole: np.ndarray) -> ByClass:
    values: ByClass = np.full(len(part), math.nan)
    np.divide(part, whole, out=values, where=whole > 0)
    return values
