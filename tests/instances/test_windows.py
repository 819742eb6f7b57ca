"""Run lengths of windows against those of whole masks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pixelkin.instances.windows import encode_window, instances_from_labels
from pixelkin.masks import decode_rle, encode_rle


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.tuples(*[st.integers(0, 9)] * 4),
    seed=st.integers(0, 9999),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_window_encodes_as_the_image_that_holds_it(size, window, seed, share):
    height, width = size
    top, left = window[0] % height, window[1] % width
    h, w = window[2] % (height - top + 1), window[3] % (width - left + 1)
    inside = np.random.default_rng(seed).random((h, w)) < share
    whole = np.zeros(size, bool)
    whole[top : top + h, left : left + w] = inside
    assert encode_window(inside, top_left_yx=(top, left), size_hw=size) == encode_rle(whole)


def test_objects_of_a_label_map_come_best_first():
    labels = np.zeros((12, 20), np.int64)
    labels[1:4, 1:4], labels[5:9, 6:10], labels[0, 19], labels[2, 2] = 2, 7, 3, 0
    image = np.arange(240.0).reshape(12, 20) / 240
    found = instances_from_labels(labels, lambda window, mask: image[window][mask].mean(), min_px=2)
    masks = [decode_rle(rle, (12, 20)) for rle in found.rles]
    assert [(mask == (labels == i)).all() for mask, i in zip(masks, (7, 2), strict=True)] == [1, 1]
    np.testing.assert_allclose(found.scores, [image[labels == 7].mean(), image[labels == 2].mean()])
    assert found.categories == (0, 0)


def test_scores_stay_between_nought_and_one():
    labels = np.array([[1, 1, 0, 2]])
    found = instances_from_labels(labels, lambda window, mask: 3.0 if window[1].start else -3.0)
    assert found.scores == (1.0, 0.0)
