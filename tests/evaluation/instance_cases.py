"""Small random stills, dense masks and label maps for the oracles of instance measures."""

import math

import numpy as np

from pixelkin.evaluation.instance import Truth
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.structures import Instance, Instances

SIZE = (23, 31)


def random_mask(rng, size_hw=SIZE):
    """A filled ellipse, sometimes with a hole, rarely with no pixel."""
    height, width = size_hw
    rows, columns = np.mgrid[:height, :width]
    centre, radius = rng.random(2) * size_hw, rng.uniform(0.3, 8, 2)
    distance = ((rows - centre[0]) / radius[0]) ** 2 + ((columns - centre[1]) / radius[1]) ** 2
    return (distance < 1) & (distance >= rng.choice([0, 0, 0, 0.2]))


def random_still(rng, *, classes=2, crowds=True, ignore=True, ties=True, most=7):
    """A truth and what a careless network would find: shifted copies, doubles, fancies."""
    masks = [random_mask(rng) for _ in range(rng.integers(0, most))]
    instances = tuple(
        Instance(encode_rle(m), int(rng.integers(classes)), bool(crowds and rng.random() < 0.2))
        for m in masks
    )
    void = encode_rle(random_mask(rng)) if ignore and rng.random() < 0.5 else None
    rles, categories = [], []
    for mask, one in zip(masks, instances, strict=True):
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            shifted = np.roll(mask, tuple(rng.integers(-1, 2, 2)), (0, 1))
            rles.append(encode_rle(shifted & (rng.random(mask.shape) > rng.choice([0, 0, 0.1]))))
            categories.append(one.category if rng.random() < 0.9 else int(rng.integers(classes)))
    for _ in range(rng.integers(0, 3)):
        rles.append(encode_rle(random_mask(rng)))
        categories.append(int(rng.integers(classes)))
    scores = rng.integers(1, 4, len(rles)) / 4 if ties else rng.permutation(len(rles)) / 97 + 0.1
    found = Instances(SIZE, tuple(rles), tuple(categories), tuple(scores.tolist()))
    return Truth(instances, SIZE, void), found


def random_stills(seed, *, count=4, **options):
    rng = np.random.default_rng(seed)
    return [random_still(rng, **options) for _ in range(count)]


def perfect(truth):
    """What a network finds that copies every object, and no crowd."""
    single = [one for one in truth.instances if not one.crowd]
    return Instances(
        truth.size_hw,
        tuple(one.rle for one in single),
        tuple(one.category for one in single),
        tuple(1 - i / 100 for i in range(len(single))),
    )


def dense(rles, size_hw=SIZE):
    return [decode_rle(rle, size_hw) for rle in rles]


def truth_maps(truth):
    """Label map of objects (index + 1), that of crowds, and void pixels, by plain painting."""
    single = [one for one in truth.instances if not one.crowd]
    crowds = [one for one in truth.instances if one.crowd]
    masks = dense([one.rle for one in single], truth.size_hw)
    objects, crowd_map = np.zeros(truth.size_hw, int), np.zeros(truth.size_hw, int)
    for index in sorted(range(len(masks)), key=lambda i: (-masks[i].sum(), i)):
        objects[masks[index]] = index + 1
    for index in reversed(range(len(crowds))):
        crowd_map[decode_rle(crowds[index].rle, truth.size_hw)] = index + 1
    crowd_map[objects > 0] = 0
    void = np.zeros(truth.size_hw, bool)
    if truth.ignore is not None:
        labelled = np.any([*dense([o.rle for o in truth.instances]), void], axis=0)
        void = decode_rle(truth.ignore, truth.size_hw) & ~labelled
    return objects, crowd_map, void, single, crowds


def found_map(found):
    """Label map of found objects (index + 1): the best on top, of equals the first."""
    labels = np.zeros(found.size_hw, int)
    for index in sorted(range(len(found)), key=lambda i: (found.scores[i], -i)):
        labels[decode_rle(found.rles[index], found.size_hw)] = index + 1
    return labels


def iou(a, b):
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def mean(values):
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def same(got, wanted, tolerance=1e-12):
    """Equal numbers, or NaN on both sides."""
    if math.isnan(wanted):
        return math.isnan(got)
    return abs(got - wanted) <= tolerance
