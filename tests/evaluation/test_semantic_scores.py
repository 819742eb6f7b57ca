import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_cases import NAMES, random_maps
from sklearn import metrics
from torchmetrics.functional.classification import multiclass_jaccard_index

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import (
    AdeScore,
    BinaryScores,
    Overlap,
    ade_score,
    binary_scores,
    class_accuracy,
    count_pairs,
    f1_by_class,
    frequency_weighted_iou,
    iou_by_class,
    mean_iou,
    pixel_accuracy,
    precision_by_class,
    recall_by_class,
)
from pixelkin.structures import IGNORE

seeds = st.integers(0, 2**32 - 1)


def by_loops(truth, predicted, classes):
    """All values from the maps, pixel by pixel; None where nothing defines one."""
    pixels = [
        (int(t), int(p))
        for t, p in zip(truth.ravel(), predicted.ravel(), strict=True)
        if t != IGNORE
    ]
    rows = {"IoU": [], "precision": [], "recall": [], "F1": []}
    weighted = 0.0
    for c in range(classes):
        both = sum(t == c and p == c for t, p in pixels)
        wanted = sum(t == c for t, p in pixels)
        found = sum(p == c for t, p in pixels)
        either = sum(c in (t, p) for t, p in pixels)
        rows["IoU"].append(both / either if either else None)
        rows["precision"].append(both / found if found else None)
        rows["recall"].append(both / wanted if wanted else None)
        rows["F1"].append(2 * both / (wanted + found) if wanted + found else None)
        weighted += wanted / len(pixels) * both / either if either else 0

    def average(values):
        known = [value for value in values if value is not None]
        return sum(known) / len(known)

    values = {
        "mIoU": average(rows["IoU"]),
        "pixel_accuracy": sum(t == p for t, p in pixels) / len(pixels),
        "class_accuracy": average(rows["recall"]),
        "fwIoU": weighted,
    }
    return values, rows


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([1, 2, 4, 40]))
def test_values_equal_loops(seed, classes):
    truth, predicted = random_maps(seed, classes=classes, size_hw=(9, 11))
    names = [f"class {index}" for index in range(classes)]
    measure = Overlap(names)
    measure.update(truth, predicted)
    values = measure.compute()
    wanted, rows = by_loops(truth, predicted, classes)
    for key, value in wanted.items():
        assert values[key] == pytest.approx(value)
    for key, row in rows.items():
        for name, value in zip(names, row, strict=True):
            expected = math.nan if value is None else value
            assert values[f"{key}/{name}"] == pytest.approx(expected, nan_ok=True)
    ade = AdeScore(names)
    ade.update(truth, predicted)
    score = (wanted["pixel_accuracy"] + wanted["mIoU"]) / 2
    assert ade.compute() == {"score": pytest.approx(score)}


def test_values_equal_other_libraries():
    import torch

    truth, predicted = random_maps(7, size_hw=(60, 50))
    counts = count_pairs(truth, predicted, 4)
    known = truth != IGNORE
    wanted, found = truth[known], predicted[known]
    assert iou_by_class(counts) == pytest.approx(metrics.jaccard_score(wanted, found, average=None))
    assert precision_by_class(counts) == pytest.approx(
        metrics.precision_score(wanted, found, average=None)
    )
    assert f1_by_class(counts) == pytest.approx(metrics.f1_score(wanted, found, average=None))
    assert class_accuracy(counts) == pytest.approx(metrics.balanced_accuracy_score(wanted, found))
    assert pixel_accuracy(counts) == pytest.approx(metrics.accuracy_score(wanted, found))
    assert frequency_weighted_iou(counts) == pytest.approx(
        metrics.jaccard_score(wanted, found, average="weighted")
    )
    maps = torch.from_numpy(predicted), torch.from_numpy(truth)
    for classes in (4, 6):
        peer = multiclass_jaccard_index(*maps, classes, ignore_index=IGNORE)
        assert mean_iou(count_pairs(truth, predicted, classes)) == pytest.approx(float(peer))


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_a_perfect_prediction_is_one(seed):
    truth, _ = random_maps(seed)
    counts = count_pairs(truth, np.where(truth == IGNORE, 0, truth), 4)
    for score in (mean_iou, pixel_accuracy, class_accuracy, frequency_weighted_iou, ade_score):
        assert score(counts) == pytest.approx(1)
    for row in (iou_by_class, precision_by_class, recall_by_class, f1_by_class):
        assert np.nanmin(row(counts)) == np.nanmax(row(counts)) == 1


def test_classes_that_neither_side_has():
    counts = np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]])
    values = iou_by_class(counts)
    assert values[:2] == pytest.approx([3 / 4, 4 / 5])
    assert np.isnan(values[2])
    assert mean_iou(counts) == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert mean_iou(counts, absent=0) == pytest.approx((3 / 4 + 4 / 5) / 3)
    assert mean_iou(counts, absent=1) == pytest.approx((3 / 4 + 4 / 5 + 1) / 3)
    # One that is only predicted counts 0.
    counts[0, 2] = 1
    assert mean_iou(counts) == pytest.approx((3 / 5 + 4 / 5 + 0) / 3)
    measure = Overlap(NAMES[:3], absent=0)
    measure.update(np.zeros((2, 2), int), np.zeros((2, 2), int))
    assert measure.compute()["mIoU"] == pytest.approx(1 / 3)


def test_class_255_is_nobodys_where_there_are_more():
    counts = np.zeros((300, 300), np.int64)
    counts[0, 0], counts[299, 299], counts[0, 255] = 3, 2, 1
    for row in (iou_by_class, precision_by_class, recall_by_class, f1_by_class):
        assert np.isnan(row(counts)[255])
    assert mean_iou(counts) == pytest.approx((3 / 4 + 1) / 2)
    assert mean_iou(counts, absent=0) == pytest.approx((3 / 4 + 1) / 299)
    names = [f"class {index}" for index in range(300)]
    names[255] = ""
    measure = Overlap(names)
    measure.update(np.array([[0, 299]]), np.array([[255, 299]]))
    values = measure.compute()
    assert "IoU/" not in values
    assert values["pixel_accuracy"] == 0.5


def test_nothing_counted_is_nan():
    values = Overlap(NAMES).compute()
    assert all(math.isnan(value) for value in values.values())


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_binary_scores(seed):
    truth, predicted = random_maps(seed, classes=2)
    skin = BinaryScores(("other", "skin"))
    skin.update(truth, predicted)
    known = truth != IGNORE
    wanted, found = truth[known], predicted[known]
    if not (wanted.any() and found.any()):
        return
    assert skin.compute() == {
        "accuracy": pytest.approx(metrics.accuracy_score(wanted, found)),
        "precision": pytest.approx(metrics.precision_score(wanted, found)),
        "recall": pytest.approx(metrics.recall_score(wanted, found)),
        "F1": pytest.approx(metrics.f1_score(wanted, found)),
        "IoU": pytest.approx(metrics.jaccard_score(wanted, found)),
    }
    counts = count_pairs(truth, predicted, 2)
    turned = count_pairs(np.where(known, 1 - truth, IGNORE), 1 - predicted, 2)
    assert binary_scores(counts, positive=0) == pytest.approx(
        binary_scores(turned, positive=1), nan_ok=True
    )


def test_binary_scores_need_two_classes():
    with pytest.raises(PixelkinError, match=r"4 classes: expected 2.*join"):
        BinaryScores(NAMES)
    with pytest.raises(PixelkinError, match="class 2 of 2"):
        binary_scores(np.eye(2, dtype=np.int64), positive=2)
