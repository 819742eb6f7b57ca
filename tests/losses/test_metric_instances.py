"""The losses of Fathi et al. against plain loops in float64."""

import math

import pytest
import torch

from pixelkin.grouping.similarity import SMALLEST_DISTANCE
from pixelkin.losses.metric_instances import (
    SETTLED_DISTANCE,
    MaskScores,
    Samples,
    mask_overlaps,
    mask_score_loss,
    metric_instance_losses,
    pair_loss,
    pair_weights,
    sample_pixels,
)
from pixelkin.models.instance_embedding import CUTS
from pixelkin.structures import IGNORE


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True))


def kind(yp: int, yq: int) -> int:
    """0 of one instance, 1 of two, 2 of an instance and the background."""
    if yp == yq:
        return 0
    return 2 if 0 in (yp, yq) else 1


def loops_pair_loss(embeddings, instances, shares=None, pull_background=True) -> float:
    """Section 3.1 of the paper, one pair at a time."""
    size = {int(i): int((instances == i).sum()) for i in instances}
    pairs = []
    for p in range(len(instances)):
        for q in range(len(instances)):
            yp, yq = int(instances[p]), int(instances[q])
            d = max(distance(embeddings[p], embeddings[q]), 0.0)
            if yp == yq:
                cost = math.log(2 / (1 + math.exp(d)))
            else:
                d = max(d, SMALLEST_DISTANCE)
                cost = math.log(1 - 2 / (1 + math.exp(d)))
            pairs.append((yp, yq, 1 / (size[yp] * size[yq]), cost, d))
    if not pull_background:
        pairs = [pair for pair in pairs if pair[:2] != (0, 0)]
    if shares is None:
        return -sum(w * c for _, _, w, c, _ in pairs) / sum(w for _, _, w, _, _ in pairs)
    whole = sum(1 / (size[int(a)] * size[int(b)]) for a in instances for b in instances)
    loss = 0.0
    for k, share in enumerate(shares):
        own = [(w / whole, c, d) for a, b, w, c, d in pairs if kind(a, b) == k]
        counted = sum(w for w, _, d in own if k == 0 or d < SETTLED_DISTANCE)
        counted = max(counted, 1e-3 * sum(w for w, _, _ in own), 1e-12)
        loss -= share * sum(w * c for w, c, _ in own) / counted
    return loss


@pytest.mark.parametrize("shares", [None, (0.5, 0.25, 0.25), (0.1, 0.2, 0.7)])
@pytest.mark.parametrize("pull_background", [True, False])
def test_pair_loss_equals_loops(shares, pull_background):
    torch.manual_seed(0)
    for _ in range(5):
        embeddings = 1.5 * torch.randn(14, 3)  # some pairs beyond SETTLED_DISTANCE, some not
        instances = torch.randint(0, 4, (14,))
        found = pair_loss(embeddings, instances, shares=shares, pull_background=pull_background)
        expected = loops_pair_loss(embeddings, instances, shares, pull_background)
        assert float(found) == pytest.approx(expected, rel=1e-4)


def test_pairs_of_every_two_instances_weigh_the_same():
    instances = torch.tensor([1] * 10 + [2] * 3 + [0] * 7)
    weights = pair_weights(instances)
    assert float(weights.sum()) == pytest.approx(1)
    for a in (0, 1, 2):
        for b in (0, 1, 2):
            part = weights[instances == a][:, instances == b].sum()
            assert float(part) == pytest.approx(1 / 9, rel=1e-5)


def test_no_weight_would_be_another_loss():
    """The public ports' bug: without w_pq large instances dominate."""
    embeddings = torch.tensor([[0.0], [0.0], [0.0], [1.0], [2.0]])
    instances = torch.tensor([1, 1, 1, 2, 2])
    unweighted = []
    for p in range(5):
        for q in range(5):
            d = distance(embeddings[p], embeddings[q])
            same = instances[p] == instances[q]
            d = max(d, SMALLEST_DISTANCE)
            sigma = 2 / (1 + math.exp(d))
            unweighted.append(-math.log(sigma if same else 1 - sigma))
    assert abs(float(pair_loss(embeddings, instances)) - sum(unweighted) / 25) > 0.02


def test_gradient_of_pair_loss_is_that_of_finite_differences():
    torch.manual_seed(1)
    embeddings = torch.randn(8, 2, requires_grad=True)
    instances = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3])
    (gradient,) = torch.autograd.grad(pair_loss(embeddings, instances), embeddings)
    for place in ((0, 0), (3, 1), (7, 0)):
        shifted = []
        for step in (1e-3, -1e-3):
            other = embeddings.detach().clone()
            other[place] += step
            shifted.append(loops_pair_loss(other, instances))
        assert float(gradient[place]) == pytest.approx((shifted[0] - shifted[1]) / 2e-3, abs=2e-3)


