"""`pixelkin export`, and `pixelkin convert` of weights: checkpoints in other forms."""

from __future__ import annotations

from pathlib import Path

from pixelkin.cli.clip_models import check_for_clips
from pixelkin.cli.options import check_writable
from pixelkin.errors import PixelkinError


def export(model: str, /) -> int:
    """Write ONNX graphs beside a checkpoint, checked against torch.

    Example: pixelkin export run/model

    Args:
        model: checkpoint folder of a model for clips.
    """
    from pixelkin.checkpoint import resolve
    from pixelkin.export import export as write_graphs

    check_for_clips(model, "only models for clips are exported; choose one of those")
    folder = resolve(model)
    check_writable(folder)
    worst = write_graphs(folder)
    print(f"{folder}: embed.onnx and answer.onnx, at most {worst:.1e} from torch")
    return 0


def convert_weights(file: Path, out: Path) -> int:
    """Turn a pickled state dict into a checkpoint folder. Only files that you trust.

    Args:
        file: .pth or .pt.
        out: new folder.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise PixelkinError(f"{out} is there already, expected a new folder; choose another name")
    from pixelkin.checkpoint import convert_pth

    check_writable(out)
    convert_pth(file, out)
    print(f"{out}: converted from {file}; say in its config.json which architecture it is")
    return 0
