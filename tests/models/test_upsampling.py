"""The two ways up, against each other and against loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pixelkin.models.upsampling import (
    bilinear_kernel,
    bilinear_upsampling,
    fill_bilinear,
    transposed_size,
    transposed_upsampling,
)


@pytest.mark.parametrize("factor", range(1, 9))
def test_transposed_convolution_starts_as_bilinear_interpolation(factor):
    maps = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    learnt = transposed_upsampling(3, factor).double()(maps)
    fixed = bilinear_upsampling(maps, (5 * factor, 6 * factor))
    assert learnt.shape == fixed.shape
    rim = (factor + 1) // 2
    inside = (..., slice(rim, -rim), slice(rim, -rim))
    assert torch.allclose(learnt[inside], fixed[inside], atol=1e-6)
    if factor > 1:
        assert not torch.allclose(learnt, fixed, atol=1e-2), "the rim differs"


def test_transposed_convolution_learns():
    conv = transposed_upsampling(2, 2)
    conv(torch.randn(1, 2, 3, 3)).square().sum().backward()
    assert all(p.grad.any() for p in conv.parameters())


@pytest.mark.parametrize("kernel_px", [1, 2, 3, 4, 5, 16, 32, 64])
def test_bilinear_kernel_spreads_every_cell_over_stride_squared_pixels(kernel_px):
    kernel = bilinear_kernel(kernel_px)
    stride = (kernel_px + 1) // 2
    assert kernel.sum().item() == pytest.approx(stride**2, rel=1e-6)
    assert torch.equal(kernel, kernel.flip(0))
    # Wherever the tents of neighbours overlap, their weights sum to one.
    maps = torch.ones(1, 1, 4, 4)
    spread = F.conv_transpose2d(maps, kernel[None, None], stride=stride)
    middle = spread[..., kernel_px : 3 * stride, kernel_px : 3 * stride]
    assert torch.allclose(middle, torch.ones_like(middle), atol=1e-5)


def test_channels_do_not_mix_and_old_weights_are_gone():
    conv = nn.ConvTranspose2d(3, 3, 4, stride=2)
    fill_bilinear(conv)
    maps = torch.zeros(1, 3, 4, 4)
    maps[:, 1] = 1
    up = conv(maps)
    assert up[:, 1].any()
    assert not up[:, [0, 2]].any()


def test_kernel_3_stride_2_makes_5_of_2_and_back():
    # A source text says 4×4; without padding it is 5×5.
    up = nn.ConvTranspose2d(1, 1, 3, stride=2)(torch.randn(1, 1, 2, 2))
    assert up.shape[-2:] == (5, 5)
    assert transposed_size(2, kernel_px=3, stride=2) == 5
    assert nn.Conv2d(1, 1, 3, stride=2)(up).shape[-2:] == (2, 2)


@pytest.mark.parametrize(
    ("side", "kernel_px", "stride", "padding_px"),
    [(2, 3, 2, 0), (2, 3, 2, 1), (1, 64, 32, 0), (16, 64, 32, 0), (7, 4, 2, 1), (5, 2, 2, 0)],
)
def test_transposed_size_is_torchs(side, kernel_px, stride, padding_px):
    conv = nn.ConvTranspose2d(1, 1, kernel_px, stride=stride, padding=padding_px)
    wanted = conv(torch.zeros(1, 1, side, side)).shape[-1]
    assert wanted == transposed_size(
        side, kernel_px=kernel_px, stride=stride, padding_px=padding_px
    )


def test_transposed_convolution_adds_a_scaled_kernel_per_cell():
    torch.manual_seed(0)
    maps = torch.randn(1, 1, 2, 3, dtype=torch.float64)
    conv = nn.ConvTranspose2d(1, 1, 4, stride=2, bias=False).double()
    fill_bilinear(conv)
    wanted = np.zeros((6, 8))
    for y, x in np.ndindex(2, 3):
        wanted[2 * y : 2 * y + 4, 2 * x : 2 * x + 4] += (
            maps[0, 0, y, x].item() * bilinear_kernel(4).numpy()
        )
    assert np.allclose(conv(maps)[0, 0].detach().numpy(), wanted, atol=1e-12)


def test_bilinear_upsampling_leaves_maps_of_the_size_alone():
    maps = torch.randn(1, 2, 5, 7)
    assert bilinear_upsampling(maps, (5, 7)) is maps
    assert bilinear_upsampling(maps, (11, 4)).shape == (1, 2, 11, 4)
