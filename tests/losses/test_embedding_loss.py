"""The modified triplet loss against plain loops."""

import pytest
import torch
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.losses.embedding import clip_triplet_loss, modified_triplet_loss, sample_anchors
from pixelkin.structures import IGNORE


def loops(anchors, anchor_labels, pool, pool_labels, margin):
    """Hinges of the anchors that count, one by one."""
    hinges = []
    for anchor, label in zip(anchors.tolist(), anchor_labels.tolist(), strict=True):
        positive, negative = [], []
        for pixel, other in zip(pool.tolist(), pool_labels.tolist(), strict=True):
            squared = sum((a - b) ** 2 for a, b in zip(anchor, pixel, strict=True))
            if other != IGNORE:
                (positive if other == label else negative).append(squared)
        if positive and negative and label != IGNORE:
            hinges.append(max(0.0, min(positive) - min(negative) + margin))
    return hinges


def case(seed, *, anchors=12, pool=60, dimensions=3, top=3):
    generator = torch.Generator().manual_seed(seed)

    def unit(count):
        values = torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
        return functional.normalize(values, dim=1)

    labels = [torch.randint(0, top, (n,), generator=generator) for n in (anchors, pool)]
    return unit(anchors), labels[0], unit(pool), labels[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [7, 8192])
def test_equals_plain_loops(seed, chunk):
    anchors, anchor_labels, pool, pool_labels = case(seed)
    pool_labels[::9] = IGNORE
    anchor_labels[0] = IGNORE
    # A small margin leaves some anchors content and others not.
    hinges = loops(anchors, anchor_labels, pool, pool_labels, 0.05)
    given = (anchors, anchor_labels, pool, pool_labels)
    mean = modified_triplet_loss(*given, margin=0.05, chunk=chunk)
    total = modified_triplet_loss(*given, margin=0.05, reduction="sum", chunk=chunk)
    assert 0 < sum(hinge == 0 for hinge in hinges) < len(hinges)
    assert len(hinges) == len(anchors) - 1
    assert mean.item() == pytest.approx(sum(hinges) / len(hinges), rel=1e-12)
    assert total.item() == pytest.approx(sum(hinges), rel=1e-12)


