"""The previous mask: how it is deformed in training, and that the network follows it."""

import cv2
import numpy as np
import pytest
import torch

from pixelkin.baselines.masktrack import COARSENING_PX, MaskTrack, coarsen, deform_mask
from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.side_output_net import SideOutputNet


def disk(radius_px=30):
    mask = np.zeros((160, 272), np.uint8)
    cv2.circle(mask, (130, 80), radius_px, 1, -1)
    return mask


def test_coarsening_equals_plain_loops():
    mask = np.zeros((24, 30), np.uint8)
    mask[8:11, 9] = 1
    mask[15, 20:25] = 1
    found = coarsen(mask)
    points = np.argwhere(mask)
    for y in range(24):
        for x in range(30):
            nearest = np.hypot(*(points - [y, x]).T).min()
            # OpenCV's disk is rounded by up to half a pixel at its slanted parts.
            if nearest <= COARSENING_PX - 0.5:
                assert found[y, x] == 1
            if nearest > COARSENING_PX + 0.5:
                assert found[y, x] == 0


def test_deformed_masks_stay_near_the_object():
    mask, rng = disk(), np.random.default_rng(0)
    wide = mask.sum() * ((30 + COARSENING_PX) / 30) ** 2
    seen = set()
    for _ in range(20):
        deformed = deform_mask(mask, rng)
        assert deformed.dtype == np.uint8
        assert set(np.unique(deformed)) == {0, 1}
        # ±5 % of scale and ±10 % of bending at each end.
        assert 0.6 * wide < deformed.sum() < 1.6 * wide
        ys, xs = np.nonzero(deformed)
        assert np.hypot(xs.mean() - 130, ys.mean() - 80) < 0.25 * 60
        seen.add(deformed.tobytes())
    assert len(seen) == 20


def test_deformation_is_drawn_from_the_generator():
    a, b = (deform_mask(disk(), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mask", [np.zeros((20, 30), np.uint8), np.ones((20, 30), np.uint8)])
def test_empty_and_full_masks_deform(mask):
    deformed = deform_mask(mask, np.random.default_rng(0))
    assert deformed.shape == mask.shape
    assert deformed.any() == mask.any()


class Follows(SideOutputNet):
    """Gives the previous mask back, as a network that was trained to do nothing else would."""

    def forward(self, images, masks=None, *, sides=False):
        return masks * 2 - 1


def test_previous_masks_are_given_object_by_object():
    torch.manual_seed(0)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    labels = np.zeros((64, 96), np.uint8)
    labels[20:30, 20:30] = 5
    labels[40:50, 70:80] = 9
    frames = [np.zeros((64, 96, 3), np.uint8)] * 3
    maps = list(MaskTrack(Follows(backbone, mask_input=True))(frames, labels))
    for t in (1, 2):
        for object_id in (5, 9):
            grown = (labels == object_id).astype(np.uint8)
            for _ in range(t):
                grown = coarsen(grown)
            np.testing.assert_array_equal(maps[t] == object_id, grown == 1)


def test_network_without_mask_input_is_told():
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    with pytest.raises(PixelkinError, match="mask_input=True"):
        MaskTrack(SideOutputNet(backbone))
