"""Losses against plain loops in float64."""

import math

import numpy as np
import pytest
import torch

from pixelkin.losses.segmentation import masked_bce, soft_jaccard_loss


def example(seed):
    rng = np.random.default_rng(seed)
    shape = (3, 4, 5)
    logits = torch.from_numpy(rng.normal(0, 4, shape).astype(np.float32))
    target = torch.from_numpy(rng.random(shape, dtype=np.float32) * (rng.random(shape) < 0.6))
    valid = torch.from_numpy(rng.random(shape) < 0.7)
    return logits, target.float(), valid


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_against_loops(seed):
    logits, target, valid = example(seed)
    total, count = 0.0, 0
    for x, t, v in zip(
        logits.flatten().tolist(), target.flatten().tolist(), valid.flatten().tolist(), strict=True
    ):
        if v:
            p = 1 / (1 + math.exp(-x))
            total -= t * math.log(p) + (1 - t) * math.log(1 - p)
            count += 1
    assert float(masked_bce(logits, target, valid)) == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_jaccard_against_loops(seed):
    logits, target, valid = example(seed)
    target[1] = 0
    losses = []
    for n in range(3):
        both = either = mass = 0.0
        for x, t, v in zip(
            logits[n].flatten().tolist(),
            target[n].flatten().tolist(),
            valid[n].flatten().tolist(),
            strict=True,
        ):
            p = v / (1 + math.exp(-x))
            t = t * v
            both += p * t
            either += p + t - p * t
            mass += t
        if mass > 0:
            losses.append(1 - both / either)
    assert len(losses) == 2
    got = float(soft_jaccard_loss(logits, target, valid))
    assert got == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_perfect_masks_cost_nothing_and_wrong_ones_one():
    target = torch.zeros(2, 4, 4)
    target[:, :2] = 1
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    sure = (target * 2 - 1) * 50
    assert float(masked_bce(sure, target, valid)) < 1e-6
    assert float(soft_jaccard_loss(sure, target, valid)) < 1e-6
    assert float(soft_jaccard_loss(-sure, target, valid)) == pytest.approx(1, abs=1e-6)
    assert float(masked_bce(-sure, target, valid)) == pytest.approx(50, rel=1e-5)


def test_pixels_that_are_not_valid_have_no_say_and_no_gradient():
    logits, target, valid = example(7)
    for loss in (masked_bce, soft_jaccard_loss):
        a = logits.clone().requires_grad_()
        value = loss(a, target, valid)
        value.backward()
        assert (a.grad[~valid] == 0).all()
        assert (a.grad[valid] != 0).any()
        changed = torch.where(valid, logits, logits + 10)
        assert float(loss(changed, 1 - target + (2 * target - 1) * valid, valid)) == pytest.approx(
            value.item(), rel=1e-6
        )


def test_nothing_valid_costs_nothing():
    logits, target, valid = example(8)
    for loss in (masked_bce, soft_jaccard_loss):
        assert float(loss(logits, target, torch.zeros_like(valid))) == 0
