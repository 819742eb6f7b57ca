"""Measures of class maps and of volumes, each as its source defines it.

Every measure takes still after still with `update(truth, predicted)`, takes over another's stills
with `merge`, and says its values with `compute()`. Pixels whose truth is `IGNORE` never count. In
all of them a perfect result has 1 (distances, VOE and RVD 0), and a value that nothing defines is
NaN.
"""

from pixelkin.evaluation.semantic.boundary import BoundaryF
from pixelkin.evaluation.semantic.cityscapes import AVERAGE_PX, CATEGORIES, CityscapesIoU
from pixelkin.evaluation.semantic.confusion import ConfusionMatrix, count_pairs
from pixelkin.evaluation.semantic.lanes import LaneF1
from pixelkin.evaluation.semantic.measure import MapPair, Measure
from pixelkin.evaluation.semantic.overlap import AdeScore, BinaryScores, Overlap
from pixelkin.evaluation.semantic.picture import confusion_picture
from pixelkin.evaluation.semantic.report import (
    MEASURES,
    VOLUMES,
    SemanticEvaluation,
    evaluate_maps,
)
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
from pixelkin.evaluation.semantic.volume import (
    LITS_STRUCTURES,
    VolumeScores,
    structures_of,
    surface_distances_mm,
    volume_scores,
)

__all__ = [
    "AVERAGE_PX",
    "CATEGORIES",
    "LITS_STRUCTURES",
    "MEASURES",
    "VOLUMES",
    "AdeScore",
    "BinaryScores",
    "BoundaryF",
    "CityscapesIoU",
    "ConfusionMatrix",
    "LaneF1",
    "MapPair",
    "Measure",
    "Overlap",
    "SemanticEvaluation",
    "VolumeScores",
    "ade_score",
    "binary_scores",
    "class_accuracy",
    "confusion_picture",
    "count_pairs",
    "evaluate_maps",
    "f1_by_class",
    "frequency_weighted_iou",
    "iou_by_class",
    "mean_iou",
    "pixel_accuracy",
    "precision_by_class",
    "recall_by_class",
    "structures_of",
    "surface_distances_mm",
    "volume_scores",
]
