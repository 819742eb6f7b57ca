"""Data sets of instances taken as class maps, which then know what is one object."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelkin.data.class_maps.background import background_index
from pixelkin.data.source import InstanceSource
from pixelkin.errors import PixelkinError
from pixelkin.masks import paint_instances
from pixelkin.structures import IGNORE, Sample, nth_instance_id


class PaintedClasses:
    """Instances painted as their classes, smaller ones on top of larger ones.

    A label is the category plus 1, 0 background. Where a category is called background already,
    labels are the categories, and what nothing covers is that. Pixels that only a crowd covers, or
    nobody knows what, are `IGNORE`. `Sample.objects` are the instances, without those of the
    background.

    Args:
        source: the instances.
        nameless: what they are called where the data set names no class.

    Raises:
        PixelkinError: there are more classes than 8 bits can number.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(self, source: InstanceSource, *, nameless: str = "") -> None:
        class_names = source.class_names or ((nameless,) if nameless else ())
        background = background_index(class_names)
        self._source = source
        self._first, self._nothing = (1, 0) if background is None else (0, background)
        self.names = source.names
        self.class_names = ("background",)[: self._first] + class_names
        if len(self.class_names) > IGNORE:
            raise PixelkinError(
                f"{len(class_names)} classes of instances: expected at most {IGNORE - 1} to "
                f"paint, since {IGNORE} means unknown; leave classes out"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        sample = self._source[index]
        painted = paint_instances(sample)
        table = np.zeros(max(IGNORE, nth_instance_id(len(painted.categories))) + 1, np.int64)
        table[0], table[IGNORE] = self._nothing, IGNORE
        for number, category in enumerate(painted.categories):
            table[nth_instance_id(number)] = category + self._first
        labels = table[painted.labels]
        objects = np.where(labels == self._nothing, 0, painted.labels)
        return Sample(sample.image, labels, sample.name, objects=objects)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._source.image_file(index)
