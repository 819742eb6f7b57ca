"""The model for stills that MODEL names: of objects, or of a class for every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.instances.segmenter import Segmenter

OTSU = "otsu"
"""Not learned, and so no checkpoint."""


def gives_class_maps(model: str) -> bool:
    """Whether MODEL names a semantic model; raises `PixelkinError` where it names none at all."""
    from pixelkin.instances.checkpoints import SHIPPED
    from pixelkin.semantic.checkpoints import is_semantic_model

    return model not in (OTSU, *SHIPPED) and is_semantic_model(model)


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
