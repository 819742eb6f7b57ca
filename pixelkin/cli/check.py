"""`pixelkin check`: every problem of a data set, with its place and its fix."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pixelkin.cli.options import Flag
from pixelkin.cli.stages import Stages
from pixelkin.cli.words import counted
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.checking.report import ClassTally, Problem, Report

_WIDEST_PLACE = 60
_MOST_CLASSES = 60


def check(
    data: str,
    /,
    *,
    format: str | None = None,
    images: Path | None = None,
    masks: Path | None = None,
    classes: Annotated[str, Parameter(show_default=False)] = "",
    limit: int = 10,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Read an annotated data set and report every problem, with its place and its fix.

    The exit status is 0 where nothing is reported, 1 where anything is, a warning too. An error
    makes a loader fail or reads a wrong label; a warning is legal, but seldom meant.

    ```
    pixelkin check annotations/instances_train.json --images train
    pixelkin check camvid:CamVid
    pixelkin check pngs:photos --masks labels --classes names.txt
    ```

    Objects: coco, panoptic, yolo, labelme, pngs, penn-fudan, nuclei, cvppp, voc, cityscapes,
    kitti-instances, bdd-instances, ade20k-instances, ade20k-part-instances.

    Classes, with the pixels of each: pngs-classes (pngs beside a classes.txt), camvid, voc, sbd,
    context, context60, cityscapes, cityscapes-coarse, kitti, bdd, bdd-drivable, bdd-lanes,
    bdd-lane-styles, bdd-lane-directions, bdd-panoptic, ade20k, ade20k-parts, sceneparse,
    coco-stuff, ccp, pratheepan, lits, lits-liver. All parts of a data set are read.

    Args:
        data: annotation file or folder; FORMAT:PATH names the format too.
        format: one of those above; told from what lies there where left out.
        images: folder of the images, where they are not beside the annotations.
        masks: folder of the label files, where they are not beside the images.
        classes: names of the classes of class maps, separated by commas, or a text file of them.
        limit: problems of one kind that are shown; 0 shows all.
        json: print one JSON object with all problems.
        quiet: show no progress.
    """
    if limit < 0:
        raise PixelkinError(f"--limit is {limit}, expected 0 (all) or more")
    from pixelkin.checking.check import check_data
    from pixelkin.data.class_maps.place import classes_given

    with Stages(quiet=quiet) as stages:
        name, report = check_data(
            Path(data),
            format=format,
            images=images,
            masks=masks,
            classes=classes_given([one.strip() for one in classes.split(",") if one.strip()]),
            each=stages.each,
        )
    if json:
        done = {
            "data": data,
            "format": name,
            "images": report.images,
            "objects": report.objects,
            "empty_images": report.empty_images,
            "problems": [asdict(problem) for problem in report.problems],
        }
        if report.classes is not None:
            done["classes"] = asdict(report.classes)
        print(json_text.dumps(done, ensure_ascii=False))
    else:
        print(problem_text(report, limit=limit))
    return 1 if report.problems else 0


def problem_text(report: Report, *, limit: int) -> str:
    """What a person reads: problems of one kind together, errors first, the sum at the end."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in report.problems:
        groups.setdefault((problem.severity, problem.fix), []).append(problem)
    # "error" sorts before "warning".
    blocks = [
        _block(*kind, groups[kind], limit=limit) for kind in sorted(groups, key=lambda k: k[0])
    ]
    if report.classes is not None and any(report.classes.pixels.values()):
        blocks.append(_class_table(report.classes))
    errors = sum(problem.severity == "error" for problem in report.problems)
    warnings = len(report.problems) - errors
    found = "no problem"
    if report.problems:
        found = f"{counted(errors, 'error')} and {counted(warnings, 'warning')}"
    return "\n\n".join([*blocks, f"{found} in {_read(report)}"])


def _read(report: Report) -> str:
    """How much was read."""
    parts = [counted(report.images, "image")]
    nothing = "with unknown pixels only"
    if report.objects or report.classes is None:
        parts.append(counted(report.objects, "object"))
        nothing = "without objects"
    if report.classes is not None:
        known = sum(report.classes.pixels.values())
        there = sum(count > 0 for count in report.classes.pixels.values())
        listed = len(report.classes.pixels)
        parts.append(f"{counted(known, 'pixel')} of {counted(there, 'class')}")
        if there < listed:
            parts[-1] = f"{counted(known, 'pixel')} of {there} of {listed} classes"
    text = ", ".join(parts)
    if report.empty_images:
        text += f" ({counted(report.empty_images, 'image')} {nothing})"
    return text


def _class_table(classes: ClassTally) -> str:
    """Pixels, their share, and images of each class; most pixels first where there are many."""
    rows = list(classes.pixels.items())
    if len(rows) > _MOST_CLASSES:
        rows = sorted(rows, key=lambda row: -row[1])[:_MOST_CLASSES]
    known = sum(classes.pixels.values())
    total = known + classes.unknown
    width = max(len("unknown"), *(len(name) for name, _ in rows))
    lines = [f"{'class':{width}}  {'pixels':>15}  {'share':>7}  {'images':>7}"]
    for name, count in rows:
        share = f"{100 * count / total:.2f} %"
        lines.append(f"{name:{width}}  {count:>15,}  {share:>7}  {classes.images[name]:>7,}")
    if len(rows) < len(classes.pixels):
        unseen = sum(not count for count in classes.pixels.values())
        rest = len(classes.pixels) - len(rows)
        lines.append(f"… and {rest} more, {unseen} of them in no map (--json lists all)")
    share = f"{100 * classes.unknown / total:.2f} %"
    return "\n".join([*lines, f"{'unknown':{width}}  {classes.unknown:>15,}  {share:>7}"])


def _block(severity: str, fix: str, problems: list[Problem], *, limit: int) -> str:
    shown = problems[: limit or None]
    width = max(len(problem.where) for problem in shown)
    # Below a long place, so that what is wrong can be seen without scrolling.
    gap = "  " if width <= _WIDEST_PLACE else "\n    "
    pad = width if width <= _WIDEST_PLACE else 0
    lines = [f"{counted(len(problems), severity)}: {fix}"]
    lines += [f"  {problem.where:{pad}}{gap}{problem.what}" for problem in shown]
    if len(shown) < len(problems):
        lines.append(f"  … and {len(problems) - len(shown)} more")
    return "\n".join(lines)
