"""N4: its numbers, its full layers, and its dense form against patch by patch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixelkin.errors import PixelkinError
from pixelkin.models.patch_network import PatchNetwork, classify_pixels, mirror_pad
from pixelkin.models.shift_and_stitch import Reach, reach, shift_and_stitch


def thin(classes=3):
    torch.manual_seed(0)
    return PatchNetwork(classes, width=4, hidden=6).double()


def test_parameters_and_multiplications_are_those_of_n4():
    with torch.device("meta"):
        network = PatchNetwork()
        with FlopCounterMode(display=False) as counter:
            network.classify_patches(torch.zeros(1, 1, 95, 95))
    assert network.patch_px == 95
    assert reach(network.layers) == Reach(stride=16, field_px=95)
    assert sum(p.numel() for p in network.parameters()) == 219_290
    assert counter.get_total_flops() // 2 == 121_464_592


def test_n4_on_all_pixels_at_once_is_n4_patch_by_patch():
    torch.manual_seed(0)
    network = PatchNetwork().double()
    image = torch.rand(3, 2, 3, dtype=torch.float64)
    wanted = classify_pixels(network, image, batch_size=4)
    assert wanted.shape == (2, 2, 3)
    assert wanted.std() > 0.01
    with torch.no_grad():
        assert torch.allclose(network(image[None])[0], wanted, atol=1e-12)


def test_dense_form_is_patch_by_patch_beyond_the_stride_and_shift_and_stitch_too():
    network = thin()
    images = torch.rand(2, 3, 2, 18, dtype=torch.float64)
    with torch.no_grad():
        dense = network(images)
        stitched = shift_and_stitch(network.layers, network.padded_grey(images))
    assert dense.shape == (2, 3, 2, 18)
    assert torch.allclose(stitched, dense, atol=1e-12)
    for image, logits in zip(images, dense, strict=True):
        assert torch.allclose(classify_pixels(network, image), logits, atol=1e-12)
    single = network.float()(images.float()).double()
    assert torch.allclose(single, dense, atol=1e-4)


def test_pixel_is_classified_by_the_patch_around_it():
    network = thin()
    image = torch.rand(1, 3, 120, 130, dtype=torch.float64)
    grey = (image * torch.tensor([0.299, 0.587, 0.114]).double().view(1, 3, 1, 1)).sum(1)
    patch = ((grey - network.mean) / network.std)[:, 60 - 47 : 60 + 48, 70 - 47 : 70 + 48]
    with torch.no_grad():
        wanted = network.classify_patches(patch[None])[0]
        assert torch.allclose(network(image)[0, :, 60, 70], wanted, atol=1e-6)


def test_full_layers_are_full_layers():
    network = thin()
    full = nn.Sequential(nn.Flatten(), nn.Linear(4 * 9, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    for layer, conv in ((full[1], network.layers[-3]), (full[3], network.layers[-1])):
        layer.weight.data = conv.weight.data.flatten(1)
        layer.bias.data = torch.randn_like(conv.bias)
        conv.bias.data = layer.bias.data
    patches = torch.randn(5, 1, 95, 95, dtype=torch.float64)
    maps = network.layers[:-3](patches)
    assert maps.shape == (5, 4, 3, 3)
    assert torch.allclose(network.classify_patches(patches), full(maps), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(h=st.integers(1, 9), w=st.integers(1, 9), margin_px=st.integers(0, 40))
def test_mirror_padding_is_numpys(h, w, margin_px):
    maps = torch.arange(2 * h * w).view(1, 2, h, w).double()
    pads = [(0, 0), (0, 0), (margin_px, margin_px), (margin_px, margin_px)]
    assert np.array_equal(mirror_pad(maps, margin_px).numpy(), np.pad(maps, pads, mode="reflect"))


def test_every_parameter_learns():
    network = thin().float()
    network(torch.rand(1, 3, 16, 20)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 40), (50, 3)])
def test_any_size_is_taken(size_hw):
    network = thin().float()
    assert network.valid_size(size_hw) == size_hw
    with torch.no_grad():
        assert network(torch.rand(1, 3, *size_hw)).shape == (1, 3, *size_hw)


def test_empty_images_and_wrong_patches_are_refused():
    network = thin()
    with pytest.raises(PixelkinError, match="pad it to 4×1"):
        network(torch.zeros(1, 3, 0, 4))
    with pytest.raises(PixelkinError, match=r"\(1, 96, 96\), expected \(1, 95, 95\)"):
        network.classify_patches(torch.zeros(1, 1, 96, 96))
    with pytest.raises(PixelkinError, match=r"\(1, 4, 4\)"):
        classify_pixels(network, torch.zeros(1, 4, 4))
    with pytest.raises(PixelkinError, match="batches of 0"):
        classify_pixels(network, torch.zeros(3, 4, 4), batch_size=0)
    with pytest.raises(PixelkinError, match="no centre"):
        PatchNetwork(kernels_px=(5, 5, 4, 4))
