"""From a checkpoint to something that runs."""

import hashlib
from pathlib import Path
from typing import Literal, get_args

from pixelkin.checkpoint import load_into, load_state, read_config, resolve
from pixelkin.errors import PixelkinError
from pixelkin.models.retrieval_model import RetrievalModel, small_model
from pixelkin.runtime import EagerRuntime, OnnxRuntime, Runtime, pick_device

DEFAULT = Path(__file__).parent / "weights" / "small"
"""The model inside the package."""

ARCHITECTURES = {"small": small_model}

Engine = Literal["auto", "onnx", "torch"]


def load_model(source: str | Path | None = None) -> RetrievalModel:
    """The torch module of a checkpoint, for training and export.

    Raises:
        PixelkinError: no such checkpoint, another architecture, or a pickle.
    """
    folder = resolve(source or DEFAULT)
    model = ARCHITECTURES[architecture_of(folder)]()
    load_into(model, load_state(folder), source=folder)
    return model


def architecture_of(folder: Path) -> str:
    """The key of `ARCHITECTURES` that a checkpoint names, or a `PixelkinError`."""
    architecture = read_config(folder).get("architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        raise PixelkinError(
            f"{folder} holds the architecture {architecture!r}: expected one of "
            f"{', '.join(sorted(ARCHITECTURES))}; choose another checkpoint"
        )
    return architecture


def load(
    source: str | Path | None = None, *, device: str = "auto", engine: Engine = "auto"
) -> Runtime:
    """A model ready to run.

    Args:
        source: a checkpoint folder or a hub id; None takes the model inside the package, which
            needs no network.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", "mps".
        engine: "onnx" runs the exported graphs beside the checkpoint, on the CPU; "torch" runs
            the module; "auto" takes the graphs on the CPU where they belong to these weights.

    Raises:
        PixelkinError: as `load_model`; the device is missing; no graphs where they were asked for.
    """
    if engine not in get_args(Engine):
        raise PixelkinError(
            f"engine {engine!r} is unknown: expected {', '.join(get_args(Engine))}; choose one"
        )
    folder = resolve(source or DEFAULT)
    place = pick_device(device)
    graphs = has_graphs(folder)
    if engine == "onnx" and not graphs:
        raise PixelkinError(
            f"{folder} has no exported graphs of these weights; run pixelkin export {folder}, "
            "or use the torch engine"
        )
    if engine == "onnx" or (engine == "auto" and place.type == "cpu" and graphs):
        architecture_of(folder)
        return OnnxRuntime(folder / "embed.onnx", folder / "answer.onnx")
    return EagerRuntime(load_model(folder), place)


def weights_digest(folder: Path) -> str:
    """SHA-256 of the weights: graphs are used only with the weights they were made from."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def has_graphs(folder: Path) -> bool:
    """Whether `folder` holds exported graphs of its own weights."""
    stamp = folder / "graphs.sha256"
    needed = (stamp, folder / "model.safetensors", folder / "embed.onnx", folder / "answer.onnx")
    return all(path.is_file() for path in needed) and stamp.read_text().strip() == weights_digest(
        folder
    )
