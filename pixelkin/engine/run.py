"""A training in a process: starting it, new or resumed, and saving it."""

from __future__ import annotations

import atexit
import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from pixelkin.checkpoint import load_into
from pixelkin.engine.batches import StepSampler
from pixelkin.engine.randomness import rng_state, seed_all, set_rng_state
from pixelkin.engine.state import LAST, load_tree, recover, save_tree
from pixelkin.engine.training import Loss, Training
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
Devices = int | str | list[int]


@dataclass
class Progress:
    """How far a training has come; saved with it.

    Attributes:
        step: optimiser steps done.
        best, best_step: best value of the monitored metric, and where.
        without_gain: validations since then.
        sums, summed: sums of the losses over the steps since the last logged row.
    """

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    without_gain: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0


@dataclass
class Run:
    """A training in a process: what `train`'s functions share."""

    training: Training
    fabric: Fabric
    objective: Any  # Fabric's wrapper of Objective
    optimizer: Any  # Fabric's wrapper of training.optimizer
    average: nn.Module | None
    sampler: StepSampler
    progress: Progress
    out: Path

    @property
    def result_model(self) -> nn.Module:
        """The model to validate and to save."""
        return self.training.model if self.average is None else self.average


class Objective(nn.Module):
    """Model and loss as one module.

    Distributed training synchronises gradients around ONE forward call; inside it the loss may
    call the model, and any of its methods, as often as it likes.
    """

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, boxed: Boxed) -> dict[str, Tensor]:
        """Named scalars of one batch."""
        return self.loss(self.model, boxed.batch)


class Boxed:
    """Hides a batch from Fabric, which would lower its precision and rejects frozen dataclasses."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch


def launch(accelerator: str, devices: Devices, precision: Precision) -> Fabric:
    """Fabric with its processes started: one per device."""
    try:
        from lightning.fabric import Fabric
    except ImportError as error:
        raise PixelkinError(
            "training needs Lightning Fabric, which is not installed; "
            "run pip install 'pixelkin[train]'"
        ) from error
    if precision not in ("32-true", "bf16-mixed", "16-mixed"):
        raise PixelkinError(
            f"precision {precision!r} is unknown; choose 32-true, bf16-mixed or 16-mixed"
        )
    try:
        fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision)
    except (ValueError, RuntimeError) as error:
        # Fabric's own error of a missing device is no subclass of these two alone.
        raise _no_device(accelerator, devices, error) from error
    except Exception as error:
        if type(error).__name__ != "MisconfigurationException":
            raise
        raise _no_device(accelerator, devices, error) from error
    fabric.launch()
    if fabric.world_size > 1:
        atexit.register(_end_connection)
    return fabric


def _end_connection() -> None:
    """End the connection of the processes, and with it the threads that serve it.

    A thread of gloo that still lets go of a tensor while the interpreter shuts down aborts the
    process: a training that is done and saved would then seem to have failed. Of NCCL, Lightning
    takes the same care.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _no_device(accelerator: str, devices: Devices, error: Exception) -> PixelkinError:
    return PixelkinError(
        f"cannot train on accelerator {accelerator!r} with devices {devices!r}: "
        f"{' '.join(str(error).split())}; choose others, or accelerator cpu"
    )


