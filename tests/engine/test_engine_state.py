"""The state of a training on disk, and that of the random generators."""

import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import assert_same

from pixelkin.engine.randomness import rng_state, seed_all, set_rng_state
from pixelkin.engine.state import can_resume, load_tree, recover, save_tree
from pixelkin.errors import PixelkinError

pytest.importorskip("lightning.fabric")


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


def test_whether_a_training_can_go_on_is_asked_behind_an_interrupted_swap(tmp_path: Path) -> None:
    assert not can_resume(tmp_path / "nothing")
    save_tree(tmp_path / ".last-x/last.ckpt", {"step": 1})
    # The first one was never whole.
    assert not can_resume(tmp_path)
    save_tree(tmp_path / ".last-x/last.ckpt", {"step": 2})
    save_tree(tmp_path / ".last-x/.old", {"step": 1})
    assert can_resume(tmp_path)
    assert load_tree(tmp_path / "last.ckpt") == {"step": 2}