def test_hinge_is_per_anchor():
    # One anchor is far better than the margin asks, the other is wrong: a sum before the hinge
    # (the known bug of a port) would let the first pay for the second and give 0.
    pool = torch.tensor([[0.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    anchors = torch.tensor([[0.0, 0.0], [2.5, 0.0]], dtype=torch.float64)
    loss = modified_triplet_loss(
        anchors, torch.tensor([1, 1]), pool, torch.tensor([1, 2]), reduction="sum"
    )
    before_hinge = (0 - 16) + (6.25 - 2.25) + 2 * 0.7
    assert before_hinge < 0
    assert loss.item() == pytest.approx(6.25 - 2.25 + 0.7)


def test_only_the_nearest_pixels_receive_gradient():
    anchors, anchor_labels, pool, pool_labels = case(3, anchors=1, pool=40)
    pool.requires_grad_()
    modified_triplet_loss(anchors, anchor_labels, pool, pool_labels, margin=10).backward()
    squared = (anchors - pool.detach()).square().sum(1)
    same = pool_labels == anchor_labels
    expected = {
        int(squared.masked_fill(~same, torch.inf).argmin()),
        int(squared.masked_fill(same, torch.inf).argmin()),
    }
    assert set(pool.grad.abs().sum(1).nonzero()[:, 0].tolist()) == expected


def test_gradcheck():
    anchors, anchor_labels, pool, pool_labels = case(1, anchors=5, pool=20)
    anchors.requires_grad_()
    pool.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a, p: modified_triplet_loss(a, anchor_labels, p, pool_labels, margin=3.0),
        (anchors, pool),
    )


def test_object_that_left_the_pool_is_left_out():
    anchors, _, pool, _ = case(2, anchors=6, pool=30)
    anchor_labels = torch.tensor([0, 0, 0, 1, 1, 2])
    pool_labels = torch.arange(30) % 2
    given = modified_triplet_loss(anchors, anchor_labels, pool, pool_labels)
    without = modified_triplet_loss(anchors[:5], anchor_labels[:5], pool, pool_labels)
    assert given.item() == without.item()
    assert given.item() > 0


@pytest.mark.parametrize("pool_size", [0, 30])
def test_nothing_to_compare_gives_zero_and_zero_gradients(pool_size):
    anchors, _, pool, _ = case(2, anchors=6, pool=30)
    anchors.requires_grad_()
    zeros = torch.zeros(6, dtype=torch.int64)
    loss = modified_triplet_loss(anchors, zeros, pool[:pool_size], torch.zeros(pool_size).long())
    loss.backward()
    assert loss.item() == 0
    assert anchors.grad.abs().sum() == 0


def test_anchors_are_half_foreground_and_never_ignored():
    labels = torch.zeros(40, 50, dtype=torch.int64)
    labels[5:20, 5:20] = 1
    labels[22:30, 5:20] = 2
    labels[30:, :] = IGNORE
    index = sample_anchors(labels, count=256, generator=torch.Generator().manual_seed(0))
    found = labels.flatten()[index]
    assert len(index.unique()) == 256
    assert int((found == 0).sum()) == 128
    assert not (found == IGNORE).any()
    assert {1, 2} <= set(found.tolist())
    again = sample_anchors(labels, count=256, generator=torch.Generator().manual_seed(0))
    other = sample_anchors(labels, count=256, generator=torch.Generator().manual_seed(1))
    assert torch.equal(index, again)
    assert not torch.equal(index, other)


def test_few_foreground_pixels_are_all_taken():
    labels = torch.zeros(20, 20, dtype=torch.int64)
    labels[3, 4:7] = 9
    found = labels.flatten()[sample_anchors(labels, count=64)]
    assert (found == 9).sum() == 3
    assert (found == 0).sum() == 32


def test_clip_loss_leaves_the_anchors_own_frame_out():
    generator = torch.Generator().manual_seed(5)
    embeddings = functional.normalize(
        torch.randn(2, 3, 4, 6, 7, generator=generator).double(), dim=2
    )
    labels = torch.randint(0, 3, (2, 3, 6, 7), generator=generator)
    # More anchors than pixels: all are taken, so that the choice of pixels does not matter.
    given = clip_triplet_loss(
        embeddings, labels, anchors=200, generator=torch.Generator().manual_seed(7)
    )

    def one(clip, own):
        flat = embeddings[clip].flatten(2).transpose(1, 2)
        others = [frame for frame in range(3) if frame != own]
        pool, pool_labels = flat[others].reshape(-1, 4), labels[clip, others].flatten()
        hinges = loops(flat[own], labels[clip, own].flatten(), pool, pool_labels, 0.7)
        return sum(hinges) / len(hinges)

    possible = [(one(0, i) + one(1, j)) / 2 for i in range(3) for j in range(3)]
    assert min(abs(given.item() - value) for value in possible) < 1e-12


def test_training_step_pulls_objects_apart():
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(1, 3, 4, 8, 8, generator=generator).requires_grad_()
    labels = torch.zeros(1, 3, 8, 8, dtype=torch.int64)
    labels[..., 2:6] = 1
    optimiser = torch.optim.Adam([raw], lr=0.05)
    losses = []
    for _ in range(60):
        loss = clip_triplet_loss(functional.normalize(raw, dim=2), labels, generator=generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_wrong_shapes_are_refused():
    with pytest.raises(PixelkinError, match="one label each"):
        modified_triplet_loss(
            torch.zeros(3, 2), torch.zeros(2).long(), torch.zeros(4, 2), torch.zeros(4).long()
        )
    with pytest.raises(PixelkinError, match="T of 2 or more"):
        clip_triplet_loss(torch.zeros(1, 1, 2, 4, 4), torch.zeros(1, 1, 4, 4).long())
