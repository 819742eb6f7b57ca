"""Random generators: seeded per visit of an item, saved and restored with a training."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor


def seed_all(*entropy: int) -> None:
    """Seed Python, NumPy, torch on the CPU and on CUDA from a tuple of integers ≥ 0."""
    python, numpy, cpu, cuda = _seeds(entropy)
    _seed_cpu(python, numpy, cpu)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(cuda)


@contextmanager
def seeded(*entropy: int) -> Iterator[None]:
    """Seed the CPU generators for the block; put back what they were after it."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    _seed_cpu(*_seeds(entropy)[:3])
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def _seeds(entropy: tuple[int, ...]) -> list[int]:
    return [int(word) for word in np.random.SeedSequence(entropy).generate_state(4)]


def _seed_cpu(python: int, numpy: int, cpu: int) -> None:
    random.seed(python)
    np.random.seed(numpy)
    # torch.manual_seed would reset the accelerator's generator as well.
    torch.default_generator.manual_seed(cpu)


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """States of all generators as integer tensors of fixed shapes, so processes can gather them."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = cast(tuple[Any, ...], np.random.get_state())
    python = [*words, int(gauss is not None), _bits(gauss or 0.0)]
    numpy = [*keys.tolist(), position, has_gauss, _bits(cached)]
    state = {
        "python": torch.tensor(python, dtype=torch.int64),
        "numpy": torch.tensor(numpy, dtype=torch.int64),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `rng_state` returned."""
    *words, has_gauss, gauss = state["python"].tolist()
    random.setstate((3, tuple(words), _number(gauss) if has_gauss else None))
    *keys, position, has_gauss, cached = state["numpy"].tolist()
    np.random.set_state(
        ("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, _number(cached))
    )
    # Cloned, because torch reads from the start of the storage even where this is a later row.
    torch.set_rng_state(state["torch"].cpu().clone())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu().clone(), device)


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _number(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
