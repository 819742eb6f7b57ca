"""What an instance training builds, and what the checkpoint says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pixelkin.engine import AppliesTo
from pixelkin.errors import PixelkinError
from pixelkin.models.instance_embedding import CUTS

Method = Literal["seeds", "discriminative", "boundary", "mask_rcnn"]
"""Fathi et al. 2017; De Brabandere et al. 2017; a U-Net with watershed; Mask R-CNN."""


@dataclass(frozen=True)
class NetworkShape:
    """What `models.instance_embedding.small_instance_network` is built by.

    Attributes:
        stride: of the output, 1, 2 or 4; objects of 10 px need 1.
        dimensions: of the embedding.
        px_per_unit: pixels per unit of the first two dimensions, to which a cell's place is added;
            0 adds no place (the paper).
        ground_units: bound of the dimension that tells background; 0 has none (the paper).
        cuts: similarities at which a pixel's mask is cut, each with scores of its own.
    """

    stride: Annotated[int, AppliesTo("seeds", "discriminative", "boundary")] = 2
    dimensions: Annotated[int, AppliesTo("seeds", "discriminative")] = 16
    px_per_unit: Annotated[float, AppliesTo("seeds", "discriminative")] = 8.0
    ground_units: Annotated[float, AppliesTo("seeds")] = 2.0
    cuts: Annotated[tuple[float, ...], AppliesTo("seeds")] = CUTS


@dataclass(frozen=True)
class ModelPlan:
    """A model before it is built: what `config.json` of its checkpoint will say.

    Attributes:
        method: which network and losses.
        class_names: of the data.
        shrink: whole number that stills are shrunk by before the network; see `FieldSegmenter`.
        network: of all methods but Mask R-CNN.
        boxes: options of `models.mask_rcnn.mask_rcnn`, for that method alone.
        grouping: options of the grouping.
    """

    method: Method
    class_names: tuple[str, ...] = ()
    shrink: int = 1
    network: NetworkShape = NetworkShape()
    boxes: Mapping[str, Any] = field(default_factory=dict)
    grouping: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """What `instances.checkpoints.build_network` and `build_segmenter` read.

        Raises `PixelkinError` where masks are to be cut nowhere.
        """
        shape, grouping = self.network, dict(self.grouping)
        options: dict[str, Any] = {"stride": shape.stride, "dimensions": shape.dimensions}
        options["px_per_unit"] = shape.px_per_unit
        if self.method == "boundary":
            options = {"stride": shape.stride, "dimensions": 0}
        elif self.method == "mask_rcnn":
            options = dict(self.boxes)
        elif self.method == "seeds":
            if not shape.cuts:
                raise PixelkinError("there are no similarity cuts; give one or more, such as 0.5")
            options["ground_units"] = shape.ground_units
            grouping = {"cuts": list(shape.cuts), **grouping}
        return {
            "architecture": f"instance_{self.method}",
            "class_names": list(self.class_names),
            "shrink": self.shrink,
            "network": options,
            "grouping": grouping,
        }


CARD = """# A model of `pixelkin.trainings.instances`

The options of the training, its versions and its numbers stand in `run.json` and `metrics.csv`
beside this folder. `pixelkin predict "this folder" IMAGES --out OUT` runs it.
"""
