"""Checkpoints: folders with `model.safetensors`, `config.json` and `README.md`. Never pickle.

This module knows no models: `config.json` says what to build, the caller builds it, and
`load_into` fills it or says in one line why the two do not fit.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
GRAPHS = ("embed.onnx", "answer.onnx", "graphs.sha256")
"""What `pixelkin export` writes beside the weights."""

_PICKLE_SUFFIXES = {".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONVERT = (
    "pickle can run code, so it is not loaded; convert it once with pixelkin convert FILE FOLDER"
)


def save_checkpoint(
    folder: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any],
    card: str,
) -> None:
    """Write a checkpoint folder whole or not at all.

    Args:
        folder: replaced where it exists.
        state_dict: key → tensor of any dtype, on any device.
        config: what the caller needs to build the same architecture; plain JSON values.
        card: the model card, Markdown.

    Raises:
        PixelkinError: the folder cannot be written, or a value is no tensor or no JSON.
    """
    try:
        text = json.dumps(dict(config), indent=2, ensure_ascii=False) + "\n"
    except TypeError as error:
        raise PixelkinError(
            f"config of {folder} cannot be written as JSON ({error}); "
            "use only strings, numbers, booleans, lists and dicts"
        ) from error
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_tensors(temporary / WEIGHTS, state_dict)
        write_synced(temporary / CONFIG, text.encode())
        write_synced(temporary / CARD, card.encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file and wait until it is on the disk; raises OSError on failure."""
    for key, value in tensors.items():
        if not isinstance(value, Tensor):
            raise PixelkinError(
                f"state {key!r} is a {type(value).__name__}, only tensors can be saved; "
                "register it as a buffer or leave it out of the state"
            )
    # Cloned, because safetensors refuses tied weights; as bytes, because its own writer hides
    # the operating system's error code.
    copies = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    write_synced(path, save(copies, metadata={"format": "pt"}))


