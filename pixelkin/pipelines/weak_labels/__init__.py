"""Masks from image tags: classifier → activation maps → confident regions → AffinityNet → random
walk → masks → a segmentation network (Ahn & Kwak, CVPR 2018)."""

from pixelkin.pipelines.weak_labels.instances import InstanceOptions
from pixelkin.pipelines.weak_labels.run import Extent, Options, label_photos
from pixelkin.pipelines.weak_labels.stages import Machine
from pixelkin.pipelines.weak_labels.workspace import GO_ON, STAGES

__all__ = ["GO_ON", "STAGES", "Extent", "InstanceOptions", "Machine", "Options", "label_photos"]
