"""Simulated prompts: all kinds occur, and each says what a person could say."""

import cv2
import numpy as np
import pytest

from pixelkin.data.clips.prompts import simulate_prompt
from pixelkin.structures import IGNORE


@pytest.fixture
def labels():
    labels = np.zeros((60, 80), np.uint8)
    cv2.ellipse(labels, (40, 30), (22, 14), 20, 0, 360, 1, -1)
    labels[:10, :20] = 2
    labels[50:, 60:] = IGNORE
    return labels


def kind_of(prompt, labels) -> str:
    marked = prompt != IGNORE
    if np.array_equal(prompt, np.where(labels == IGNORE, IGNORE, labels == 1)):
        return "mask"
    if not (prompt == 1).any():
        return "box"
    on_object = (prompt == 1) & (labels != 1)
    del marked
    # Discs of clicks may pass the contour by their radius; strokes are cut at it.
    discs = {len(np.argwhere(cv2.circle(np.zeros((9, 9), np.uint8), (4, 4), 3, 1, -1)))}
    _, _, stats, _ = cv2.connectedComponentsWithStats((prompt == 1).astype(np.uint8))
    areas = set(stats[1:, cv2.CC_STAT_AREA].tolist())
    return "clicks" if on_object.any() or areas <= discs else "stroke or clicks"


def test_all_kinds_occur_in_their_shares(labels):
    rng = np.random.default_rng(0)
    kinds = [kind_of(simulate_prompt(labels, rng), labels) for _ in range(1200)]
    share = {kind: kinds.count(kind) / len(kinds) for kind in set(kinds)}
    assert share["mask"] == pytest.approx(0.65, abs=0.05)
    assert share["box"] == pytest.approx(0.035, abs=0.02)
    # Clicks 0.21, strokes 0.105; some clicks overlap and look like strokes.
    assert share["clicks"] + share["stroke or clicks"] == pytest.approx(0.315, abs=0.05)
    assert share["clicks"] > 0.08
    assert share["stroke or clicks"] > 0.08


def test_mask_keeps_what_is_unknown(labels):
    prompt = simulate_prompt(labels, np.random.default_rng(0), mask_share=1.0)
    assert prompt.dtype == np.uint8
    assert np.array_equal(prompt == IGNORE, labels == IGNORE)
    assert np.array_equal(prompt == 1, labels == 1)


def test_other_prompts_say_the_truth(labels):
    rng = np.random.default_rng(1)
    near = cv2.dilate((labels == 1).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    inner = cv2.erode((labels == 1).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    for _ in range(300):
        prompt = simulate_prompt(labels, rng, mask_share=0.0)
        assert set(np.unique(prompt)) <= {0, 1, IGNORE}
        assert (prompt == IGNORE).any()
        assert near[prompt == 1].all()
        assert not inner[prompt == 0].any()
        if not (prompt == 1).any():
            ys, xs = np.nonzero(prompt == IGNORE)
            assert ((labels == 1) <= (prompt == IGNORE)).all()
            assert (prompt[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] == IGNORE).all()


def test_same_generator_same_prompt(labels):
    for seed in range(20):
        one, two = (simulate_prompt(labels, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, two)


def test_without_the_object_everything_is_background():
    labels = np.zeros((5, 6), np.uint8)
    labels[0] = IGNORE
    prompt = simulate_prompt(labels, np.random.default_rng(0), mask_share=0.0)
    assert np.array_equal(prompt, labels)


def test_one_pixel_can_be_prompted():
    labels = np.zeros((12, 12), np.uint8)
    labels[5, 6] = 1
    for seed in range(40):
        prompt = simulate_prompt(labels, np.random.default_rng(seed), mask_share=0.0)
        assert prompt[5, 6] in (1, IGNORE)
