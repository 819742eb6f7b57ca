"""What all data sets of annotated stills have in common, and parts of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pixelkin.data.splits import split_by_name
from pixelkin.errors import PixelkinError
from pixelkin.structures import InstanceSample, Sample

ItemT = TypeVar("ItemT")
ItemT_co = TypeVar("ItemT_co", covariant=True)


class Source(Protocol[ItemT_co]):
    """A data set of annotated stills; every module of an encoding has one.

    Constructing it checks folders and raises `PixelkinError`; samples are read as they are asked
    for, and again each time.
    """

    @property
    def names(self) -> list[str]:
        """Of the stills, unique."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of instances: a category is an index into them, and background is none of them. Of class
        maps: a label is an index into them, background included where the data set has it."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> ItemT_co: ...

    def image_file(self, index: int) -> Path | None:
        """The file that `reading.read_image` makes the image of a still from, as it is given.

        For what copies images or refers to them. None where there is no such file: slices of
        volumes, images within annotations, and what is in memory.
        """


InstanceSource = Source[InstanceSample]
"""Stills with instances."""

SemanticSource = Source[Sample]
"""Stills with a class per pixel: `Sample.labels` are indices into `class_names`, or `IGNORE`.

Where a data set has more than 255 classes, index 255 is nobody's and its name is empty.
"""


class Subset(Generic[ItemT]):
    """Some stills of a source, in the order of `indices`.

    Args:
        source: the whole.
        indices: into it.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(self, source: Source[ItemT], indices: Sequence[int]) -> None:
        self._source = source
        self._indices = list(indices)
        names = source.names
        self.names = [names[index] for index in self._indices]
        self.class_names = source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> ItemT:
        return self._source[self._indices[index]]

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._source.image_file(self._indices[index])


def split_source(
    source: Source[ItemT], *, validation: float
) -> tuple[Subset[ItemT], Subset[ItemT]]:
    """(training, validation) parts of `source`, by name as `splits.split_by_name` draws them.

    Args:
        source: the whole.
        validation: share held out, 0 to 1, met on average.

    Raises:
        PixelkinError: a part is empty though both are wanted, as happens to a handful of stills.
    """
    train, held_out = split_by_name(source.names, validation=validation)
    if 0 < validation < 1 and not (train and held_out):
        raise PixelkinError(
            f"{len(source)} stills split into {len(train)} to train and {len(held_out)} to "
            f"validate at a share of {validation:g}; add stills or choose another share"
        )
    return Subset(source, train), Subset(source, held_out)
