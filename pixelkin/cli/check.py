"""`pixelkin check`: every problem of a data set, with its place and its fix."""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pixelkin.cli.options import Flag
from pixelkin.cli.stages import Stages
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.checking.report import Problem, Report

_WIDEST_PLACE = 60


def check(
    data: str,
    /,
    *,
    format: str | None = None,
    images: Path | None = None,
    limit: int = 10,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Read an annotated data set and report every problem, with its place and its fix.

    The exit status is 0 where nothing is reported, 1 where anything is, a warning too. An error
    makes a loader fail or reads a wrong label; a warning is legal, but seldom meant.

    Example: pixelkin check annotations/instances_train.json --images train

    Args:
        data: annotation file or folder; FORMAT:PATH names the format too.
        format: coco, panoptic, yolo, labelme, pngs, penn-fudan, nuclei, voc, cityscapes or cvppp;
            told from what lies there where left out.
        images: folder of the images, where they are not beside the annotations.
        limit: problems of one kind that are shown; 0 shows all.
        json: print one JSON object with all problems.
        quiet: show no progress.
    """
    if limit < 0:
        raise PixelkinError(f"--limit is {limit}, expected 0 (all) or more")
    from pixelkin.checking.check import check_data

    with Stages(quiet=quiet) as stages:
        name, report = check_data(Path(data), format=format, images=images, each=stages.each)
    if json:
        done = {
            "data": data,
            "format": name,
            "images": report.images,
            "objects": report.objects,
            "empty_images": report.empty_images,
            "problems": [asdict(problem) for problem in report.problems],
        }
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
    errors = sum(problem.severity == "error" for problem in report.problems)
    read = f"{_count(report.images, 'image')}, {_count(report.objects, 'object')}"
    if report.empty_images:
        read += f" ({_count(report.empty_images, 'image')} without objects)"
    if not report.problems:
        return f"no problem in {read}"
    warnings = len(report.problems) - errors
    return "\n\n".join(
        [*blocks, f"{_count(errors, 'error')} and {_count(warnings, 'warning')} in {read}"]
    )


def _block(severity: str, fix: str, problems: list[Problem], *, limit: int) -> str:
    shown = problems[: limit or None]
    width = max(len(problem.where) for problem in shown)
    # Below a long place, so that what is wrong can be seen without scrolling.
    gap = "  " if width <= _WIDEST_PLACE else "\n    "
    pad = width if width <= _WIDEST_PLACE else 0
    lines = [f"{_count(len(problems), severity)}: {fix}"]
    lines += [f"  {problem.where:{pad}}{gap}{problem.what}" for problem in shown]
    if len(shown) < len(problems):
        lines.append(f"  … and {len(problems) - len(shown)} more")
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
