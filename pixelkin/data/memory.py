"""A data set read once into memory, for training that comes back to every still many times."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
from jaxtyping import Integer

from pixelkin.data.source import window_of
from pixelkin.masks import paint_instances
from pixelkin.structures import InstanceSample, Sample


class StillSource(Protocol):
    """Any data set of stills: `names`, a length, and one sample per index, read lazily."""

    @property
    def names(self) -> list[str]:
        """Of the stills, unique."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample | InstanceSample: ...


class InMemory:
    """The stills of `source` as painted label maps; reading one then costs a copy of its labels.

    Takes 4 bytes a pixel (RGB and 8-bit labels), 5 where a still has more than 254 instances, and 1
    or 2 more for the objects of class maps. The
    images of the samples are shared and read-only, so that no caller changes what the next gets;
    worker processes made by fork share them too.

    Args:
        source: data set to read, in its own order.
        prepare: done to every sample after painting and before it is kept, such as scaling down.
        progress: called after every still with how many are read and how many there are.

    Raises:
        PixelkinError: what `source` raises on reading.
    """

    names: list[str]
    class_names: tuple[str, ...]
    window_hu: tuple[float, float] | None
    """That of the source; see `source.window_of`."""

    def __init__(
        self,
        source: StillSource,
        *,
        prepare: Callable[[Sample], Sample] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.names = list(source.names)
        self.class_names = tuple(getattr(source, "class_names", ()))
        self.window_hu = window_of(source)
        self._samples: list[Sample] = []
        for index in range(len(source)):
            sample = source[index]
            if isinstance(sample, InstanceSample):
                sample = paint_instances(sample)
            self._samples.append(_narrow(prepare(sample) if prepare else sample))
            if progress:
                progress(index + 1, len(source))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        objects = None if sample.objects is None else sample.objects.astype(np.int64)
        return replace(sample, labels=sample.labels.astype(np.int64), objects=objects)

    def image_file(self, index: int) -> None:
        """None: what is in memory may be `prepare`d; see `source.Source`."""
        return None


def _narrow(sample: Sample) -> Sample:
    """The sample with its labels in as few bytes as hold them, and its image locked."""
    # A view, since the source may still want to write into the array it gave.
    image = sample.image.view()
    image.flags.writeable = False
    objects = None if sample.objects is None else _in_few_bytes(sample.objects)
    return replace(sample, image=image, labels=_in_few_bytes(sample.labels), objects=objects)


def _in_few_bytes(labels: Integer[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
