"""The model for clips that a verb needs, told from the models for photos."""

from __future__ import annotations

from pathlib import Path

from pixelkin.cli.segmenters import OTSU
from pixelkin.errors import PixelkinError


def check_for_clips(model: str | None, need: str) -> None:
    """Raise `PixelkinError` where MODEL names a model for photos, or none at all.

    Args:
        model: checkpoint folder, hub id, or the name of a model; None for the default.
        need: what to say of the verb: `track needs a model for clips; leave --model out`.
    """
    if model is None:
        return
    from pixelkin.instances.checkpoints import is_instance_model
    from pixelkin.semantic.checkpoints import is_semantic_model

    if (model == OTSU and not Path(model).exists()) or is_instance_model(model):
        raise PixelkinError(f"{model} finds objects in photos (pixelkin predict); {need}")
    if is_semantic_model(model):
        raise PixelkinError(
            f"{model} gives every pixel of a photo a class (pixelkin predict); {need}"
        )
