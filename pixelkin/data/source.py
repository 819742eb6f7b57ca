"""What all data sets of annotated stills have in common, and parts of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Int64

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


@runtime_checkable
class ObjectIds(Protocol):
    """What class maps may offer beside: which pixels are one object, as Cityscapes' iIoU asks."""

    @property
    def average_px(self) -> Mapping[str, float] | None:
        """Class → pixels of its average object, by which the data set's own evaluation weighs; None
        where those of Cityscapes are meant."""

    def object_ids(self, index: int) -> Int64[np.ndarray, "h w"] | None:
        """Ids of the single objects of a still, 0 elsewhere and where nobody told them apart.

        None for every still where the data set came without them.
        """


def object_ids(source: Source[Any], index: int) -> Int64[np.ndarray, "h w"] | None:
    """The `ObjectIds` of a still, or None where the source has none."""
    return source.object_ids(index) if isinstance(source, ObjectIds) else None


@dataclass(frozen=True)
class Case:
    """A volume, whose slices are stills of a source.

    Attributes:
        name: unique within its data set.
        slices: their indices in the source, ascending along z.
        spacing_zyx_mm: between voxels along the axes of the stacked slices; None where the file
            lost it, so that nothing can be measured in millimetres.
    """

    name: str
    slices: range
    spacing_zyx_mm: tuple[float, float, float] | None


@runtime_checkable
class Cases(Protocol):
    """What a source of slices offers beside: which of them are one volume."""

    def cases(self) -> list[Case]:
        """The volumes in the order of their slices; every still belongs to one, or none does."""


def cases(source: Source[Any]) -> list[Case]:
    """The `Cases` of a source; none where its stills are no slices."""
    return source.cases() if isinstance(source, Cases) else []


@runtime_checkable
class Windowed(Protocol):
    """What a source of slices offers beside: its Hounsfield units as other grey values."""

    @property
    def window_hu(self) -> tuple[float, float] | None:
        """Hounsfield units that are black and white; None where the images have none."""

    def in_window(self, window_hu: tuple[float, float]) -> Any:
        """The same source with another window."""


def window_of(source: object) -> tuple[float, float] | None:
    """The Hounsfield units that are black and white in the images of a source, if they have any."""
    found: tuple[float, float] | None = getattr(source, "window_hu", None)
    return found


def in_window(source: Source[ItemT], window_hu: tuple[float, float] | None) -> Source[ItemT]:
    """The source with that window, where it is one of Hounsfield units; else as it is."""
    own = window_of(source)
    if window_hu is None or own in (None, window_hu) or not isinstance(source, Windowed):
        return source
    seen: Source[ItemT] = source.in_window(window_hu)
    return seen


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

    @property
    def average_px(self) -> Mapping[str, float] | None:
        """That of the whole; see `ObjectIds`."""
        return self._source.average_px if isinstance(self._source, ObjectIds) else None

    def object_ids(self, index: int) -> Int64[np.ndarray, "h w"] | None:
        """Those of the whole; see `ObjectIds`."""
        return object_ids(self._source, self._indices[index])

    @property
    def window_hu(self) -> tuple[float, float] | None:
        """That of the whole; see `Windowed`."""
        return window_of(self._source)

    def in_window(self, window_hu: tuple[float, float]) -> "Subset[ItemT]":
        """The same stills of the whole in another window; see `Windowed`."""
        return Subset(in_window(self._source, window_hu), self._indices)

    def cases(self) -> list[Case]:
        """Volumes of the whole that are here; see `Cases`.

        Raises:
            PixelkinError: slices of one are here, but not all in their order.
        """
        place_of = {index: place for place, index in enumerate(self._indices)}
        found = []
        for case in cases(self._source):
            places = [place_of[index] for index in case.slices if index in place_of]
            if not places:
                continue
            here = range(places[0], places[0] + len(case.slices))
            if places != list(here):
                raise PixelkinError(
                    f"{len(places)} of the {len(case.slices)} slices of {case.name} are chosen: "
                    "expected all in their order, since volumes are judged whole; split by volume"
                )
            found.append(replace(case, slices=here))
        return found


def split_source(
    source: Source[ItemT], *, validation: float
) -> tuple[Subset[ItemT], Subset[ItemT]]:
    """(training, validation) parts of `source`, by name as `splits.split_by_name` draws them.

    Slices of one volume go to the same part, by the name of the volume: neighbours are so alike
    that a network would be judged by what it was trained on.

    Args:
        source: the whole.
        validation: share held out, 0 to 1, met on average.

    Raises:
        PixelkinError: a part is empty though both are wanted, as happens to a handful of stills.
    """
    volumes = cases(source)
    names = [case.name for case in volumes] or source.names
    train, held_out = split_by_name(names, validation=validation)
    if 0 < validation < 1 and not (train and held_out):
        raise PixelkinError(
            f"{len(names)} {'volumes' if volumes else 'stills'} split into {len(train)} to train "
            f"and {len(held_out)} to validate at a share of {validation:g}; add some"
            + _other_share(names, validation)
        )
    if volumes:
        train, held_out = (
            [index for number in part for index in volumes[number].slices]
            for part in (train, held_out)
        )
    return Subset(source, train), Subset(source, held_out)


def _other_share(names: Sequence[str], share: float) -> str:
    """The share in tenths nearest to `share` that leaves neither part empty, as an option."""
    tenths = [tenth / 10 for tenth in range(1, 10)]
    fit = [other for other in tenths if all(split_by_name(names, validation=other))]
    if not fit:
        return ""
    return f" or choose another share: --validation {min(fit, key=lambda s: abs(s - share)):g}"