def start(training: Training, fabric: Fabric, out: Path, *, resume: bool, seed: int) -> Run:
    """Put the training on its devices, and where asked back into its saved state."""
    if seed < 0:
        raise PixelkinError(f"seed is {seed}, expected 0 or more; choose another")
    if fabric.is_global_zero:
        recover(out)
    fabric.barrier()
    last = out / LAST
    if resume and not last.is_dir():
        raise PixelkinError(
            f"there is nothing to resume: {last} is missing; check the folder, or start anew"
        )
    if not resume and last.is_dir():
        raise PixelkinError(
            f"{out} already holds a training; resume it, or choose a new folder for this one"
        )
    seed_all(seed, fabric.global_rank)
    average = None
    if training.ema_decay:
        average = copy.deepcopy(training.model).to(fabric.device).requires_grad_(False).eval()
    objective = Objective(training.model, training.loss)
    objective.train()
    wrapped, optimizer = fabric.setup(objective, training.optimizer)
    progress = Progress()
    state: dict[str, Any] = {}
    if resume:
        state = load_tree(last)
        progress = Progress(**state["progress"])
    sampler = StepSampler(
        len(training.data),  # type: ignore[arg-type]
        batch_size=training.batch_size,
        start=progress.step,
        steps=training.steps,
        seed=seed,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    run = Run(training, fabric, wrapped, optimizer, average, sampler, progress, out)
    if resume:
        _restore(run, state, source=last)
    return run


def _restore(run: Run, state: dict[str, Any], *, source: Path) -> None:
    training, fabric = run.training, run.fabric
    _check_sampler(run, state, source=source)
    for name, part in (("average", run.average), ("schedule", training.schedule)):
        if (state[name] is None) != (part is None):
            raise PixelkinError(
                f"{source} was trained {'without' if part is not None else 'with'} "
                f"{'a moving average' if name == 'average' else 'a schedule'}; "
                "resume with the same recipe, or start anew"
            )
    load_into(training.model, state["model"], source=source)
    if run.average is not None:
        load_into(run.average, state["average"], source=source)
    try:
        training.optimizer.load_state_dict(state["optimizer"])
    except (ValueError, KeyError) as error:
        raise PixelkinError(
            f"the optimiser of {source} is another one ({error}); "
            "resume with the same recipe, or start anew"
        ) from error
    if training.schedule is not None:
        training.schedule.load_state_dict(state["schedule"])
    fabric.strategy.precision.load_state_dict(state["precision"])
    rank = fabric.global_rank
    saved = {name: values[rank] for name, values in state["rng"].items() if rank < len(values)}
    if saved:
        set_rng_state(saved, fabric.device)
    else:
        # More processes than before: the new ones begin streams of their own.
        seed_all(run.sampler.seed, rank, run.progress.step)


def _check_sampler(run: Run, state: dict[str, Any], *, source: Path) -> None:
    """Raise `PixelkinError` where the training would go on with other batches."""
    saved, own = state["sampler"], run.sampler.state()
    # Older checkpoints do not have the number of steps.
    steps = state.get("steps", run.training.steps)
    # The length comes last: a training may make it of the others.
    for name in ("batch_size", "seed", "length"):
        if saved[name] == own[name]:
            continue
        if name == "length" and steps != run.training.steps:
            raise PixelkinError(
                f"{source} is a training of {steps} steps, now it is to have {run.training.steps}: "
                "its data and its learning rate are laid out for the former; resume with steps "
                f"{steps}, or start another training in a new folder from the model of this one"
            )
        shown = "a data length of" if name == "length" else name
        raise PixelkinError(
            f"{source} was trained with {shown} {saved[name]}, now it is {own[name]}; "
            "resume with the same data, batch size and seed, or start anew"
        )


def save(run: Run) -> None:
    """Write `last.ckpt`. All processes must call this; the first one writes."""
    training, fabric = run.training, run.fabric
    # Every process draws its own random numbers.
    rng = {name: _gather(fabric, value) for name, value in rng_state(fabric.device).items()}
    if fabric.is_global_zero:
        schedule, average = training.schedule, run.average
        tree = {
            "progress": asdict(run.progress),
            "steps": training.steps,
            "sampler": run.sampler.state(),
            "model": training.model.state_dict(),
            "average": None if average is None else average.state_dict(),
            "optimizer": training.optimizer.state_dict(),
            "schedule": None if schedule is None else schedule.state_dict(),
            "precision": fabric.strategy.precision.state_dict(),
            "rng": rng,
        }
        save_tree(run.out / LAST, tree)
    fabric.barrier()


def _gather(fabric: Fabric, value: Tensor) -> Tensor:
    """(n,) of every process → (processes, n)."""
    value = value.to(fabric.device)
    parts = [torch.empty_like(value) for _ in range(fabric.world_size)]
    if fabric.world_size == 1:
        return value.unsqueeze(0)
    torch.distributed.all_gather(parts, value)
    return torch.stack(parts)
