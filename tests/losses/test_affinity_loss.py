"""AffinityNet's loss against plain loops in float64, and two processes against one."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# Its functions keep the group of the moment of their import, as a default: were that the group of
# `one_of_two`, which imports it by way of DistributedDataParallel, the group would never end, and
# its threads could abort the process as the interpreter shuts down.
import torch.distributed.nn.functional
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import half_plane_offsets, pair_distances
from pixelkin.losses.affinity import (
    AFFINITY_WEIGHTS,
    FLOOR,
    PairKinds,
    affinity_labels,
    affinity_losses,
    mean_costs,
)
from pixelkin.structures import IGNORE

HERE = Path(__file__).resolve()
OFFSETS = half_plane_offsets(3)


def random_labels(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.tensor([0, 0, 1, 2, IGNORE])[torch.randint(5, shape, generator=generator)]


def loops_losses(features: Tensor, labels: Tensor, offsets) -> dict[str, float]:
    n, c, h, w = features.shape
    sums = dict.fromkeys(AFFINITY_WEIGHTS, 0.0)
    counts = dict.fromkeys(AFFINITY_WEIGHTS, 0)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                for dy, dx in offsets:
                    if not (0 <= y + dy < h and 0 <= x + dx < w):
                        continue
                    a, b = int(labels[i, y, x]), int(labels[i, y + dy, x + dx])
                    if IGNORE in (a, b):
                        continue
                    f, g = features[i, :, y, x].tolist(), features[i, :, y + dy, x + dx].tolist()
                    affinity = math.exp(-sum(abs(p - q) for p, q in zip(f, g, strict=True)) / c)
                    if a != b:
                        kind, cost = "different", -math.log(1 + FLOOR - affinity)
                    else:
                        kind = "same_background" if a == 0 else "same_foreground"
                        cost = -math.log(affinity)
                    sums[kind] += cost
                    counts[kind] += 1
    return {kind: sums[kind] / max(counts[kind], 1) for kind in sums}


def test_losses_equal_loops():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    labels = random_labels(generator, 2, 5, 6)
    kinds = affinity_labels(labels, OFFSETS)
    found = affinity_losses(pair_distances(features, OFFSETS), kinds)
    expected = loops_losses(features, labels, OFFSETS)
    assert list(found) == list(AFFINITY_WEIGHTS) == list(expected)
    for kind, value in expected.items():
        assert value > 0
        assert float(found[kind]) == pytest.approx(value, rel=1e-12)


def test_labels_equal_loops():
    labels = random_labels(torch.Generator().manual_seed(1), 3, 4, 7)
    found = affinity_labels(labels, OFFSETS)
    for i in range(3):
        for k, (dy, dx) in enumerate(OFFSETS):
            for y in range(4):
                for x in range(7):
                    kind = ""
                    if y + dy < 4 and 0 <= x + dx < 7:
                        a, b = int(labels[i, y, x]), int(labels[i, y + dy, x + dx])
                        if IGNORE not in (a, b):
                            same = "same_foreground" if a else "same_background"
                            kind = same if a == b else "different"
                    for name, mask in found._asdict().items():
                        assert bool(mask[i, k, y, x]) == (name == kind)


def test_the_parts_weigh_a_quarter_a_quarter_and_a_half():
    assert AFFINITY_WEIGHTS["same_foreground"] == AFFINITY_WEIGHTS["same_background"] == 1 / 4
    assert AFFINITY_WEIGHTS["different"] == 2 / 4


def total_of(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([weight * losses[k] for k, weight in AFFINITY_WEIGHTS.items()]).sum()


def test_gradcheck():
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(1, 2, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    kinds = affinity_labels(random_labels(generator, 1, 4, 4), OFFSETS)
    assert all(mask.any() for mask in kinds)
    assert torch.autograd.gradcheck(
        lambda x: total_of(affinity_losses(pair_distances(x, OFFSETS), kinds)), (features,)
    )


def test_finite_where_features_are_equal_and_where_they_are_far_apart():
    labels = torch.tensor([[[1, 1, 2, 2]]])
    kinds = affinity_labels(labels, OFFSETS)
    for values in ([0.0, 0.0, 0.0, 0.0], [0.0, 1e4, -1e4, 0.0]):
        features = torch.tensor(values).view(1, 1, 1, 4).requires_grad_()
        losses = affinity_losses(pair_distances(features, OFFSETS, norm="sum"), kinds)
        total = total_of(losses)
        total.backward()
        assert math.isfinite(float(total.detach()))
        assert torch.isfinite(features.grad).all()
    assert float(losses["same_foreground"]) == pytest.approx(1e4)
    equal = affinity_losses(pair_distances(torch.zeros(1, 1, 1, 4), OFFSETS), kinds)
    assert float(equal["different"]) == pytest.approx(-math.log(FLOOR), rel=1e-3)


def test_neutral_cells_get_no_gradient_and_a_kind_without_pairs_costs_nothing():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    labels[0, 0, 0] = IGNORE
    features = torch.randn(1, 2, 4, 4, requires_grad=True)
    losses = affinity_losses(pair_distances(features, OFFSETS), affinity_labels(labels, OFFSETS))
    assert float(losses["same_foreground"]) == float(losses["different"]) == 0
    total_of(losses).backward()
    assert not features.grad[0, :, 0, 0].any()
    assert features.grad[0, :, 1, 1].any()


def test_loss_mistakes_are_one_line():
    kinds = affinity_labels(torch.zeros(1, 3, 3, dtype=torch.int64), OFFSETS)
    for call, message in (
        (lambda: affinity_labels(torch.zeros(3, 3, dtype=torch.int64), OFFSETS), r"\(3, 3\)"),
        (lambda: affinity_labels(torch.zeros(1, 3, 3), OFFSETS), "torch.float32"),
        (lambda: affinity_losses(torch.zeros(1, 2, 3, 3), kinds), "expected one shape"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


# A batch of four images: the first half has few confident pixels, the second many, and only the
# second has background.


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ELU(), nn.Conv2d(8, 6, 1)).double()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images)
        return features


def uneven_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(4, 3, 8, 9, generator=generator, dtype=torch.float64)
    labels = random_labels(generator, 4, 8, 9)
    few = labels[:2]
    few[few == 0] = IGNORE
    few[torch.rand(2, 8, 9, generator=generator) < 0.5] = IGNORE
    return images, labels


def losses_and_gradient(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    sum_over_processes: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, list[float]]:
    distances = pair_distances(net(images), OFFSETS)
    losses = affinity_losses(
        distances, affinity_labels(labels, OFFSETS), sum_over_processes=sum_over_processes
    )
    total_of(losses).backward()
    found = {name: [value.item()] for name, value in losses.items()}
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        found[name.removeprefix("module.")] = parameter.grad.flatten().tolist()
    return found


def one_of_two(rank: int, folder: Path) -> None:
    """A process of its own: two images, gradients averaged as in distributed training."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2
    )
    images, labels = uneven_batch()
    shard = slice(2 * rank, 2 * rank + 2)
    net = nn.parallel.DistributedDataParallel(Net())
    found = losses_and_gradient(net, images[shard], labels[shard])
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    del net
    torch.distributed.destroy_process_group()
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name], names


