"""IRNet's losses against plain loops in float64, over processes, and what they teach."""

import math

import pytest
import torch
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.losses.affinity import PairKinds, affinity_labels
from pixelkin.losses.irnet import (
    IRNET_WEIGHTS,
    boundary_losses,
    displacement_losses,
    irnet_losses,
)
from pixelkin.structures import IGNORE

OFFSETS = half_plane_offsets(4)


def random_labels(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.tensor([0, 0, 1, 1, 2, IGNORE])[torch.randint(6, shape, generator=generator)]


def random_case(seed: int, n: int, h: int, w: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, h, w, generator=generator, dtype=torch.float64) * 2
    field = torch.randn(n, 2, h, w, generator=generator, dtype=torch.float64) * 3
    return logits, field, random_labels(generator, n, h, w)


def largest_on_path(boundary: Tensor, y: int, x: int, dy: int, dx: int) -> float:
    """Of the cells in the rectangle of two that lie less than 1 from the line through them."""
    return max(
        float(boundary[y + v, x + u])
        for v in range(min(dy, 0), max(dy, 0) + 1)
        for u in range(min(dx, 0), max(dx, 0) + 1)
        if abs(dy * u - dx * v) < math.hypot(dy, dx)
    )


def loops_losses(logits: Tensor, field: Tensor, labels: Tensor) -> dict[str, float]:
    n, h, w = labels.shape
    boundary = 1 / (1 + torch.exp(-logits))
    sums = dict.fromkeys(IRNET_WEIGHTS, 0.0)
    counts = dict.fromkeys(IRNET_WEIGHTS, 0)

    def add(kind: str, cost: float) -> None:
        sums[kind] += cost
        counts[kind] += 1

    for i in range(n):
        for y in range(h):
            for x in range(w):
                for dy, dx in OFFSETS:
                    if not (0 <= y + dy < h and 0 <= x + dx < w):
                        continue
                    a, b = int(labels[i, y, x]), int(labels[i, y + dy, x + dx])
                    if IGNORE in (a, b):
                        continue
                    affinity = 1 - largest_on_path(boundary[i], y, x, dy, dx)
                    if a != b:
                        add("different", -math.log(1 - affinity))
                        continue
                    ground = "background" if a == 0 else "foreground"
                    wanted = (0, 0) if a == 0 else (dy, dx)
                    apart = (field[i, :, y, x] - field[i, :, y + dy, x + dx]).tolist()
                    add(f"same_{ground}", -math.log(affinity))
                    cost = sum(abs(p - q) for p, q in zip(apart, wanted, strict=True))
                    add(f"displacement_{ground}", cost / 2)
    return {kind: sums[kind] / max(counts[kind], 1) for kind in sums}


@pytest.mark.parametrize("size_hw", [(6, 7), (2, 9)])
def test_irnet_losses_equal_loops(size_hw):
    logits, field, labels = random_case(0, 2, *size_hw)
    found = irnet_losses(logits, field, affinity_labels(labels, OFFSETS), OFFSETS)
    expected = loops_losses(logits, field, labels)
    assert list(found) == list(IRNET_WEIGHTS)
    for kind, value in expected.items():
        assert value > 0
        assert float(found[kind]) == pytest.approx(value, rel=1e-10)


def test_the_authors_weights():
    """(½ fg + ½ bg + neg) / 2 + (displacement fg + bg) / 2."""
    assert IRNET_WEIGHTS == {
        "same_foreground": 0.25,
        "same_background": 0.25,
        "different": 0.5,
        "displacement_foreground": 0.5,
        "displacement_background": 0.5,
    }


def total_of(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack([weight * losses[k] for k, weight in IRNET_WEIGHTS.items()]).sum()


def test_irnet_gradcheck():
    logits, field, labels = random_case(2, 1, 4, 4)
    kinds = affinity_labels(labels, OFFSETS)
    assert all(mask.any() for mask in kinds)
    assert torch.autograd.gradcheck(
        lambda x, d: total_of(irnet_losses(x, d, kinds, OFFSETS)),
        (logits.requires_grad_(), field.requires_grad_()),
    )


def test_displacements_to_a_centre_cost_nothing_and_others_do():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    to_centre = torch.stack([2 - y, 3.5 - x])[None]
    kinds = affinity_labels(torch.ones(1, 5, 6, dtype=torch.int64), OFFSETS)
    assert float(displacement_losses(to_centre, kinds, OFFSETS)["displacement_foreground"]) == 0
    # What all cells have in common is not seen: hence the mean shift of the network.
    moved = to_centre + torch.tensor([3.0, -8.0]).view(1, 2, 1, 1)
    assert float(displacement_losses(moved, kinds, OFFSETS)["displacement_foreground"]) < 1e-6
    away = displacement_losses(-to_centre, kinds, OFFSETS)
    assert float(away["displacement_foreground"]) > 1
    ground = affinity_labels(torch.zeros(1, 5, 6, dtype=torch.int64), OFFSETS)
    constant = torch.full((1, 2, 5, 6), 4.0)
    assert float(displacement_losses(constant, ground, OFFSETS)["displacement_background"]) == 0
    assert float(displacement_losses(to_centre, ground, OFFSETS)["displacement_background"]) > 0.5


@pytest.mark.parametrize("logit", [200.0, -200.0])
def test_losses_and_gradients_stay_finite_where_the_network_is_sure_and_wrong(logit):
    labels = torch.tensor([[[0, 0, 1, 1, 2, 2]]])
    logits = torch.full((1, 1, 6), logit, requires_grad=True)
    losses = boundary_losses(logits, affinity_labels(labels, OFFSETS), OFFSETS)
    assert sum(loss.item() for loss in losses.values()) == pytest.approx(
        400 if logit > 0 else 200, rel=1e-3
    )
    sum(losses.values()).backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad.abs().sum() > 0.1


def test_shards_average_to_the_whole():
    logits, field, labels = random_case(4, 4, 6, 7)
    labels[:2][labels[:2] == 0] = IGNORE
    kinds = affinity_labels(labels, OFFSETS)
    totals = torch.tensor([*(int(mask.sum()) for mask in kinds), 4])

    def found(shard: slice, sum_over_processes) -> dict[str, Tensor]:
        x, d = logits[shard].clone().requires_grad_(), field[shard].clone().requires_grad_()
        part = affinity_labels(labels[shard], OFFSETS)
        losses = irnet_losses(x, d, part, OFFSETS, sum_over_processes=sum_over_processes)
        total_of(losses).backward()
        return {**losses, "x": x.grad, "d": d.grad}

    whole = found(slice(None), lambda counts: counts)
    parts = [found(slice(i, i + 1), lambda _: totals) for i in range(4)]
    for kind in IRNET_WEIGHTS:
        mean = torch.stack([part[kind] for part in parts]).mean()
        torch.testing.assert_close(mean, whole[kind], rtol=1e-10, atol=0)
    for name in ("x", "d"):
        joined = torch.cat([part[name] for part in parts]) / 4
        torch.testing.assert_close(joined, whole[name], rtol=1e-9, atol=1e-15)
    apart = [found(slice(i, i + 1), lambda counts: counts) for i in range(4)]
    mean = torch.stack([part["same_background"] for part in apart]).mean()
    assert float(mean.detach()) != pytest.approx(float(whole["same_background"].detach()), rel=1e-2)


def test_steps_down_the_loss_find_the_boundary_and_the_centres():
    """Two regions of two classes, sure but for a band between them.

    Displacements are free; the boundary is one profile for all rows. A path's gradient goes to its
    largest cell alone, so free cells may settle for a boundary inside a region.
    """
    h, w = 8, 16
    labels = torch.full((1, h, w), IGNORE)
    labels[..., :7] = 1
    labels[..., 9:] = 2
    offsets = half_plane_offsets(5)
    kinds = affinity_labels(labels, offsets)

    def learned() -> tuple[list[float], Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        profile = (torch.randn(w, generator=generator) / 10).requires_grad_()
        field = torch.zeros(1, 2, h, w, requires_grad=True)
        optimizer = torch.optim.Adam([profile, field], lr=0.3)
        course = []
        for _ in range(40):
            logits = profile.expand(1, h, w)
            loss = total_of(irnet_losses(logits, field, kinds, offsets))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            course.append(float(loss.detach()))
        return course, profile.detach().expand(h, w).sigmoid(), field.detach()[0]

    course, boundary, field = learned()
    assert course[-1] < course[0] / 4
    assert (boundary[:, 7:9].amax(1) > 0.9).all()
    assert (boundary[:, :7] < 0.2).all()
    assert (boundary[:, 9:] < 0.2).all()
    # Where cells point: one place per region, which one is free.
    y, x = torch.meshgrid(torch.arange(float(h)), torch.arange(float(w)), indexing="ij")
    place = field + torch.stack([y, x])
    for columns in (slice(0, 7), slice(9, w)):
        spread = torch.stack([y, x])[:, :, columns].std((1, 2))
        assert (place[:, :, columns].std((1, 2)) < spread / 3).all()
    again = learned()
    assert again[0] == course
    assert torch.equal(again[1], boundary)


def test_irnet_loss_mistakes_are_one_line():
    kinds = affinity_labels(torch.zeros(1, 3, 3, dtype=torch.int64), OFFSETS)
    fewer = PairKinds(*(mask[:, :2] for mask in kinds))
    field = torch.zeros(1, 2, 3, 3)
    for call, message in (
        (lambda: boundary_losses(torch.zeros(1, 4, 3), kinds, OFFSETS), "expected one shape"),
        (lambda: boundary_losses(torch.zeros(1, 1, 3, 3), kinds, OFFSETS), r"float \(N, h, w\)"),
        (lambda: displacement_losses(field[:, :1], kinds, OFFSETS), r"expected \(1, 2, 3, 3\)"),
        (lambda: displacement_losses(field, fewer, OFFSETS), "same offsets"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
