"""The training loop: `train` follows one training from the first step to the last."""

import math
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from pixelkin.engine.batches import load_batches
from pixelkin.engine.randomness import seeded
from pixelkin.engine.run import Boxed, Devices, Precision, Progress, Run, launch, save, start
from pixelkin.engine.run_log import Row, RunLog, write_run
from pixelkin.engine.training import Ramp, Training, TrainingResult
from pixelkin.errors import PixelkinError

Stop = Literal["", "steps", "patience", "time", "interrupted"]


def train(
    training: Training,
    *,
    out: Path,
    resume: bool = False,
    accelerator: str = "auto",
    devices: Devices = 1,
    precision: Precision = "32-true",
    seed: int = 0,
    save_every: int = 200,
    log_every: int = 20,
    max_seconds: float | None = None,
    title: str = "",
) -> TrainingResult:
    """Train until the steps are done, the metric stops improving, or time is up.

    Writes to `out`: `metrics.csv` (a row every `log_every` steps: losses averaged since the row
    before, and per validation), `run.json`, `tensorboard/` where installed, `last.ckpt/` every
    `save_every` steps and at the end, and `model/` by `training.save`. Ctrl-C or SIGTERM ends
    the training after the current step, with everything saved. A resumed training continues as
    if it had not stopped: bit for bit on the CPU, and on an accelerator as far as its kernels are
    deterministic.

    Args:
        training: from a recipe.
        out: a new folder, or with `resume` one that holds `last.ckpt`.
        resume: continue from `last.ckpt`; `can_resume` says whether there is one.
        accelerator: "auto", "cpu", "cuda" or "mps".
        devices: number of processes, one device each, or device numbers, or "auto".
        precision: the weights are always float32.
        seed: ≥ 0; of the order of the data, its augmentation, and the model's own randomness.
            The model's initial weights were drawn by the recipe.
        save_every: steps between checkpoints.
        log_every: steps between rows.
        max_seconds: wall-clock limit, checked after each step; the end is validated and saved.
        title: what the closing line calls the training; `out` where empty.

    Raises:
        PixelkinError: a loss is NaN or infinite (names the step and the term), `out` cannot be
            written, or does not fit `resume`.
    """
    ends = math.inf if max_seconds is None else time.perf_counter() + max_seconds
    for name, steps in (("save_every", save_every), ("log_every", log_every)):
        if steps < 1:
            raise PixelkinError(f"{name} is {steps}, expected 1 or more; give a larger number")
    fabric = launch(accelerator, devices, precision)
    run = start(training, fabric, Path(out), resume=resume, seed=seed)
    log = _open_log(run, precision)
    stop = _finished(run)
    try:
        if not stop:
            stop = train_steps(run, log, ends=ends, save_every=save_every, log_every=log_every)
    finally:
        log.close()
    progress = run.progress
    assert stop
    log.say(f"{title or run.out}: {_ending(progress, stop)}")
    metrics = {} if log.silent else log.csv.last()
    return TrainingResult(run.out, progress.step, stop, progress.best, progress.best_step, metrics)


def _ending(progress: Progress, stop: Stop) -> str:
    steps = "1 step" if progress.step == 1 else f"{progress.step} steps"
    text = f"done after {steps}" if stop == "steps" else f"stopped after {steps} ({stop})"
    if progress.best is None:
        return text
    return f"{text}, best {progress.best:.4f} at step {progress.best_step}"


def _open_log(run: Run, precision: str) -> RunLog:
    training, fabric, first = run.training, run.fabric, run.progress.step
    if fabric.is_global_zero:
        options = {"seed": run.sampler.seed, "device": str(fabric.device), "precision": precision}
        options |= {"processes": fabric.world_size, "batch_size": training.batch_size}
        weights = {
            k: asdict(w) if isinstance(w, Ramp) else w for k, w in training.loss_weights.items()
        }
        options |= {"steps": training.steps, "loss_weights": weights}
        write_run(run.out / "run.json", config=training.config, options=options, start=first)
    return RunLog(
        run.out,
        start=first,
        steps=training.steps,
        batch_size=training.batch_size,
        silent=not fabric.is_global_zero,
    )


