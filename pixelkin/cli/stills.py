"""Annotated stills that models are judged on: what is said of them, and who has seen them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.data.source import Source


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


def check_holds_objects(data: str, *, asked_by: str, remedy: str) -> None:
    """Raise `PixelkinError` where the FORMAT of FORMAT:PATH is one of class maps alone.

    Args:
        data: as the user named it.
        asked_by: what needs objects: `pedestrians finds objects`.
        remedy: what to choose in its place.
    """
    from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS
    from pixelkin.data.instances.sources import FORMATS

    name = data.partition(":")[0]
    if name in SEMANTIC_FORMATS and name not in FORMATS and not Path(data).exists():
        raise PixelkinError(
            f"{asked_by}, and {name} holds class maps: expected annotated objects, such as "
            f"coco:annotations.json, or {remedy}"
        )


def seen_in_training(model: str, source: Source[Any]) -> str:
    """What to tell of a model that was trained on a part of `source`; empty where nothing is known.

    The run.json beside the checkpoint says how many stills were trained on and held out. It is
    taken for this data set where they add up to it and the classes are the same.
    """
    try:
        run = json.loads((Path(model).parent / "run.json").read_text("utf-8"))
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
