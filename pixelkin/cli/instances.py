"""`pixelkin evaluate FORMAT:PATH --model …`: instance measures of models on annotated stills."""

from __future__ import annotations

import json as json_text
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pixelkin.cli.options import output_folder
from pixelkin.cli.predict import load_model
from pixelkin.cli.stages import Stages
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.data.source import InstanceSource
    from pixelkin.instances.segmenter import Segmenter


@Parameter(name="*")
@dataclass(frozen=True)
class Stills:
    """Annotated stills, for instance models.

    Attributes:
        images: folder of the images, where it does not lie beside the annotations.
        data_split: part of the data set that its own lists name, such as val.
        validation: judge only this share, held out by name as training with the same share does.
        measures: some of coco, voc, cityscapes, panoptic, microscopy, leaves; all that apply where
            left out.
        tile: images with a longer side are embedded in tiles of this many pixels; 0 never.
    """

    images: Path | None = None
    data_split: str | None = None
    validation: float | None = None
    measures: Annotated[str, Parameter(show_default=False)] = ""
    tile: int = 1024


def evaluate_stills(
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
    from pixelkin.data.source import split_source
    from pixelkin.data.sources import open_source

    if not models:
        raise PixelkinError(
            "no model to judge: give --model FOLDER (several separated by commas), or --model otsu"
        )
    source: InstanceSource = open_source(data, images=stills.images, split=stills.data_split)
    if stills.validation is not None:
        source = split_source(source, validation=stills.validation)[1]
    # All are loaded first: a missing checkpoint must not show after an hour of another.
    segmenters = {name: load_model(name, device=device, tile_px=stills.tile) for name in models}
    with Stages(quiet=quiet) as stages:
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
    from pixelkin.evaluation.instance import text_table

    for name, values in done.items():
        table = text_table({key: value for key, value in values.items() if "/" in key})
        print(f"{name}: {len(source)} images, {values['objects']:.0f} objects, "
              f"{values['objects_found']:.0f} found, {values['seconds_per_image']:.3f} s an image\n"
              f"{table}\n")  # fmt: skip
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
