"""Tiled equals untiled; scales, mirrors, windows, odd sizes."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from semantic_stand_ins import Padded, Unpadded

from pixelkin.errors import PixelkinError
from pixelkin.semantic.checkpoints import build_network
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.semantic.tiling import (
    Region,
    fitting_size,
    grid_px,
    receptive_radius_px,
    region_logits,
    window_weights,
    windows,
)

NAMES = ("sky", "road", "tree", "car")


def picture(h: int, w: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


def segmenter(model, **options) -> SemanticSegmenter:
    return SemanticSegmenter(model, class_names=NAMES, **options)


@pytest.fixture(params=[Padded, Unpadded])
def model(request):
    torch.manual_seed(0)
    return request.param(4).eval()


def test_receptive_radius(model):
    """Never less than what the layers say, and not more than a coarse cell or two above."""
    # 1 (score) + 3 (place in a cell of 4) + 8 (coarse) + 3 + 1; or 1 + 4 + 1 and places in cells.
    reach = 1 + 3 + 8 + 3 + 1 if isinstance(model, Padded) else 7
    assert reach <= receptive_radius_px(model) <= reach + 2 * grid_px(model)
    assert receptive_radius_px(Padded(4, pools_all=True).eval()) is None


@pytest.mark.parametrize("tile_px", [0, 67])
def test_the_best_of_the_classes_that_an_image_shows(model, tile_px):
    image = picture(90, 70)
    looks = segmenter(model, tile_px=tile_px)
    scores, anything = looks.scores(image), looks.segment(image)
    told = looks.segment(image, among=(0, 2))
    assert told.dtype == anything.dtype == np.uint8
    np.testing.assert_array_equal(told, np.where(scores[2] > scores[0], 2, 0))
    assert set(np.unique(anything)) - {0, 2}
    assert not looks.segment(image, among=[0]).any()
    for wrong in ([], [0, 4], [-1]):
        with pytest.raises(PixelkinError, match="expected one or more of 0 to 3"):
            looks.segment(image, among=wrong)


@pytest.mark.parametrize(
    "options", [{}, {"flip": True}, {"scales": (0.5, 1.0, 1.75)}, {"scales": (3.0,), "flip": True}]
)
def test_tiles_give_the_whole_image_s_scores(model, options, monkeypatch):
    monkeypatch.setattr("pixelkin.semantic.segmenter.DEAREST_TILE", np.inf)
    image = picture(203, 170)
    whole = segmenter(model, tile_px=0, **options).scores(image)
    tiled = segmenter(model, tile_px=67, **options)
    assert tiled.exact_tiles
    assert np.allclose(whole.sum(0), 1, atol=1e-5)
    assert np.abs(tiled.scores(image) - whole).max() < 1e-6
    classes = tiled.segment(image)
    assert classes.dtype == np.uint8
    assert (classes == whole.argmax(0)).mean() > 0.9999


def test_a_shorter_reach_would_show():
    torch.manual_seed(0)
    model = Padded(4).eval()
    image, part = picture(200, 200), Region(64, 128, 64, 128)
    with torch.inference_mode():
        whole = region_logits(model, image, Region(0, 200, 0, 200), radius_px=200)
        short = region_logits(model, image, part, radius_px=4)
    assert (whole[:, 64:128, 64:128] - short).abs().max() > 1e-3


def test_beyond_the_image_lies_its_mirror_or_its_border(model):
    """As numpy's padding, then the network, then the image cut out again."""
    image = picture(9, 31)
    margin = model.margin_px
    h, w = fitting_size(model, (9 + 2 * margin, 31 + 2 * margin))
    mode = "reflect" if margin else "edge"
    pads = ((margin, h - 9 - margin), (margin, w - 31 - margin), (0, 0))
    padded = torch.from_numpy(np.pad(image, pads, mode=mode)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = model(padded)[0, :, :9, :31].softmax(0)
    assert np.allclose(segmenter(model).scores(image), expected.numpy(), atol=1e-6)


def test_scales_and_mirrors_are_averaged_as_probabilities(model):
    image = picture(64, 96)
    plain = segmenter(model)
    small = image[::2, ::2].copy()
    for y in range(32):
        for x in range(48):
            small[y, x] = np.rint(image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((0, 1)))
    upsampled = F.interpolate(
        torch.from_numpy(plain.scores(small))[None], (64, 96), mode="bilinear", align_corners=False
    )[0].numpy()
    expected = (plain.scores(image) + upsampled) / 2
    # Halves round one way here and the other way in OpenCV.
    assert np.abs(segmenter(model, scales=(1.0, 0.5)).scores(image) - expected).max() < 0.01
    mirror = plain.scores(np.ascontiguousarray(image[:, ::-1]))[:, :, ::-1]
    expected = (plain.scores(image) + mirror) / 2
    assert np.allclose(segmenter(model, flip=True).scores(image), expected, atol=1e-6)


def test_a_network_that_sees_everything_is_run_in_windows():
    torch.manual_seed(1)
    model = Padded(4, pools_all=True).eval()
    image = picture(150, 170)
    whole = segmenter(model, tile_px=0).scores(image)
    in_windows = segmenter(model, tile_px=80)
    assert not in_windows.exact_tiles
    scores = in_windows.scores(image)
    assert np.allclose(scores.sum(0), 1, atol=1e-5)
    # Noise is the same everywhere: its mean in a window is nearly that of the whole.
    assert 0 < np.abs(scores - whole).max() < 0.1
    # By hand: every window's own scores, weighed.
    expected = np.zeros_like(scores)
    rows, columns = windows(150, size=80, overlap=20), windows(170, size=80, overlap=20)
    alone = segmenter(model, tile_px=0)
    for (y0, y1), down in zip(rows, window_weights(rows, overlap=20), strict=True):
        for (x0, x1), across in zip(columns, window_weights(columns, overlap=20), strict=True):
            part = alone.scores(np.ascontiguousarray(image[y0:y1, x0:x1]))
            expected[:, y0:y1, x0:x1] += part * down[:, None] * across
    assert np.allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize(("length", "size", "overlap"), [(10, 20, 5), (100, 30, 7), (61, 60, 15)])
def test_windows_cover_and_their_weights_sum_to_one(length, size, overlap):
    spans = windows(length, size=size, overlap=overlap)
    total = np.zeros(length)
    for (start, stop), weight in zip(spans, window_weights(spans, overlap=overlap), strict=True):
        assert stop - start == min(size, length)
        total[start:stop] += weight
    assert np.allclose(total, 1)
    for one, other in pairwise(spans):
        assert one[1] - other[0] >= overlap


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 40), (5, 3), (2, 2)])
def test_any_size(model, size_hw):
    assert segmenter(model, flip=True, scales=(1, 0.3)).segment(picture(*size_hw)).shape == size_hw


