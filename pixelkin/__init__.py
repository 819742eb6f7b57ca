"""Segment images and video by learned pixel similarity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.runtime import Runtime

__all__ = ["PixelkinError", "__version__", "load"]
__version__ = "0.1.0"


def load(
    source: str | Path | None = None,
    *,
    device: str = "auto",
    engine: Literal["auto", "onnx", "torch"] = "auto",
) -> Runtime:
    """A model ready to run; see `pixelkin.loading.load`."""
    # Imported late: a help text should not wait for torch.
    from pixelkin.loading import load as load_runtime

    return load_runtime(source, device=device, engine=engine)