def write_synced(path: Path, data: bytes) -> None:
    """Write `data` and wait until it is on the disk; raises OSError on failure."""
    with open(path, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def resolve(source: str | os.PathLike[str]) -> Path:
    """The local folder of a checkpoint, downloaded from the hub where `source` is a hub id.

    Args:
        source: a folder, its `model.safetensors`, or a hub id `owner/name`. An existing folder
            is always preferred to the hub.

    Raises:
        PixelkinError: nothing is there, it is a pickle, or the hub cannot be reached.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if path.is_file():
        if path.name == WEIGHTS:
            return path.parent
        if path.suffix.lower() in _PICKLE_SUFFIXES:
            raise PixelkinError(f"{path} is a pickle file: {_CONVERT}")
        raise PixelkinError(
            f"{path} is not a checkpoint: expected a folder with {WEIGHTS} and {CONFIG}; "
            "give such a folder or a hub id owner/name"
        )
    if isinstance(source, str) and _HUB_ID.fullmatch(source):
        return _download(source)
    raise PixelkinError(
        f"there is no checkpoint at {path}: expected a folder with {WEIGHTS} and {CONFIG}, "
        "or a hub id owner/name; check the path"
    )


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS, CONFIG, CARD, *GRAPHS]))
    except Exception as error:  # the hub's client lets errors of several HTTP libraries through
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PixelkinError(
            f"there is no folder {hub_id}, and the hub did not give {hub_id}: {lines[0]}; "
            "check the name and the network, or give a local folder"
        ) from error


def read_config(source: str | os.PathLike[str]) -> dict[str, Any]:
    """The `config.json` of a checkpoint folder or hub id."""
    path = resolve(source) / CONFIG
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise PixelkinError(
            f"{path} is missing: a checkpoint is a folder with {WEIGHTS} and {CONFIG}; "
            "give the whole folder"
        ) from error
    except (OSError, ValueError) as error:
        raise PixelkinError(
            f"{path} cannot be read as JSON ({error}); copy or download the checkpoint again"
        ) from error
    if not isinstance(config, dict):
        raise PixelkinError(
            f"{path} holds a {type(config).__name__}, expected a JSON object; "
            "copy or download the checkpoint again"
        )
    return config


def check_described(
    config: Mapping[str, Any], path: Path, *, example: str, objects: Iterable[str] = ("network",)
) -> None:
    """Check the keys that describe a model with classes; those that are missing pass.

    Args:
        config: of a checkpoint.
        path: of its file, for messages.
        example: a name that a class may have.
        objects: keys whose values are options.

    Raises:
        PixelkinError: `class_names` is no list of names, or one of `objects` no object.
    """
    names = config.get("class_names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad_key(path, "class_names", names, f'a list of names, such as ["{example}"]')
    for key in objects:
        options = config.get(key, {})
        if not isinstance(options, dict):
            raise bad_key(path, key, options, "an object with its options, such as {}")


def bad_key(path: Path, key: str, value: object, expected: str) -> PixelkinError:
    """The error of a key of a `config.json` that holds what it should not."""
    return PixelkinError(
        f"{path}: {key} is {value!r}, expected {expected}; correct the file, or copy or train the "
        "model again"
    )


def load_state(source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a checkpoint folder or hub id, on the CPU, in their saved dtypes."""
    folder = resolve(source)
    path = folder / WEIGHTS
    if not path.is_file():
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in _PICKLE_SUFFIXES)
        if pickles:
            raise PixelkinError(f"{folder} holds no {WEIGHTS} but {pickles[0]}: {_CONVERT}")
        raise PixelkinError(
            f"{path} is missing: a checkpoint is a folder with {WEIGHTS} and {CONFIG}; "
            "give the whole folder"
        )
    return read_tensors(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file, on the CPU.

    Raises:
        PixelkinError: missing, unreadable, truncated, damaged, or a pickle under this name.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise PixelkinError(f"{path} is missing; copy or download it again") from error
    except (SafetensorError, OSError, ValueError) as error:
        if _is_pickle(path):
            raise PixelkinError(f"{path} is a pickle under another name: {_CONVERT}") from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise PixelkinError(
            f"{path} is damaged or cut short ({reason[0]}); copy or download it again"
        ) from error


def _is_pickle(path: Path) -> bool:
    # Asked only after safetensors refused the file: its header may begin with the same bytes.
    try:
        with open(path, "rb") as handle:
            head = handle.read(4)
    except OSError:
        return False
    return head == b"PK\x03\x04" or (len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5)


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, source: object) -> None:
    """Copy `state` into `module`, which must have exactly these keys and shapes.

    Args:
        module: keeps its dtypes and device; unchanged where the two do not fit.
        state: key → tensor.
        source: named in the error.

    Raises:
        PixelkinError: keys are missing, unexpected or of another shape; the first few are named.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)} in the file and {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    found = [
        f"{len(keys)} {what} ({_first(keys)})"
        for keys, what in (
            (missing, "missing"),
            (unexpected, "unexpected"),
            (reshaped, "of another shape"),
        )
        if keys
    ]
    if found:
        raise PixelkinError(
            f"{source} is a checkpoint of another architecture: of its {len(state)} keys "
            f"against the model's {len(own)}: {', '.join(found)}; "
            f"build the model that its {CONFIG} describes, or choose another checkpoint"
        )
    module.load_state_dict(dict(state))


def _first(keys: Iterable[str], count: int = 3) -> str:
    names = list(keys)
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def convert_pth(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Turn a pickled state dict (`.pth`, `.pt`) into a checkpoint folder.

    Read with `weights_only=True`, which runs no code. A dict that wraps the weights under
    `state_dict`, `model` or `model_state_dict` is unwrapped. `config.json` is left empty: it is
    for the caller to say what architecture this is.
    """
    try:
        # Opened here: torch.load refuses by suffix a pickle that is named model.safetensors.
        with open(path, "rb") as handle:
            loaded = torch.load(handle, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise PixelkinError(f"there is no file {path}; check the path") from error
    except Exception as error:  # damaged pickles raise whatever their bytes happen to spell
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise PixelkinError(
            f"{path} is not a file of plain tensors ({lines[0][:200]}); "
            "save its state_dict() alone with torch.save and convert that"
        ) from error
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise PixelkinError(
            f"{path} holds no state dict (key → tensor); "
            "save the model's state_dict() alone with torch.save and convert that"
        )
    card = f"# Converted weights\n\nConverted from `{Path(path).name}` by pixelkin.\n"
    save_checkpoint(out, loaded, {}, card)