@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("semantic_unet", {"channels": 2}),
        ("semantic_segnet", {"widths": [2, 2, 2, 2, 2]}),
        ("semantic_fcn", {"widths": [2, 2, 2, 2, 2], "head_channels": 4, "stride": 8}),
        ("semantic_patch", {"width": 2, "hidden": 3}),
    ],
)
def test_networks_of_the_papers(architecture, options, monkeypatch):
    """Images smaller than a margin; and tiles that are the whole, however small they are."""
    monkeypatch.setattr("pixelkin.semantic.segmenter.DEAREST_TILE", np.inf)
    config = {"architecture": architecture, "class_names": NAMES, "network": options}
    torch.manual_seed(0)
    # In single precision large scores of random weights round differently in tiles.
    model = build_network(config).eval().double()
    # Random weights of many layers leave little of the image.
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    image = picture(83, 641)
    whole = segmenter(model, tile_px=0).scores(image)
    assert segmenter(model).segment(picture(3, 20)).shape == (3, 20)
    tiled = segmenter(model, tile_px=64)
    assert tiled.exact_tiles
    assert np.ptp(whole, axis=(1, 2)).max() > 1e-4
    assert np.abs(tiled.scores(image) - whole).max() < 1e-6


def test_index_255_is_nobody_s():
    torch.manual_seed(0)
    model = Padded(300).eval()
    with torch.no_grad():
        model.score.bias[255] = 100
    many = SemanticSegmenter(model, class_names=tuple(map(str, range(300))))
    classes = many.segment(picture(20, 20))
    assert classes.dtype == np.int64
    assert not (classes == 255).any()


def test_mistakes_are_told(model):
    with pytest.raises(PixelkinError, match="names"):
        SemanticSegmenter(model, class_names=("one",))
    with pytest.raises(PixelkinError, match="scales"):
        segmenter(model, scales=())
    with pytest.raises(PixelkinError, match="expected uint8"):
        segmenter(model).segment(np.zeros((4, 4), np.uint8))
