"""Data sets of class maps written: index PNGs, the layout of VOC, COCO and COCO panoptic."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Int64

from pixelkin.data.class_maps.background import background_index
from pixelkin.data.class_maps.from_instances import PaintedClasses
from pixelkin.data.class_maps.index_png import CLASSES_FILE, SemanticPng, read_class_list
from pixelkin.data.class_maps.panoptic import PanopticClasses
from pixelkin.data.class_maps.voc import VocSemantic
from pixelkin.data.instances.coco_panoptic import CocoPanoptic
from pixelkin.data.source import SemanticSource
from pixelkin.errors import PixelkinError
from pixelkin.masks import encode_rle
from pixelkin.results.class_maps import regions_of_classes, write_class_names, write_class_png
from pixelkin.results.conversion.instance_formats import CocoFolder, InstanceWriter, PanopticFolder
from pixelkin.results.conversion.pictures import PictureLayout
from pixelkin.structures import IGNORE, Instance, InstanceSample, Sample

_LIST = Path("ImageSets") / "Segmentation" / "train.txt"


class ClassMapWriter(ABC):
    """A data set of class maps, written still by still.

    Args:
        folder: of the data set; made by this.
        class_names: what labels are indices into.

    Attributes:
        layout: where the images are.
        lacks: what the format cannot hold, for people.
    """

    layout: ClassVar[PictureLayout]
    lacks: ClassVar[tuple[str, ...]] = ()

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder = folder
        self.class_names = tuple(class_names)

    @abstractmethod
    def write(self, sample: Sample, *, stem: str, image: str) -> None:
        """Append one still.

        Args:
            sample: the still, its labels known to be right.
            stem: what its files are called.
            image: what annotations call its image.
        """

    def finish(self) -> None:  # noqa: B027 (most have nothing left to write)
        """Write what stands once for all stills."""

    @staticmethod
    @abstractmethod
    def read(path: Path) -> SemanticSource:
        """What lies at `path`, by the reader of the format."""


class PngMaps(ClassMapWriter):
    """`images/`, `labels/` with an index PNG for each still, and `classes.txt`."""

    layout = PictureLayout("images")
    inner: ClassVar[str] = "labels"

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        (folder / self.inner).mkdir(parents=True)
        for name in filter(None, self.class_names):
            if name != name.strip() or name.splitlines() != [name]:
                raise PixelkinError(f"class name {name!r} cannot stand in a line; rename it")
        # Unsaid, maps of nothing but 0 and 255 look like binary masks.
        write_class_names(folder / CLASSES_FILE, self.class_names, ignore=IGNORE)
        # Names that are double are refused here, before any still is written.
        read_class_list(folder / CLASSES_FILE)

    def write(self, sample: Sample, *, stem: str, image: str) -> None:
        """Append one still."""
        path = self.folder / self.inner / f"{stem}.png"
        write_class_png(path, sample.labels, classes=len(self.class_names))

    @staticmethod
    def read(path: Path) -> SemanticSource:
        """What was written."""
        return SemanticPng(path / "images", path / "labels", classes=path / CLASSES_FILE)


class VocMaps(PngMaps):
    """`JPEGImages/`, `SegmentationClass/` with VOC's palette, `ImageSets/`, and `classes.txt`."""

    layout = PictureLayout("JPEGImages", jpeg=True)
    lacks = ("the pixels of images that are no JPEG: they are compressed",)
    inner = "SegmentationClass"

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        if len(class_names) > IGNORE:
            raise PixelkinError(
                f"{len(class_names)} classes: expected at most {IGNORE}, as VOC's 8 bits hold; "
                "write pngs"
            )
        super().__init__(folder, class_names)
        self._stems: list[str] = []

    def write(self, sample: Sample, *, stem: str, image: str) -> None:
        """Append one still."""
        if stem.split() != [stem]:
            raise PixelkinError(
                f"the still {stem!r} has a space, which VOC's lists part at; rename it"
            )
        super().write(sample, stem=stem, image=image)
        self._stems.append(stem)

    def finish(self) -> None:
        """Write the list of the stills."""
        path = self.folder / _LIST
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{stem}\n" for stem in self._stems), encoding="utf-8")

    @staticmethod
    def read(path: Path) -> SemanticSource:
        """What was written."""
        return VocSemantic(path)


class _AsRegions(ClassMapWriter):
    """A region for each class of a still, by a writer of instances."""

    writer: ClassVar[type[InstanceWriter]]

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        if not all(self.class_names) or len(self.class_names) > IGNORE:
            raise PixelkinError(
                f"{len(class_names)} classes: expected at most {IGNORE}, each with a name; write "
                "pngs"
            )
        self._regions = self.writer(folder, class_names)

    def write(self, sample: Sample, *, stem: str, image: str) -> None:
        """Append one still."""
        left_out = self._left_out()
        regions = regions_sample(sample, leave_out=left_out)
        self._regions.write(regions, stem=stem, image=image)

    def _left_out(self) -> int | None:
        return None

    def finish(self) -> None:
        """Write what stands once for all stills."""
        self._regions.finish()


class CocoRegions(_AsRegions):
    """`instances.json` with a region for each class of a still, unknown pixels as a crowd.

    A class that is called background has none: it is what no region covers.
    """

    layout = CocoFolder.layout
    writer = CocoFolder

    def _left_out(self) -> int | None:
        return background_index(self.class_names)

    @staticmethod
    def read(path: Path) -> SemanticSource:
        """What was written."""
        return PaintedClasses(CocoFolder.read(path))


class _StuffFolder(PanopticFolder):
    things = False


class PanopticRegions(_AsRegions):
    """`panoptic.json` with a segment of stuff for each class of a still; void is unknown."""

    layout = PanopticFolder.layout
    writer = _StuffFolder

    @staticmethod
    def read(path: Path) -> SemanticSource:
        """What was written."""
        return PanopticClasses(CocoPanoptic(path / "panoptic.json"))


CLASS_MAP_WRITERS: dict[str, type[ClassMapWriter]] = {
    "pngs": PngMaps,
    "voc": VocMaps,
    "coco": CocoRegions,
    "panoptic": PanopticRegions,
}
"""By the name in `FORMAT:PATH`."""


def regions_sample(sample: Sample, *, leave_out: int | None = None) -> InstanceSample:
    """A class map as an instance for each class, its `key` the class; `IGNORE` is `ignore`."""
    regions = regions_of_classes(sample.labels, leave_out=() if leave_out is None else (leave_out,))
    instances = tuple(
        Instance(rle, category, key=str(category))
        for rle, category in zip(regions.rles, regions.categories, strict=True)
    )
    unknown = sample.labels == IGNORE
    ignore = encode_rle(unknown) if unknown.any() else None
    return InstanceSample(sample.image, instances, sample.name, ignore)


def check_labels(labels: Int64[np.ndarray, "h w"], class_names: Sequence[str], name: str) -> None:
    """Raise where a label is no index into `class_names`."""
    wrong = (labels < 0) | ((labels >= len(class_names)) & (labels != IGNORE))
    if wrong.any():
        raise PixelkinError(
            f"{name} has label {labels[wrong][0]}: expected 0 to {len(class_names) - 1} or "
            f"{IGNORE}; check the data set's classes"
        )
