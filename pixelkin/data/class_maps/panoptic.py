"""COCO panoptic annotations as class maps: things and stuff.

Kirillov et al.: Panoptic Segmentation, CVPR 2019.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pixelkin.data.instances.coco_panoptic import CocoPanoptic
from pixelkin.data.reading import read_image
from pixelkin.structures import Sample


class PanopticClasses:
    """Classes of things and stuff of a panoptic data set; what is void is `IGNORE`.

    Args:
        source: the data set.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(self, source: CocoPanoptic) -> None:
        self._source = source
        self.names = source.names
        self.class_names = source.semantic_names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        image = read_image(self._source.image_file(index))
        return Sample(image, self._source.semantic(index), self.names[index])

    def labels(self, index: int) -> Int64[np.ndarray, "h w"]:
        """The labels of one still without its pixels, as when frequencies are counted."""
        return self._source.semantic(index)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._source.image_file(index)
