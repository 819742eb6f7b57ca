import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from semantic_cases import counts_by_loops, random_maps
from torchmetrics.classification import MulticlassConfusionMatrix

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import ConfusionMatrix, count_pairs
from pixelkin.evaluation.semantic import confusion as module
from pixelkin.structures import IGNORE

seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=30, deadline=None)
@given(
    seeds,
    st.sampled_from([1, 2, 4, 19, 255]),
    st.sampled_from(["u1", "i2", ">u2", "i4", "u4", "i8", "u8"]),
    st.booleans(),
)
def test_counts_equal_loops(seed, classes, dtype, tensors):
    truth, predicted = random_maps(seed, classes=classes)
    given_maps = truth.astype(dtype), predicted.astype(dtype)
    if tensors and dtype in ("u1", "i2", "i4", "i8"):
        given_maps = tuple(map(torch.from_numpy, given_maps))
    counts = count_pairs(*given_maps, classes)
    assert counts.dtype == np.int64
    assert counts.tolist() == counts_by_loops(truth, predicted, classes)


@pytest.mark.parametrize("classes", [256, 257, 459, 700])
def test_more_classes_than_a_byte_holds(classes):
    truth, predicted = random_maps(3, classes=classes, size_hw=(40, 50))
    truth[0, :3], predicted[0, :3] = classes - 1, (classes - 1, 255, 0)
    counts = count_pairs(truth, predicted, classes)
    assert counts.tolist() == counts_by_loops(truth, predicted, classes)
    assert not counts[IGNORE].any()
    assert counts[classes - 1, 255] == (1 if classes > 256 else 0)


def test_counts_equal_torchmetrics():
    maps = [torch.from_numpy(m) for m in random_maps(5, classes=19, size_hw=(120, 90))]
    peer = MulticlassConfusionMatrix(19, ignore_index=IGNORE)(maps[1], maps[0])
    assert (count_pairs(*maps, 19) == peer.numpy()).all()


def test_chunks_do_not_show(monkeypatch):
    truth, predicted = random_maps(2)
    whole = count_pairs(truth, predicted, 4)
    monkeypatch.setattr(module, "_CHUNK", 7)
    assert (count_pairs(truth, predicted, 4) == whole).all()


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (2, 3, 4, 5)])
def test_any_shape_and_stride(shape):
    generator = np.random.default_rng(0)
    truth, predicted = generator.integers(0, 3, (2, *shape))
    assert count_pairs(truth, predicted, 3).tolist() == counts_by_loops(truth, predicted, 3)
    truth, predicted = truth.T, np.asfortranarray(predicted).T
    assert count_pairs(truth, predicted, 3).tolist() == counts_by_loops(truth, predicted, 3)


def test_masks_of_bool():
    truth, predicted = np.array([True, False, True]), np.array([True, True, False])
    assert count_pairs(truth, predicted, 2).tolist() == [[0, 1], [1, 1]]


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 12))
def test_merged_parts_equal_the_whole(seed, cut):
    truth, predicted = random_maps(seed)
    whole, first, second = (ConfusionMatrix(4) for _ in range(3))
    whole.update(truth, predicted)
    first.update(truth[:cut], predicted[:cut])
    second.update(truth[cut:], predicted[cut:])
    first.merge(second)
    assert (first.compute() == whole.compute()).all()


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_order_of_pixels_does_not_matter(seed):
    truth, predicted = random_maps(seed)
    order = np.random.default_rng(seed).permutation(truth.size)
    shuffled = truth.ravel()[order], predicted.ravel()[order]
    assert (count_pairs(*shuffled, 4) == count_pairs(truth, predicted, 4)).all()


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([255, 77, -5, 300, 10**12]))
def test_what_stands_under_ignore_never_counts(seed, label):
    truth, predicted = random_maps(seed)
    other = np.where(truth == IGNORE, label, predicted)
    assert (count_pairs(truth, other, 4) == count_pairs(truth, predicted, 4)).all()


def test_what_compute_gave_stays():
    matrix = ConfusionMatrix(2)
    before = matrix.compute()
    matrix.update(np.array([0, 1]), np.array([1, 1]))
    assert not before.any()
    assert matrix.compute().sum() == 2


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i8", "u8"])
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("classes", [4, 300])
def test_a_label_out_of_range_is_named(dtype, side, classes):
    info = np.iinfo(dtype)
    for label in (classes, -1, -2, 256, 1000, -(2**40)):
        if not info.min <= label <= info.max or 0 <= label < classes:
            continue
        maps = np.zeros((2, 3, 3), dtype)
        maps[side, 1, 1] = label
        matrix = ConfusionMatrix(classes)
        what = ("truth", "prediction")[side]
        with pytest.raises(
            PixelkinError, match=f"label {label} in the {what}.*0 to {classes - 1}.*names"
        ):
            matrix.update(*maps)
        assert not matrix.compute().any()


def test_a_mask_of_255_as_prediction():
    with pytest.raises(PixelkinError, match=r"label 255 in the prediction.*divide a 0/255 mask"):
        count_pairs(np.array([0, 1]), np.array([0, 255], np.uint8), 2)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((4, 5), int), np.zeros((5, 4), int), r"\(4, 5\).*\(5, 4\).*scale"),
        (np.zeros((4, 5, 3), int), np.zeros((4, 5), int), "truth looks like colours"),
        (np.zeros((4, 5), int), np.zeros((4, 5, 4), int), "prediction looks like colours"),
        (np.zeros((4, 5), int), np.zeros((9, 4, 5), int), "axis too many.*argmax"),
        (np.zeros((4, 5)), np.zeros((4, 5), int), "truth holds float64.*argmax"),
        (np.zeros((4, 5), int), torch.zeros(4, 5), "prediction holds torch.float32.*argmax"),
        (np.full((4, 5, 3), 90), np.zeros((4, 5, 3), int), "label 90.*colours"),
    ],
)
def test_mistakes_of_the_caller(truth, predicted, message):
    with pytest.raises(PixelkinError, match=message):
        count_pairs(truth, predicted, 9)


def test_other_numbers_of_classes():
    with pytest.raises(PixelkinError, match="0 classes"):
        ConfusionMatrix(0)
    with pytest.raises(PixelkinError, match=r"3 × 3 classes, expected 4 × 4"):
        ConfusionMatrix(4).merge(ConfusionMatrix(3))
