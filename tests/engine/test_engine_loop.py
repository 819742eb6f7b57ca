"""The loop: its steps, what it writes, what stops it."""

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_training import assert_same, fit, loss, rows, tiny
from torch import Tensor, nn

from pixelkin.checkpoint import load_state
from pixelkin.engine.batches import StepSampler, load_batches
from pixelkin.engine.loop import update_average
from pixelkin.engine.state import load_tree
from pixelkin.errors import PixelkinError

pytest.importorskip("lightning.fabric")


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


def test_time_limit_ends_with_a_validated_model(tmp_path: Path, capsys: Any) -> None:
    result = fit(tiny(delay=0.005), tmp_path / "run", max_seconds=0.3)
    assert result.stopped == "time"
    assert 0 < result.step < 60
    assert load_tree(tmp_path / "run/last.ckpt")["progress"]["step"] == result.step
    assert "val/score" in result.metrics
    assert load_state(tmp_path / "run/model")
    assert f"run: stopped after {result.step} steps (time)" in capsys.readouterr().out
    assert fit(tiny(), tmp_path / "run", resume=True).step == 60
    # What came to its end was not stopped.
    assert "run: done after 60 steps" in capsys.readouterr().out


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


def test_average_of_constant_weights_is_exact() -> None:
    model, average = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    for step in range(1, 20):
        update_average(average, model, step=step, decay=0.9)
    assert torch.equal(average.weight, model.weight)


def test_statistics_are_averaged_with_the_weights_and_counts_are_copied() -> None:
    model, average = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    expected = 0.0
    for step in range(1, 20):
        model.running_mean = torch.tensor([float(step)])
        model.num_batches_tracked = torch.tensor(step)
        with torch.no_grad():
            model.bias.fill_(float(step))
        update_average(average, model, step=step, decay=0.9)
        kept = min(0.9, (1 + step) / (10 + step))
        expected = kept * expected + (1 - kept) * step
    assert average.running_mean is not None
    assert float(average.running_mean) == pytest.approx(expected, rel=1e-5)
    assert float(average.bias) == pytest.approx(expected, rel=1e-5)
    assert int(average.num_batches_tracked) == 19
