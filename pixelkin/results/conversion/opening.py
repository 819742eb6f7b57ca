"""The data set that is read, and whether it is taken as instances or as class maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixelkin.data.class_maps.from_instances import PaintedClasses
from pixelkin.data.class_maps.png_folders import png_class_lists
from pixelkin.data.class_maps.sources import (
    SEMANTIC_FORMATS,
    open_semantic_source,
    recognised_semantic,
)
from pixelkin.data.instances.sources import FORMATS, format_and_path, open_source, recognised
from pixelkin.data.source import InstanceSource, SemanticSource
from pixelkin.errors import PixelkinError
from pixelkin.results.conversion.targets import WRITTEN, Target

_OBJECTS = {"voc": "SegmentationObject", "sbd": "inst"}
"""Folder of the objects, of formats whose class maps lie in another."""


@dataclass(frozen=True)
class Origin:
    """What a user says of the data set to be read.

    Attributes:
        spec: FORMAT:PATH, or a path whose content shows its format.
        images: folder of its images.
        masks: folder of its annotations.
        split: which part.
    """

    spec: str
    images: Path | None = None
    masks: Path | None = None
    split: str | None = None

    @property
    def format_and_path(self) -> tuple[str, Path]:
        """The name of the format, told from what lies there where it is not given, and the path.

        Raises:
            PixelkinError: the format is unknown, or not to be told; or there is nothing.
        """
        name, path = format_and_path(self.spec, [*dict.fromkeys([*FORMATS, *SEMANTIC_FORMATS])])
        return name or _recognised(path), path

    @property
    def places(self) -> list[Path]:
        """All files and folders that were named."""
        _, path = self.format_and_path
        return [one for one in (path, self.images, self.masks) if one is not None]


def open_origin(
    origin: Origin, target: Target, *, class_maps: bool = False
) -> InstanceSource | PaintedClasses | SemanticSource:
    """The data set, as `is_class_maps` takes it.

    Raises:
        PixelkinError: as `open_source` and `open_semantic_source`.
    """
    name, path = origin.format_and_path
    spec = f"{name}:{path}"
    images, masks, split = origin.images, origin.masks, origin.split
    if not is_class_maps(origin, target, class_maps=class_maps):
        return open_source(spec, images=images, masks=masks, split=split)
    if name in SEMANTIC_FORMATS:
        return open_semantic_source(spec, images=images, masks=masks, split=split)
    return PaintedClasses(open_source(spec, images=images, masks=masks, split=split))


def require_part(origin: Origin) -> None:
    """Raise where a data set has several parts and none was named: one alone would be converted.

    `pngs` and `yolo` refuse that themselves.
    """
    name, path = origin.format_and_path
    if origin.split is not None or name == "pngs" or name not in SEMANTIC_FORMATS:
        return
    parts = SEMANTIC_FORMATS[name].part_names(path)
    if len(parts) > 1 and not _is_whole(name, origin):
        raise PixelkinError(
            f"{path} is divided into {', '.join(parts)}: expected to hear which; give it as split"
        )


def _is_whole(name: str, origin: Origin) -> bool:
    """Whether no split means all: of CamVid as published, or whose folders are given."""
    if name != "camvid" or any(origin.format_and_path[1].glob("*annot/")):
        return False
    published = origin.format_and_path[1] / "LabeledApproved_full"
    return origin.masks is not None or published.is_dir()


def is_class_maps(origin: Origin, target: Target, *, class_maps: bool = False) -> bool:
    """Whether the data set is taken as class maps: where it has nothing else, or it is asked for.

    A format that has both is taken as what the target can hold, as instances where it can hold
    both and the data set has objects; PNGs beside a list of classes are class maps.
    """
    name, path = origin.format_and_path
    if class_maps or name not in FORMATS:
        return True
    if name not in SEMANTIC_FORMATS:
        return False
    if name == "pngs":
        return bool(png_class_lists(path, origin.images, origin.masks))
    if name in _OBJECTS and not (path / _OBJECTS[name]).is_dir():
        return True
    return target.format not in WRITTEN["instances"]


def _recognised(path: Path) -> str:
    try:
        return recognised(path)
    except PixelkinError as error:
        if path.is_file():
            raise
        try:
            return recognised_semantic(path)
        except PixelkinError:
            known = ", ".join(dict.fromkeys([*FORMATS, *SEMANTIC_FORMATS]))
            if "could be" in str(error):
                raise error from None
            raise PixelkinError(
                f"{path} shows no known format: write FORMAT:PATH with one of {known}"
            ) from None
