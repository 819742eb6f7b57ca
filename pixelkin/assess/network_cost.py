"""What a network costs: parameters, multiply-adds, memory, and time on this machine."""

from __future__ import annotations

import copy
import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class NetworkCost:
    """What one image costs, in one forward pass.

    Attributes:
        parameters: learnt numbers.
        multiply_adds: of convolutions and linear layers.
        memory_bytes: most that weights and intermediate tensors take at a time. What kernels need
            beside them is left out, so it is the same on every machine.
    """

    parameters: int
    multiply_adds: int
    memory_bytes: int


def network_cost(model: nn.Module, size_hw: tuple[int, int]) -> NetworkCost:
    """The cost of one RGB image of this size; nothing is computed.

    Args:
        model: not changed; counted in evaluation mode. It takes images of this size.
        size_hw: height and width in pixels.
    """
    empty = copy.deepcopy(model).eval().to("meta")
    return NetworkCost(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=multiply_adds(empty, size_hw),
        memory_bytes=peak_memory_bytes(empty, size_hw),
    )


def multiply_adds(model: nn.Module, size_hw: tuple[int, int]) -> int:
    """Multiply-adds of convolutions and linear layers in one forward pass of one RGB image.

    Pooling, interpolation, normalisation and activations are left out, as is usual.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(_image(model, size_hw))
    return int(counter.get_total_flops()) // 2


def peak_memory_bytes(model: nn.Module, size_hw: tuple[int, int]) -> int:
    """Most bytes that weights, buffers, the image and all tensors made of it take at a time."""
    image = _image(model, size_hw)
    kept = [*model.parameters(), *model.buffers(), image]
    before = {id(t.untyped_storage()): t.untyped_storage().nbytes() for t in kept}
    with _LiveTensors() as live, torch.inference_mode():
        model(image)
    return int(sum(before.values()) + live.most)


def _image(model: nn.Module, size_hw: tuple[int, int]) -> Tensor:
    like = next(model.parameters())
    return torch.zeros(1, 3, *size_hw, dtype=like.dtype, device=like.device)


class _LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that come into being within, while they are held."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.most = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # What goes in was there before, or is counted already.
        given = [_storage(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)]
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if not _is_tensor(leaf):
                continue
            storage = _storage(leaf)
            if storage in self._known or any(storage is one for one in given):
                continue
            self._known.add(storage)
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _gone(self, size: int) -> None:
        self.now -= size


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _storage(tensor: Tensor) -> Any:
    return tensor.untyped_storage()


@dataclass(frozen=True)
class Timing:
    """Medians over runs.

    Attributes:
        wall_ms: by the clock.
        processor_ms: of this process's threads, summed; other programs do not add to it.
    """

    wall_ms: float
    processor_ms: float


def timed(run: Callable[[], object], *, runs: int, device: torch.device | str = "cpu") -> Timing:
    """How long `run` takes, after one run that warms up."""
    wall, processor = [], []
    for turn in range(runs + 1):
        _wait(device)
        start, busy = time.perf_counter(), time.process_time()
        run()
        _wait(device)
        if turn:
            wall.append((time.perf_counter() - start) * 1e3)
            processor.append((time.process_time() - busy) * 1e3)
    return Timing(statistics.median(wall), statistics.median(processor))


def _wait(device: torch.device | str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
