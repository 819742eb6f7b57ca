"""Shift-and-stitch, the dilated network, and every window by itself: one result."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pixelkin.errors import PixelkinError
from pixelkin.models.shift_and_stitch import (
    DilatedTwin,
    Reach,
    reach,
    run_dilated,
    shift_and_stitch,
)


def stack():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2, groups=2), nn.Tanh()),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(4, 5, 3, stride=3),
        nn.Conv2d(5, 3, 2),
    ).double()


def whole_numbers(network):
    """Weights by which sums are exact in any order; no layer that rounds."""
    for parameter in network.parameters():
        parameter.data = torch.randint(-3, 4, parameter.shape).to(parameter)
    return network


def by_windows(network, images):
    """Every window by itself, in plain loops."""
    side = reach(network).field_px
    height, width = images.shape[-2] - side + 1, images.shape[-1] - side + 1
    rows = [
        [network(images[..., y : y + side, x : x + side])[..., 0, 0] for x in range(width)]
        for y in range(height)
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def test_reach_of_a_stack():
    # 3×3; pool 2/2; 3×3 dilated 2 at stride 2; pool 3/2; 3×3/3 at stride 4; 2×2 at stride 12.
    assert reach(stack()) == Reach(stride=12, field_px=1 + 2 + 1 + 8 + 4 + 8 + 12)


def test_both_forms_are_every_window_by_itself():
    network, images = stack(), torch.randn(2, 2, 38, 50, dtype=torch.float64)
    wanted = by_windows(network, images)
    assert wanted.shape == (2, 3, 3, 15)
    assert torch.allclose(shift_and_stitch(network, images), wanted, atol=1e-12)
    assert torch.allclose(run_dilated(network, images), wanted, atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(
    layers=st.lists(
        st.tuples(st.booleans(), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2)),
        min_size=1,
        max_size=4,
    ),
    more_hw=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_forms_are_equal_to_the_bit_where_sums_are_exact(layers, more_hw):
    network = nn.Sequential(
        *(
            nn.Conv2d(2, 2, kernel, stride=stride, dilation=rate)
            if conv
            else nn.MaxPool2d(kernel, stride=stride, dilation=rate)
            for conv, kernel, stride, rate in layers
        )
    ).double()
    whole_numbers(network)
    side = reach(network).field_px
    size_hw = (side + more_hw[0], side + more_hw[1])
    images = torch.randint(-4, 5, (1, 2, *size_hw)).double()
    stitched = shift_and_stitch(network, images)
    assert stitched.shape == (1, 2, more_hw[0] + 1, more_hw[1] + 1)
    assert torch.equal(stitched, run_dilated(network, images))


def test_twin_shares_weights_and_learns():
    network = stack()
    twin = DilatedTwin(network)
    images = torch.randn(1, 2, 40, 40, dtype=torch.float64)
    twin(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    before = twin(images)
    with torch.no_grad():
        network[0].weight *= 2
    assert not torch.allclose(twin(images), before)
    assert twin.training
    assert network[0].stride == (1, 1)
    assert network[5].stride == (3, 3), "the network itself stays as it is"


def test_dilated_form_costs_less_than_the_passes():
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3))
    calls = []
    network[0].register_forward_hook(lambda *args: calls.append(args[2].numel()))
    shift_and_stitch(network, torch.zeros(1, 1, 24, 24))
    assert len(calls) == 4
    dense = run_dilated(network[:1], torch.zeros(1, 1, 24, 24)).numel()
    assert np.sum(calls) > 3.5 * dense


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Conv2d(1, 1, 3, padding=1), "pads its input"),
        (nn.Conv2d(1, 1, 3, padding="same"), "same for height"),
        (nn.MaxPool2d(2, ceil_mode=True), "pads its input"),
        (nn.MaxPool2d(3, padding=1), "pads its input"),
        (nn.Conv2d(1, 1, (3, 5)), r"\(3, 5\) for height"),
        (nn.Conv2d(1, 1, 3, stride=(1, 2)), r"\(1, 2\) for height"),
        (nn.Linear(4, 2), "Linear has no dilated form"),
        (nn.AvgPool2d(2), "AvgPool2d has no dilated form"),
        (nn.ConvTranspose2d(1, 1, 2), "ConvTranspose2d has no dilated form"),
    ],
)
def test_layers_without_an_equal_twin_are_refused(layer, what):
    network = nn.Sequential(nn.Identity(), nn.Sequential(layer))
    for make in (reach, DilatedTwin, lambda n: shift_and_stitch(n, torch.zeros(1, 1, 9, 9))):
        with pytest.raises(PixelkinError, match=what):
            make(network)


@pytest.mark.parametrize("run", [shift_and_stitch, run_dilated])
def test_images_smaller_than_the_field_are_refused(run):
    with pytest.raises(PixelkinError, match=r"40×35, the receptive field 36×36"):
        run(stack(), torch.zeros(1, 2, 35, 40, dtype=torch.float64))


def test_padding_written_as_valid_is_none():
    assert reach(nn.Sequential(nn.Conv2d(1, 1, 5, padding="valid"))).field_px == 5
