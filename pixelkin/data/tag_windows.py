"""Tagged stills as training items, and items as a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch.utils.data import Dataset

from pixelkin.data.transforms import Transform
from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample, TagBatch

TaggedImage = tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, " c"]]
"""An RGB image, and whether it shows each class."""


class TaggedWindows(Dataset[TaggedImage]):
    """Tagged stills, each augmented anew at every visit.

    Args:
        images: uint8 (H, W, 3), RGB, of any sizes; read anew at every visit.
        tags: of each image, in the same order.
        transform: what augments one; must give one size to all where batches are made, and show
            most of the image: what a window leaves out stays tagged. It sees empty label maps.
        repeats: items per still: item i is still i modulo their number.

    Raises:
        PixelkinError: there is no still, or not as many rows of tags.
    """

    def __init__(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        tags: Bool[np.ndarray, "n c"],
        transform: Transform,
        *,
        repeats: int = 1,
    ) -> None:
        if not len(images) or repeats < 1:
            raise PixelkinError(
                f"{len(images)} tagged images, {repeats} times: expected one or more of both; "
                "check the folder and the tags"
            )
        if len(images) != len(tags):
            raise PixelkinError(
                f"{len(images)} images and {len(tags)} rows of tags: expected one row per image"
            )
        self._images, self._tags = images, tags
        self._transform, self._repeats = transform, repeats

    def __len__(self) -> int:
        return len(self._images) * self._repeats

    def __getitem__(self, index: int) -> TaggedImage:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        image = self._images[index % len(self._images)]
        sample = self._transform(Sample(image, np.zeros(image.shape[:2], np.int64)))
        return sample.image, self._tags[index % len(self._images)]


def collate_tags(items: Sequence[TaggedImage]) -> TagBatch:
    """Images of one size and their tags as a batch."""
    images = torch.from_numpy(np.stack([image for image, _ in items]))
    return TagBatch(
        images.permute(0, 3, 1, 2).contiguous().float().div_(255),
        torch.from_numpy(np.stack([tags for _, tags in items])),
    )
