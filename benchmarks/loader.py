"""Training throughput: the engine on crops made on the fly, against a bare loop on ready tensors.

    python benchmarks/loader.py DATA --out benchmarks/results/loader.json

DATA is a folder in the layout of DSB 2018. Three contestants train the same network from the same
weights with the same losses: `bare`, a plain loop over batches that lie ready on the device;
`loaded`, the same loop over the engine's data loader; `engine`, `pixelkin.engine.train` with all
that it does (logs, gradient clipping, averaged weights). Rounds take turns, so that a busy machine
slows all of them alike; medians are reported. `loader alone` is how fast one process makes batches
when nobody trains: a loader slower than the network could hide behind its first, prefetched ones.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from pixelkin.assess.files import provenance
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.memory import InMemory
from pixelkin.data.source import Subset
from pixelkin.engine import Training, train
from pixelkin.engine.batches import StepSampler, load_batches
from pixelkin.engine.loop import weights_at
from pixelkin.files import atomic_write
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.instance_model import Method, ModelPlan
from pixelkin.trainings.instances import instance_training
from pixelkin.trainings.optimisation import Optimisation

RESULT = Path(__file__).parent / "results" / "loader.json"
WARM_UP = 2
"""Steps that are not counted: they allocate."""

BAR = 0.9

Figures = tuple[float, float]
"""Crops per second; milliseconds of processor time per crop in the training process, which a busy
machine hardly changes. The data processes' own is that of `loader alone`, which has none."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--method", choices=get_args(Method), default="seeds")
    parser.add_argument("--stills", type=int, default=48, help="evenly over the data")
    parser.add_argument("--steps", type=int, default=12, help="counted per round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-px", type=int, default=192)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    make = training_maker(options)
    contestants: dict[str, Callable[[], Figures]] = {
        "bare": lambda: run_loop(make(), options, ready_batches(make(), options)),
        "loaded": lambda: run_loop(make(), options, loaded_batches(make(), options)),
        "engine": lambda: run_engine(make(), options),
        "loader alone": lambda: run_loader(make(), options),
    }
    rounds = [{name: run() for name, run in contestants.items()} for _ in range(options.rounds)]
    rates = {name: statistics.median(r[name][0] for r in rounds) for name in contestants}
    costs = {name: statistics.median(r[name][1] for r in rounds) for name in contestants}
    against = {
        name: statistics.median(r[name][0] / r["bare"][0] for r in rounds) for name in contestants
    }
    result = {
        "crops_per_second": rates,
        "against_bare": against,
        "processor_ms_per_crop": costs,
        "all_rounds": rounds,
        "options": {k: str(v) for k, v in vars(options).items() if k not in ("data", "out")},
        **provenance(),
    }
    atomic_write(options.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, rate in rates.items():
        print(
            f"{name:14} {rate:8.2f} crops/s {against[name]:7.3f} × bare, "
            f"{costs[name]:7.2f} ms of processor per crop"
        )
    print(f"bar: {BAR} × bare for the engine")


def training_maker(options: argparse.Namespace) -> Callable[[], Training]:
    """A new training from the same weights at every call."""
    source = Nuclei(options.data)
    every = max(1, len(source) // options.stills)
    stills = InMemory(Subset(source, list(range(0, len(source), every))[: options.stills]))
    return partial(
        instance_training,
        stills,
        ModelPlan(options.method, source.class_names),
        optimisation=Optimisation(
            steps=WARM_UP + options.steps,
            batch_size=options.batch_size,
            weights="none",
            workers=options.workers,
        ),
        windows=Windows(crop_px=options.crop_px, rotate=True),
    )


def loaded_batches(training: Training, options: argparse.Namespace) -> Iterable[Any]:
    length = len(training.data)  # type: ignore[arg-type]
    sampler = StepSampler(
        length, batch_size=training.batch_size, start=0, steps=training.steps, seed=0
    )
    return load_batches(
        training.data,
        sampler,
        collate=training.collate,
        workers=training.workers,
        pin_memory=options.device == "cuda",
    )


def ready_batches(training: Training, options: argparse.Namespace) -> Iterable[Any]:
    """The same batches, made before the clock runs."""
    return [batch.to(options.device) for batch in loaded_batches(training, options)]


def run_loop(training: Training, options: argparse.Namespace, batches: Iterable[Any]) -> Figures:
    """Crops per second of what one would write first."""
    model = training.model.to(options.device).train()
    mixed = torch.autocast(
        options.device, dtype=torch.bfloat16, enabled=options.precision == "bf16-mixed"
    )
    clock = Clock(training, options.device)
    for step, batch in enumerate(batches):
        with mixed:
            losses = clock.loss(model, batch.to(options.device))
        weights = weights_at(training.loss_weights, step)
        sum(weight * losses[name] for name, weight in weights.items()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        training.optimizer.step()
        training.optimizer.zero_grad()
        if training.schedule is not None:
            training.schedule.step()
    return clock.figures()


def run_engine(training: Training, options: argparse.Namespace) -> Figures:
    clock = Clock(training, options.device)
    training = replace(training, loss=clock.loss, validate=None, save=None)
    with tempfile.TemporaryDirectory() as folder:
        train(
            training,
            out=Path(folder) / "run",
            accelerator=options.device,
            precision=options.precision,
            save_every=training.steps + 1,
        )
    return clock.figures()


def run_loader(training: Training, options: argparse.Namespace) -> Figures:
    # Long enough that what is made before the clock runs is a small part.
    training = replace(training, steps=5 * training.steps, workers=0)
    began, began_cpu = time.perf_counter(), time.process_time()
    count = training.batch_size * sum(1 for _ in loaded_batches(training, options))
    spent = time.process_time() - began_cpu
    return count / (time.perf_counter() - began), 1e3 * spent / count


class Clock:
    """Notes when each step of a training asks for its loss.

    `loss` is put in place of the training's, so that the engine's own loop is what is timed.
    """

    def __init__(self, training: Training, device: str) -> None:
        self._loss = training.loss
        self._batch_size = training.batch_size
        self._device = device
        self._times: list[Figures] = []

    def loss(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The training's losses."""
        if self._device == "cuda":
            torch.cuda.synchronize()
        self._times.append((time.perf_counter(), time.process_time()))
        return self._loss(model, batch)

    def figures(self) -> Figures:
        """From the first counted step's start to the last one's."""
        counted = self._times[WARM_UP:]
        crops = (len(counted) - 1) * self._batch_size
        seconds, processor = (counted[-1][i] - counted[0][i] for i in range(2))
        return crops / seconds, 1e3 * processor / crops


if __name__ == "__main__":
    main()
