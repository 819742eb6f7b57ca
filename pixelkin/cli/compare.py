"""`pixelkin compare`: semantic networks under one budget, in one table and one figure."""

from __future__ import annotations

import json as json_text
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from pixelkin.cli.options import Flag, output_folder
from pixelkin.cli.stages import Stages
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.assess.contestants import Contestant
    from pixelkin.data.source import SemanticSource


def compare(
    *networks: str,
    data: str,
    steps: int = 500,
    seconds: float | None = None,
    seeds: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (0,),
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    device: str = "auto",
    json: Flag = False,
    quiet: Flag = False,
    **options: str,
) -> int:
    """Compare semantic networks on your data: quality, size, memory and speed.

    ```
    pixelkin compare light unet segnet --data camvid:CamVid --seconds 600 --out x
    pixelkin compare unet:channels=16 unet --data pngs:MAPS --seeds 0 1 2 --out y
    pixelkin compare runs/a/model runs/b/model light --data voc:VOC2012 --out z
    ```

    A name (light, timm-fcn, deeplab-v3-plus, deeplab-v2, unet, segnet, fcn32s, fcn16s, fcn8s,
    patch) is trained, a model folder is loaded. All trainings get the same steps or time, windows,
    augmentation and seeds; all models are judged on the same held-out stills, and their times are
    taken on this machine, image by image.

    Options of one network alone stand behind its name: NAME:KEY=VALUE with KEY one of backbone,
    output-stride, channels, head-channels, widths, batch-norm, grey, separable, weights,
    learning-rate.

    Further options, such as --crop-px 192, --batch-size 4, --validation 0.2, are those of
    pixelkin train and hold for all.

    The same command goes on where it was interrupted; what is done is not done again.

    Args:
        networks: names of trainings, and folders of trained models.
        data: FORMAT:PATH of class maps, or of objects painted as such, see pixelkin train.
        steps: of every training.
        seconds: time for every training, in place of steps.
        seeds: train each network once with each; the table gives mean and standard deviation.
        out: folder for compare.json, compare.csv, compare.png, and the trained models.
        device: auto (a GPU where there is one), cpu, cuda or mps.
        json: print one JSON object.
        quiet: show no progress.
        options: of the trainings.
    """
    from pixelkin.assess.comparison import Budget, Contest
    from pixelkin.assess.comparison_files import (
        comparison_document,
        comparison_table,
        write_comparison,
    )
    from pixelkin.assess.contestants import read_contestants

    accelerator = device.split(":")[0]
    budget = Budget(seconds=seconds, seeds=seeds, accelerator=accelerator)
    contestants = read_contestants(networks, {"steps": str(steps), **options})
    train, judged = _parts(contestants, data)
    with _room(out) as room, Stages(quiet=quiet) as stages, _told_apart(quiet=quiet):
        contest = Contest(train, judged, budget, room / "trainings", data=data, device=device)
        bar = stages.bar("judging") if not quiet else None
        done = contest.run(contestants, bar)
        document = comparison_document(
            done, data=data, stills_judged=len(judged),
            stills_trained_on=0 if train is None else len(train),
            steps=None if seconds else steps, seconds=seconds, seeds=list(seeds), options=options,
        )  # fmt: skip
        if out is not None:
            write_comparison(out, done, document)
    print(json_text.dumps(document) if json else comparison_table(done))
    return 0


def _parts(
    contestants: list[Contestant], data: str
) -> tuple[SemanticSource | None, SemanticSource]:
    """What trains, where anything is trained, and what judges."""
    stills = contestants[0].settings.stills
    if all(one.network is None for one in contestants) and stills.validation is None:
        whole = stills.open(data, stills.judged or stills.split) if _asked(contestants) else None
        return None, whole or stills.own_judges(data) or stills.open(data, None)
    train, judged = stills.parts(data)
    if judged is None:
        raise PixelkinError(
            "--validation 0 leaves no still to judge by; give a share such as 0.2, or leave it out"
        )
    return (None if all(one.network is None for one in contestants) else train), judged


def _asked(contestants: list[Contestant]) -> bool:
    stills = contestants[0].settings.stills
    return stills.judged is not None or stills.split is not None


@contextmanager
def _room(out: Path | None) -> Iterator[Path]:
    """The output folder, or one that is gone afterwards."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        with output_folder(out):
            yield out


@contextmanager
def _told_apart(*, quiet: bool) -> Iterator[None]:
    """What trainings tell is no result: it goes to the standard error, or nowhere."""
    with redirect_stdout(StringIO() if quiet else sys.stderr):
        yield
