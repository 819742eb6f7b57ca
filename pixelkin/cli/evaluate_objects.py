"""`pixelkin evaluate FORMAT:PATH --model …`: instance measures of models on annotated stills."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkin.cli.options import output_folder
from pixelkin.cli.segmenters import load_model
from pixelkin.cli.stages import Stages
from pixelkin.cli.stills import Stills, check_holds_objects, seen_in_training
from pixelkin.cli.words import counted
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.data.source import InstanceSource
    from pixelkin.instances.segmenter import Segmenter


def evaluate_objects(
    data: str,
    *,
    models: tuple[str, ...],
    stills: Stills,
    device: str,
    out: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    """Judge instance models; prints a table per model, or one JSON object."""
    from pixelkin.data.instances.sources import open_source
    from pixelkin.data.source import split_source

    if stills.classes:
        raise PixelkinError("--classes is for semantic models; leave it out")
    check_holds_objects(
        data,
        asked_by=f"{models[0]} finds objects",
        remedy="a model that gives every pixel a class",
    )
    source: InstanceSource = open_source(
        data, images=stills.images, masks=stills.masks, split=stills.data_split
    )
    if stills.validation is not None:
        source = split_source(source, validation=stills.validation)[1]
    told = [] if stills.validation is not None else [seen_in_training(m, source) for m in models]
    # All are loaded first: a missing checkpoint must not show after an hour of another.
    segmenters = {name: load_model(name, device=device, tile_px=stills.tile) for name in models}
    with Stages(quiet=quiet) as stages:
        for hint in filter(None, told):
            stages.say(hint)
        if out is None:
            done = {n: _judge(n, s, source, stills, stages) for n, s in segmenters.items()}
        else:
            from pixelkin.files import atomic_write

            with output_folder(out):
                out.mkdir(parents=True, exist_ok=True)
                done = {n: _judge(n, s, source, stills, stages) for n, s in segmenters.items()}
                text = json_text.dumps({"data": data, "models": done}, indent=1) + "\n"
                atomic_write(out / "measures.json", text.encode())
    if json:
        print(json_text.dumps(done))
        return 0
    from pixelkin.evaluation.text_table import text_table

    for name, values in done.items():
        measured = {key: value for key, value in values.items() if "/" in key}
        table = text_table(measured, lone_class=False)
        objects = counted(int(values["objects"]), "object")
        found = f"{objects}, {values['objects_found']:,.0f} found"
        seconds = f"{values['seconds_per_image']:.3f} s an image"
        print(f"{name}: {counted(len(source), 'image')}, {found}, {seconds}\n{table}\n")
    return 0


def _judge(
    name: str, segmenter: Segmenter, source: InstanceSource, stills: Stills, stages: Stages
) -> dict[str, Any]:
    from pixelkin.instances.scoring import evaluate_segmenter

    chosen = [word.strip() for word in stills.measures.split(",") if word.strip()] or None
    bar = stages.bar(name)
    return evaluate_segmenter(
        segmenter, source, measures=chosen, progress=lambda done, total: bar(name, done, total)
    )
