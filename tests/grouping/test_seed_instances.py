"""Instances from seeds against dense masks of every seed, made naively."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping.seed_instances import (
    FIRST_SEEDS,
    LEAST_SIMILARITY,
    REPEATED,
    SeedGrouping,
    member_cells,
)
from pixelkin.grouping.similarity import distance_at
from pixelkin.masks import decode_rle
from pixelkin.structures import InstanceFields, Instances

CUTS = (0.25, 0.5, 0.75, 0.9)


def naive(embeddings, logits, grouping: SeedGrouping) -> list[tuple[float, int, list[int]]]:
    """(score, category, cells) of every instance, all masks dense; float64."""
    embeddings = embeddings.reshape(len(embeddings), -1).T.astype(np.float64)
    powers = np.exp(logits.reshape(len(grouping.cuts), -1, len(embeddings)).astype(np.float64))
    probabilities = powers / powers.sum(1, keepdims=True)
    scores, cut, category = [], [], []
    for cell in range(len(embeddings)):
        own = probabilities[:, 1:, cell]
        t, c = np.unravel_index(own.argmax(), own.shape)
        scores.append(own[t, c])
        cut.append(grouping.cuts[t])
        category.append(int(c))
    distances = ((embeddings[:, None] - embeddings[None]) ** 2).sum(-1)
    seeds: list[int] = []
    while len(seeds) < grouping.seeds:
        best, priority = None, -math.inf
        for cell, score in enumerate(scores):
            apart = min((distances[cell, s] for s in seeds), default=1.0)
            if score <= grouping.min_score or apart == 0:
                continue
            if math.log(score) + grouping.alpha * math.log(apart) > priority:
                best, priority = cell, math.log(score) + grouping.alpha * math.log(apart)
        if best is None:
            break
        seeds.append(best)
        if len(seeds) == FIRST_SEEDS < grouping.seeds:
            before = 3 * FIRST_SEEDS // 4
            news = [min(distances[s, e] for e in seeds[:before]) for s in seeds[before:]]
            if max(news) < distance_at(REPEATED):
                break
    taken = np.zeros(len(embeddings), bool)
    kept = []
    for seed in sorted(seeds, key=lambda s: -scores[s]):
        mask = 2 / (1 + np.exp(distances[seed])) >= cut[seed]
        free = mask & ~taken
        if free.sum() >= max(grouping.keep * mask.sum(), grouping.min_cells, 1):
            taken |= free
            kept.append((scores[seed], category[seed], np.flatnonzero(free).tolist()))
    if not (grouping.ground_units and grouping.share_out):
        return kept
    different: list[tuple[float, int, np.ndarray]] = []
    for score, label, cells in kept:
        mean = embeddings[cells].mean(0)
        if all(sigma(((mean - other) ** 2).sum()) < grouping.alike for _, _, other in different):
            different.append((score, label, mean))
    shared: list[list[int]] = [[] for _ in different]
    for cell, embedding in enumerate(embeddings):
        if different and embedding[2] < grouping.share_out * grouping.ground_units:
            apart = [((embedding - mean) ** 2).sum() for _, _, mean in different]
            if sigma(min(apart)) >= LEAST_SIMILARITY:
                shared[int(np.argmin(apart))].append(cell)
    found = []
    for index, ((score, label, mean), cells) in enumerate(zip(different, shared, strict=True)):
        others = [other for i, (_, _, other) in enumerate(different) if i != index]
        nearest = max((sigma(((mean - other) ** 2).sum()) for other in others), default=0.0)
        if len(cells) >= grouping.min_cells:
            found.append((score * (1 - nearest), label, cells))
    return sorted(found, key=lambda one: -one[0])


def sigma(distance: float) -> float:
    return 2 / (1 + math.exp(min(distance, 700)))


def group(embeddings, logits, grouping: SeedGrouping, stride: int = 1) -> Instances:
    fields = InstanceFields(
        torch.from_numpy(embeddings)[None].float(), torch.from_numpy(logits)[None].float(), stride
    )
    return grouping(fields, tuple(side * stride for side in embeddings.shape[1:]))


def cells_of(found: Instances) -> list[list[int]]:
    return [np.flatnonzero(decode_rle(rle, found.size_hw)).tolist() for rle in found.rles]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    number=st.integers(0, 10_000),
    classes=st.integers(1, 3),
    cuts=st.sampled_from([CUTS, (0.9, 0.25), (0.5,)]),
    seeds=st.sampled_from([1, 5, 100]),
    alpha=st.sampled_from([0.1, 0.3, 0.6]),
    min_score=st.sampled_from([0.05, 0.5]),
    share_out=st.sampled_from([0.0, 0.4, 0.7]),
    alike=st.sampled_from([0.25, 0.5, 1.1]),
    keep=st.sampled_from([0.0, 0.5, 1.0]),
    min_cells=st.sampled_from([1, 4]),
)
def test_equals_dense_masks_made_naively(
    number, classes, cuts, seeds, alpha, min_score, share_out, alike, keep, min_cells
):
    rng = np.random.default_rng(number)
    # Squared distances are exact, so rounding moves none over a cut; some cells coincide.
    embeddings = rng.integers(-3, 4, (3, 9, 11)) / 2
    if share_out:
        embeddings += rng.integers(0, 32, embeddings.shape) / 64
        embeddings[2] = rng.integers(0, 129, (9, 11)) / 64
    logits = 2 * rng.standard_normal((len(cuts) * (classes + 1), 9, 11))
    grouping = SeedGrouping(
        cuts,
        seeds=seeds,
        alpha=alpha,
        min_score=min_score,
        keep=keep,
        min_cells=min_cells,
        ground_units=2.0,
        share_out=share_out,
        alike=alike,
    )
    found, expected = group(embeddings, logits, grouping), naive(embeddings, logits, grouping)
    assert cells_of(found) == [cells for _, _, cells in expected]
    assert list(found.categories) == [category for _, category, _ in expected]
    assert found.scores == pytest.approx([score for score, _, _ in expected], abs=1e-5)


def perfect(labels: np.ndarray, categories: dict[int, int], classes: int, cut: int = 2):
    """Embeddings equal within an object and 4 apart between; sure logits at one of `CUTS`."""
    place = {label: index for index, label in enumerate(np.unique(labels))}
    row = np.vectorize(place.get)(labels)
    embeddings = np.stack([4.0 * (row % 20), 4.0 * (row // 20)])
    logits = np.zeros((len(CUTS), classes + 1, *labels.shape))
    logits[:, 0] = 9
    for label, category in categories.items():
        logits[cut, 0][labels == label] = 0
        logits[cut, category + 1][labels == label] = 6
    return embeddings, logits.reshape(-1, *labels.shape)


def test_hundreds_of_objects_are_all_found_whole():
    """More than fit into one round of masks, on a field where seeds are chosen by bounds."""
    rows, columns = np.mgrid[:120, :120]
    labels = np.where((rows % 6 < 4) & (columns % 6 < 4), 1 + rows // 6 * 20 + columns // 6, 0)
    categories = {label: label % 3 for label in range(1, 401)}
    found = group(*perfect(labels, categories, 3), SeedGrouping(CUTS, seeds=600))
    assert len(found) == 400
    pairs = sorted(zip(cells_of(found), found.categories, strict=True))
    expected = [
        (np.flatnonzero(labels == label).tolist(), category)
        for label, category in categories.items()
    ]
    assert pairs == sorted(expected)
    few = group(*perfect(labels, categories, 3), SeedGrouping(CUTS, seeds=70))
    assert len(few) == 70


def test_objects_of_one_look_and_two_classes_stay_apart_by_embedding():
    labels = np.zeros((8, 12), int)
    labels[1:4, 1:5], labels[5:8, 6:12] = 1, 2
    found = group(*perfect(labels, {1: 1, 2: 0}, 2), SeedGrouping(CUTS))
    assert sorted(zip(found.categories, map(len, cells_of(found)), strict=True)) == [
        (0, 18),
        (1, 12),
    ]


@pytest.mark.parametrize(("cut", "expected"), enumerate([5, 4, 3, 2]))
def test_a_mask_is_cut_where_the_seed_scores_best(cut, expected):
    """Cells in a row at distances 0, .3, .6, .9 and 1.2; their squares lie between the cuts'."""
    embeddings = np.array([0.0, 0.3, 0.6, 0.9, 1.2])[None, None]
    embeddings = np.concatenate([embeddings, embeddings * 0])
    logits = np.zeros((4, 2, 1, 5))
    logits[:, 0] = 9
    logits[cut, 1, 0, 0] = 12
    found = group(embeddings, logits.reshape(8, 1, 5), SeedGrouping(CUTS, seeds=1, min_cells=1))
    assert cells_of(found) == [list(range(expected))]


