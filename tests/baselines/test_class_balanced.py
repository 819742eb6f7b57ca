"""The class-balanced cross-entropy against plain loops."""

import math

import pytest
import torch

from pixelkin.baselines.class_balanced import class_balanced_bce


def loops(logits, target, valid):
    total = 0.0
    for n in range(len(logits)):
        pixels = [
            (float(z), bool(t))
            for z, t, v in zip(
                logits[n].flatten(), target[n].flatten(), valid[n].flatten(), strict=True
            )
            if v
        ]
        if not pixels:
            continue
        beta = sum(not t for _, t in pixels) / len(pixels)
        loss = 0.0
        for z, t in pixels:
            p = 1 / (1 + math.exp(-z))
            loss -= beta * math.log(p) if t else (1 - beta) * math.log(1 - p)
        total += loss / len(pixels)
    return total / len(logits)


@pytest.mark.parametrize("seed", range(4))
def test_equals_plain_loops(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 6, 7, generator=generator, dtype=torch.float64)
    target = torch.rand(3, 6, 7, generator=generator) < 0.2
    valid = torch.rand(3, 6, 7, generator=generator) < 0.8
    valid[2] = seed != 3  # an image of which nothing is known
    found = class_balanced_bce(logits, target, valid)
    assert float(found) == pytest.approx(loops(logits, target, valid), rel=1e-10)


def test_both_classes_pull_alike_at_the_start():
    logits = torch.zeros(1, 10, 10, requires_grad=True)
    target = torch.zeros(1, 10, 10, dtype=torch.bool)
    target[0, :2, :3] = True
    class_balanced_bce(logits, target, torch.ones_like(target)).backward()
    assert float(logits.grad[target].sum()) == pytest.approx(-float(logits.grad[~target].sum()))
