import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instance_cases import SIZE, dense, iou, mean, perfect, random_stills, same, truth_maps

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance import CityscapesAP, Truth
from pixelkin.masks import encode_rle
from pixelkin.structures import Instance, Instances

NAMES = ("a", "b")
MIN_PX = 20


def measured(pairs, names=NAMES, **options):
    measure = CityscapesAP(names, **{"min_region_px": MIN_PX, **options})
    for truth, found in pairs:
        measure.update(truth, found)
    return measure.compute()


def oracle_ap(pairs, category, threshold):
    """Average precision of one class at one threshold, by plain loops over label maps."""
    hits_of, wrong, missed, large_count = [], [], 0, 0
    for truth, found in pairs:
        objects, crowd_map, void, single, crowds = truth_maps(truth)
        regions = [objects == i + 1 for i, o in enumerate(single) if o.category == category]
        regions = [region for region in regions if region.any()]
        large = [region for region in regions if region.sum() >= MIN_PX]
        beside = void.copy()
        for i, one in enumerate(crowds):
            beside |= (crowd_map == i + 1) & (one.category == category)
        for region in regions:
            beside |= region & (region.sum() < MIN_PX)
        large_count += len(large)
        scores_of = [[] for _ in large]
        for mask, k, score in zip(dense(found.rles), found.categories, found.scores, strict=True):
            if k != category or not mask.any():
                continue
            hit = [i for i, region in enumerate(large) if iou(mask, region) > threshold]
            for i in hit:
                scores_of[i].append(score)
            if not hit and (mask & beside).sum() / mask.sum() <= threshold:
                wrong.append(score)
        for scores in scores_of:
            if scores:
                hits_of.append(max(scores))
                wrong.extend(sorted(scores)[:-1])
            else:
                missed += 1
    if large_count == 0:
        return math.nan
    points = []
    for cut in sorted({*hits_of, *wrong}):
        tp, fp = sum(s >= cut for s in hits_of), sum(s >= cut for s in wrong)
        points.append((tp / large_count, tp / (tp + fp)))
    if not points:
        return 0.0
    assert missed + len(hits_of) == large_count
    points.append((0.0, points[-1][1]))
    area = 0.0
    for i, (recall, precision) in enumerate(points):
        before = points[i - 1][0] if i else recall
        after = points[i + 1][0] if i + 1 < len(points) else 0.0
        area += precision * (before - after) / 2
    return area


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_equals_plain_loops(seed, ties):
    pairs = random_stills(seed, ties=ties)
    got = measured(pairs)
    table = [[oracle_ap(pairs, k, t / 100) for t in range(50, 100, 5)] for k in range(2)]
    assert same(got["AP50"], mean([row[0] for row in table]))
    assert same(got["AP"], mean([sum(row) / 10 for row in table]))
    for k, name in enumerate(NAMES):
        assert same(got[f"AP50/{name}"], table[k][0])
        assert same(got[f"AP/{name}"], sum(table[k]) / 10)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms())
def test_order_is_no_matter_even_where_scores_are_equal(seed, random):
    pairs = random_stills(seed)
    got = measured(pairs)
    random.shuffle(pairs)
    turned = []
    for truth, found in pairs:
        order = random.sample(range(len(found)), len(found))
        rles, categories, scores = (
            tuple(values[i] for i in order)
            for values in (found.rles, found.categories, found.scores)
        )
        turned.append((truth, Instances(SIZE, rles, categories, scores)))
    again = measured(turned)
    assert all(same(again[key], value) for key, value in got.items())


def square(top, left, size):
    mask = np.zeros(SIZE, bool)
    mask[top : top + size, left : left + size] = True
    return encode_rle(mask)


def test_small_objects_are_not_asked_for():
    truth = Truth((Instance(square(0, 0, 10)), Instance(square(12, 12, 9))), SIZE)
    only_large = Instances(SIZE, (square(0, 0, 10),), (0,), (0.5,))
    both = Instances(SIZE, (square(0, 0, 10), square(12, 12, 9)), (0, 0), (0.5, 0.9))
    for found in (only_large, both):
        assert measured([(truth, found)], ("car",), min_region_px=100)["AP"] == 1
    assert measured([(truth, only_large)], ("car",), min_region_px=81)["AP"] == 1 / 2
    assert CityscapesAP(("car",)).min_region_px == 100


def test_crowds_and_void_take_what_lies_in_them():
    one = Instance(square(0, 0, 10))
    found = Instances(SIZE, (square(0, 0, 10), square(12, 12, 10)), (0, 0), (0.5, 0.9))
    group = Instance(square(11, 11, 12), crowd=True)
    for truth in (Truth((one, group), SIZE), Truth((one,), SIZE, square(11, 11, 12))):
        assert measured([(truth, found)], ("car",))["AP"] == 1
    # Another class's group does not help.
    other = Truth((one, Instance(square(11, 11, 12), 1, crowd=True)), SIZE)
    assert measured([(other, found)], ("car", "bus"))["AP/car"] < 1


def test_edges():
    truth, found = random_stills(3, count=1, crowds=False, ignore=False)[0]
    assert measured([(truth, Instances(SIZE))])["AP"] == 0
    whole = Truth((Instance(square(0, 0, 10)), Instance(square(11, 11, 10), 1)), SIZE)
    assert measured([(whole, perfect(whole))])["AP"] == 1
    crowds = tuple(Instance(o.rle, o.category, crowd=True) for o in truth.instances)
    for empty in ([], [(Truth((), SIZE), found)], [(Truth(crowds, SIZE), found)]):
        assert all(math.isnan(value) for value in measured(empty).values())
    with pytest.raises(PixelkinError, match="min_region_px is -1"):
        CityscapesAP(NAMES, min_region_px=-1)
