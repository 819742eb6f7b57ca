"""Small class maps with unknown pixels, and oracles that go pixel by pixel."""

import math

import numpy as np

from pixelkin.structures import IGNORE

NAMES = ("road", "car", "sky", "person")


def random_maps(seed, *, classes=4, size_hw=(13, 17), ignore=0.15):
    """(truth, predicted): blocks with some noise, unknown pixels in the truth."""
    generator = np.random.default_rng(seed)
    height, width = size_hw
    blocks = generator.integers(0, classes, (height // 4 + 1, width // 4 + 1))
    truth = np.kron(blocks, np.ones((4, 4), np.int64))[:height, :width]
    predicted = np.roll(truth, generator.integers(-2, 3, 2), (0, 1))
    noisy = generator.random(size_hw) < 0.1
    predicted = np.where(noisy, generator.integers(0, classes, size_hw), predicted)
    return np.where(generator.random(size_hw) < ignore, IGNORE, truth), predicted


def counts_by_loops(truth, predicted, classes):
    counts = [[0] * classes for _ in range(classes)]
    for wanted, found in zip(np.ravel(truth), np.ravel(predicted), strict=True):
        if wanted != IGNORE:
            counts[int(wanted)][int(found)] += 1
    return counts


def f_by_loops(mask, truth, radius_px):
    """F of two masks matched within a radius, point by point."""
    found, wanted = np.argwhere(mask).tolist(), np.argwhere(truth).tolist()
    if not found or not wanted:
        return float(len(found) == len(wanted))

    def share(points, others):
        hits = sum(any(math.dist(p, o) <= radius_px for o in others) for p in points)
        return hits / len(points)

    precision, recall = share(found, wanted), share(wanted, found)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
