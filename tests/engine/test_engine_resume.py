"""What survives a kill, and what several processes share."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from tiny_training import Noisy, assert_same, fit, loss, rows, start_process, tiny, wait_for_step
from torch import Tensor, nn

from pixelkin.checkpoint import load_state
from pixelkin.engine.state import load_tree
from pixelkin.errors import PixelkinError

pytest.importorskip("lightning.fabric")


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


def test_resume_rules(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(PixelkinError, match="nothing to resume"):
        fit(tiny(), out, resume=True)
    fit(tiny(steps=2), out)
    with pytest.raises(PixelkinError, match="already holds a training; resume it"):
        fit(tiny(), out)
    longer = tiny(steps=4, data=torch.utils.data.ConcatDataset([Noisy(), Noisy()]))
    with pytest.raises(PixelkinError, match=r"a training of 2 steps, now .* have 4: .* steps 2"):
        fit(longer, out, resume=True)
    longer.steps = 2
    with pytest.raises(PixelkinError, match=r"with a data length of 10, now it is 20; .* data"):
        fit(longer, out, resume=True)
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
