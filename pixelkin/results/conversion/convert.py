"""One data set written in another format, read back, and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pixelkin.data.class_maps.background import BACKGROUND
from pixelkin.data.instances.coco_panoptic import CocoPanoptic
from pixelkin.data.source import InstanceSource, SemanticSource, Source
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, atomic_write
from pixelkin.results.conversion.class_formats import (
    CLASS_MAP_WRITERS,
    check_labels,
)
from pixelkin.results.conversion.comparison import compare_class_maps, compare_instances
from pixelkin.results.conversion.instance_formats import INSTANCE_WRITERS
from pixelkin.results.conversion.opening import Origin, is_class_maps, open_origin, require_part
from pixelkin.results.conversion.pictures import PictureLayout, Pictures, Placing
from pixelkin.results.conversion.report import Report
from pixelkin.results.conversion.targets import Target, check_place, parse_target, require_kind

Each = Callable[[str, Sequence[int]], Iterable[int]]
"""Goes through numbers, and shows under a name how far it is."""


def _silent(name: str, numbers: Sequence[int]) -> Iterable[int]:
    return numbers


def convert_data(
    origin: Origin,
    to: str,
    *,
    class_maps: bool = False,
    placing: Placing = "refer",
    force: bool = False,
    each: Each = _silent,
) -> Report:
    """Write a data set in another format, read it back, and report what was lost.

    One still is in memory at a time. The data set is there whole or not at all; the report stands
    beside it, as JSON (`Target.report_path`).

    Args:
        origin: what is read.
        to: FORMAT:PATH of what is written.
        class_maps: take it as class maps; instances are painted.
        placing: what becomes of the images.
        force: replace what is at the path.
        each: goes through the numbers of the stills.

    Raises:
        PixelkinError: a format is unknown or cannot hold this; what would be lost or destroyed by
            writing there; the data set has parts and none is named; it cannot be read, or not be
            written.
    """
    target = parse_target(to)
    check_place(target, origin.places, force=force)
    maps = is_class_maps(origin, target, class_maps=class_maps)
    require_kind(target, "class maps" if maps else "instances")
    require_part(origin)
    source: Any = open_origin(origin, target, class_maps=class_maps)
    if not len(source):
        raise PixelkinError(f"{origin.spec} has no still: expected at least one; check its folders")
    check_place(target, _image_folders(source), force=force)
    report = Report("class maps" if maps else "instances", origin.spec, to)
    if maps:
        names = write_class_maps(source, target, report, placing, each)
    else:
        names = write_instances(source, target, report, placing, each)
    if names != list(source.names):
        old, new = next(
            pair for pair in zip(source.names, names, strict=True) if len(set(pair)) > 1
        )
        report.notes.append(f"stills have other names: {old} is {new} now")
    text = json.dumps(report.as_json(), ensure_ascii=False, indent=1)
    atomic_write(target.report_path, text + "\n")
    return report


def write_instances(
    source: InstanceSource,
    target: Target,
    report: Report,
    placing: Placing = "refer",
    each: Each = _silent,
) -> list[str]:
    """Write any source of instances, read it back, and add what was lost to `report`.

    Returns the names of the stills as they were written. What is at `target` is replaced.
    """
    writer = INSTANCE_WRITERS[target.format]
    report.cannot_hold = writer.lacks
    if isinstance(source, CocoPanoptic):
        report.left_out = _stuff(source)
    with atomic_path(target.path) as place:
        written = writer(place, source.class_names)
        pictures = _pictures(source, writer.layout, target, place, placing, report)
        for index in each("write", range(len(source))):
            sample = source[index]
            image = pictures.place(index, sample.image)
            written.write(sample, stem=pictures.stems[index], image=image)
        written.finish()
    report.stills = len(source)
    new = _read_back(writer.read, target.path)
    compare_instances(source, new, pictures.names, writer, report, each=each)
    return pictures.names


def write_class_maps(
    source: SemanticSource,
    target: Target,
    report: Report,
    placing: Placing = "refer",
    each: Each = _silent,
) -> list[str]:
    """Write any source of class maps, as `write_instances` does."""
    writer = CLASS_MAP_WRITERS[target.format]
    report.cannot_hold = writer.lacks
    with atomic_path(target.path) as place:
        written = writer(place, source.class_names)
        pictures = _pictures(source, writer.layout, target, place, placing, report)
        for index in each("write", range(len(source))):
            sample = source[index]
            check_labels(sample.labels, source.class_names, sample.name)
            image = pictures.place(index, sample.image)
            written.write(sample, stem=pictures.stems[index], image=image)
        written.finish()
    report.stills = len(source)
    new = _read_back(writer.read, target.path)
    compare_class_maps(source, new, pictures.names, report, each=each)
    return pictures.names


def _pictures(
    source: Source[Any], layout: PictureLayout, target: Target, place: Path, placing: Placing,
    report: Report,
) -> Pictures:  # fmt: skip
    if target.is_file and placing != "refer":
        raise PixelkinError(
            f"{target.path} is a single file: expected a folder that can hold images; give "
            f"coco:{target.path.with_suffix('')}"
        )
    pictures = Pictures(source, layout, folder=place, final=_folder_of(target), placing=placing)
    if target.is_file and not pictures.refers:
        raise PixelkinError(
            f"the images of this data set are no files: expected a folder to write them to; give "
            f"coco:{target.path.with_suffix('')}"
        )
    if pictures.refers:
        report.notes.append("images stay where they are; --copy-images makes a set of its own")
    return pictures


def _folder_of(target: Target) -> Path:
    return target.path.absolute().parent if target.is_file else target.path


def _read_back(read: Callable[[Path], Any], path: Path) -> Any:
    try:
        return read(path)
    except PixelkinError as error:
        raise PixelkinError(f"{path} is written, but cannot be read back: {error}") from error


def _image_folders(source: Source[Any]) -> set[Path]:
    files = (source.image_file(index) for index in range(len(source)))
    return {file.parent for file in files if file is not None}


def _stuff(source: CocoPanoptic) -> tuple[str, ...]:
    things = set(source.class_names)
    stuff = [
        name
        for name in source.semantic_names
        if name not in things and name.lower() not in BACKGROUND
    ]
    if not stuff:
        return ()
    return (
        f"segments of stuff, of {len(stuff)} classes such as {stuff[0]}, are no instances and left "
        "out; --class-maps keeps them",
    )
