"""Tiled fields equal whole ones."""

import numpy as np
import pytest
import torch
from torch import nn

from pixelkin.grouping.seed_instances import SeedGrouping
from pixelkin.instances.segmenter import FieldSegmenter, shrunk
from pixelkin.instances.tiling import dense_fields, receptive_radius_px
from pixelkin.models.instance_embedding import InstanceNet, small_instance_network


def network(**options) -> InstanceNet:
    torch.manual_seed(0)
    return small_instance_network(8, dimensions=4, **options).eval()


def test_receptive_radius_of_plain_convolutions():
    """Three 5×5 convolutions see 6 pixels to each side; a stride doubles what follows."""
    same = nn.Sequential(*(nn.Conv2d(3, 3, 5, padding=2) for _ in range(3)))
    plain = InstanceNet(
        same, None, nn.Conv2d(3, 2, 1), stride=1, multiple=1, mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert receptive_radius_px(plain) == 6
    strided = nn.Sequential(nn.Conv2d(3, 3, 3, 2, 1), nn.Conv2d(3, 3, 5, padding=2))
    half = InstanceNet(
        strided, None, nn.Conv2d(3, 2, 1), stride=2, multiple=2, mean=(0, 0, 0), std=(1, 1, 1)
    )
    # A pixel reaches cells whose 3-pixel windows, 2 cells away, hold it.
    assert receptive_radius_px(half) in (4, 5, 6)


@pytest.mark.parametrize("stride", [2, 4])
def test_tiles_give_the_whole_image_s_fields(stride):
    model = network(stride=stride)
    image = np.random.default_rng(1).integers(0, 256, (331, 470, 3), dtype=np.uint8)
    with torch.inference_mode():
        whole = dense_fields(model, image, tile_px=0)
        tiled = dense_fields(model, image, tile_px=96)
        short = dense_fields(model, image, tile_px=96, margin_px=64)
    assert tiled.embeddings.shape == whole.embeddings.shape
    assert torch.allclose(tiled.embeddings, whole.embeddings, atol=1e-5)
    assert torch.allclose(tiled.logits, whole.logits, atol=1e-5)
    assert (short.logits - whole.logits).abs().max() > 1e-4, "a smaller margin would show"


def test_tiled_objects_equal_untiled_ones():
    model = network()
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (300, 420, 3), dtype=np.uint8)
    grouping = SeedGrouping((0.25, 0.5, 0.75, 0.9), seeds=60, min_score=0)
    whole, tiled = (
        FieldSegmenter(model, grouping, class_names=("thing",), tile_px=tile_px).segment(image)
        for tile_px in (0, 128)
    )
    assert len(whole) > 5
    assert whole.rles == tiled.rles
    assert whole.scores == pytest.approx(tiled.scores, abs=1e-5)


@pytest.mark.parametrize("size_hw", [(7, 10), (8, 9), (1, 1)])
def test_shrunk_averages_squares(size_hw):
    image = np.random.default_rng(3).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    small = shrunk(image, 2)
    assert small.shape == (-(-size_hw[0] // 2), -(-size_hw[1] // 2), 3)
    if size_hw[0] > 2:
        assert np.abs(small[1, 1] - image[2:4, 2:4].mean((0, 1))).max() <= 0.5
    assert shrunk(image, 1) is image
