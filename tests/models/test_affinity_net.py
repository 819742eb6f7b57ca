"""AffinityNet: levels, sizes, and the formula recomputed layer by layer."""

import pytest
import timm
import torch
import torch.nn.functional as F

from pixelkin.errors import PixelkinError
from pixelkin.models.affinity_net import PAPER_WIDTHS, AffinityNet, LastLevels
from pixelkin.models.backbone import TimmBackbone

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def small(backbone: TimmBackbone, **options) -> AffinityNet:
    torch.manual_seed(0)
    return AffinityNet(backbone, mean=MEAN, std=STD, **options).eval()


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
@torch.inference_mode()
def test_last_levels_are_those_of_the_network_all_at_stride_8(name):
    levels = LastLevels(name).eval()
    assert levels.strides == (8, 8, 8)
    whole = timm.create_model(name, features_only=True, output_stride=8).eval()
    whole.load_state_dict(levels.net.state_dict())
    images = torch.rand(1, 3, 48, 64)
    for found, expected in zip(levels(images), whole(images)[-3:], strict=True):
        assert torch.equal(found, expected)
    assert levels.channels == tuple(one.shape[1] for one in whole(images)[-3:])


@torch.inference_mode()
def test_features_equal_the_formula():
    net = small(LastLevels("resnet18"))
    assert net.join.out_channels == 64 + 128 + 256
    images = torch.rand(2, 3, 40, 56)
    seen = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    parts = []
    for features, level in zip(net.backbone(seen), net.levels, strict=True):
        product = torch.einsum("oi,nihw->nohw", level.weight[:, :, 0, 0], features)
        parts.append(torch.where(product > 0, product, product.exp() - 1))
    product = torch.einsum("oi,nihw->nohw", net.join.weight[:, :, 0, 0], torch.cat(parts, 1))
    expected = torch.where(product > 0, product, product.exp() - 1)
    found = net(images)
    assert found.shape == (2, 448, 5, 7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_papers_widths():
    assert small(LastLevels("resnet18"), widths=PAPER_WIDTHS)(torch.rand(1, 3, 32, 32)).shape == (
        1,
        896,
        4,
        4,
    )


@pytest.mark.parametrize(
    ("strides", "multiple"), [((8, 16, 32), 32), ((2, 4, 8), 8), ((2, 4, 8, 16), 16)]
)
@torch.inference_mode()
def test_levels_of_other_strides_come_to_stride_8(strides, multiple):
    net = small(TimmBackbone("resnet18", strides=strides), widths=(4, 4, 4))
    assert net.multiple == multiple
    images = torch.rand(1, 3, 64, 96)
    assert net(images).shape == (1, 12, 8, 12)
    maps = net.backbone((images - net.mean) / net.std)[-3:]
    parts = []
    for features, level in zip(maps, net.levels, strict=True):
        size = features.shape[2]
        if size > 8:
            k = size // 8
            features = features.unfold(2, k, k).unfold(3, k, k).mean((-1, -2))
        part = F.elu(level(features))
        if size < 8:
            part = F.interpolate(part, (8, 12), mode="bilinear")
        parts.append(part)
    torch.testing.assert_close(net(images), F.elu(net.join(torch.cat(parts, 1))))


def test_gradients_reach_every_parameter_and_the_normalisation_is_saved():
    net = small(LastLevels("resnet18"), widths=(4, 4, 4)).train()
    net(torch.rand(2, 3, 32, 40)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in net.levels.parameters())
    assert all(p.grad is not None for p in net.parameters())
    assert {"mean", "std"} <= set(net.state_dict())


def test_affinity_net_mistakes_are_one_line():
    net = small(LastLevels("resnet18"), widths=(4, 4, 4))
    for call, message in (
        (lambda: net(torch.rand(1, 3, 250, 131)), "131×250.*divisible by 8; pad it to 136×256"),
        (lambda: small(TimmBackbone("resnet18", strides=(4, 8))), "gives 2 maps"),
        (lambda: small(LastLevels("resnet18"), stride=3), r"\(8, 8, 8\).* multiples of 3"),
        (lambda: LastLevels("resnet18", levels=6), "has 5 levels, 6 were asked for"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
