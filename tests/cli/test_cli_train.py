"""`pixelkin train` with a recipe."""

import json

import pytest
from clip_commands import one_line

from pixelkin.cli import main

RECIPE = """
from pathlib import Path
import torch
from pixelkin.checkpoint import save_checkpoint
from pixelkin.engine import Training

def recipe(*, steps: int = 9, learning_rate: float = 0.1, seed: int = 0) -> Training:
    torch.manual_seed(seed)
    model = torch.nn.Linear(2, 1)
    return Training(
        model=model, loss=lambda m, batch: {"square": m(batch).square().mean()},
        loss_weights={"square": 1.0}, schedule=None,
        optimizer=torch.optim.SGD(model.parameters(), lr=learning_rate),
        data=[torch.ones(2)] * 4, collate=torch.stack, batch_size=2, steps=steps,
        save=lambda m, out: save_checkpoint(out, m.state_dict(), {}, ""),
        config={"steps": steps, "learning_rate": learning_rate, "seed": seed},
    )
"""


def test_train(tmp_path, capsys):
    pytest.importorskip("lightning")
    (tmp_path / "r.py").write_text(RECIPE)
    recipe, out = str(tmp_path / "r.py"), tmp_path / "run"
    arguments = ["train", recipe, "--out", str(out), "--accelerator", "cpu"]
    for wrong, says in [
        (["--step", "3"], "r.py has no option step; did you mean steps?"),
        (["--learning_rate", "x"], "option learning-rate is 'x', expected a number"),
        (["--steps", "many"], "option steps is 'many', expected a whole number"),
        (["--devices", "two"], "--devices is 'two'"),
        (["--seed", "-1"], "seed is -1"),
    ]:
        assert says in one_line(capsys, *arguments, *wrong)
        assert not out.exists()
    assert main([*arguments, "--steps", "3", "--learning-rate", "0.2", "--seed", "5"]) == 0
    assert ": done after 3 steps" in capsys.readouterr().out
    config = json.loads((out / "run.json").read_text())["config"]
    assert config == {"steps": 3, "learning_rate": 0.2, "seed": 5}
    assert (out / "model" / "model.safetensors").is_file()
