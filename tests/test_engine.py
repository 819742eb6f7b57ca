"""Training: what is written, what survives a kill, what several processes share."""

import csv
import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

pytest.importorskip("lightning.fabric")

from pixelkin.checkpoint import load_state, save_checkpoint
from pixelkin.engine import Training, TrainingResult, load_recipe, parse_recipe_options, train
from pixelkin.engine.batches import StepSampler, load_batches
from pixelkin.engine.loop import update_average
from pixelkin.engine.randomness import rng_state, seed_all, set_rng_state
from pixelkin.engine.state import load_tree, recover, save_tree
from pixelkin.errors import PixelkinError

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
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("engine") / "whole"
    fit(tiny(), out)
    return out


def test_killed_and_resumed_equals_uninterrupted(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start_process(out, delay=0.005)
    wait_for_step(process, out, 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    reached = load_tree(out / "last.ckpt")["progress"]["step"]
    assert 7 <= reached < 60
    assert reached % 7 == 0
    result = fit(tiny(), out, resume=True)
    assert result.stopped == "steps"
    assert (out / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert_same(load_tree(out / "last.ckpt"), load_tree(whole / "last.ckpt"))
    assert_same(load_state(out / "model"), load_state(whole / "model"))
    assert not list(out.glob(".*"))
    launches = json.loads((out / "run.json").read_text())["launches"]
    assert [launch["from_step"] for launch in launches] == [0, reached]


def test_interrupted_run_saves_and_resumes_equal(whole: Path, tmp_path: Path) -> None:
    calls = []

    def asked_to_stop(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == 16:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(model, batch)

    out = tmp_path / "run"
    before = signal.getsignal(signal.SIGTERM)
    result = fit(tiny(loss=asked_to_stop), out)
    assert signal.getsignal(signal.SIGTERM) is before
    assert result.stopped == "interrupted"
    assert result.step == 16
    fit(tiny(), out, resume=True)
    assert (out / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert_same(load_tree(out / "last.ckpt"), load_tree(whole / "last.ckpt"))


def test_workers_change_nothing(whole: Path, tmp_path: Path) -> None:
    fit(tiny(workers=2), tmp_path / "run")
    assert_same(load_tree(tmp_path / "run/last.ckpt"), load_tree(whole / "last.ckpt"))


def test_another_seed_changes_the_training(whole: Path, tmp_path: Path) -> None:
    fit(tiny(), tmp_path / "run", seed=4)
    assert rows(tmp_path / "run")[0]["square"] != rows(whole)[0]["square"]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    # No dropout and no batch statistics: those are drawn per process by nature.
    process = start_process(tmp_path / "two", plain=True, steps=20, devices=2)
    try:
        fit(tiny(plain=True, steps=20), tmp_path / "one")
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, output
    launch = json.loads((tmp_path / "two/run.json").read_text())["launches"][0]
    assert launch["processes"] == 2
    one, two = (load_tree(tmp_path / name / "last.ckpt") for name in ("one", "two"))
    assert two["rng"]["torch"].shape[0] == 2
    for name in ("model", "average"):
        for key in one[name]:
            # Sums of floats in another order: Adam carries 1e-7 to at most 1e-5 in 20 steps.
            torch.testing.assert_close(two[name][key], one[name][key], rtol=1e-4, atol=1e-5)
    table = list(zip(rows(tmp_path / "one"), rows(tmp_path / "two"), strict=True))
    assert len(table) == 5
    for a, b in table:
        assert {k for k in a if a[k]} == {k for k in b if b[k]}
        for key in (k for k in a if a[k]):
            assert float(b[key]) == pytest.approx(float(a[key]), rel=1e-4, abs=1e-5)


def test_loop_against_plain_loop(tmp_path: Path) -> None:
    """Weights, logged means and rates of 12 steps recomputed without the engine."""
    fit(tiny(plain=True, steps=12, monitor=""), tmp_path / "run")
    training = tiny(plain=True)
    sampler = StepSampler(10, batch_size=4, start=0, steps=12, seed=3)
    batches = load_batches(training.data, sampler, collate=torch.stack, workers=0, pin_memory=False)
    average = {key: value.clone() for key, value in training.model.state_dict().items()}
    logged: list[dict[str, float]] = []
    for step, batch in enumerate(batches, start=1):
        terms = loss(training.model, batch)
        total = terms["square"] + 0.5 * terms["absolute"]
        training.optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(training.model.parameters(), 5.0)
        training.optimizer.step()
        assert training.schedule is not None
        training.schedule.step()
        d = min(0.9, (1 + step) / (10 + step))
        for key, value in training.model.state_dict().items():
            average[key] = d * average[key] + (1 - d) * value
        logged.append({"loss": total.item(), "bias": terms["bias"].item()})
    state = load_tree(tmp_path / "run/last.ckpt")
    for key, value in training.model.state_dict().items():
        torch.testing.assert_close(state["model"][key], value)
        torch.testing.assert_close(state["average"][key], average[key])
    table = rows(tmp_path / "run")
    assert [row["step"] for row in table] == ["5", "10", "12"]
    for row, part in zip(table, (logged[:5], logged[5:10], logged[10:]), strict=True):
        for name in ("loss", "bias"):
            mean = sum(one[name] for one in part) / len(part)
            assert float(row[name]) == pytest.approx(mean, rel=1e-4)
    assert float(table[-1]["lr"]) == pytest.approx(0.01 * (1 + math.cos(math.pi * 12 / 60)) / 2)


def test_files_and_best_model(tmp_path: Path) -> None:
    scores = iter([0.1, 0.5, 0.3, math.nan, 0.2])
    seen = []

    def validate(model: nn.Module) -> dict[str, float]:
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        return {"score": next(scores)}

    training = tiny(validate=validate, validate_every=4, patience=3, ema_decay=0.0)
    result = fit(training, tmp_path / "run")
    assert (result.stopped, result.step) == ("patience", 20)
    assert (result.best, result.best_step) == (0.5, 8)
    saved = load_state(tmp_path / "run/model")
    assert_same({key: saved[key] for key in seen[1]}, seen[1])
    table = rows(tmp_path / "run")
    assert [r["step"] for r in table if r["val/score"]] == ["4", "8", "12", "16", "20"]
    assert [r["step"] for r in table if r["loss"]] == ["5", "10", "15", "20"]
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["config"] == {"width": 8}
    assert run["launches"][0]["seed"] == 3
    assert run["launches"][0]["versions"]["torch"] == str(torch.__version__)
    again = fit(tiny(patience=3), tmp_path / "run2")
    assert again.stopped in ("steps", "patience")
    # A training that has run out of patience stays stopped when it is resumed.
    same = fit(tiny(patience=3, ema_decay=0.0), tmp_path / "run", resume=True)
    assert (same.stopped, same.step) == ("patience", 20)
    assert rows(tmp_path / "run") == table


def test_smaller_is_better(tmp_path: Path) -> None:
    scores = iter([3.0, 1.0, 2.0])
    training = tiny(
        validate=lambda _: {"error": next(scores)},
        validate_every=2,
        steps=6,
        monitor="error",
        monitor_mode="min",
    )
    result = fit(training, tmp_path / "run")
    assert (result.best, result.best_step) == (1.0, 4)


def test_time_limit_ends_with_a_validated_model(tmp_path: Path) -> None:
    result = fit(tiny(delay=0.005), tmp_path / "run", max_seconds=0.3)
    assert result.stopped == "time"
    assert 0 < result.step < 60
    assert load_tree(tmp_path / "run/last.ckpt")["progress"]["step"] == result.step
    assert "val/score" in result.metrics
    assert load_state(tmp_path / "run/model")
    assert fit(tiny(), tmp_path / "run", resume=True).step == 60


def test_without_validation_the_latest_model_is_saved(tmp_path: Path) -> None:
    training = tiny(validate=None, monitor="", ema_decay=0.0, steps=9)
    fit(training, tmp_path / "run")
    state = load_state(tmp_path / "run/model")
    assert all(torch.equal(state[k], v) for k, v in training.model.state_dict().items())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number(tmp_path: Path, value: float) -> None:
    calls = []

    def broken(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        calls.append(1)
        terms = loss(model, batch)
        if len(calls) == 9:
            terms["absolute"] = terms["absolute"] * value
        return terms

    with pytest.raises(PixelkinError, match=r"loss absolute is (nan|inf) at step 9;"):
        fit(tiny(loss=broken), tmp_path / "run")
    state = load_tree(tmp_path / "run/last.ckpt")
    assert state["progress"]["step"] == 7
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_a_gradient_that_is_no_number(tmp_path: Path) -> None:
    def broken(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        return {"root": (model(batch) * 0).abs().sqrt().mean()}

    with pytest.raises(PixelkinError, match="gradient's norm is nan at step 1"):
        fit(tiny(loss=broken, loss_weights={"root": 1.0}), tmp_path / "run")


def test_bfloat16_trains_float32_weights(tmp_path: Path) -> None:
    result = fit(tiny(steps=5), tmp_path / "run", precision="bf16-mixed")
    state = load_tree(tmp_path / "run/last.ckpt")
    assert result.step == 5
    assert state["model"]["layers.0.weight"].dtype == torch.float32


def test_out_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(PixelkinError, match=r"cannot write .*run\.json: .*not a folder|a file"):
        fit(tiny(), tmp_path / "file" / "run")
    if os.geteuid() != 0:  # root may write everywhere
        (tmp_path / "shut").mkdir(mode=0o500)
        with pytest.raises(PixelkinError, match="not writable"):
            fit(tiny(), tmp_path / "shut" / "run")


def test_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = os.fsync, []

    def fsync(descriptor: int) -> None:
        if full and "state.safetensors" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    def fill(model: nn.Module) -> dict[str, float]:
        full.append(1)
        return {"score": 0.0}

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(PixelkinError, match=r"last\.ckpt: no space is left on the disk"):
        fit(tiny(validate=fill, validate_every=10), tmp_path / "run")
    assert load_tree(tmp_path / "run/last.ckpt")["progress"]["step"] == 7
    assert not list((tmp_path / "run").glob(".*"))


def test_resume_rules(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(PixelkinError, match="nothing to resume"):
        fit(tiny(), out, resume=True)
    fit(tiny(steps=2), out)
    with pytest.raises(PixelkinError, match="already holds a training; resume it"):
        fit(tiny(), out)
    with pytest.raises(PixelkinError, match="batch_size 4, now it is 5"):
        fit(tiny(batch_size=5), out, resume=True)
    with pytest.raises(PixelkinError, match="with a moving average"):
        fit(tiny(ema_decay=0.0), out, resume=True)
    with pytest.raises(PixelkinError, match="another architecture"):
        fit(tiny(plain=True), out, resume=True)
    wrong = tiny()
    wrong.optimizer = torch.optim.SGD([{"params": p} for p in wrong.model.parameters()], lr=0.1)
    with pytest.raises(PixelkinError, match="optimiser of"):
        fit(wrong, out, resume=True)
    state = out / "last.ckpt" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-9])
    with pytest.raises(PixelkinError, match="damaged or cut short"):
        fit(tiny(), out, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"validate": None}, "no validate function"),
        ({"monitor": "", "patience": 2}, "nothing is monitored"),
        ({"data": []}, "data is empty"),
    ],
)
def test_trainings_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PixelkinError, match=message):
        tiny(**changes)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"loss_weights": {"sqare": 1.0}}, {}, "loss_weights names 'sqare'"),
        ({"loss_weights": {}}, {}, "nothing is minimised"),
        ({"monitor": "J", "validate_every": 1}, {}, "monitor is 'J', but validate returned score"),
        ({}, {"precision": "8-bit"}, "precision '8-bit'"),
        ({}, {"accelerator": "abacus"}, "abacus"),
        ({}, {"seed": -1}, "seed is -1"),
        ({}, {"save_every": 0}, "save_every is 0"),
    ],
)
def test_mistakes_found_while_training(
    tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(PixelkinError, match=message) as excinfo:
        fit(tiny(**changes), tmp_path / "run", **options)
    assert "\n" not in str(excinfo.value)


def test_sampler_covers_every_pass_and_shards_alike() -> None:
    def visits(start: int = 0, rank: int = 0, world: int = 1) -> list[list[tuple[int, int]]]:
        return list(
            StepSampler(
                10, batch_size=4, start=start, steps=15, seed=1, rank=rank, world_size=world
            )
        )

    alone = visits()
    flat = [visit for batch in alone for visit in batch]
    assert [number for _, number in flat] == list(range(60))
    passes = [[i for i, _ in flat[a : a + 10]] for a in range(0, 60, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1
    assert visits(start=6) == alone[6:]
    halves = [visits(rank=rank, world=2) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == alone
    with pytest.raises(PixelkinError, match="batch size 4 cannot be shared by 3"):
        visits(world=3)


def test_random_states_come_back() -> None:
    device = torch.device("cpu")
    seed_all(5)
    random.gauss(0, 1)  # leaves a second Gaussian number in store
    np.random.randn()
    state = rng_state(device)

    def draw() -> list[float]:
        return [random.gauss(0, 1), random.random(), np.random.randn(), torch.rand(()).item()]

    first = draw()
    assert draw() != first
    # As a row of several processes' states, which is how it is saved.
    stacked = {k: torch.stack([torch.zeros_like(v), v]) for k, v in state.items()}
    set_rng_state({k: v[1] for k, v in stacked.items()}, device)
    assert draw() == first


def test_state_tree_keeps_types_and_bits(tmp_path: Path) -> None:
    tree = {
        "tensor": torch.tensor([0.1, math.nan]).double(),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "betas": (0.9, 0.999),
        "by_index": {0: {"step": torch.tensor(3.0)}, 1: [None, True, "x"]},
        "a/b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        "milestones": Counter({3: 1}),
        "infinite": math.inf,
        "third": 1 / 3,
    }
    save_tree(tmp_path / "tree", tree)
    back = load_tree(tmp_path / "tree")
    assert torch.isnan(back["tensor"][1])
    tree["tensor"], back["tensor"] = tree["tensor"][:1], back["tensor"][:1]  # type: ignore[index]
    assert_same(tree, back)
    with pytest.raises(PixelkinError, match="state /f is a function"):
        save_tree(tmp_path / "no", {"f": test_random_states_come_back})


def test_recover_finishes_an_interrupted_swap(tmp_path: Path) -> None:
    save_tree(tmp_path / ".last-x/last.ckpt", {"step": 2})
    save_tree(tmp_path / ".last-x/.old", {"step": 1})
    (tmp_path / ".last-y/last.ckpt").mkdir(parents=True)  # half-written, no .old beside it
    recover(tmp_path)
    assert load_tree(tmp_path / "last.ckpt") == {"step": 2}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_average_of_constant_weights_is_exact() -> None:
    model, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model.running_mean = torch.tensor([1.0, 2.0, 3.0])
    for step in range(1, 20):
        update_average(average, model, step=step, decay=0.9)
    assert torch.equal(average.weight, model.weight)
    assert average.running_mean is not None
    assert torch.equal(average.running_mean, model.running_mean)


RECIPE = """
from pathlib import Path
from typing import Literal
def recipe(*, data: Path, steps: int = 10, rate: float = 0.1, flip: bool = False,
           size: tuple[int, int] = (1, 2), names: list[str] | None = None,
           mode: Literal["a", "b"] = "a", limit: int | None = None):
    return locals()
"""


def test_recipe_options(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "r.py")
    text = {"data": "x/y", "steps": "100", "rate": "1e-3", "flip": "true", "size": "3,4"}
    text |= {"names": "u, v", "mode": "b", "limit": "none"}
    parsed: Any = recipe(**parse_recipe_options(recipe, text))
    assert parsed == {
        "data": Path("x/y"),
        "steps": 100,
        "rate": 1e-3,
        "flip": True,
        "size": (3, 4),
        "names": ["u", "v"],
        "mode": "b",
        "limit": None,
    }
    assert parse_recipe_options(recipe, {"data": "d", "limit": "7"})["limit"] == 7
    for wrong, message in (
        ({"stesp": "1"}, "no option stesp; did you mean steps"),
        ({"steps": "ten"}, "option steps is 'ten', expected a value of type int"),
        ({"flip": "maybe"}, "true or false"),
        ({"mode": "c"}, "one of a, b"),
        ({"size": "1"}, "2 values"),
        ({}, "needs a value for data; give --data VALUE"),
    ):
        with pytest.raises(PixelkinError, match=message) as excinfo:
            parse_recipe_options(recipe, wrong)
        assert "\n" not in str(excinfo.value)


def test_recipe_files_that_are_none(tmp_path: Path) -> None:
    for name, text, message in (
        ("missing.py", None, "there is no recipe"),
        ("empty.py", "x = 1\n", "has no function recipe"),
        ("broken.py", "def recipe(:\n", "line 1"),
        ("recipe.txt", "def recipe(): ...\n", "not a Python file"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(PixelkinError, match=message):
            load_recipe(tmp_path / name)


def test_recipes_that_fail_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "r.py"
    for text, message in (
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def recipe(): return nothing\n", "NameError: name 'nothing' is not defined"),
        ("def recipe(): raise ValueError('a\\nb')\n", "ValueError: a b"),
        ("def recipe(): raise OSError\n", "OSError: no message"),
    ):
        path.write_text(text)
        with pytest.raises(PixelkinError) as excinfo:
            load_recipe(path)()
        assert str(excinfo.value) == f"recipe {path} failed: {message}; mend the recipe"
    lines = (
        "from pixelkin.errors import PixelkinError",
        "def recipe(): raise PixelkinError('own')",
    )
    path.write_text("\n".join(lines))
    with pytest.raises(PixelkinError, match=r"^own$"):
        load_recipe(path)()


if __name__ == "__main__":
    given = json.loads(sys.argv[2])
    devices = given.pop("devices", 1)
    fit(tiny(**given), Path(sys.argv[1]), devices=devices)