def train_steps(run: Run, log: RunLog, *, ends: float, save_every: int, log_every: int) -> Stop:
    """Train, log, validate and save until there is a reason to stop; returns the reason."""
    training, progress = run.training, run.progress
    batches = load_batches(
        training.data,
        run.sampler,
        collate=training.collate,
        workers=training.workers,
        pin_memory=run.fabric.device.type == "cuda",
    )
    stop: Stop = ""
    with _signals() as asked:
        for batch in batches:
            wish = train_step(run, batch, ends=ends, asked=asked)
            stop = _finished(run) or wish
            logged = stop == "steps" or progress.step % log_every == 0
            row = _losses_since_last_row(run) if logged else {}
            # An interrupted process may have seconds left to live: just save.
            due = stop in ("steps", "time") or progress.step % training.validate_every == 0
            if training.validate and due:
                with log.pause():
                    row |= validate(run)
                    show(run, log)
                stop = stop or _finished(run)
            if row:
                log.write({"step": progress.step, **row})
            log.tick(progress.step)
            if stop or progress.step % save_every == 0:
                if training.validate is None:
                    save_model(run)
                save(run)
            if stop:
                break
    return stop


def train_step(run: Run, batch: Any, *, ends: float, asked: threading.Event) -> Stop:
    """Forward, backward, optimiser step.

    Args:
        run: is changed.
        batch: this process's share of the step's batch, on the CPU.
        ends: the value of `time.perf_counter` at which time is up.
        asked: set where this process was asked to stop.

    Returns:
        "time" or "interrupted" where this holds for ANY of the processes, else "".
    """
    training, fabric, progress = run.training, run.fabric, run.progress
    losses = run.objective(Boxed(fabric.to_device(batch)))
    total = _weighted_sum(losses, weights_at(training.loss_weights, progress.step))
    flags = {"time": time.perf_counter() > ends, "interrupted": asked.is_set()}
    shared = _over_processes(run, {"loss": total, **losses}, flags=flags)
    _count(run, shared)
    fabric.backward(total)
    if training.clip_norm:
        _clip_gradient(run)
    run.optimizer.step()
    run.optimizer.zero_grad()
    if training.schedule is not None:
        training.schedule.step()
    progress.step += 1
    if run.average is not None:
        update_average(run.average, training.model, step=progress.step, decay=training.ema_decay)
    if shared["interrupted"]:
        return "interrupted"
    return "time" if shared["time"] else ""


def weights_at(weights: Mapping[str, float | Ramp], step: int) -> dict[str, float]:
    """The loss weights of one step."""
    return {k: w.at(step) if isinstance(w, Ramp) else w for k, w in weights.items()}


def _weighted_sum(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    unknown = [name for name in weights if name not in losses]
    if unknown:
        raise PixelkinError(
            f"loss_weights names {unknown[0]!r}, but the loss returned "
            f"{', '.join(losses) or 'nothing'}; correct the name"
        )
    if not weights:
        raise PixelkinError(
            f"loss_weights is empty, so nothing is minimised; weigh one of {', '.join(losses)}"
        )
    return torch.stack([weight * losses[name] for name, weight in weights.items()]).sum()


def _over_processes(
    run: Run, losses: dict[str, Tensor], *, flags: dict[str, bool]
) -> dict[str, float]:
    """Means over the processes, in one transfer, so that all of them decide alike."""
    values = torch.stack(
        [loss.detach().float().reshape(()) for loss in losses.values()]
        + [torch.tensor(float(flag), device=run.fabric.device) for flag in flags.values()]
    )
    if run.fabric.world_size > 1:
        values = cast(Tensor, run.fabric.all_reduce(values, reduce_op="mean"))
    return dict(zip([*losses, *flags], values.tolist(), strict=True))


def _count(run: Run, shared: dict[str, float]) -> None:
    """Add the losses to the sums of the row to come; stop at one that is not a number."""
    progress = run.progress
    for name in (*run.training.loss_weights, "loss"):
        if not math.isfinite(shared[name]):
            raise PixelkinError(
                f"loss {name} is {shared[name]} at step {progress.step + 1}; lower the learning "
                "rate, clip gradients, or look for a division or a logarithm of 0 in this term"
            )
    for name, value in shared.items():
        if name not in ("time", "interrupted"):
            progress.sums[name] = progress.sums.get(name, 0.0) + value
    progress.summed += 1


def _clip_gradient(run: Run) -> None:
    fabric = run.fabric
    found = fabric.clip_gradients(
        run.objective,
        run.optimizer,
        max_norm=run.training.clip_norm,
        error_if_nonfinite=False,
    )
    norm = float(cast(Tensor, found))
    # Under float16 the gradient scaler skips steps of infinite gradients by itself.
    scaled = bool(fabric.strategy.precision.state_dict())
    if not scaled and not math.isfinite(norm):
        raise PixelkinError(
            f"the gradient's norm is {norm} at step {run.progress.step + 1} while the "
            "losses are finite; look for a square root or a norm at 0 in the losses"
        )


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, *, step: int, decay: float) -> None:
    """average ← d · average + (1 − d) · model with d = min(decay, (1 + step) / (10 + step)).

    So do buffers of real numbers: statistics of batch normalisation that were those of the latest
    weights would not fit the averaged ones. Others, which count, are copied.
    """
    now = min(decay, (1 + step) / (10 + step))
    for mean, raw in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(raw, 1 - now)
    for kept, buffer in zip(average.buffers(), model.buffers(), strict=True):
        if buffer.is_floating_point():
            kept.lerp_(buffer, 1 - now)
        else:
            kept.copy_(buffer)


