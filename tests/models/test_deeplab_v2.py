"""DeepLab v2: numbers by hand-written arithmetic, ASPP by loops, and the three scales."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.deeplab_v2 import DeepLabV2, deeplab_v2, max_fusion, pad_to_grid, resize_grid
from pixelkin.models.unet import UNet


def by_hand(side: int, classes: int) -> tuple[int, int]:
    """Parameters and MACs of ResNet-101 at output stride 8 with ASPP, layer by layer."""
    parameters = macs = 0

    def conv(c_in, c_out, kernel, cells, *, norm=True):
        nonlocal parameters, macs
        weights = kernel * kernel * c_in * c_out
        # Batch normalisation has a scale and a shift per channel, the scores a bias.
        parameters += weights + (2 * c_out if norm else c_out)
        macs += weights * cells * cells

    side = (side + 1) // 2
    conv(3, 64, 7, side)
    side = (side + 1) // 2  # max pooling
    channels = 64
    for blocks, width, stride in ((3, 64, 1), (4, 128, 2), (23, 256, 1), (3, 512, 1)):
        for block in range(blocks):
            before = side
            if block == 0 and stride == 2:
                side = (side + 1) // 2
            conv(channels, width, 1, before)
            conv(width, width, 3, side)
            conv(width, 4 * width, 1, side)
            if block == 0:
                conv(channels, 4 * width, 1, side)
            channels = 4 * width
    for _ in range(4):
        conv(channels, classes, 3, side, norm=False)
    return parameters, macs


def test_arithmetic_knows_resnet_101_as_published():
    # 44,549,160 parameters with the classifier of 2048 × 1000 weights and 1000 biases.
    parameters, _ = by_hand(224, 21)
    assert parameters - 4 * (9 * 2048 * 21 + 21) == 44_549_160 - 2_049_000


@pytest.mark.parametrize(("side", "classes"), [(321, 21), (513, 60)])
def test_numbers_equal_the_arithmetic(side, classes):
    with torch.device("meta"):
        net = deeplab_v2(classes).eval()
        with FlopCounterMode(display=False) as counter:
            scores = net(torch.empty(1, 3, side, side))
    parameters, macs = by_hand(side, classes)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert counter.get_total_flops() == 2 * macs
    assert scores.shape == (1, classes, side, side)
    if classes == 21:
        assert (parameters, macs) == (44_048_532, 75_295_716_544)


def test_atrous_convolutions_stand_for_the_strides_of_the_last_two_stages():
    with torch.device("meta"):
        net = deeplab_v2(21)
    for stage, first, rest in (("layer3", 1, 2), ("layer4", 2, 4)):
        dilations = [block.conv2.dilation[0] for block in net.backbone.net[stage]]
        # The first block of a stage sees the grid of the stage before.
        assert dilations == [first] + [rest] * (len(dilations) - 1)
    assert [branch.dilation[0] for branch in net.branches] == [6, 12, 18, 24]


def thin(**options) -> DeepLabV2:
    torch.manual_seed(0)
    return DeepLabV2(TimmBackbone("resnet18", strides=(8,), output_stride=8), 3, **options).eval()


@torch.inference_mode()
def test_branches_are_summed_against_loops():
    net = thin(rates=(1, 2, 6, 9))
    images = torch.rand(1, 3, 41, 49)
    features = net.backbone((images - net.mean) / net.std)[0][0].double()
    expected = torch.zeros(3, 6, 7, dtype=torch.float64)
    for branch, rate in zip(net.branches, (1, 2, 6, 9), strict=True):
        expected += branch.bias.double()[:, None, None]
        for y in range(6):
            for x in range(7):
                for i in range(3):
                    for j in range(3):
                        v, u = y + (i - 1) * rate, x + (j - 1) * rate
                        if 0 <= v < 6 and 0 <= u < 7:
                            expected[:, y, x] += (
                                branch.weight[:, :, i, j].double() @ features[:, v, u]
                            )
    found = net(images)
    assert found.shape == (1, 3, 41, 49)
    # At these sizes every eighth pixel is a cell, unmixed.
    torch.testing.assert_close(found[0, :, ::8, ::8].double(), expected, rtol=1e-4, atol=1e-5)


def test_scores_start_small():
    for branch in thin().branches:
        assert isinstance(branch, nn.Conv2d)
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not branch.bias.any()


@pytest.mark.parametrize("stride", [8, 16])
def test_the_grid_of_a_ramp_gives_the_ramp_back(stride):
    y, x = torch.meshgrid(torch.arange(65.0), torch.arange(81.0), indexing="ij")
    ramp = torch.stack([y, x])[None]
    cells = ramp[:, :, ::stride, ::stride]
    torch.testing.assert_close(resize_grid(cells, (65, 81)), ramp)
    for side, expected in ((65, 65), (66, 65 + stride), (64, 65), (1, 1)):
        padded = pad_to_grid(torch.ones(1, 1, side, 1), stride)
        assert padded.shape == (1, 1, expected, 1)
        assert padded.sum() == side


@torch.inference_mode()
def test_max_fusion_against_loops():
    net = thin(rates=(1, 2))
    images = torch.rand(2, 3, 48, 40)
    scores = []
    for size in ((24, 20), (36, 30), (48, 40)):
        smaller = nn.functional.interpolate(images, size, mode="bilinear", align_corners=True)
        maps = net(smaller)
        scores.append(
            nn.functional.interpolate(maps, (48, 40), mode="bilinear", align_corners=True)
        )
    found = max_fusion(net, images)
    torch.testing.assert_close(found, torch.stack(scores).amax(0))
    assert all((found == one).any() for one in scores)


def test_deeplab_v2_mistakes_are_one_line():
    for call, message in (
        (lambda: deeplab_v2(2, output_stride=7), "output stride 7: expected 8, 16 or 32"),
        (lambda: max_fusion(UNet(2, channels=1), torch.rand(1, 3, 188, 188)), "lacks 92 px"),
        (lambda: max_fusion(thin(), torch.rand(1, 3, 9, 9), scales=()), "no scales"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
