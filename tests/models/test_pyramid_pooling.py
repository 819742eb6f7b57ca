"""Pyramids of grids, against plain loops."""

import math

import numpy as np
import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models.pyramid_pooling import PyramidContext, SpatialPyramidPooling


def bins(side, n):
    return [slice(i * side // n, math.ceil((i + 1) * side / n)) for i in range(n)]


@pytest.mark.parametrize("size_hw", [(13, 13), (10, 7), (2, 5), (1, 1), (224, 180)])
def test_any_size_gives_the_same_length_and_the_largest_value_of_every_bin(size_hw):
    maps = torch.randn(2, 3, *size_hw)
    pooled = SpatialPyramidPooling()(maps)
    assert pooled.shape == (2, 3 * 50)
    for image, vector in zip(maps.numpy(), pooled.numpy(), strict=True):
        wanted = [
            channel[rows, columns].max()
            for n in (6, 3, 2, 1)
            for channel in image
            for rows in bins(size_hw[0], n)
            for columns in bins(size_hw[1], n)
        ]
        assert vector.tolist() == [float(w) for w in wanted]


def test_bins_is_the_length_per_channel():
    pool = SpatialPyramidPooling((4, 2, 1))
    assert pool.bins == 21
    assert pool(torch.randn(1, 5, 9, 9)).shape == (1, 5 * pool.bins)


def test_context_is_the_mean_of_every_bin_beside_the_maps():
    torch.manual_seed(0)
    net = PyramidContext(4, (1, 2)).double().eval()
    maps = torch.randn(1, 4, 6, 8, dtype=torch.float64)
    out = net(maps).detach()
    assert out.shape == (1, net.out_channels, 6, 8)
    assert torch.equal(out[:, :4], maps)
    weight = net.mixes[0][0].weight[..., 0, 0].detach().numpy()
    means = maps[0].mean((1, 2)).numpy()
    wanted = np.maximum(weight @ means, 0) / math.sqrt(1 + 1e-5)
    for row, column in [(0, 0), (5, 7), (3, 2)]:
        assert np.allclose(out[0, 4:6, row, column].numpy(), wanted, atol=1e-12)
    # The outermost pixels repeat the bin they lie in.
    weight = net.mixes[1][0].weight[..., 0, 0].detach().numpy()
    means = maps[0, :, 3:, 4:].mean((1, 2)).numpy()
    wanted = np.maximum(weight @ means, 0) / math.sqrt(1 + 1e-5)
    assert np.allclose(out[0, 6:, 5, 7].numpy(), wanted, atol=1e-12)


def test_context_doubles_the_channels_of_the_paper():
    with torch.device("meta"):
        net = PyramidContext(2048)
        assert net.out_channels == 4096
        assert net(torch.zeros(2, 2048, 60, 60)).shape == (2, 4096, 60, 60)


@pytest.mark.parametrize("grids", [(), (3, 0)])
def test_grids_without_bins_are_refused(grids):
    with pytest.raises(PixelkinError, match="at least one"):
        SpatialPyramidPooling(grids)
    with pytest.raises(PixelkinError, match="at least one"):
        PyramidContext(8, grids)


def test_fewer_channels_than_grids_are_refused():
    with pytest.raises(PixelkinError, match="3 channels"):
        PyramidContext(3)
