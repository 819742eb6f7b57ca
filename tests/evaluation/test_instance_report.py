import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from instance_cases import SIZE, dense, found_map, perfect, random_stills, truth_maps

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance import (
    MEASURES,
    CocoAP,
    InstanceEvaluation,
    LeafScores,
    StillPair,
    Truth,
    evaluate_instances,
)
from pixelkin.evaluation.instance.stills import _complement
from pixelkin.masks import encode_rle
from pixelkin.structures import Instance, Instances, InstanceSample


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_complement_of_run_lengths(mask):
    assert _complement(encode_rle(mask)) == encode_rle(~mask)


def test_complement_of_long_runs():
    for stripes in ((0, 5000, 5100), (3000, 3001, 9999), (1, 9000, 9999), (0, 1, 9000)):
        mask = np.zeros(10_000, bool)
        for start in stripes:
            mask[start : start + 700] ^= True
        mask = mask.reshape(100, 100)
        assert _complement(encode_rle(mask)) == encode_rle(~mask)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_overlaps_equal_dense_counts(seed):
    for truth, found in random_stills(seed):
        pair = StillPair(truth, found)
        objects, crowd_map, void, single, crowds = truth_maps(truth)
        masks = dense(found.rles)
        wanted = dense([one.rle for one in single])
        for i, mask in enumerate(masks):
            for j, other in enumerate(wanted):
                assert pair.as_given.common_px[i, j] == (mask & other).sum()
            assert pair.as_given.void_px[i] == (mask & void).sum()
        labels = found_map(found)
        left = [i for i in range(len(found)) if (labels == i + 1).any()]
        shown = [j for j in range(len(single)) if (objects == j + 1).any()]
        flat = pair.disjoint
        assert flat.common_px.shape == (len(left), len(shown))
        for row, i in enumerate(left):
            region = labels == i + 1
            assert flat.found_px[row] == region.sum()
            for column, j in enumerate(shown):
                assert flat.common_px[row, column] == (region & (objects == j + 1)).sum()
            for c in range(len(crowds)):
                assert flat.crowd_px[row, c] == (region & (crowd_map == c + 1)).sum()


def test_all_measures_at_once_equal_each_alone():
    pairs = random_stills(8, classes=1)
    values = evaluate_instances(pairs, ("nucleus",), max_dets=200, min_region_px=10)
    assert {key.split("/")[0] for key in values} == set(MEASURES)
    alone = LeafScores(), CocoAP(("nucleus",), max_dets=200)
    for measure, name in zip(alone, ("leaves", "coco"), strict=True):
        for truth, found in pairs:
            measure.update(truth, found)
        for key, value in measure.compute().items():
            assert values[f"{name}/{key}"] == pytest.approx(value, nan_ok=True)


def test_takes_an_instance_sample():
    truth, found = random_stills(8, count=1)[0]
    sample = InstanceSample(np.zeros((*SIZE, 3), np.uint8), truth.instances, ignore=truth.ignore)
    values = [evaluate_instances([(one, found)], ("a", "b")) for one in (truth, sample)]
    assert values[0] == pytest.approx(values[1], nan_ok=True)


def test_values_may_be_read_between_stills():
    pairs = random_stills(9, count=3)
    evaluation = InstanceEvaluation(("a", "b"))
    for truth, found in pairs:
        evaluation.update(truth, found)
        evaluation.compute()
    once = evaluate_instances(pairs, ("a", "b"))
    assert evaluation.compute() == pytest.approx(once, nan_ok=True)


def test_measures_of_one_class_do_not_apply_to_two():
    assert {"leaves", "microscopy"}.isdisjoint(InstanceEvaluation(("a", "b")).measures)
    assert set(InstanceEvaluation(("a", "b"), measures=["leaves"]).measures) == {"leaves"}


def test_mistakes_are_told():
    rle = encode_rle(np.ones(SIZE, bool))
    one = Truth((Instance(rle),), SIZE)
    with pytest.raises(PixelkinError, match="class names are none"):
        InstanceEvaluation(())
    with pytest.raises(PixelkinError, match="all different"):
        InstanceEvaluation(("a", "a"))
    with pytest.raises(PixelkinError, match=r"measure 'mAP' is unknown; .* coco, voc"):
        InstanceEvaluation(("a",), measures=["mAP"])
    evaluation = InstanceEvaluation(("a",))
    with pytest.raises(PixelkinError, match="category 1 has no name: there are 1 class names"):
        evaluation.update(one, Instances(SIZE, (rle,), (1,), (0.5,)))
    with pytest.raises(PixelkinError, match="truth is 31×23, found objects are 23×31"):
        evaluation.update(one, Instances(SIZE[::-1]))
    with pytest.raises(PixelkinError, match="score is not finite"):
        evaluation.update(one, Instances(SIZE, (rle,), (0,), (math.nan,)))
    large = encode_rle(np.ones((50, 50), bool))
    for measure in MEASURES:
        with pytest.raises(PixelkinError, match="run-length counts do not describe a 31×23 mask"):
            evaluate_instances(
                [(one, Instances(SIZE, (large,), (0,), (0.5,)))], ("a",), measures=[measure]
            )
    # What was refused is not counted in part.
    evaluation.update(one, perfect(one))
    values = evaluation.compute()
    assert values["coco/AP"] == values["voc/APr_vol"] == values["leaves/SBD"] == 1
