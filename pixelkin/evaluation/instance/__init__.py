"""Measures of instance segmentation, each as its source defines it.

Every measure takes still after still with `update(truth, found)` and says its values with
`compute()`. Masks stay run-length encoded. In all of them a perfect result has 1 (DiC 0), and a
value that nothing defines is NaN.
"""

from pixelkin.evaluation.instance.cityscapes import CityscapesAP
from pixelkin.evaluation.instance.coco import CocoAP
from pixelkin.evaluation.instance.leaves import LeafScores
from pixelkin.evaluation.instance.measure import Measure
from pixelkin.evaluation.instance.microscopy import ThreatScore
from pixelkin.evaluation.instance.panoptic import PanopticQuality
from pixelkin.evaluation.instance.report import (
    MEASURES,
    InstanceEvaluation,
    evaluate_instances,
)
from pixelkin.evaluation.instance.stills import AnnotatedStill, StillPair, Truth
from pixelkin.evaluation.instance.voc import VocRegionAP

__all__ = [
    "MEASURES",
    "AnnotatedStill",
    "CityscapesAP",
    "CocoAP",
    "InstanceEvaluation",
    "LeafScores",
    "Measure",
    "PanopticQuality",
    "StillPair",
    "ThreatScore",
    "Truth",
    "VocRegionAP",
    "evaluate_instances",
]
