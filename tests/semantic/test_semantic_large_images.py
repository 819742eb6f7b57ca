"""Large images: what is held at a time, when tiles pay, and networks that see far."""

import numpy as np
import pytest
import torch
from semantic_stand_ins import Padded
from torch import nn

from pixelkin.models.timm_segmentation import small_semantic_network, timm_fcn
from pixelkin.models.unet import UNet
from pixelkin.semantic import segmenter as room
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.semantic.tiling import receptive_radius_px, tile_cost

NAMES = ("sky", "road", "tree")
BACKBONE = "tf_efficientnet_lite0"


def picture(h: int, w: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (h, w, 3), dtype=np.uint8)


class FarSighted(nn.Module):
    """The mean of `reach_px` pixels above and below."""

    classes, margin_px = 3, 0

    def __init__(self, reach_px: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.see = nn.AvgPool2d((2 * reach_px + 1, 1), stride=1, padding=(reach_px, 0))

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return size_hw

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.see(images) * self.scale


@pytest.mark.parametrize("reach_px", [200, 600, 1000])
def test_a_long_reach_is_found(reach_px):
    found = receptive_radius_px(FarSighted(reach_px).eval())
    assert reach_px <= found <= reach_px + 64


def test_what_sees_farther_than_any_tile_counts_as_seeing_everything():
    assert receptive_radius_px(FarSighted(3000).eval()) is None


def test_the_light_network_has_a_reach_and_a_wide_image_in_tiles_is_the_whole():
    """Context of 17 cells of 32 px each way, beside what the backbone sees."""
    torch.manual_seed(0)
    model = small_semantic_network(3, widths=(4, 4, 4, 4)).eval().double()
    radius = receptive_radius_px(model)
    assert 8 * 32 + 400 < radius < 900
    # Random weights of many layers leave little of the image.
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    image = picture(40, 3400)
    # The first tile sees 24 % less than all, the last leaves out the first half.
    tiled = SemanticSegmenter(model, class_names=NAMES, tile_px=1700)
    assert tiled.exact_tiles
    whole = SemanticSegmenter(model, class_names=NAMES, tile_px=0).scores(image)
    assert np.ptp(whole, axis=(1, 2)).max() > 1e-4
    assert np.abs(tiled.scores(image) - whole).max() < 1e-6


def test_tiles_are_exact_as_long_as_they_pay():
    """Up to four times their own pixels, that is, twice the reach; else windows are taken."""
    model = timm_fcn(3, BACKBONE).eval()
    radius = SemanticSegmenter(model, class_names=NAMES).radius_px
    assert tile_cost(radius, 2 * radius) == room.DEAREST_TILE == 4
    for tile_px, exact in ((0, True), (2 * radius, True), (2 * radius - 1, False)):
        assert SemanticSegmenter(model, class_names=NAMES, tile_px=tile_px).exact_tiles == exact


@pytest.mark.parametrize("pools_all", [False, True])
def test_no_more_is_seen_at_a_time_than_a_tile_and_its_surroundings(pools_all):
    """Whatever the size of the image: the largest input of the network stays the same."""
    torch.manual_seed(0)
    model = Padded(3, width=2, pools_all=pools_all).eval()
    seen: list[int] = []
    segmenter = SemanticSegmenter(model, class_names=NAMES, tile_px=256)
    _ = segmenter.radius_px  # measured on images of its own
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:].numel()))
    largest = []
    for side in (1024, 2048):
        seen.clear()
        segmenter.segment(picture(side, side))
        largest.append(max(seen))
        assert len(seen) >= (side / 256) ** 2
    assert largest[0] == largest[1] <= room.DEAREST_TILE * 256**2


@pytest.mark.parametrize("tile_px", [64, 70, 128])
def test_a_network_without_padding_is_exact_in_tiles_of_any_size(tile_px):
    """Its margin is all that it sees: the overlap-tile strategy of Ronneberger et al., figure 2."""
    torch.manual_seed(0)
    model = UNet(3, channels=2).eval()
    image = picture(130, 150)
    whole = SemanticSegmenter(model, class_names=NAMES, tile_px=0).scores(image)
    tiled = SemanticSegmenter(model, class_names=NAMES, tile_px=tile_px)
    assert tiled.radius_px == model.margin_px == 92
    assert tiled.exact_tiles
    assert np.ptp(whole, axis=(1, 2)).max() > 1e-3
    assert np.abs(tiled.scores(image) - whole).max() < 1e-5
