"""Evidence against plain loops in float64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pixelkin.grouping.evidence import (
    CELL_PX,
    PART_PX,
    PARTS,
    RIDGE,
    Memory,
    cells,
    discriminant,
    discriminant_features,
    evidence_maps,
    join,
    label_parts,
    local_bias,
    parts_of,
    recall,
)
from pixelkin.structures import IGNORE


def random_memory(seed: int, *, b=2, o=2, m=7, d=6, c=5) -> Memory:
    draw = torch.Generator().manual_seed(seed)
    return Memory(
        F.normalize(torch.randn(b, m, d, generator=draw), dim=2),
        torch.randn(b, m, c, generator=draw),
        torch.rand(b, o, m, PARTS, generator=draw),
        torch.randint(0, 2, (b, o, m), generator=draw).float(),
    )


@pytest.mark.parametrize("biased", [False, True])
def test_recall_against_loops(biased):
    memory = random_memory(0)
    queries = F.normalize(torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)), dim=2)
    bias = -torch.rand(4, 7, generator=torch.Generator().manual_seed(2)) if biased else None
    beta = 9.0
    parts, on, off = recall(queries, memory.embeddings, memory.columns(), bias=bias, sharpness=beta)
    e, p, w = (x.double().numpy() for x in (memory.embeddings, memory.parts, memory.weights))
    q = queries.double().numpy()
    for b in range(2):
        for o in range(2):
            for i in range(4):
                got, mass_on, mass_off = np.zeros(PARTS), 0.0, 0.0
                for j in range(7):
                    exponent = beta * (float(q[b, i] @ e[b, j]) - 1)
                    exponent += float(bias[i, j]) if biased else 0.0
                    vote = math.exp(exponent) * w[b, o, j]
                    got += vote * p[b, o, j]
                    mass_on += vote * p[b, o, j].mean()
                    mass_off += vote * (1 - p[b, o, j].mean())
                expected = got / max(mass_on + mass_off, 1e-18)
                assert parts[b, o, i].numpy() == pytest.approx(expected, abs=1e-5)
                for value, mass in ((on, mass_on), (off, mass_off)):
                    nearness = 1 + math.log(mass + math.exp(-beta)) / beta
                    assert float(value[b, o, i]) == pytest.approx(nearness, abs=1e-5)


def test_recall_of_itself_is_near_one_and_of_nothing_near_zero():
    embeddings = torch.eye(5)[None]
    parts = torch.zeros(1, 1, 5, PARTS)
    parts[0, 0, 2] = 1
    memory = Memory(embeddings, embeddings, parts, torch.ones(1, 1, 5))
    got, on, off = recall(embeddings, memory.embeddings, memory.columns())
    assert got[0, 0].mean(dim=1).tolist() == pytest.approx([0, 0, 1, 0, 0], abs=1e-6)
    assert float(on[0, 0, 2]) == pytest.approx(1, abs=1e-5)
    assert float(on[0, 0, 0]) == pytest.approx(0, abs=0.05)
    assert float(off[0, 0, 0]) == pytest.approx(1, abs=1e-5)
    nothing = Memory(embeddings, embeddings, parts, torch.zeros(1, 1, 5))
    got, on, off = recall(embeddings, nothing.embeddings, nothing.columns())
    assert torch.isfinite(got).all()
    assert on.abs().max() < 1e-5
    assert off.abs().max() < 1e-5


def test_objects_and_items_are_recalled_apart():
    memory = random_memory(3, b=3, o=4)
    queries = F.normalize(torch.randn(3, 5, 6), dim=2)
    together = recall(queries, memory.embeddings, memory.columns())
    for b in range(3):
        for o in range(4):
            one = Memory(
                memory.embeddings[b : b + 1],
                memory.features[b : b + 1],
                memory.parts[b : b + 1, o : o + 1],
                memory.weights[b : b + 1, o : o + 1],
            )
            alone = recall(queries[b : b + 1], one.embeddings, one.columns())
            for a, t in zip(alone, together, strict=True):
                assert torch.allclose(a[0, 0], t[b, o], atol=1e-6)


def test_discriminant_against_weighted_least_squares():
    """Ridge regression is least squares with √λ·I appended; numpy solves that."""
    memory, prior = random_memory(4, m=12), 0.3
    got = discriminant(memory, prior=prior)
    features, parts, weights = (
        x.double().numpy() for x in (memory.features, memory.parts, memory.weights)
    )
    for b in range(2):
        for o in range(2):
            share, w = parts[b, o].mean(axis=1), weights[b, o]
            plus = w * share / (w * share).sum()
            minus = w * (1 - share) / (w * (1 - share)).sum() + prior * (w == 0) / len(w)
            rows, targets = [], []
            for j in range(12):
                for weight, target in ((plus[j], 1.0), (minus[j], -1.0)):
                    rows.append(np.sqrt(weight) * features[b, j])
                    targets.append(np.sqrt(weight) * target)
            rows += list(np.sqrt(RIDGE) * np.eye(5))
            targets += [0.0] * 5
            expected = np.linalg.lstsq(np.stack(rows), np.array(targets), rcond=None)[0]
            assert got[b, o].numpy() == pytest.approx(expected, abs=1e-4)


def test_discriminant_of_object_clicks_alone_is_finite_and_positive_there():
    draw = torch.Generator().manual_seed(0)
    features = discriminant_features(
        F.normalize(torch.randn(1, 9, 4, generator=draw), dim=2),
        torch.randn(1, 9, 3, generator=draw),
    )
    weights = torch.zeros(1, 1, 9)
    weights[0, 0, 2] = 1
    memory = Memory(features[..., :4], features, torch.ones(1, 1, 9, PARTS), weights)
    score = (features @ discriminant(memory)[0, 0])[0]
    assert score.argmax() == 2
    assert score[2] > 0


def test_features_of_the_discriminant_have_squared_norm_three():
    features = discriminant_features(
        F.normalize(torch.randn(2, 5, 4), dim=2), torch.randn(2, 5, 3) * 100
    )
    assert features.shape == (2, 5, 8)
    assert features.square().sum(dim=2).flatten().tolist() == pytest.approx([3.0] * 10, abs=1e-4)
    assert (features[..., -1] == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_label_parts_against_loops(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, IGNORE, IGNORE], (32 // 2, 48 // 2))
    labels = np.kron(coarse, np.ones((2, 2))).astype(np.uint8)
    labels[:16, :16] = IGNORE
    known, parts, weights = label_parts(torch.from_numpy(labels), 1)
    side = CELL_PX // PART_PX
    for row in range(2):
        for column in range(3):
            shares = np.full(PARTS, np.nan)
            for v in range(side):
                for u in range(side):
                    y, x = row * CELL_PX + v * PART_PX, column * CELL_PX + u * PART_PX
                    block = labels[y : y + PART_PX, x : x + PART_PX]
                    if (block != IGNORE).any():
                        shares[v * side + u] = (block == 1).sum() / (block != IGNORE).sum()
            cell = row * 3 + column
            labelled = ~np.isnan(shares)
            assert known[cell].numpy() == pytest.approx(np.where(labelled, shares, 0.5), abs=1e-6)
            assert float(weights[cell]) == float(labelled.any())
            mean = shares[labelled].mean() if labelled.any() else 0.0
            assert parts[cell].numpy() == pytest.approx(np.where(labelled, shares, mean), abs=1e-6)


def test_parts_of_puts_each_pixel_into_its_cell():
    values = torch.arange(2 * 3 * 8 * 12, dtype=torch.float32).reshape(2, 3, 8, 12)
    parts = parts_of(values)
    assert parts.shape == (2, 3, 6, PARTS)
    for y in range(8):
        for x in range(12):
            cell, part = (y // 4) * 3 + x // 4, (y % 4) * 4 + x % 4
            assert torch.equal(parts[:, :, cell, part], values[:, :, y, x])


def test_cells_run_row_by_row():
    map_ = torch.randn(2, 5, 3, 4)
    assert torch.equal(cells(map_)[:, 1 * 4 + 3], map_[:, :, 1, 3])


def test_local_bias_against_loops():
    bias = local_bias((3, 4), sigma_cells=2.0)
    for i in range(12):
        for j in range(12):
            squared = (i // 4 - j // 4) ** 2 + (i % 4 - j % 4) ** 2
            assert float(bias[i, j]) == pytest.approx(-squared / 8)


def test_joined_memories_count_as_all_their_cells():
    one, two = random_memory(5), random_memory(6, m=3)
    both = join([one, two])
    assert both.embeddings.shape[1] == both.parts.shape[2] == both.weights.shape[2] == 10
    assert torch.equal(both.columns()[:, 7:], two.columns())
    queries = one.embeddings[:, :2]
    swapped = join([two, one])
    for a, b in zip(
        recall(queries, both.embeddings, both.columns()),
        recall(queries, swapped.embeddings, swapped.columns()),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-6)


def test_evidence_maps_keep_each_cell_in_its_place():
    b, o, h, w = 2, 3, 2, 4
    q = h * w
    parts = [torch.rand(b, o, q, PARTS) for _ in range(3)]
    scalars = [torch.rand(b, o, q) for _ in range(5)]
    maps = evidence_maps(
        (h, w),
        (parts[0], scalars[0], scalars[1]),
        (parts[1], scalars[2], scalars[3]),
        parts[2],
        scalars[4],
    )
    assert maps.shape == (b * o, 3 * PARTS + 5, h, w)
    for row, column in ((0, 0), (1, 2)):
        cell = row * w + column
        for item in range(b):
            for k in range(o):
                at = maps[item * o + k, :, row, column]
                expected = torch.cat(
                    [p[item, k, cell] for p in parts] + [s[item, k, cell][None] for s in scalars]
                )
                assert torch.equal(at, expected)
