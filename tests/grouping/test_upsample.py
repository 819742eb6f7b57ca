"""Upsampling against a guided filter of plain loops."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixelkin.errors import PixelkinError
from pixelkin.grouping.upsample import guided_upsample, upsample_scores


def bilinear(values, size_hw):
    """Half-pixel bilinear resampling with the border repeated, in plain loops."""
    h, w = values.shape
    result = np.empty(size_hw)
    for y in range(size_hw[0]):
        for x in range(size_hw[1]):
            v = min(max((y + 0.5) * h / size_hw[0] - 0.5, 0), h - 1)
            u = min(max((x + 0.5) * w / size_hw[1] - 0.5, 0), w - 1)
            i, j = int(v), int(u)
            a, b = v - i, u - j
            i2, j2 = min(i + 1, h - 1), min(j + 1, w - 1)
            top = values[i, j] * (1 - b) + values[i, j2] * b
            low = values[i2, j] * (1 - b) + values[i2, j2] * b
            result[y, x] = top * (1 - a) + low * a
    return result


def window_mean(values, radius):
    h, w = values.shape
    result = np.empty((h, w))
    for y in range(h):
        for x in range(w):
            rows = slice(max(y - radius, 0), y + radius + 1)
            result[y, x] = values[rows, max(x - radius, 0) : x + radius + 1].mean()
    return result


def guided_loops(score, grey, stride, radius, eps, anchored):
    """Fast guided filter of one score map, float64; `grey` in 0 … 255, sides divisible."""
    h, w = score.shape
    guide = grey.reshape(h, stride, w, stride).mean((1, 3)).round() / 255
    mean_i, mean_p = window_mean(guide, radius), window_mean(score, radius)
    variance = window_mean(guide * guide, radius) - mean_i**2
    a = (window_mean(guide * score, radius) - mean_i * mean_p) / (variance + eps)
    b = mean_p - a * mean_i
    a, b = window_mean(a, radius), window_mean(b, radius)
    if anchored:
        b = score - a * guide
    return bilinear(a, grey.shape) * grey / 255 + bilinear(b, grey.shape)


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize(("radius_px", "cells"), [(4, 1), (12, 3), (0, 1)])
def test_equals_guided_filter_of_plain_loops(radius_px, cells, anchored):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (24, 32), dtype=np.uint8)
    scores = rng.random((2, 6, 8), dtype=np.float32)
    image = np.repeat(grey[:, :, None], 3, 2)
    given = guided_upsample(
        torch.from_numpy(scores), image, radius_px=radius_px, eps=0.01, anchored=anchored
    )
    for score, result in zip(scores.astype(np.float64), given.numpy(), strict=True):
        expected = guided_loops(score, grey.astype(np.float64), 4, cells, 0.01, anchored)
        # The shrunk guide is rounded to 8 bits, halves either way.
        np.testing.assert_allclose(result, expected, atol=0.02)
        assert np.abs(result - expected).mean() < 2e-3


def test_bilinear_equals_plain_loops():
    scores = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = bilinear(scores[1, 2].double().numpy(), (19, 30))
    # Without gradients, with them, and off the contiguous path.
    for given in (scores, scores.clone().requires_grad_(), scores.flip(3).contiguous().flip(3)):
        result = upsample_scores(given, (19, 30)).detach()
        np.testing.assert_allclose(result[1, 2].numpy(), expected, atol=1e-6)
    assert torch.equal(upsample_scores(scores, (5, 7), mode="nearest"), scores)


def test_guided_edges_follow_the_picture():
    # The object's border lies inside a row of cells, where bilinear upsampling cannot see it.
    image = np.full((64, 96, 3), 40, np.uint8)
    image[:, 42:] = 200
    truth = np.zeros((64, 96), bool)
    truth[:, 42:] = True
    cells = torch.from_numpy(truth.reshape(8, 8, 12, 8).mean((1, 3)).astype(np.float32))[None]
    guided = guided_upsample(cells, image, radius_px=16).numpy()[0] > 0.5
    plain = upsample_scores(cells[None], (64, 96)).numpy()[0, 0] > 0.5
    assert (guided != truth).sum() == 0
    assert (plain != truth).sum() > 0


def test_guided_beats_bilinear_on_real_frames(shared_data):
    folder = shared_data / "davis2016"
    names = sorted(path.name for path in (folder / "Annotations" / "480p").iterdir())
    wins = []
    for name in names:
        image = np.array(Image.open(folder / "JPEGImages" / "480p" / name / "00000.jpg"))
        truth = np.array(Image.open(folder / "Annotations" / "480p" / name / "00000.png")) > 0
        image, truth = image[:480, :848], truth[:480, :848]
        cells = truth.reshape(60, 8, 106, 8).mean((1, 3)) > 0.5
        scores = torch.from_numpy(cells.astype(np.float32))[None]
        guided = guided_upsample(scores, image).numpy()[0] > 0.5
        plain = upsample_scores(scores[None], (480, 848)).numpy()[0, 0] > 0.5
        wins.append((guided != truth).sum() < (plain != truth).sum())
    assert len(names) == 6
    assert all(wins)


def test_mistakes_are_named():
    with pytest.raises(PixelkinError, match="uint8"):
        guided_upsample(torch.zeros(1, 2, 2), np.zeros((8, 8, 3), np.float32))
    with pytest.raises(PixelkinError, match="eps"):
        guided_upsample(torch.zeros(1, 2, 2), np.zeros((8, 8, 3), np.uint8), eps=0)
