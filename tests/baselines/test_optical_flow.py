"""Masks carried by flow, where the motion is known."""

import cv2
import numpy as np
import pytest

from pixelkin.baselines.optical_flow import carry_by_flow, warp
from pixelkin.errors import PixelkinError
from pixelkin.media import open_clip


@pytest.mark.parametrize(("preset", "least"), [("fast", 0.8), ("medium", 0.85)])
def test_follows_a_known_shift(bikes_clip, preset, least):
    """A window that slides over a real picture, 3 px right and 2 px down per frame."""
    with open_clip(bikes_clip) as clip:
        picture = clip[0]
    windows = [picture[20 + 2 * t : 180 + 2 * t, 100 + 3 * t : 372 + 3 * t] for t in range(5)]
    truth = np.zeros(picture.shape[:2], np.uint8)
    # Where nothing has texture, no method sees motion: objects go where there is most of it.
    edges = np.abs(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_32F))
    texture = cv2.blur(np.minimum(edges, 40), (61, 61))[60:150, 150:330]
    for object_id in (1, 2):
        y, x = np.unravel_index(texture.argmax(), texture.shape)
        cv2.circle(truth, (int(x) + 150, int(y) + 60), 28, object_id, -1)
        texture[:, max(0, x - 60) : x + 60] = 0
    maps = [truth[20 + 2 * t : 180 + 2 * t, 100 + 3 * t : 372 + 3 * t] for t in range(5)]
    last = list(carry_by_flow(windows, maps[0], preset=preset))[-1]
    for object_id in (1, 2):
        found, wanted, start = (m == object_id for m in (last, maps[-1], maps[0]))
        assert (found & wanted).sum() / (found | wanted).sum() > least
        assert (start & wanted).sum() / (start | wanted).sum() < 0.7


def test_warp_equals_plain_loops():
    rng = np.random.default_rng(0)
    mask = rng.random((6, 7)).astype(np.float32)
    flow = rng.uniform(-2, 2, (6, 7, 2)).astype(np.float32)
    # OpenCV reads at steps of 1/32 pixel.
    flow = np.round(flow * 32) / 32
    expected = np.zeros((6, 7))
    for y in range(6):
        for x in range(7):
            fx, fy = x + float(flow[y, x, 0]), y + float(flow[y, x, 1])
            left, top = int(np.floor(fx)), int(np.floor(fy))
            for j in (top, top + 1):
                for i in (left, left + 1):
                    share = (1 - abs(fx - i)) * (1 - abs(fy - j))
                    expected[y, x] += share * mask[min(max(j, 0), 5), min(max(i, 0), 6)]
    np.testing.assert_allclose(warp(mask[None], flow)[0], expected, atol=1e-5)


def test_unknown_preset_is_told():
    with pytest.raises(PixelkinError, match="choose ultrafast, fast, medium"):
        next(carry_by_flow([], np.zeros((2, 2), np.uint8), preset="slow"))