def validate(run: Run) -> Row:
    """Validate, keep count of the best, save the deployable model of a new best.

    The first process does it; the others wait for its numbers.
    """
    training, progress = run.training, run.progress
    numbers: dict[str, float] = {}
    if run.fabric.is_global_zero:
        assert training.validate is not None
        model = run.result_model
        model.eval()
        # Seeded, so that validating does not disturb the random numbers of the training.
        with torch.no_grad(), seeded(run.sampler.seed, progress.step):
            numbers = {name: float(value) for name, value in training.validate(model).items()}
        training.model.train()
    numbers = run.fabric.broadcast(numbers)
    if training.monitor:
        _compare_with_best(run, numbers)
    if not training.monitor or progress.best_step == progress.step:
        save_model(run)
    return {f"val/{name}": value for name, value in numbers.items()}


def show(run: Run, log: RunLog) -> None:
    """Show the training's pictures, where they are seen."""
    if run.training.pictures is None or not log.shows_pictures:
        return
    model = run.result_model
    model.eval()
    with torch.no_grad(), seeded(run.sampler.seed, run.progress.step):
        log.show(run.progress.step, run.training.pictures(model))
    run.training.model.train()


def _compare_with_best(run: Run, numbers: dict[str, float]) -> None:
    training, progress = run.training, run.progress
    if training.monitor not in numbers:
        raise PixelkinError(
            f"monitor is {training.monitor!r}, but validate returned "
            f"{', '.join(numbers) or 'nothing'}; correct the name"
        )
    value = numbers[training.monitor]
    sign = 1 if training.monitor_mode == "max" else -1
    # Written so that NaN is no gain.
    if not math.isnan(value) and (progress.best is None or sign * (value - progress.best) > 0):
        progress.best, progress.best_step, progress.without_gain = value, progress.step, 0
    else:
        progress.without_gain += 1


def save_model(run: Run) -> None:
    """Write the deployable checkpoint, `model/`, by the recipe's function."""
    if run.fabric.is_global_zero and run.training.save is not None:
        model = run.result_model
        model.eval()
        with torch.no_grad():
            run.training.save(model, run.out / "model")
        run.training.model.train()


def _losses_since_last_row(run: Run) -> Row:
    progress = run.progress
    row = {name: value / progress.summed for name, value in progress.sums.items()}
    progress.sums, progress.summed = {}, 0
    # A schedule has already set the rate of the next step.
    # Of a frozen backbone, which is often the first group, the rate is 0.
    return row | {"lr": max(float(group["lr"]) for group in run.training.optimizer.param_groups)}


def _finished(run: Run) -> Stop:
    training, progress = run.training, run.progress
    if training.patience and progress.without_gain >= training.patience:
        return "patience"
    return "steps" if progress.step >= training.steps else ""


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one kills as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _frame: object) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])
        # print() is not safe inside a signal handler.
        os.write(2, b"\nstopping after this step; once more to stop at once\n")

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
