import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from instance_cases import SIZE, dense, iou, mean, perfect, random_stills, same

from pixelkin.evaluation.instance import Truth, VocRegionAP
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.structures import Instance, Instances

NAMES = ("a", "b")


def measured(pairs, names=NAMES):
    measure = VocRegionAP(names)
    for truth, found in pairs:
        measure.update(truth, found)
    return measure.compute()


def oracle_ap(pairs, category, threshold):
    """Average precision of one class at one threshold, by plain loops over dense masks."""
    detections, truths = [], 0
    for truth, found in pairs:
        objects, crowds, covered = [], [], np.zeros(SIZE, bool)
        for one, mask in zip(truth.instances, dense(o.rle for o in truth.instances), strict=True):
            covered |= mask
            if one.category == category:
                (crowds if one.crowd else objects).append(mask)
        void = np.zeros(SIZE, bool)
        if truth.ignore is not None:
            void = decode_rle(truth.ignore, SIZE) & ~covered
        truths += len(objects)
        taken = set()
        masks = dense(found.rles)
        mine = [i for i in range(len(found)) if found.categories[i] == category]
        for i in sorted(mine, key=lambda i: -found.scores[i]):
            mask = masks[i] & ~void
            best, best_iou = None, threshold
            for j, wanted in enumerate(objects):
                if j not in taken and iou(mask, wanted) > best_iou:
                    best, best_iou = j, iou(mask, wanted)
            if best is not None:
                taken.add(best)
                detections.append((found.scores[i], True))
                continue
            inside = sum(int((mask & crowd).sum()) for crowd in crowds)
            lost = masks[i].any() and not mask.any()
            if not lost and not (mask.any() and inside / mask.sum() > threshold):
                detections.append((found.scores[i], False))
    if truths == 0:
        return math.nan
    detections.sort(key=lambda d: -d[0])
    curve, hits = [], 0
    for rank, (_, hit) in enumerate(detections, 1):
        hits += hit
        curve.append((hits / truths, hits / rank))
    area, before = 0.0, 0.0
    for index, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[index:])
        before = recall
    return area


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_equals_plain_loops(seed, ties):
    pairs = random_stills(seed, ties=ties)
    got = measured(pairs)
    table = [[oracle_ap(pairs, k, t / 10) for t in range(1, 10)] for k in range(2)]
    for name, column in (("APr50", 4), ("APr60", 5), ("APr70", 6), ("APr80", 7), ("APr90", 8)):
        assert same(got[name], mean([row[column] for row in table]))
        for k, class_name in enumerate(NAMES):
            assert same(got[f"{name}/{class_name}"], table[k][column])
    assert same(got["APr_vol"], mean([sum(row) / 9 for row in table]))
    for k, class_name in enumerate(NAMES):
        assert same(got[f"APr_vol/{class_name}"], sum(table[k]) / 9)


def test_equals_a_curve_by_hand():
    # Two objects; found: right, wrong, right. Area = 1/2 · 1 + 1/2 · 2/3.
    squares = np.zeros((3, *SIZE), bool)
    for k in range(3):
        squares[k, 2:8, 10 * k : 10 * k + 8] = True
    rles = [encode_rle(square) for square in squares]
    truth = Truth((Instance(rles[0]), Instance(rles[1])), SIZE)
    found = Instances(SIZE, (rles[0], rles[2], rles[1]), (0, 0, 0), (0.9, 0.8, 0.7))
    got = measured([(truth, found)], ("square",))
    assert same(got["APr50"], 1 / 2 + 1 / 3)
    assert same(got["APr_vol"], 1 / 2 + 1 / 3)


def test_a_second_detection_of_an_object_is_wrong():
    square = np.zeros(SIZE, bool)
    square[2:8, 2:8] = True
    rle = encode_rle(square)
    one = Truth((Instance(rle),), SIZE)
    other = (Truth((Instance(rle),), SIZE), Instances(SIZE, (rle,), (0,), (0.1,)))
    twice = (one, Instances(SIZE, (rle, rle), (0, 0), (0.9, 0.8)))
    assert same(measured([twice, other], ("square",))["APr50"], 1 / 2 + 1 / 2 * 2 / 3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.randoms())
def test_order_of_stills_is_no_matter_where_scores_differ(seed, random):
    rng = np.random.default_rng(seed)
    pairs = [
        (t, Instances(SIZE, f.rles, f.categories, tuple(rng.random(len(f)).tolist())))
        for t, f in random_stills(seed)
    ]
    got = measured(pairs)
    random.shuffle(pairs)
    again = measured(pairs)
    assert all(same(again[key], value) for key, value in got.items())


def test_edges():
    truth, found = random_stills(3, count=1, crowds=False, ignore=False)[0]
    nothing = Instances(SIZE)
    assert measured([(truth, nothing)])["APr_vol"] == 0
    assert measured([(truth, perfect(truth))])["APr_vol"] == 1
    crowds = tuple(Instance(o.rle, o.category, crowd=True) for o in truth.instances)
    for empty in ([], [(Truth((), SIZE), found)], [(Truth(crowds, SIZE), found)]):
        assert all(math.isnan(value) for value in measured(empty).values())
