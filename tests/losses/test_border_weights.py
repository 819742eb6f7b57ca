"""U-Net's weight map and weighted cross-entropy against plain loops."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from pixelkin.errors import PixelkinError
from pixelkin.losses.border_weights import border_weights, cut_gaps, weighted_cross_entropy
from pixelkin.structures import IGNORE


def scene(seed: int, size_hw=(17, 23), objects: int = 4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    labels = np.zeros(size_hw, np.int64)
    for label in rng.choice([1, 2, 3, 7, 254, 256, 9000], objects, replace=False):
        y, x = (rng.integers(0, side - 4) for side in size_hw)
        labels[y : y + rng.integers(1, 6), x : x + rng.integers(1, 6)] = label
    labels[rng.random(size_hw) < 0.05] = IGNORE
    return labels


def by_loops(labels: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    h, w = labels.shape
    pixels = [(y, x) for y in range(h) for x in range(w)]
    ids = sorted({int(v) for v in labels.flat} - {0, IGNORE})
    of = {i: [(y, x) for y, x in pixels if labels[y, x] == i] for i in ids}
    known = sum(labels[p] != IGNORE for p in pixels)
    background = sum(labels[p] == 0 for p in pixels)
    classes = int(background > 0) + int(known > background)
    weights = np.zeros((h, w))
    for y, x in pixels:
        if labels[y, x] == IGNORE:
            continue
        count = background if labels[y, x] == 0 else known - background
        weights[y, x] = known / (classes * count)
        if labels[y, x] == 0 and len(ids) >= 2:
            d = sorted(min(math.hypot(y - v, x - u) for v, u in of[i]) for i in ids)
            weights[y, x] += w0 * math.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))
    return weights


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("w0", "sigma"), [(10.0, 5.0), (4.0, 0.8)])
def test_weights_against_loops(seed, w0, sigma):
    labels = scene(seed)
    found = border_weights(labels, w0=w0, sigma_px=sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_loops(labels, w0, sigma), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("fill", [0, 3, IGNORE])
def test_one_label_alone_and_nothing_known(fill):
    labels = np.full((6, 5), fill, np.int64)
    found = border_weights(labels)
    assert (found == (0 if fill == IGNORE else 1)).all()


def test_background_and_foreground_have_the_same_sum_and_the_mean_is_one():
    labels = scene(3, (40, 50), 1)
    found = border_weights(labels)
    assert found[labels == 0].sum() == pytest.approx(found[labels % IGNORE > 0].sum(), rel=1e-5)
    assert found[labels != IGNORE].mean() == pytest.approx(1, rel=1e-5)


def test_the_gap_between_two_cells_weighs_most():
    labels = np.zeros((60, 60), np.int64)
    labels[20:40, 10:28], labels[20:40, 30:50] = 1, 2
    found = border_weights(labels)
    # d1 = 1 and d2 = 2 in the gap of two pixels.
    balance = 3600 / (2 * (3600 - 20 * 38))
    assert found[30, 28] == pytest.approx(balance + 10 * math.exp(-9 / 50), rel=1e-5)
    assert found.max() == found[30, 28]
    assert found[5, 5] < balance + 1e-3


def test_real_nuclei_against_a_distance_transform_per_nucleus(shared_data):
    name = sorted((shared_data / "dsb2018").rglob("masks"))[0]
    labels = np.zeros(())
    for label, path in enumerate(sorted(name.glob("*.png")), 1):
        mask = np.asarray(Image.open(path).convert("L")) > 0
        labels = np.where(mask, label + (label >= IGNORE), labels).astype(np.int64)
    ids = np.unique(labels)[1:]
    assert len(ids) > 5
    distances = np.sort([ndimage.distance_transform_edt(labels != i) for i in ids], axis=0)
    term = 10 * np.exp(-((distances[0] + distances[1]) ** 2) / 50) * (labels == 0)
    inside = (labels > 0).mean()
    balance = np.where(labels > 0, 0.5 / inside, 0.5 / (1 - inside))
    np.testing.assert_allclose(border_weights(labels), balance + term, rtol=1e-5, atol=2e-6)


def test_mistaken_parameters_are_one_line():
    for options in ({"sigma_px": 0.0}, {"w0": -1.0}):
        with pytest.raises(PixelkinError, match="expected w0 of 0 or more and a positive σ"):
            border_weights(np.zeros((3, 3), np.int64), **options)


@pytest.mark.parametrize("seed", range(3))
def test_gaps_against_loops(seed):
    labels = scene(seed, (14, 15), 6)
    expected = labels.copy()
    for y in range(14):
        for x in range(15):
            around = labels[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            others = set(around.flat) - {0, IGNORE, labels[y, x]}
            if labels[y, x] not in (0, IGNORE) and others:
                expected[y, x] = 0
    found = cut_gaps(labels)
    assert np.array_equal(found, expected)
    assert (cut_gaps(found) == found).all()


def test_weighted_cross_entropy_against_loops():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 3, (2, 4, 5, 6)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 4, (2, 5, 6)))
    labels[torch.from_numpy(rng.random((2, 5, 6)) < 0.2)] = IGNORE
    weights = torch.from_numpy(rng.random((2, 5, 6), dtype=np.float32) * 5)
    total = mass = 0.0
    for n in range(2):
        for y in range(5):
            for x in range(6):
                label = int(labels[n, y, x])
                if label != IGNORE:
                    scores = [math.exp(v) for v in logits[n, :, y, x].tolist()]
                    weight = float(weights[n, y, x])
                    total -= weight * math.log(scores[label] / sum(scores))
                    mass += weight
    found = weighted_cross_entropy(logits, labels, weights)
    assert float(found) == pytest.approx(total / mass, rel=1e-5)


def test_weighted_cross_entropy_of_nothing_known_and_of_another_size():
    logits, labels = torch.zeros(1, 2, 3, 4), torch.full((1, 3, 4), IGNORE)
    assert float(weighted_cross_entropy(logits, labels, torch.ones(1, 3, 4))) == 0
    with pytest.raises(PixelkinError, match="crop both by the network's margin_px"):
        weighted_cross_entropy(logits, torch.zeros(1, 5, 6, dtype=torch.int64), torch.ones(1, 5, 6))
