import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from semantic_cases import NAMES, random_maps

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import (
    MEASURES,
    BoundaryF,
    CityscapesIoU,
    LaneF1,
    Overlap,
    SemanticEvaluation,
    confusion_picture,
    evaluate_maps,
)
from pixelkin.structures import IGNORE, Sample

CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car")
CAMVID = (*CAMVID, "pedestrian", "bicyclist")


def test_all_measures_at_once_equal_each_alone():
    names = ("background", "lane")
    pairs = [random_maps(seed, classes=2) for seed in range(3)]
    values = evaluate_maps(pairs, names, measures=MEASURES, tolerance=2, absent=0)
    assert list(dict.fromkeys(key.split("/")[0] for key in values)) == list(MEASURES)
    alone = {
        "overlap": Overlap(names, absent=0),
        "boundary": BoundaryF(names, tolerance=2),
        "cityscapes": CityscapesIoU(names),
        "lanes": LaneF1(names),
    }
    for name, measure in alone.items():
        for truth, predicted in pairs:
            measure.update(truth, predicted)
        for key, value in measure.compute().items():
            assert values[f"{name}/{key}"] == pytest.approx(value, nan_ok=True)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_merged_parts_equal_the_whole(seed):
    measures = ["overlap", "boundary", "cityscapes", "ade", "lanes"]
    whole, first, second = (SemanticEvaluation(NAMES, measures=measures) for _ in range(3))
    for number in range(4):
        truth, predicted = random_maps(seed + number)
        for evaluation in (whole, first if number % 2 else second):
            evaluation.update(truth, predicted, instances=truth * 0 + number)
    first.merge(second)
    assert first.compute() == pytest.approx(whole.compute(), nan_ok=True)
    assert (first.confusion.compute() == whole.confusion.compute()).all()


def test_measures_that_apply():
    assert list(SemanticEvaluation(NAMES).measures) == ["overlap", "boundary"]
    assert list(SemanticEvaluation(("a", "b")).measures) == ["overlap", "boundary", "binary"]


def test_takes_a_sample_and_a_map_of_bytes():
    truth, predicted = random_maps(1)
    sample = Sample(np.zeros((*truth.shape, 3), np.uint8), truth, "a still")
    evaluation = SemanticEvaluation(NAMES)
    evaluation.update(sample.labels, predicted.astype(np.uint8))
    assert evaluation.compute() == evaluate_maps([(truth, predicted)], NAMES)


def test_real_annotations(shared_data):
    files = sorted((shared_data / "camvid" / "valannot").glob("*.png"))[:4]
    evaluation = SemanticEvaluation(CAMVID)
    for path in files:
        labels = np.array(Image.open(path)).astype(np.int64)
        truth = np.where(labels == 11, IGNORE, labels)
        shifted = np.roll(labels, 1, axis=1)
        evaluation.update(truth, np.where(shifted == 11, labels, shifted))
    values = evaluation.compute()
    assert 0.8 < values["overlap/mIoU"] < 0.95
    assert values["overlap/IoU/road"] > values["overlap/IoU/pole"]
    assert values["boundary/F"] > 0.95
    assert math.isfinite(sum(values.values()))


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((4, 6, 3), int), np.zeros((4, 6, 3), int), r"truth has shape.*colours"),
        (np.zeros((4, 6), int), np.zeros((4, 6, 3), np.uint8), "prediction has shape.*colours"),
        (np.zeros((1, 4, 6), int), np.zeros((1, 4, 6), int), "one map at a time"),
        (np.zeros((4, 6), int), np.zeros((4, 7), int), "expected one shape"),
        (np.zeros((4, 6), int), np.full((4, 6), 4), "label 4 .* 4 classes.*class names"),
    ],
)
def test_mistakes_of_the_caller(truth, predicted, message):
    evaluation = SemanticEvaluation(NAMES)
    with pytest.raises(PixelkinError, match=message):
        evaluation.update(truth, predicted)
    assert not evaluation.confusion.compute().any()


def test_wrong_names():
    with pytest.raises(PixelkinError, match="'mAP' is unknown; expected one or more of overlap"):
        SemanticEvaluation(NAMES, measures=["mAP"])
    with pytest.raises(PixelkinError, match="'none' is unknown"):
        SemanticEvaluation(NAMES, measures=[])
    with pytest.raises(PixelkinError, match="none; expected one or more"):
        SemanticEvaluation(())
    with pytest.raises(PixelkinError, match="all different"):
        SemanticEvaluation(("a", "a"))
    with pytest.raises(PixelkinError, match="class 1 has an empty name"):
        SemanticEvaluation(("a", ""))
    with pytest.raises(PixelkinError, match=r"measures .* differ"):
        SemanticEvaluation(NAMES).merge(SemanticEvaluation(NAMES, measures=["ade"]))
    with pytest.raises(PixelkinError, match="4 and 3 classes whose names differ"):
        SemanticEvaluation(NAMES).merge(SemanticEvaluation(NAMES[:3]))


# Picture


def test_picture_has_the_shares_of_rows():
    counts = np.array([[8, 2, 0], [0, 0, 0], [0, 1, 1]])
    # A long name, so that the grid and not the note below sets the width.
    picture = confusion_picture(counts, ("a" * 60, "b", "c"))
    assert picture.dtype == np.uint8
    # The cells lie at the lower right, 34 pixels apart; corners are free of numbers.
    foot, right = picture.shape[0] - 29 - 1, picture.shape[1] - 8 - 1
    grid = [
        [picture[foot - (3 - r) * 34 + 4, right - (3 - c) * 34 + 4] for c in range(3)]
        for r in range(3)
    ]
    for row, shares in enumerate(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)):
        for column, share in enumerate(shares):
            wanted = 255 + share * (np.array((8, 48, 107)) - 255)
            wanted = np.rint(wanted) if counts[row].sum() else 236
            assert (grid[row][column] == wanted).all()


def test_picture_grows_with_names_and_classes():
    counts = np.eye(3, dtype=np.int64)
    short, long = (confusion_picture(counts, (name, "b", "c")) for name in ("a", "a" * 40))
    assert long.shape[0] > short.shape[0]
    assert long.shape[1] > short.shape[1]
    many = confusion_picture(np.eye(150, dtype=np.int64), [f"class {i}" for i in range(150)])
    assert 150 * 15 < many.shape[0] < 150 * 34
    named = [f"{i}" if i != IGNORE else "" for i in range(257)]
    whole = confusion_picture(np.eye(257, dtype=np.int64), named)
    fewer = confusion_picture(np.eye(256, dtype=np.int64), named[:255] + named[256:])
    assert whole.shape == fewer.shape
    assert (confusion_picture(counts, ("é", "b", "c")) == confusion_picture(counts, "ebc")).all()


def test_picture_of_another_length():
    with pytest.raises(PixelkinError, match=r"2 class names for counts of shape \(3, 3\)"):
        confusion_picture(np.eye(3, dtype=np.int64), ("a", "b"))
    with pytest.raises(PixelkinError, match="301 classes is not legible"):
        confusion_picture(np.eye(301, dtype=np.int64), [str(i) for i in range(301)])