def test_two_processes_equal_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE), str(rank), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=900)  # seconds on an idle machine
            assert process.returncode == 0, output
    finally:
        for process in processes:
            process.kill()
    a, b = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    whole = losses_and_gradient(Net(), *uneven_batch())
    for name, expected in whole.items():
        if name in AFFINITY_WEIGHTS:
            # The engine logs the mean over the processes.
            assert (a[name][0] + b[name][0]) / 2 == pytest.approx(expected[0], rel=1e-6)
        else:
            assert a[name] == b[name]
            assert a[name] == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert a["same_background"] == [0]
    # Without the shared counts it would not be so.
    images, labels = uneven_batch()
    apart = [losses_and_gradient(Net(), images[i : i + 2], labels[i : i + 2]) for i in (0, 2)]
    key = "layers.0.weight"
    mean = [(p + q) / 2 for p, q in zip(apart[0][key], apart[1][key], strict=True)]
    assert mean != pytest.approx(whole[key], rel=1e-2)


def test_shards_of_any_number_average_to_the_whole():
    images, labels = uneven_batch()
    whole = losses_and_gradient(Net(), images, labels, lambda counts: counts)
    kinds = affinity_labels(labels, OFFSETS)
    totals = torch.tensor([*(int(mask.sum()) for mask in kinds), 4])
    parts = [
        losses_and_gradient(Net(), images[i : i + 1], labels[i : i + 1], lambda _: totals)
        for i in range(4)
    ]
    for name, expected in whole.items():
        mean = torch.tensor([part[name] for part in parts], dtype=torch.float64).mean(0).tolist()
        assert mean == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_costs_of_pairs_of_no_kind_may_be_infinite():
    one = torch.tensor([[[[True, False]]]])
    kinds = PairKinds(one, ~one & one, ~one & one)
    cost = torch.tensor([[[[2.0, math.inf]]]], requires_grad=True)
    losses = mean_costs(cost, cost, kinds)
    assert {name: float(value) for name, value in losses.items()} == {
        "same_foreground": 2.0,
        "same_background": 0.0,
        "different": 0.0,
    }
    total_of(losses).backward()
    assert cost.grad.tolist() == [[[[0.25, 0.0]]]]


if __name__ == "__main__":
    one_of_two(int(sys.argv[1]), Path(sys.argv[2]))
