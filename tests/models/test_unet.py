"""U-Net: the paper's numbers, its sizes by brute force, the network recomputed step by step."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixelkin.errors import PixelkinError
from pixelkin.models.channels import LUMA
from pixelkin.models.unet import UNet, centre_crop

SMALLEST = UNet(1, channels=1)


def thin(classes: int = 3, **options) -> UNet:
    torch.manual_seed(0)
    return UNet(classes, channels=2, **options).eval()


def result_of(side: int) -> int | None:
    """Sides as the paper's figure 1 walks through them; None where a pooling meets an odd side."""
    kept = []
    for _ in range(4):
        side -= 4
        kept.append(side)
        if side <= 0 or side % 2:
            return None
        side //= 2
    side -= 4
    for skip in reversed(kept):
        side *= 2
        if side <= 0 or (skip - side) % 2:
            return None
        side -= 4
    return side if side > 0 else None


def test_the_papers_numbers():
    with torch.device("meta"):
        net = UNet(2, grey=True).eval()
        with FlopCounterMode(display=False) as counter:
            scores = net(torch.empty(1, 1, 572, 572))
    assert scores.shape == (1, 2, 388, 388)
    assert sum(p.numel() for p in net.parameters()) == 31_030_658
    assert counter.get_total_flops() // 2 == 150_428_424_448  # 150.43 G
    assert net.margin_px == 92


def test_valid_sizes_are_those_that_the_figure_allows():
    net = thin()
    valid = [side for side in range(1, 700) if result_of(side) is not None]
    for side in range(1, 680):
        found, _ = net.valid_size((side, 188))
        assert found == min(v for v in valid if v >= side)
    assert result_of(188) == 4
    assert all(result_of(v) == v - 184 for v in valid)


@given(h=st.integers(1, 1000), w=st.integers(1, 1000))
def test_another_size_is_refused_with_the_nearest_valid_one(h, w):
    net = SMALLEST
    valid = [v for v in range(188, 1100) if v % 16 == 12]
    if h in valid and w in valid:
        h += 1
    with pytest.raises(PixelkinError) as caught:
        net(torch.empty(1, 3, h, w))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"the image is {w}×{h},")
    near = [int(side) for side in re.search(r"nearest valid size is (\d+)×(\d+)", message).groups()]
    for side, named in zip((w, h), near, strict=True):
        assert named in valid
        assert abs(named - side) == min(abs(v - side) for v in valid)
    next_h, next_w = net.valid_size((h, w))
    assert f"pad it to {next_w}×{next_h}" in message


@torch.inference_mode()
def test_forward_equals_the_figure_step_by_step():
    net = thin(grey=True)
    images = torch.rand(2, 1, 204, 188)

    def conv_relu(x, layer):
        # Unfolded and multiplied: another way to convolve.
        k = layer.weight.shape[-1]
        columns = F.unfold(x, k)
        flat = torch.einsum("oi,nil->nol", layer.weight.flatten(1), columns)
        size = (x.shape[2] - k + 1, x.shape[3] - k + 1)
        return (flat + layer.bias[:, None]).unflatten(2, size)

    x = (images - 0.5) / 0.25
    skips = []
    for level, (first, _, second, _) in enumerate(net.contract):
        if level:
            x = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        x = conv_relu(conv_relu(x, first).clamp(min=0), second).clamp(min=0)
        skips.append(x)
    for up, (first, _, second, _), skip in zip(net.up, net.expand, skips[-2::-1], strict=True):
        n, _, h, w = x.shape
        larger = torch.einsum("nchw,cokl->nohkwl", x, up.weight).reshape(n, -1, 2 * h, 2 * w)
        larger = larger + up.bias[:, None, None]
        top, left = (skip.shape[2] - 2 * h) // 2, (skip.shape[3] - 2 * w) // 2
        middle = skip[:, :, top : top + 2 * h, left : left + 2 * w]
        x = torch.cat([middle, larger], 1)
        x = conv_relu(conv_relu(x, first).clamp(min=0), second).clamp(min=0)
    expected = conv_relu(x, net.score)
    found = net(images)
    assert found.shape == (2, 3, 20, 4)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_tile_gives_what_the_whole_image_gives():
    net = thin()
    image = torch.rand(1, 3, 252, 268)
    whole = net(image)
    part = net(image[:, :, 16:236, 32:252])
    torch.testing.assert_close(part, whole[:, :, 16 : 16 + 36, 32 : 32 + 36], rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_grey_networks_take_rgb_by_its_luma_and_one_channel_as_it_is():
    net = thin(grey=True)
    rgb = torch.rand(1, 3, 188, 188)
    luma = sum(weight * rgb[:, i] for i, weight in enumerate((0.299, 0.587, 0.114)))[:, None]
    assert sum(LUMA) == pytest.approx(1)
    torch.testing.assert_close(net(rgb), net(luma))
    for network, channels, expected in (
        (net, 2, r"2 channels, expected 3 \(RGB\) or 1 \(grey\)"),
        (thin(), 1, r"1 channels, expected 3 \(RGB\);"),
    ):
        with pytest.raises(PixelkinError, match=expected):
            network(torch.rand(1, channels, 188, 188))


def test_weights_start_with_variance_two_by_incoming_nodes():
    torch.manual_seed(0)
    net = UNet(2, channels=16)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            cells = 9 if module.kernel_size == (3, 3) else 1
            expected = math.sqrt(2 / (cells * module.in_channels))
            few = 5 / math.sqrt(module.weight.numel())
            assert module.weight.std().item() == pytest.approx(expected, rel=max(few, 0.02))
            assert not module.bias.any()


def test_dropout_at_the_end_of_the_contraction_alone():
    net = thin()
    calls = []
    net.dropout.register_forward_hook(lambda _, args, __: calls.append(args[0].shape[1:]))
    net.train()(torch.rand(1, 3, 188, 188))
    assert calls == [(16, 16, 16), (32, 4, 4)]


def test_batch_norm_takes_the_place_of_the_bias():
    net = thin(batch_norm=True)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 18
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convs) == 18
    assert all(conv.bias is None for conv in convs)


def test_centre_crop_takes_the_middle():
    maps = torch.arange(42.0).view(1, 1, 6, 7)
    assert torch.equal(centre_crop(maps, (2, 3)), maps[:, :, 2:4, 2:5])
