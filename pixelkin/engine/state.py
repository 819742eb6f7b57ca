"""The state of a training on disk: `last.ckpt`, a folder of safetensors and JSON, no pickle."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from torch import Tensor

from pixelkin.checkpoint import read_tensors, write_synced, write_tensors
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path

LAST = "last.ckpt"


def save_tree(folder: Path, tree: dict[str, Any]) -> None:
    """Write nested dicts, lists, tuples, numbers, strings and tensors to `folder`, atomically."""
    tensors: dict[str, Tensor] = {}
    document = _pack(tree, "", tensors)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        write_tensors(temporary / "state.safetensors", tensors)
        write_synced(temporary / "state.json", json.dumps(document).encode())


def load_tree(folder: Path) -> dict[str, Any]:
    """Read back what `save_tree` wrote: the same values, types and bits, tensors on the CPU."""
    tensors = read_tensors(folder / "state.safetensors")
    try:
        document = json.loads((folder / "state.json").read_text("utf-8"))
        tree = _unpack(document, tensors)
    except (OSError, ValueError, KeyError) as error:
        raise PixelkinError(
            f"{folder} is damaged ({error}); start the training anew in another folder"
        ) from error
    assert isinstance(tree, dict)
    return tree


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON for `value`; every container is a [kind, content] pair, so that kinds survive."""
    if isinstance(value, Tensor):
        name = f"{len(tensors)}:{path}"  # numbered, since keys may hold slashes themselves
        tensors[name] = value
        return ["tensor", name]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        kind = "counter" if isinstance(value, Counter) else "dict"
        pairs = [
            [_pack(key, path, tensors), _pack(item, f"{path}/{key}", tensors)]
            for key, item in value.items()
        ]
        return [kind, pairs]
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return [kind, [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]]
    raise PixelkinError(
        f"state {path} is a {type(value).__name__}, which cannot be saved without pickle; "
        "use an optimiser and a schedule whose state is numbers and tensors"
    )


def _unpack(value: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind in ("dict", "counter"):
        pairs = {_unpack(key, tensors): _unpack(item, tensors) for key, item in content}
        return Counter(pairs) if kind == "counter" else pairs
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def can_resume(out: Path) -> bool:
    """Whether `out` holds a training that can go on, once what a killed process left is cleaned up.

    `last.ckpt` alone does not say so: it is not there while a new one takes its place.
    """
    recover(out)
    return (out / LAST).is_dir()


def recover(out: Path) -> None:
    """Clean up after a killed process: finish a checkpoint swap, drop half-written ones.

    A folder is replaced in two steps (`atomic_path`): the old one is moved to `.old` in the
    temporary folder, then the new one takes its place. A process killed between the two leaves
    both there, whole.
    """
    for room in sorted(out.glob(".last-*")) + sorted(out.glob(".model-*")):
        for name in (LAST, "model"):
            if (room / ".old").is_dir() and (room / name).is_dir() and not (out / name).exists():
                os.replace(room / name, out / name)
        shutil.rmtree(room, ignore_errors=True)
