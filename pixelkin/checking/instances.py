"""`pixelkin check` of instances whose format has no check of its own: its loader is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pixelkin.checking.class_maps import explained, opened_parts
from pixelkin.checking.files import ImageFacts, check_images
from pixelkin.checking.report import Progress, Report
from pixelkin.data.class_maps.ade20k import Ade20kInstances
from pixelkin.data.instances.instance_png import MaskedStills
from pixelkin.data.instances.sources import open_source
from pixelkin.errors import PixelkinError

_NONE = "choose the folder that holds the data set, and see that its masks lie where they should"


@dataclass(frozen=True)
class _Still:
    source: MaskedStills | Ade20kInstances
    index: int
    image: Path
    mask: Path


def check_instances(
    name: str, path: Path, parts: Sequence[str], report: Report, each: Progress
) -> None:
    """Report every problem of all parts of a data set, and count its objects.

    Args:
        name: one of `data.instances.sources.FORMATS` whose stills have a mask file each.
        path: where the data set lies.
        parts: names of its parts, none where it is all one.
        report: collects the problems.
        each: shows progress.
    """

    def opened(part: str | None) -> MaskedStills | Ade20kInstances:
        source = open_source(f"{name}:{path}", split=part)
        assert isinstance(source, MaskedStills | Ade20kInstances)
        return source

    sources = opened_parts(parts, opened, report)
    if not sources and not report.problems:
        report.error(report.place(path), "no image has a mask", fix=_NONE)
    stills = [
        _Still(source, index, image, source.mask_file(index))
        for source in sources
        for index in range(len(source))
        if (image := source.image_file(index)) is not None
    ]
    facts = check_images([still.image for still in stills], report, each)
    report.images += len(stills)
    for still in each("masks", stills):
        _check_still(still, facts[still.image], report)


def _check_still(still: _Still, image: ImageFacts, report: Report) -> None:
    try:
        instances = still.source[still.index].instances
    except PixelkinError as error:
        if image.fault is None or str(still.image) not in str(error):
            _, what, fix = explained(error, report, still.mask)
            report.error(report.place(still.mask), what, fix=fix)
        return
    report.objects += len(instances)
    report.empty_images += not instances
