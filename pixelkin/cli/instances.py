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
    from pixelkin.data.source import InstanceSource, Source
    from pixelkin.instances.segmenter import Segmenter


@Parameter(name="*")
@dataclass(frozen=True)
class Stills:
    """Annotated stills, for instance models and semantic models.

    Attributes:
        images: folder of the images, where it does not lie beside the annotations.
        masks: folder of class maps, of formats that have one.
        classes: names of the classes of class maps, or a text file of them, of formats that do not
            say.
        data_split: part of the data set that its own lists name, such as val; of class maps val
            where there is one and this is left out.
        validation: judge only this share, held out by name as training with the same share does.
        measures: of objects some of coco, voc, cityscapes, panoptic, microscopy, leaves, all that
            apply where left out; of class maps some of overlap, boundary, cityscapes, ade, binary,
            lanes, volumes, those of the data set where left out.
        tile: images with a longer side go through the network in tiles of this many pixels; 0
            never.
    """

    images: Path | None = None
    masks: Path | None = None
    classes: Annotated[str, Parameter(show_default=False)] = ""
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
    from pixelkin.data.instances.sources import open_source
    from pixelkin.data.source import split_source

    if stills.classes:
        raise PixelkinError("--classes is for semantic models; leave it out")
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
        print(f"{name}: {len(source)} images, {values['objects']:.0f} objects, "
              f"{values['objects_found']:.0f} found, {values['seconds_per_image']:.3f} s an image\n"
              f"{table}\n")  # fmt: skip
    return 0


def seen_in_training(model: str, source: Source[Any]) -> str:
    """What to tell of a model that was trained on a part of `source`; empty where nothing is known.

    The run.json beside the checkpoint says how many stills were trained on and held out. It is
    taken for this data set where they add up to it and the classes are the same.
    """
    try:
        run = json_text.loads((Path(model).parent / "run.json").read_text("utf-8"))
        config = run["config"]
        share, names = float(config["validation"]), tuple(config["class_names"])
        trained, held_out = int(config["samples"]), int(config["held_out"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    same = names == tuple(source.class_names) and trained + held_out == len(source)
    if not (same and held_out):
        return ""
    return (
        f"{model}: judging all {len(source)} images, {trained} of which the model may have been "
        f"trained on; add --validation {share:g} for the held-out ones"
    )


def _judge(
    name: str, segmenter: Segmenter, source: InstanceSource, stills: Stills, stages: Stages
) -> dict[str, Any]:
    from pixelkin.instances.scoring import evaluate_segmenter

    chosen = [word.strip() for word in stills.measures.split(",") if word.strip()] or None
    bar = stages.bar(name)
    return evaluate_segmenter(
        segmenter, source, measures=chosen, progress=lambda done, total: bar(name, done, total)
    )
