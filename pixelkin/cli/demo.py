"""`pixelkin demo`: the main job on real clips."""

from __future__ import annotations

import json as json_text
from pathlib import Path

from pixelkin.cli.clip_models import check_for_clips
from pixelkin.cli.options import Flag, Machine, output_folder


def demo(
    *,
    out: Path = Path("pixelkin-demo"),
    machine: Machine = Machine(),  # noqa: B008  # frozen
    json: Flag = False,
) -> int:
    """Cut objects out of real clips that came with the installation, and write a report.

    Args:
        out: folder for the results.
        json: print one JSON object about the results.
    """
    check_for_clips(machine.model, "demo needs a model for clips; leave --model out")
    from pixelkin.demo import run_demo

    with output_folder(out):
        done = run_demo(
            out,
            model=machine.model,
            device=machine.device,
            engine=machine.engine,
            progress=not json,
        )
    if json:
        print(json_text.dumps(done, default=str))
    return 0
