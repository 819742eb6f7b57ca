import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_cases import random_maps

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import AVERAGE_PX, CATEGORIES, CityscapesIoU
from pixelkin.structures import IGNORE

NAMES = ("road", "person", "rider", "car", "truck", "sky")
SIZES = {"person": 10.0, "rider": 20.0, "car": 40.0, "truck": 5.0}
seeds = st.integers(0, 2**32 - 1)


def case(seed):
    """(truth, predicted, instances): every class has crowds (id 0) and objects."""
    truth, predicted = random_maps(seed, classes=len(NAMES), size_hw=(16, 20))
    generator = np.random.default_rng(seed)
    blocks = generator.integers(0, 6, (8, 10))
    ids = np.kron(blocks, np.ones((2, 2), np.int64)) * 1000
    return truth, predicted, np.where(np.isin(truth, [1, 2, 3, 4]), ids, 0)


def by_loops(cases):
    """The published evaluation's arithmetic, object by object and pixel by pixel."""
    classes = len(NAMES)
    category = [CATEGORIES[name] for name in NAMES]
    counts = np.zeros((classes, classes))
    hit, size, near = (dict.fromkeys(NAMES, 0.0) for _ in range(3))
    for truth, predicted, instances in cases:
        objects = {}
        for t, p, i in zip(truth.ravel(), predicted.ravel(), instances.ravel(), strict=True):
            if t == IGNORE:
                continue
            counts[t, p] += 1
            if i:
                objects.setdefault((t, i), []).append(p)
        for (t, _), found in objects.items():
            name = NAMES[t]
            weight = SIZES[name] / len(found)
            hit[name] += weight * sum(p == t for p in found)
            near[name] += weight * sum(category[p] == category[t] for p in found)
            size[name] += weight * len(found)
    values = {}
    for c, name in enumerate(NAMES):
        right = counts[c, c]
        wrong = counts[:, c].sum() - right
        values[f"IoU/{name}"] = right / (counts[c].sum() + wrong)
        values[f"iIoU/{name}"] = hit[name] / (size[name] + wrong) if name in SIZES else math.nan
    for one in dict.fromkeys(category):
        inside = [c for c in range(classes) if category[c] == one]
        outside = [c for c in range(classes) if category[c] != one]
        right = sum(counts[a, b] for a in inside for b in inside)
        wrong = sum(counts[a, b] for a in outside for b in inside)
        missed = sum(counts[a, b] for a in inside for b in outside)
        values[f"category_IoU/{one}"] = right / (right + wrong + missed)
        members = [NAMES[c] for c in inside]
        values[f"category_iIoU/{one}"] = (
            sum(near[n] for n in members) / (sum(size[n] for n in members) + wrong)
            if all(n in SIZES for n in members)
            else math.nan
        )
    for key in ("IoU", "iIoU", "category_IoU", "category_iIoU"):
        rows = [v for name, v in values.items() if name.startswith(f"{key}/")]
        values[key] = float(np.nanmean(rows))
    return values


def measured(cases):
    measure = CityscapesIoU(NAMES, average_px=SIZES)
    for truth, predicted, instances in cases:
        measure.update(truth, predicted, instances=instances)
    return measure


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_values_equal_loops(seed):
    cases = [case(seed), case(seed + 1)]
    assert measured(cases).compute() == pytest.approx(by_loops(cases), nan_ok=True)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_merged_stills_and_what_is_unknown(seed):
    cases = [case(seed), case(seed + 1)]
    both, first, second = measured(cases), measured(cases[:1]), measured(cases[1:])
    first.merge(second)
    assert first.compute() == pytest.approx(both.compute(), nan_ok=True)
    other = [(t, np.where(t == IGNORE, 3, p), np.where(t == IGNORE, 77, i)) for t, p, i in cases]
    assert measured(other).compute() == pytest.approx(both.compute(), nan_ok=True)
    perfect = measured([(t, np.where(t == IGNORE, 0, t), i) for t, _, i in cases])
    assert {v for v in perfect.compute().values() if not math.isnan(v)} == {1.0}


def test_small_objects_weigh_as_much_as_large_ones():
    # A car of 9 pixels is found, one of 1 pixel is not: half of the objects, 0.9 of the pixels.
    truth = np.array([[3] * 10 + [0] * 2])
    predicted = np.array([[3] * 9 + [0] * 3])
    instances = np.array([[1] * 9 + [2] + [0] * 2])
    measure = CityscapesIoU(NAMES)
    measure.update(truth, predicted, instances=instances)
    values = measure.compute()
    assert values["IoU/car"] == pytest.approx(0.9)
    assert values["iIoU/car"] == pytest.approx(0.5)
    assert math.isnan(values["iIoU/road"])


def test_a_false_positive_without_objects():
    measure = CityscapesIoU(NAMES)
    truth, predicted = np.zeros((2, 3, 3), int)
    predicted[0, 0] = 3
    measure.update(truth, predicted, instances=np.zeros((3, 3), int))
    values = measure.compute()
    assert values["iIoU/car"] == 0
    assert math.isnan(values["iIoU/truck"])


def test_constants_of_the_benchmark():
    assert len(CATEGORIES) == 19
    assert len(set(CATEGORIES.values())) == 7
    assert set(AVERAGE_PX) == {n for n, c in CATEGORIES.items() if c in ("human", "vehicle")}


def test_other_class_names_have_no_categories():
    measure = CityscapesIoU(("a", "b"))
    measure.update(np.array([[0, 1]]), np.array([[0, 0]]))
    assert not any(key.startswith("category") for key in measure.compute())


def test_instances_with_some_stills_only():
    measure = CityscapesIoU(NAMES)
    truth, predicted, instances = case(0)
    measure.update(truth, predicted)
    assert not any("iIoU" in key for key in measure.compute())
    with pytest.raises(PixelkinError, match="some stills have a map of instances"):
        measure.update(truth, predicted, instances=instances)
    with pytest.raises(PixelkinError, match="some stills have a map of instances"):
        measure.merge(measured([case(0)]))
    with pytest.raises(PixelkinError, match="map of instances has shape"):
        CityscapesIoU(NAMES).update(truth, predicted, instances=instances[:-1])
