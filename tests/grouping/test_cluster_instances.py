"""Instances from clusters: perfect embeddings give perfect instances."""

import numpy as np
import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.grouping.cluster_instances import ClusterGrouping
from pixelkin.masks import decode_rle
from pixelkin.structures import InstanceFields, Instances

METHODS = ["mean_shift", "one_pass"]


def group(embeddings, logits, grouping: ClusterGrouping) -> Instances:
    fields = InstanceFields(
        torch.from_numpy(embeddings)[None].float(), torch.from_numpy(logits)[None].float(), 1
    )
    return grouping(fields, embeddings.shape[1:])


def cells_of(found: Instances) -> list[list[int]]:
    return [np.flatnonzero(decode_rle(rle, found.size_hw)).tolist() for rle in found.rles]


def scene(labels: np.ndarray, categories: dict[int, int], classes: int):
    """What the loss asks for: within .2 of the mean, means 3 apart; the background anywhere."""
    rng = np.random.default_rng(5)
    embeddings = rng.normal(0, 5, (2, *labels.shape))
    logits = np.zeros((classes + 1, *labels.shape))
    logits[0][labels == 0] = 4
    for n, (label, category) in enumerate(categories.items()):
        own = labels == label
        noise = rng.uniform(-0.14, 0.14, (2, own.sum()))
        embeddings[:, own] = np.array([[3.0 * (n % 5)], [3.0 * (n // 5)]]) + noise
        logits[category + 1][own] = rng.uniform(3, 5, own.sum())
    return embeddings, logits


def grid(side: int = 9) -> np.ndarray:
    """36 objects of 7×7 cells in a field of 54×54, two cells between them."""
    rows, columns = np.mgrid[: 6 * side, : 6 * side]
    inside = (rows % side < side - 2) & (columns % side < side - 2)
    return np.where(inside, 1 + rows // side * 6 + columns // side, 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("classes", [1, 3])
def test_perfect_embeddings_give_perfect_instances(method, classes):
    labels = grid()
    categories = {label: label % classes for label in range(1, 37)}
    embeddings, logits = scene(labels, categories, classes)
    found = group(embeddings, logits, ClusterGrouping(method=method))
    objects = [np.flatnonzero(labels == label).tolist() for label in categories]
    assert sorted(zip(cells_of(found), found.categories, strict=True)) == sorted(
        zip(objects, categories.values(), strict=True)
    )
    assert list(found.scores) == sorted(found.scores, reverse=True)
    powers = np.exp(logits.reshape(classes + 1, -1))
    probabilities = powers / powers.sum(0)
    for cells, category, score in zip(cells_of(found), found.categories, found.scores, strict=True):
        assert score == pytest.approx(probabilities[category + 1, cells].mean(), abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_one_embedding_and_two_classes_are_two_objects(method):
    embeddings, logits = np.zeros((2, 4, 8)), np.zeros((3, 4, 8))
    logits[1, :, :4], logits[2, :, 4:] = 5, 6
    found = group(embeddings, logits, ClusterGrouping(method=method))
    assert found.categories == (1, 0)
    assert list(map(len, cells_of(found))) == [16, 16]


@pytest.mark.parametrize("method", METHODS)
def test_no_foreground_gives_nothing(method):
    embeddings, logits = scene(np.zeros((6, 7), int), {}, 2)
    found = group(embeddings, logits, ClusterGrouping(method=method))
    assert (len(found), found.size_hw) == (0, (6, 7))


@pytest.mark.parametrize("method", METHODS)
def test_tiny_clusters_go_and_their_cells_spoil_no_other(method):
    labels = np.zeros((8, 10), int)
    labels[:4, :4], labels[6, 6:9], labels[6:8, :2] = 1, 2, 3
    embeddings, logits = scene(labels, {1: 0, 2: 0, 3: 0}, 1)
    found = group(embeddings, logits, ClusterGrouping(method=method, min_cells=1))
    assert sorted(map(len, cells_of(found))) == [3, 4, 16]
    found = group(embeddings, logits, ClusterGrouping(method=method, min_cells=4))
    held = cells_of(found)
    assert [np.flatnonzero(labels == label).tolist() for label in (1, 3)] == sorted(
        held, key=lambda cells: cells[0]
    )
    found = group(embeddings, logits, ClusterGrouping(method=method, min_cells=17))
    assert len(found) == 0


def test_min_foreground_moves_the_outline():
    embeddings, logits = np.zeros((2, 1, 12)), np.zeros((2, 1, 12))
    probabilities = np.linspace(0.05, 0.95, 12)
    logits[1, 0] = np.log(probabilities / (1 - probabilities))
    for least in (0.3, 0.5, 0.9):
        found = group(embeddings, logits, ClusterGrouping(min_foreground=least, min_cells=1))
        assert cells_of(found) == [np.flatnonzero(probabilities >= least).tolist()]


def test_the_bandwidth_parts_or_joins():
    embeddings = np.zeros((2, 2, 10))
    embeddings[0, :, 5:] = 2
    logits = np.stack([np.zeros((2, 10)), np.full((2, 10), 5.0)])
    for method in METHODS:
        assert len(group(embeddings, logits, ClusterGrouping(method=method))) == 2
        assert len(group(embeddings, logits, ClusterGrouping(3.0, method=method))) == 1


@pytest.mark.parametrize(("images", "logits"), [(2, 2), (1, 1)])
def test_other_fields_are_refused(images, logits):
    fields = InstanceFields(torch.zeros(images, 2, 3, 3), torch.zeros(images, logits, 3, 3), 2)
    with pytest.raises(PixelkinError, match=f"{images} images with {logits} logits: expected"):
        ClusterGrouping()(fields, (6, 6))


def test_an_unknown_method_is_refused():
    with pytest.raises(PixelkinError, match="'meanshift': expected mean_shift or one_pass"):
        ClusterGrouping(method="meanshift")  # type: ignore[arg-type]
