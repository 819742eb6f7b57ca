"""`pixelkin evaluate` of semantic models: measures of class maps."""

from __future__ import annotations

import json as json_text
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkin.cli.map_options import Averaging
from pixelkin.cli.options import output_folder
from pixelkin.cli.stages import Stages
from pixelkin.cli.stills import Stills, seen_in_training
from pixelkin.cli.words import counted
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.data.source import SemanticSource
    from pixelkin.semantic.segmenter import SemanticSegmenter


def evaluate_class_maps(
    data: str,
    *,
    models: tuple[str, ...],
    stills: Stills,
    averaging: Averaging,
    device: str,
    out: Path | None,
    json: bool,
    stages: Stages,
) -> int:
    """Judge semantic models; prints a table per model, or one JSON object."""
    from pixelkin.data.class_maps.sources import semantic_format
    from pixelkin.data.source import window_of
    from pixelkin.evaluation.semantic import VOLUMES
    from pixelkin.evaluation.text_table import text_table
    from pixelkin.semantic.scoring import evaluation_of

    source = _judged(data, stills)
    if averaging.window is not None and window_of(source) is None:
        raise PixelkinError(f"--window is for volumes, and {data} has none; leave it out")
    format_name, _ = semantic_format(data)
    # All are loaded first: a missing checkpoint must not show after an hour of another.
    segmenters = {name: averaging.load(name, device=device, tile_px=stills.tile) for name in models}
    if stills.validation is None:
        for hint in filter(None, (seen_in_training(name, source) for name in models)):
            stages.say(hint)
    chosen = [word.strip() for word in stills.measures.split(",") if word.strip()] or None
    done: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(output_folder(out))
        for name, segmenter in segmenters.items():
            evaluation = evaluation_of(source, measures=chosen, format_name=format_name)
            done[name] = _judge(name, segmenter, source, evaluation, stages)
            if out is not None:
                _write(out, name, evaluation, {"data": data, "models": done})
    if json:
        print(json_text.dumps(done))
        return 0
    for name, values in done.items():
        print(
            f"{name}: {counted(len(source), 'image')}, {values['seconds_per_image']:.3f} s an image"
        )
        # Side by side, the columns of slices and of volumes would be wider than a screen.
        of_volumes = {key: value for key, value in values.items() if key.startswith(VOLUMES)}
        rest = {k: v for k, v in values.items() if "/" in k and k not in of_volumes}
        for part in filter(None, (rest, of_volumes)):
            print(text_table(part) + "\n")
    return 0


def _judged(data: str, stills: Stills) -> SemanticSource:
    """The part of the data that judges: what training on it would have held out."""
    from pixelkin.data.source import split_source
    from pixelkin.trainings.semantic_user_data import MapStills

    classes = tuple(name.strip() for name in stills.classes.split(",") if name.strip())
    given = MapStills(stills.images, stills.masks, classes)
    if stills.validation is not None:
        whole = given.open(data, stills.data_split)
        return split_source(whole, validation=stills.validation)[1]
    if stills.data_split is not None:
        return given.open(data, stills.data_split)
    return given.own_judges(data) or given.open(data, None)


def _judge(
    name: str,
    segmenter: SemanticSegmenter,
    source: SemanticSource,
    evaluation: Any,
    stages: Stages,
) -> dict[str, float]:
    from pixelkin.semantic.scoring import evaluate_semantic

    bar = stages.bar(name)
    return evaluate_semantic(
        segmenter,
        source,
        evaluation=evaluation,
        progress=lambda done, total: bar(name, done, total),
    )


def _write(out: Path, name: str, evaluation: Any, document: dict[str, Any]) -> None:
    """Measures so far, a picture of the confusion of classes, and a table of volumes."""
    import csv
    import io

    from PIL import Image

    from pixelkin.evaluation.semantic import confusion_picture
    from pixelkin.files import atomic_path, atomic_write

    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / "measures.json", json_text.dumps(document, indent=1) + "\n")
    picture = confusion_picture(evaluation.confusion.compute(), evaluation.class_names)
    stem = "_".join(part for part in Path(name).parts if part not in ("/", "..", "."))
    with atomic_path(out / f"confusion_{stem}.png") as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
    rows = [] if evaluation.volumes is None else evaluation.volumes.by_case()
    if rows:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        atomic_write(out / f"cases_{stem}.csv", text.getvalue())
