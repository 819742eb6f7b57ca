"""The side-output network: shapes, what its inputs are worth, what it refuses."""

import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.side_output_net import SideOutputNet


def network(*, mask_input=False):
    torch.manual_seed(0)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    return SideOutputNet(backbone, mask_input=mask_input).eval()


@pytest.mark.parametrize("size_hw", [(64, 96), (50, 71)])
def test_logits_have_the_size_of_the_image(size_hw):
    net = network(mask_input=True)
    with torch.inference_mode():
        logits = net(torch.rand(2, 3, *size_hw), torch.rand(2, 1, *size_hw))
        assert logits.shape == (2, 1, *size_hw)
        both = net(torch.rand(2, 3, *size_hw), torch.rand(2, 1, *size_hw), sides=True)
        assert both.shape == (2, 4, *size_hw)


def test_new_mask_channel_counts_for_nothing_until_trained():
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        plain = network()(image)
        net = network(mask_input=True)
        for value in (0.0, 1.0):
            same = net(image, torch.full((1, 1, 64, 96), value))
            assert torch.allclose(same, plain, atol=1e-4)
        net.backbone.net.conv_stem.weight[:, 3] = 1
        assert not torch.allclose(net(image, torch.ones(1, 1, 64, 96)), plain, atol=1e-2)


def test_every_parameter_learns():
    net = network(mask_input=True)
    net(torch.rand(1, 3, 64, 96), torch.rand(1, 1, 64, 96), sides=True).square().sum().backward()
    idle = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


@pytest.mark.parametrize("mask_input", [False, True])
def test_masks_go_with_mask_input(mask_input):
    masks = None if mask_input else torch.zeros(1, 1, 32, 32)
    with pytest.raises(PixelkinError, match="mask_input"):
        network(mask_input=mask_input)(torch.zeros(1, 3, 32, 32), masks)
