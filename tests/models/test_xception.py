"""Modified Aligned Xception: the check numbers, and which weights the name means."""

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from pixelkin.models.xception import XCEPTION65, XCEPTION65_MEAN, XCEPTION65_STD, xception65


@pytest.mark.parametrize(("output_stride", "giga_macs"), [(16, 48.57), (8, 163.61)])
def test_check_numbers(output_stride, giga_macs):
    with torch.device("meta"):
        net = xception65(output_stride=output_stride).eval()
        with FlopCounterMode(display=False) as counter:
            low, high = net(torch.empty(1, 3, 513, 513))
    assert sum(p.numel() for p in net.parameters()) == 37_867_312
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga_macs, abs=0.005)
    assert low.shape == (1, 256, 129, 129)
    side = 512 // output_stride + 1
    assert high.shape == (1, 2048, side, side)
    assert net.channels == (256, 2048)
    assert net.strides == (4, output_stride)


def test_channels_of_all_five_maps():
    with torch.device("meta"):
        whole = timm.create_model(XCEPTION65, features_only=True, output_stride=16)
    assert whole.feature_info.channels() == [128, 256, 728, 1024, 2048]
    assert whole.feature_info.reduction() == [2, 4, 8, 16, 16]


def test_the_tag_is_pinned_and_so_is_the_normalisation():
    config = timm.get_pretrained_cfg(XCEPTION65)
    assert config.tag == "tf_in1k"
    assert timm.get_pretrained_cfg("xception65").tag != "tf_in1k"
    assert (config.mean, config.std) == (XCEPTION65_MEAN, XCEPTION65_STD)


@torch.inference_mode()
def test_output_stride_changes_no_weight_and_atrous_convolution_keeps_the_values():
    torch.manual_seed(0)
    wide, fine = xception65(output_stride=16).eval(), xception65(output_stride=8).eval()
    fine.load_state_dict(wide.state_dict())
    images = torch.rand(1, 3, 65, 65)
    for (low, high), stride in ((wide(images), 16), (fine(images), 8)):
        assert low.shape[2:] == (17, 17)
        assert high.shape[2:] == (64 // stride + 1,) * 2
    # A cell of the coarse map is the same cell of the fine one: dilation stands for the stride.
    torch.testing.assert_close(fine(images)[1][..., ::2, ::2], wide(images)[1])
