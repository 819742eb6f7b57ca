"""`pixelkin convert`: a data set to another format, or a pickled state dict to a checkpoint."""

from __future__ import annotations

import json as json_text
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from pixelkin.cli.models import convert_weights
from pixelkin.cli.options import Flag, check_writable
from pixelkin.cli.stages import Stages
from pixelkin.errors import PixelkinError

_PICKLED = (".pth", ".pt")


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """The part of a data set that is read.

    Attributes:
        images: folder of the images, where it does not lie beside the annotations.
        masks: folder of masks or label files, of formats that have one.
        split: part of the data set that its own lists or folders name, such as val; to be given
            where there are several, since one is converted at a time.
        class_maps: take a class for every pixel; of formats that hold instances alone these are
            painted, category + 1 over background 0.
    """

    images: Path | None = None
    masks: Path | None = None
    split: str | None = None
    class_maps: Flag = False


@Parameter(name="*")
@dataclass(frozen=True)
class Writing:
    """How it is written.

    Attributes:
        copy_images: copy the images; left out, they are referred to where they are by formats that
            can (coco, panoptic, labelme), and copied for the others.
        link_images: link the images, hard or symbolic, in place of copies.
        strict: exit with status 1 where anything is lost.
        force: replace what is at TO.
    """

    copy_images: Flag = False
    link_images: Literal["hard", "symbolic"] | None = None
    strict: Flag = False
    force: Flag = False


def convert(
    source: str,
    target: str,
    /,
    *,
    reading: Reading | None = None,
    writing: Writing | None = None,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Turn a data set into another format and report what was lost; or a .pth into a checkpoint.

    Of a data set, SOURCE and TARGET are FORMAT:PATH. Instances are written as coco, panoptic, yolo,
    labelme or pngs; class maps as pngs, voc, coco or panoptic; what can be read is more (see
    `pixelkin check --help` and `pixelkin train --help`). What was written is read back and compared
    object by object; the losses are printed, and stand in TARGET.convert_report.json.

    Of a pickled state dict (.pth, .pt), TARGET is the new checkpoint folder. Only files that you
    trust.

    Example: pixelkin convert coco:instances.json yolo:out --images photos

    Example: pixelkin convert camvid:CamVid pngs:out --split train

    Example: pixelkin convert weights.pth folder

    Args:
        source: FORMAT:PATH of a data set, or a .pth file.
        target: FORMAT:PATH of a new folder (of coco also a new .json file), or a checkpoint folder.
        json: print the report as one JSON object.
        quiet: show no progress.
    """
    reading, writing = reading or Reading(), writing or Writing()
    if _is_pickled(source):
        if (reading, writing) != (Reading(), Writing()):
            raise PixelkinError(
                f"{source} is taken as a state dict, which takes no options: expected none; leave "
                "them out, or write FORMAT:PATH for a data set"
            )
        return convert_weights(Path(source), Path(target))
    if writing.copy_images and writing.link_images:
        raise PixelkinError("--copy-images and --link-images exclude each other; choose one")
    from pixelkin.results.conversion import Origin, convert_data
    from pixelkin.results.conversion.targets import parse_target

    check_writable(parse_target(target).path.absolute().parent)
    with Stages(quiet=quiet) as stages:
        report = convert_data(
            Origin(source, reading.images, reading.masks, reading.split),
            target,
            class_maps=reading.class_maps,
            placing="copy" if writing.copy_images else writing.link_images or "refer",
            force=writing.force,
            each=stages.each,
        )
    if json:
        print(json_text.dumps(report.as_json(), ensure_ascii=False))
    else:
        print(f"{target}: {report.as_text()}")
    return 1 if writing.strict and not report.lossless else 0


def _is_pickled(source: str) -> bool:
    """Whether it is a file of weights: annotations in a file are JSON."""
    path = Path(source)
    suffix = path.suffix.lower()
    return suffix in _PICKLED or (path.is_file() and suffix != ".json")
