"""DeepLab v3+: the check numbers, the head recomputed step by step, and other backbones."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.deeplab_v3_plus import AtrousPyramid, DeepLabV3Plus, deeplab_v3_plus


@pytest.mark.parametrize(
    ("options", "parameters", "giga_macs"),
    [
        ({}, 41_055_413, 54.04),
        ({"output_stride": 8}, 41_055_413, 176.85),
        ({"separable": False}, 54_711_461, 86.68),
    ],
)
def test_the_papers_numbers(options, parameters, giga_macs):
    with torch.device("meta"):
        net = deeplab_v3_plus(21, **options).eval()
        with FlopCounterMode(display=False) as counter:
            scores = net(torch.empty(1, 3, 513, 513))
    assert scores.shape == (1, 21, 513, 513)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga_macs, abs=0.005)
    rate = 2 if options.get("output_stride") == 8 else 1
    dilated = [m for m in net.pyramid.modules() if isinstance(m, nn.Conv2d) and m.dilation[0] > 1]
    assert [m.dilation[0] for m in dilated] == [6 * rate, 12 * rate, 18 * rate]
    assert net.mean.shape == (1, 3, 1, 1)


def thin(**options) -> DeepLabV3Plus:
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", strides=(4, 16), output_stride=16)
    return DeepLabV3Plus(backbone, 3, channels=8, low_channels=4, **options).eval()


def norm_relu(x, norm):
    shape = (1, -1, 1, 1)
    x = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + norm.eps).sqrt()
    return (x * norm.weight.view(shape) + norm.bias.view(shape)).clamp(min=0)


def point(x, block):
    conv, norm, _ = block
    return norm_relu(torch.einsum("oi,nihw->nohw", conv.weight[:, :, 0, 0], x), norm)


def atrous(x, weight, rate, *, depthwise):
    n, channels, h, w = x.shape
    around = F.pad(x, (rate,) * 4)
    total = torch.zeros(n, len(weight), h, w)
    for i in range(3):
        for j in range(3):
            shifted = around[:, :, i * rate : i * rate + h, j * rate : j * rate + w]
            tap = weight[:, :, i, j]
            if depthwise:
                total += shifted * tap.view(1, channels, 1, 1)
            else:
                total += torch.einsum("oi,nihw->nohw", tap, shifted)
    return total


def conv3(x, block, rate, *, separable):
    if not separable:
        return norm_relu(atrous(x, block[0].weight, rate, depthwise=False), block[1])
    conv, norm, _ = block.depthwise
    return point(norm_relu(atrous(x, conv.weight, rate, depthwise=True), norm), block.pointwise)


def enlarge(maps, size):
    """Bilinear by loops over pixels: the outermost cells lie on the outermost pixels."""
    h, w = maps.shape[2:]
    result = torch.empty(*maps.shape[:2], size, size)
    for y in range(size):
        for x in range(size):
            v, u = y * (h - 1) / (size - 1), x * (w - 1) / (size - 1)
            top, left = min(int(v), h - 2), min(int(u), w - 2)
            a, b = v - top, u - left
            result[:, :, y, x] = (
                (1 - a) * (1 - b) * maps[:, :, top, left]
                + (1 - a) * b * maps[:, :, top, left + 1]
                + a * (1 - b) * maps[:, :, top + 1, left]
                + a * b * maps[:, :, top + 1, left + 1]
            )
    return result


@pytest.mark.parametrize("separable", [True, False])
@torch.inference_mode()
def test_the_head_equals_the_paper_step_by_step(separable):
    net = thin(separable=separable, rates=(1, 2, 3))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    images = torch.rand(2, 3, 33, 33)
    low, high = net.backbone((images - net.mean) / net.std)
    pyramid = net.pyramid
    pooled = point(high.flatten(2).mean(2)[..., None, None], pyramid.pooled)
    parts = [point(high, pyramid.point)]
    parts += [
        conv3(high, branch, rate, separable=separable)
        for branch, rate in zip(pyramid.atrous, (1, 2, 3), strict=True)
    ]
    parts.append(pooled.repeat(1, 1, *high.shape[2:]))
    context = enlarge(point(torch.cat(parts, 1), pyramid.mix), 9)
    x = torch.cat([context, point(low, net.thin)], 1)
    for block in net.decoder:
        x = conv3(x, block, 1, separable=separable)
    scores = torch.einsum("oi,nihw->nohw", net.score.weight[:, :, 0, 0], x)
    expected = enlarge(scores + net.score.bias[:, None, None], 33)
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_sizes_off_the_grid_are_padded_with_the_mean_colour():
    net = thin(mean=(0.1, 0.5, 0.7))
    images = torch.rand(1, 3, 40, 50)
    padded = torch.tensor((0.1, 0.5, 0.7)).view(1, 3, 1, 1).repeat(1, 1, 49, 65)
    padded[:, :, :40, :50] = images
    torch.testing.assert_close(net(images), net(padded)[:, :, :40, :50])


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.inference_mode()
def test_any_timm_backbone(output_stride):
    net = deeplab_v3_plus(
        5, "tf_efficientnet_lite0", output_stride=output_stride, channels=16
    ).eval()
    assert net.backbone.strides == (4, output_stride)
    assert net.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    rates = [branch.depthwise[0].dilation[0] for branch in net.pyramid.atrous]
    assert rates == [96 // output_stride, 192 // output_stride, 288 // output_stride]
    assert net(torch.rand(1, 3, 61, 70)).shape == (1, 5, 61, 70)


def test_mistakes_are_one_line():
    pyramid = AtrousPyramid(4, 4, rates=(1,), separable=True, dropout=0.0)
    for call, message in (
        (lambda: deeplab_v3_plus(2, "resnet18", output_stride=4), "expected 8, 16 or 32"),
        (lambda: deeplab_v3_plus(2, "no_such_net"), "timm has no network no_such_net"),
        (lambda: deeplab_v3_plus(2, "vgg11"), "cannot build vgg11 .* at output stride 16"),
        (
            lambda: DeepLabV3Plus(TimmBackbone("resnet18", strides=(4,)), 2),
            "gives 1 maps, expected the low-level one and the last",
        ),
        (lambda: pyramid(torch.rand(1, 4, 3, 3)), "a batch of 1 in training"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
