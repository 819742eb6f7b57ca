"""The model for stills that MODEL names: of objects, or of a class for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pixelkin.cli.words import did_you_mean
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.instances.segmenter import Segmenter

OTSU = "otsu"
"""Not learned, and so no checkpoint."""


def gives_class_maps(model: str) -> bool:
    """Whether MODEL names a semantic model; raises `PixelkinError` where it names none at all."""
    from pixelkin.semantic.checkpoints import is_semantic_model

    _check_name(model)
    return model not in named_models() and is_semantic_model(model)


def named_models() -> tuple[str, ...]:
    """The names that MODEL may be beside folders and hub ids."""
    from pixelkin.instances.checkpoints import SHIPPED

    return (*SHIPPED, OTSU)


def is_model(text: str) -> bool:
    """Whether a word of the command line is a model inside, or the folder of a checkpoint."""
    path = Path(text)
    return (path / "config.json").is_file() or (text in named_models() and not path.exists())


def _check_name(model: str) -> None:
    """Raise `PixelkinError` where MODEL is a mere word, and no model has that name."""
    names = named_models()
    if model not in names and "/" not in model and not Path(model).exists():
        raise PixelkinError(
            f"there is no model {model!r}: {did_you_mean(model, names)}choose a checkpoint folder, "
            f"a hub id owner/name, or one that is inside: {', '.join(names)}"
        )


def load_model(model: str, *, device: str, tile_px: int) -> Segmenter:
    """The segmenter that MODEL names.

    Raises `PixelkinError` where it is a model for clips, or none.
    """
    if model == OTSU:
        from pixelkin.instances.otsu import OtsuWatershed

        return OtsuWatershed()
    from pixelkin import loading
    from pixelkin.checkpoint import read_config
    from pixelkin.instances.checkpoints import load_segmenter, model_folder

    folder = model_folder(model)
    if read_config(folder).get("architecture") in loading.ARCHITECTURES:
        raise PixelkinError(
            f"{model} is a model for clips, expected one that finds instances; use "
            f"pixelkin track CLIP --model {model}, or choose another checkpoint"
        )
    return load_segmenter(folder, device=device, tile_px=tile_px)
