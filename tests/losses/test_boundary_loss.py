"""Boundary targets and their losses against plain loops in float64."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.errors import PixelkinError
from pixelkin.losses.boundary import boundary_losses, boundary_targets, soft_dice_loss
from pixelkin.masks import paint_instances
from pixelkin.structures import IGNORE


def random_labels(seed, size_hw=(24, 36)):
    rng = np.random.default_rng(seed)
    labels = np.zeros((2, *size_hw), np.int64)
    for n in range(2):
        for label in (1, 2, 3, 254, 256, 300):
            y, x, h, w = rng.integers([0, 0, 3, 3], [20, 30, 13, 13])
            labels[n, y : y + h, x : x + w] = label
        y, x = rng.integers(0, 20, 2)
        labels[n, y : y + 5, x : x + 7] = IGNORE
    return labels


def targets_with_loops(labels, stride, k):
    h, w = labels.shape

    def around(y0, y1, x0, x1):
        part = labels[max(y0 - k, 0) : y1 + k, max(x0 - k, 0) : x1 + k].ravel().tolist()
        return {label for label in part if label != IGNORE}

    out = np.zeros((h // stride, w // stride), np.int64)
    for i in range(h // stride):
        for j in range(w // stride):
            known = instance = edge = 0
            for y in range(i * stride, (i + 1) * stride):
                for x in range(j * stride, (j + 1) * stride):
                    label = labels[y, x]
                    known += label != IGNORE
                    if label not in (0, IGNORE):
                        instance += 1
                        edge += len(around(y, y + 1, x, x + 1)) > 1
            cell = around(i * stride, (i + 1) * stride, j * stride, (j + 1) * stride)
            if 2 * known < stride**2:
                out[i, j] = IGNORE
            elif instance and 2 * instance >= known:
                out[i, j] = 2 if 2 * edge >= instance or len(cell - {0}) > 1 else 1
    return out


@pytest.mark.parametrize(("stride", "k"), [(1, 1), (1, 3), (2, 1), (2, 2), (4, 1), (4, 3)])
def test_targets_against_loops(stride, k):
    labels = random_labels(stride + 10 * k)
    targets = boundary_targets(torch.from_numpy(labels), stride=stride, boundary_px=k)
    assert targets.dtype == torch.int64
    for n in range(2):
        np.testing.assert_array_equal(targets[n], targets_with_loops(labels[n], stride, k))
    assert set(targets.unique().tolist()) >= {0, 2, IGNORE}


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("shift", range(4))
def test_touching_objects_are_kept_apart_wherever_they_touch(stride, shift):
    labels = torch.zeros(1, 32, 48, dtype=torch.int64)
    labels[0, 4:28, 4 : 20 + shift] = 1
    labels[0, 4:28, 20 + shift : 44] = 2
    targets = boundary_targets(labels, stride=stride, boundary_px=1)[0].numpy()
    # Not even by corners.
    assert ndimage.label(targets == 1, np.ones((3, 3)))[1] == 2


def test_the_images_border_and_ignore_are_no_boundary():
    labels = torch.full((1, 8, 8), 5)
    labels[0, :, 6:] = IGNORE
    targets = boundary_targets(labels, boundary_px=2)
    assert (targets[0, :, :6] == 1).all()
    assert (targets[0, :, 6:] == IGNORE).all()


def test_real_nuclei_keep_an_interior(shared_data):
    source = Nuclei(shared_data / "dsb2018")
    labels = paint_instances(source[0]).labels[:256, :256]
    targets = boundary_targets(torch.from_numpy(labels)[None], stride=2, boundary_px=2)[0].numpy()
    fine = targets.repeat(2, 0).repeat(2, 1)
    counts = np.bincount(labels.ravel())[1:]
    large = [i + 1 for i, count in enumerate(counts) if count > 60]
    kept = [(fine[labels == i] == 1).any() for i in large]
    assert len(large) >= 5
    assert np.mean(kept) > 0.9
    assert ndimage.label(fine == 1)[1] >= sum(kept)


@pytest.mark.parametrize("seed", range(3))
def test_losses_against_loops(seed):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(random_labels(seed))
    weights = (0.5, 1.0, 3.0)
    logits = torch.from_numpy(rng.normal(0, 3, (2, 3, 12, 18)))
    targets = boundary_targets(labels, stride=2, boundary_px=2)
    costs = total = 0.0
    both, mass = [0.0] * 3, [0.0] * 3
    for n, i, j in np.ndindex(2, 12, 18):
        truth = int(targets[n, i, j])
        if truth == IGNORE:
            continue
        powers = [math.exp(v) for v in logits[n, :, i, j].tolist()]
        p = [v / sum(powers) for v in powers]
        costs -= weights[truth] * math.log(p[truth])
        total += weights[truth]
        for c in range(3):
            both[c] += p[c] * (truth == c)
            mass[c] += p[c] + (truth == c)
    losses = boundary_losses(logits, labels, stride=2, boundary_px=2, class_weights=weights)
    assert float(losses["cross_entropy"]) == pytest.approx(costs / total, rel=1e-9)
    dice = sum(1 - 2 * both[c] / mass[c] for c in (1, 2)) / 2
    assert float(losses["dice"]) == pytest.approx(dice, rel=1e-9)


def test_perfect_logits_cost_nothing_and_unknown_cells_have_no_gradient():
    labels = torch.from_numpy(random_labels(4))
    targets = boundary_targets(labels, stride=2)
    one_hot = torch.nn.functional.one_hot(targets.clamp(max=2), 3).permute(0, 3, 1, 2)
    logits = (one_hot * 60.0).requires_grad_()
    losses = boundary_losses(logits, labels, stride=2)
    assert float(losses["cross_entropy"].detach()) < 1e-6
    assert float(losses["dice"].detach()) < 1e-6
    other = torch.randn_like(logits).requires_grad_()
    sum(boundary_losses(other, labels, stride=2).values()).backward()
    unknown = (targets == IGNORE)[:, None].expand_as(other)
    assert (other.grad[unknown] == 0).all()
    assert (other.grad[~unknown] != 0).all()


def test_nothing_known_costs_nothing_and_an_absent_class_does_not_count():
    logits = torch.randn(1, 3, 4, 4)
    for value in boundary_losses(logits, torch.full((1, 8, 8), IGNORE), stride=2).values():
        assert float(value) == 0
    targets = torch.zeros(1, 4, 4, dtype=torch.int64)
    targets[0, :2] = 1
    p = logits.softmax(1)[0, 1]
    expected = 1 - 2 * float(p[:2].sum()) / (float(p.sum()) + 8)
    assert float(soft_dice_loss(logits, targets)) == pytest.approx(expected, rel=1e-5)


def test_sizes_that_do_not_fit_are_told():
    with pytest.raises(PixelkinError, match="divisible by 4"):
        boundary_targets(torch.zeros(1, 10, 8).long(), stride=4)
    with pytest.raises(PixelkinError, match="stride 2"):
        boundary_losses(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8).long(), stride=2)
