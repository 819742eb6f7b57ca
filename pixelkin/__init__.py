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
    """A model ready to run.

    Args:
        source: a checkpoint folder or a hub id; None takes the model inside the package, which
            needs no network.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        engine: "onnx" runs the exported graphs beside the checkpoint, on the CPU; "torch" runs
            the module; "auto" takes the graphs on the CPU where they belong to these weights.

    Raises:
        PixelkinError: no such checkpoint, another architecture, or a pickle; the device is
            missing; no graphs where they were asked for.
    """
    # Imported late: a help text should not wait for torch.
    from pixelkin.loading import load as load_runtime

    return load_runtime(source, device=device, engine=engine)