def test_loss_stays_finite_where_pixels_coincide_or_lie_far_apart():
    embeddings = torch.tensor([[0.0], [0.0], [1e4], [1e4]], requires_grad=True)
    loss = pair_loss(embeddings, torch.tensor([1, 2, 3, 1]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(embeddings.grad).all()


def test_sampling_draws_k_of_each_instance_and_never_an_ignored_pixel():
    torch.manual_seed(2)
    labels = torch.zeros(20, 30, dtype=torch.long)
    labels[2:8, 2:8] = 1
    labels[10, 10:13] = 2
    labels[15:, :] = IGNORE
    labels[12:14, 20:28] = 300
    counts = torch.zeros(20 * 30)
    for _ in range(80):
        cells, instances = sample_pixels(labels, per_instance=10, background=25, near_cells=0)
        assert torch.equal(labels.flatten()[cells], instances)
        assert len(set(cells.tolist())) == len(cells)
        sizes = {int(i): int((instances == i).sum()) for i in instances.unique()}
        assert sizes == {0: 25, 1: 10, 2: 3, 300: 10}
        counts[cells] += 1
    drawn = counts[labels.flatten() == 1]
    assert drawn.min() > 6, "every pixel of an instance is drawn, about 22 times of 80"


def test_half_of_the_background_is_drawn_near_instances():
    labels = torch.zeros(40, 40, dtype=torch.long)
    labels[5:9, 5:9] = 7
    cells, instances = sample_pixels(labels, background=60, near_cells=2)
    rows, columns = cells[instances == 0] // 40, cells[instances == 0] % 40
    near = (rows >= 3) & (rows < 11) & (columns >= 3) & (columns < 11)
    assert len(rows) == 60
    assert int(near.sum()) == 30


def loops_overlap(embeddings, labels, pixel, cut) -> float:
    radius = math.log(2 / cut - 1)
    inside, truth = set(), set()
    for q in range(len(labels)):
        if int(labels[q]) == IGNORE:
            continue
        if distance(embeddings[pixel], embeddings[q]) <= radius:
            inside.add(q)
        if labels[q] == labels[pixel]:
            truth.add(q)
    return len(inside & truth) / len(inside | truth)


def test_mask_overlaps_equal_loops():
    torch.manual_seed(3)
    labels = torch.randint(0, 4, (60,))
    labels[labels == 3] = 256  # the instance after 254
    labels[:5] = IGNORE
    centres = {0: 0.0, 1: 2.0, 2: 4.0, 256: 6.0, IGNORE: 2.0}
    embeddings = torch.tensor([[centres[int(y)]] for y in labels]) + 0.6 * torch.randn(60, 1)
    categories = torch.full((260,), -1)
    categories[0], categories[1], categories[254] = 5, 6, 7
    cells = torch.arange(5, 60, 7)
    scored = mask_overlaps(embeddings, labels, categories, Samples(cells, labels[cells]), cuts=CUTS)
    for t, cut in enumerate(CUTS):
        for i, cell in enumerate(cells.tolist()):
            expected = 0.0 if labels[cell] == 0 else loops_overlap(embeddings, labels, cell, cut)
            assert float(scored.overlaps[t, i]) == pytest.approx(expected, abs=1e-6)
    known = {0: -1, 1: 5, 2: 6, 256: 7}
    assert scored.categories.tolist() == [known[int(labels[c])] for c in cells]


@pytest.mark.parametrize("hard", [True, False])
def test_mask_score_loss_equals_loops(hard):
    torch.manual_seed(4)
    cuts, classes, pixels, cells = 3, 2, 5, 20
    logits = torch.randn(cuts * (classes + 1), cells)
    scored = MaskScores(
        torch.randperm(cells)[:pixels], torch.rand(cuts, pixels), torch.tensor([0, 1, -1, 1, 0])
    )
    scored.overlaps[:, 2] = 0
    total = 0.0
    for t in range(cuts):
        for i in range(pixels):
            row = logits[t * 3 : t * 3 + 3, scored.cells[i]].double()
            log_p = (row - torch.logsumexp(row, 0)).tolist()
            overlap = float(scored.overlaps[t, i])
            share = float(overlap >= 0.5) if hard else overlap
            named = log_p[int(scored.categories[i]) + 1] if scored.categories[i] >= 0 else 0.0
            total -= share * named + (1 - share) * log_p[0]
    found = mask_score_loss(logits, scored, hard=hard)
    assert float(found) == pytest.approx(total / (cuts * pixels), rel=1e-5)


@pytest.mark.parametrize("fill", [0, IGNORE])
def test_images_without_instances_give_finite_losses(fill):
    embeddings = torch.randn(2, 4, 6, 6, requires_grad=True)
    logits = torch.randn(2, 8, 6, 6, requires_grad=True)
    labels = torch.full((2, 6, 6), fill)
    labels[1, :3] = 1
    losses = metric_instance_losses(
        embeddings, logits, labels, torch.zeros(2, 1, dtype=torch.long), cuts=CUTS
    )
    sum(losses.values()).backward()
    assert all(torch.isfinite(value) for value in losses.values())
    assert torch.isfinite(embeddings.grad).all()


def test_images_without_any_category():
    losses = metric_instance_losses(
        torch.randn(1, 2, 4, 4),
        torch.randn(1, 8, 4, 4),
        torch.zeros(1, 4, 4, dtype=torch.long),
        torch.zeros(1, 0, dtype=torch.long),
        cuts=CUTS,
    )
    assert set(losses) == {"pairs", "scores"}
