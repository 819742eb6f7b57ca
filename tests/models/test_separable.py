"""Atrous and separable convolutions against plain loops."""

import numpy as np
import pytest
import torch
from torch import nn

from pixelkin.errors import PixelkinError
from pixelkin.models.separable import SeparableConv, atrous_conv


@pytest.mark.parametrize(("kernel_px", "rate"), [(1, 1), (3, 1), (3, 2), (3, 5), (5, 3)])
def test_atrous_convolution_is_the_sum_over_spread_taps(kernel_px, rate):
    torch.manual_seed(0)
    conv = atrous_conv(2, 3, kernel_px, rate=rate, bias=True).double()
    image = torch.randn(1, 2, 9, 7, dtype=torch.float64)
    wanted = np.zeros((3, 9, 7))
    weight, bias, pixels = conv.weight.detach().numpy(), conv.bias.detach().numpy(), image[0]
    half = kernel_px // 2
    for o, y, x in np.ndindex(3, 9, 7):
        wanted[o, y, x] = bias[o]
        for i, v, u in np.ndindex(2, kernel_px, kernel_px):
            row, column = y + (v - half) * rate, x + (u - half) * rate
            if 0 <= row < 9 and 0 <= column < 7:
                wanted[o, y, x] += weight[o, i, v, u] * pixels[i, row, column].item()
    assert np.allclose(conv(image)[0].detach().numpy(), wanted, atol=1e-12)


def test_even_kernels_are_refused():
    with pytest.raises(PixelkinError, match=r"4×4 .* such as 5"):
        atrous_conv(1, 1, 4)


def test_separable_convolution_is_a_full_one_with_a_kernel_of_rank_one():
    torch.manual_seed(0)
    separable = SeparableConv(3, 4, rate=2, depthwise_relu=False).double().eval()
    depthwise, pointwise = separable.depthwise[0].weight, separable.pointwise[0].weight
    full = nn.Conv2d(3, 4, 3, padding=2, dilation=2, bias=False).double()
    full.weight = nn.Parameter(pointwise * depthwise[:, 0][None])
    maps = torch.randn(2, 3, 11, 8, dtype=torch.float64)
    # Two fresh batch norms in evaluation each divide by √(1 + ε).
    wanted = full(maps).relu() / (1 + 1e-5)
    assert torch.allclose(separable(maps), wanted, atol=1e-12)


def test_separable_convolution_has_the_weights_it_promises():
    def weights(net):
        return sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))

    assert weights(SeparableConv(16, 32)) == 9 * 16 + 16 * 32
    assert weights(SeparableConv(16, 32, 5)) == 25 * 16 + 16 * 32


def test_relu_between_the_parts_is_the_default_and_can_be_left_out():
    maps = torch.randn(1, 2, 6, 6)
    torch.manual_seed(0)
    with_relu = SeparableConv(2, 2).eval()
    torch.manual_seed(0)
    without = SeparableConv(2, 2, depthwise_relu=False).eval()
    assert with_relu.depthwise(maps).min() == 0
    assert without.depthwise(maps).min() < 0