def test_cells_are_shared_out_by_similarity_where_the_background_is_known():
    """Two objects 3 apart; what lies between goes to the nearer one, and the background to none."""
    row = np.array([0.0, 0.1, 1.0, 1.4, 1.6, 2.0, 2.9, 3.0, 9.0, 3.0])
    ground = np.array([0.0, 0, 0.5, 0.7, 0.7, 0.7, 0, 0, 0, 1.9])
    embeddings = np.stack([row, row * 0, ground])[:, None]
    logits = np.stack([row * 0, np.array([4.0, -9, -9, -9, -9, -9, -9, 3, -9, -9])])[:, None]
    options = {"min_cells": 1, "seeds": 2}
    plain = SeedGrouping((0.9,), ground_units=2.0, share_out=0.0, **options)
    assert cells_of(group(embeddings, logits, plain)) == [[0, 1], [6, 7]]
    shared = SeedGrouping((0.9,), ground_units=2.0, **options)
    assert cells_of(group(embeddings, logits, shared)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert cells_of(group(embeddings, logits, SeedGrouping((0.9,), **options))) == [[0, 1], [6, 7]]


def test_large_images_get_more_seeds():
    rows, columns = np.mgrid[:120, :120]
    labels = np.where((rows % 6 < 4) & (columns % 6 < 4), 1 + rows // 6 * 20 + columns // 6, 0)
    fields = perfect(labels, dict.fromkeys(range(1, 401), 0), 1)
    grouping = SeedGrouping(CUTS, seeds=120)
    assert len(group(*fields, grouping)) == 120
    # 1920×1920 pixels are 3.5 times the area.
    assert len(group(*fields, grouping, stride=16)) == 400


def test_keep_decides_what_becomes_of_a_mask_half_taken():
    # The better seed at 0 takes what lies within 1.3; the worse one at 2 shares two of four cells.
    row = np.array([0.0, 0.1, 1.0, 1.1, 2.0, 2.1])
    embeddings = np.stack([row, row * 0])[:, None]
    logits = np.stack([row * 0, np.array([3.0, -9, -9, -9, 2, -9])])[:, None]
    for keep, sizes in ((0.5, [4, 2]), (0.51, [4])):
        grouping = SeedGrouping((0.3,), keep=keep, min_cells=1)
        assert list(map(len, cells_of(group(embeddings, logits, grouping)))) == sizes


def test_a_field_without_objects_gives_none():
    embeddings, logits = perfect(np.zeros((70, 70), int), {}, 2)
    found = group(embeddings, logits, SeedGrouping(CUTS))
    assert (len(found), found.size_hw) == (0, (70, 70))
    # Seeds, but every cell looks like background.
    ground = np.concatenate([embeddings, np.full((1, 70, 70), 2.0)])
    grouping = SeedGrouping(CUTS, ground_units=2.0)
    assert len(group(ground, logits * 0, grouping)) == 0


def test_the_image_is_smaller_than_its_padded_field():
    labels = np.zeros((8, 8), int)
    labels[2:7, 3:8] = 1
    embeddings, logits = perfect(labels, {1: 0}, 1)
    fields = InstanceFields(
        torch.from_numpy(embeddings)[None].float(), torch.from_numpy(logits)[None].float(), 4
    )
    (mask,) = (decode_rle(rle, (22, 27)) for rle in SeedGrouping(CUTS)(fields, (22, 27)).rles)
    assert mask[10:22, 14:27].all()
    assert not mask[:7].any()
    assert not mask[:, :11].any()


def test_member_cells_of_no_cell_and_of_no_seed():
    radii = torch.tensor([1.0, 2.0])
    assert [len(cells) for cells in member_cells(torch.zeros(0, 3), torch.zeros(2, 3), radii)] == [
        0,
        0,
    ]


@pytest.mark.parametrize(("images", "logits"), [(2, 8), (1, 7)])
def test_other_fields_are_refused(images, logits):
    fields = InstanceFields(torch.zeros(images, 2, 3, 3), torch.zeros(images, logits, 3, 3), 2)
    with pytest.raises(PixelkinError, match=f"{images} images with {logits} logits: expected"):
        SeedGrouping(CUTS)(fields, (6, 6))
