"""Annotated stills as training items, and items as a batch."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from pixelkin.data.transforms import Transform, ignore_small, largest_label
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, InstanceBatch, Sample, nth_instance_id


class InstanceCrops(Dataset[Sample]):
    """Stills, each augmented anew at every visit.

    Args:
        samples: stills with instance labels; read anew at every visit, so keep them in memory
            (`masks.paint_instances` of a data set's items) where they fit.
        transform: what augments one, such as `RandomWindow`; must give one size to all where
            batches are made. It draws from NumPy's global generator.
        repeats: items per still: item i is still i modulo their number.
        min_pixels: instances that are smaller after the transform become `IGNORE`; 0 keeps all.

    Raises:
        PixelkinError: there is no still.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        repeats: int = 1,
        min_pixels: int = 0,
    ) -> None:
        if not len(samples) or repeats < 1:
            raise PixelkinError(
                f"{len(samples)} stills, {repeats} times: expected one or more of both; "
                "check the data folder and the split"
            )
        self.samples = samples
        self.transform = transform
        self.repeats = repeats
        self.min_pixels = min_pixels

    def __len__(self) -> int:
        return len(self.samples) * self.repeats

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        sample = self.transform(self.samples[index % len(self.samples)])
        return ignore_small(sample, min_pixels=self.min_pixels) if self.min_pixels else sample


def collate_instances(samples: Sequence[Sample]) -> InstanceBatch:
    """Stills of one size as a batch.

    Instances of a still without categories are all of category 0.

    Raises:
        PixelkinError: sizes differ, or a label has no category.
    """
    sizes = {sample.labels.shape for sample in samples}
    if len(sizes) != 1:
        raise PixelkinError(
            f"a batch holds stills of sizes {sorted(sizes)} (height, width), expected one; "
            "end the transform with a window of fixed size"
        )
    rows = [_categories(sample) for sample in samples]
    categories = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for row, known in zip(categories, rows, strict=True):
        row[: len(known)] = known
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    return InstanceBatch(
        images=images.permute(0, 3, 1, 2).contiguous().float().div_(255),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        categories=torch.from_numpy(categories),
    )


def _categories(sample: Sample) -> Sequence[int]:
    largest = largest_label(sample.labels)
    count = largest - (largest > IGNORE)
    if not sample.categories:
        return (0,) * count
    if count > len(sample.categories):
        raise PixelkinError(
            f"{sample.name or 'a still'} has label {largest} but {len(sample.categories)} "
            f"categories, the last for label {nth_instance_id(len(sample.categories) - 1)}: "
            "expected a category for each label; number the instances as paint_instances does"
        )
    return sample.categories
