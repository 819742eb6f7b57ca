"""The training of AffinityNet: it learns, it is saved, and several processes make the same of it.

Run as a script it is one training of a test, in processes of its own.
"""

import atexit
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelkin.engine import train
from pixelkin.engine.state import load_tree
from pixelkin.grouping.affinity import affinities, half_plane_offsets
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.affinity import affinity_training, load_affinity_net
from pixelkin.trainings.optimisation import Optimisation

pytest.importorskip("lightning")

HERE = Path(__file__).resolve()


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def samples(count: int) -> list[Sample]:
    """A bright object beside the dark background; how much of it is confident differs a lot."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        image = rng.integers(20, 60, (64, 64, 3), dtype=np.uint8)
        image[:, 32:] += 150
        labels = np.full((64, 64), IGNORE, np.int64)
        width = (8, 24, 16, 32)[number % 4]
        labels[: (64, 16)[number % 2], :width], labels[:, 64 - width :] = 0, 1 + number % 2
        found.append(Sample(image, labels, f"photo{number}"))
    return found


def fit(out: Path, *, steps: int, devices: int = 1):
    torch.set_num_threads(1)
    training = affinity_training(
        samples(8),
        window_hw=(64, 64),
        optimisation=Optimisation(
            steps=steps,
            batch_size=4,
            learning_rate=3e-3,
            backbone_rate=1.0,
            weights="none",
            ema_decay=0.0,
            workers=0,
        ),
    )
    train(training, out=out, accelerator="cpu", devices=devices, log_every=1)
    return training


def table(out: Path) -> list[dict[str, float]]:
    with open(out / "metrics.csv", newline="") as handle:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("affinity")
    return fit(out, steps=14), out


def test_the_loss_falls_and_is_a_quarter_a_quarter_and_a_half(trained):
    rows = table(trained[1])
    assert len(rows) == 14
    for row in rows:
        parts = row["same_foreground"] + row["same_background"] + 2 * row["different"]
        assert row["loss"] == pytest.approx(parts / 4, rel=1e-5)
    first, last = (np.mean([row["loss"] for row in part]) for part in (rows[:3], rows[-3:]))
    assert last < 0.7 * first


def test_save_and_load_give_equal_features_that_know_the_border(trained):
    training, out = trained
    model = training.model.eval()
    loaded = load_affinity_net(out / "model")
    assert not loaded.training
    assert json.loads((out / "model" / "config.json").read_text())["architecture"] == "affinity_net"
    pixels = torch.from_numpy(samples(1)[0].image).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        features = loaded(pixels)
        assert torch.equal(features, model(pixels))
        offsets = half_plane_offsets(2)
        found = affinities(features, offsets)[0]
    right = found[offsets.index((0, 1))]
    # Cells 3 and 4 are on two sides.
    within = torch.cat([right[:, :3], right[:, 4:7]], dim=1).mean()
    assert float(right[:, 3].mean()) < 0.8 * float(within)


def test_two_processes_give_what_one_gives(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(HERE), str(tmp_path / "two")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        fit(tmp_path / "one", steps=3)
        output, _ = process.communicate(timeout=400)
    finally:
        process.kill()
    assert process.returncode == 0, output
    # Threads of gloo that live as the interpreter shuts down can abort it.
    left = [path.read_text().split() for path in sorted(tmp_path.glob("threads_*"))]
    assert len(left) == 2
    assert not any("gloo" in name for names in left for name in names)
    launch = json.loads((tmp_path / "two" / "run.json").read_text())["launches"][0]
    assert launch["processes"] == 2
    one, two = (table(tmp_path / name) for name in ("one", "two"))
    assert len(one) == len(two) == 3
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            # Sums of floats in another order.
            assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-7), key
    weights = [load_tree(tmp_path / name / "last.ckpt")["model"] for name in ("one", "two")]
    fresh = affinity_training(
        samples(8), window_hw=(64, 64),
        optimisation=Optimisation(steps=3, batch_size=4, weights="none"),
    ).model.state_dict()  # fmt: skip
    squares = dict.fromkeys(("apart", "all", "way"), 0.0)
    for key in weights[0]:
        first, second = (part[key].double() for part in weights)
        squares["apart"] += float((first - second).square().sum())
        squares["all"] += float(first.square().sum())
        squares["way"] += float((first - fresh[key].double()).square().sum())
    apart, whole, way = (squares[name] ** 0.5 for name in ("apart", "all", "way"))
    print(f"apart {apart / whole:.2g} of the weights, {apart / way:.2g} of the way")
    assert way > 1e-4 * whole
    assert apart < 1e-6 * whole
    assert apart < 1e-3 * way


def tell_threads(path: Path) -> None:
    names = [task.read_text() for task in Path("/proc/self/task").glob("*/comm")]
    path.write_text("".join(names))


if __name__ == "__main__":
    # The engine registers its own later, which therefore runs before this.
    own = f"threads_{os.environ.get('LOCAL_RANK', 0)}"
    atexit.register(tell_threads, Path(sys.argv[1]).parent / own)
    fit(Path(sys.argv[1]), steps=3, devices=2)
