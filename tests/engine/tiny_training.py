"""A training of a second with every kind of state, in this process or one of its own."""

import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pixelkin.checkpoint import save_checkpoint
from pixelkin.engine import Training, TrainingResult, train

HERE = Path(__file__).resolve()


class Noisy(Dataset[Tensor]):
    """Ten items that draw from all three global generators, and may take their time."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(self.delay)
        return torch.full((4,), index / 10) + torch.rand(4) + np.random.rand() + random.random()


class Weighing(nn.Module):
    """Dropout and batch statistics, so that a resumed run must have every state right."""

    def __init__(self, *, plain: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        between = [nn.ReLU()] if plain else [nn.BatchNorm1d(8), nn.Dropout(0.3)]
        self.layers = nn.Sequential(nn.Linear(4, 8), *between, nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out[:, 0]


def loss(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    error = model(batch) - batch.sum(1)
    return {"square": (error**2).mean(), "absolute": error.abs().mean(), "bias": error.mean()}


def save_net(model: nn.Module, folder: Path) -> None:
    save_checkpoint(folder, model.state_dict(), {}, "# tiny\n")


def tiny(*, plain: bool = False, delay: float = 0.0, **changes: Any) -> Training:
    model = Weighing(plain=plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    options: dict[str, Any] = {
        "model": model,
        "loss": loss,
        "loss_weights": {"square": 1.0, "absolute": 0.5},
        "optimizer": optimizer,
        "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60),
        "data": Noisy(delay),
        "collate": torch.stack,
        "batch_size": 4,
        "steps": 60,
        "validate": lambda net: {"score": -float(net(torch.ones(2, 4)).sub(4).abs().mean())},
        "validate_every": 13,
        "monitor": "score",
        "clip_norm": 5.0,
        "ema_decay": 0.9,
        "save": save_net,
        "config": {"width": 8},
    }
    return Training(**(options | changes))


def fit(training: Training, out: Path, **changes: Any) -> TrainingResult:
    torch.set_num_threads(1)
    options = {"accelerator": "cpu", "save_every": 7, "log_every": 5, "seed": 3}
    return train(training, out=out, **(options | changes))


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Bit-equal trees."""
    assert type(a) is type(b), path
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{path}/{index}")
    else:
        assert a == b, path


def start_process(out: Path, **options: Any) -> subprocess.Popen[str]:
    """A real process that trains `tiny`; options as JSON on its command line."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE), str(out), json.dumps(options)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_step(process: subprocess.Popen[str], out: Path, step: int) -> int:
    """Wait until `metrics.csv` holds a row of `step` or later; the step found."""
    limit = time.monotonic() + 240  # seconds on an idle machine, minutes on a loaded one
    while time.monotonic() < limit and process.poll() is None:
        if (out / "metrics.csv").is_file():
            found = [int(row["step"]) for row in rows(out) if (row["step"] or "").isdigit()]
            if found and found[-1] >= step:
                return found[-1]
        time.sleep(0.005)
    process.kill()
    raise AssertionError(process.communicate()[0])


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    devices = given.pop("devices", 1)
    fit(tiny(**given), Path(sys.argv[1]), devices=devices)
