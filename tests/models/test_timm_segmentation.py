"""Networks on timm backbones: cost, parts by loops, sizes; and that they learn a real frame."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.timm_segmentation import (
    PooledContext,
    TimmFCN,
    TopDownNet,
    named_backbone,
    small_semantic_network,
    timm_fcn,
    timm_normalisation,
)


def cost(make, size_hw):
    with torch.device("meta"):
        net = make().eval()
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, *size_hw))
    return sum(p.numel() for p in net.parameters()), counter.get_total_flops() / 2e9


def test_the_small_network_costs_less_than_two_giga_macs_at_camvids_size():
    parameters, giga_macs = cost(lambda: small_semantic_network(11), (360, 480))
    assert giga_macs < 2
    assert parameters < 4e6
    _, of_the_backbone = cost(
        lambda: TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16, 32)), (384, 480)
    )
    assert giga_macs - of_the_backbone < 0.6


@pytest.mark.parametrize("shape", [(2, 3, 7, 11), (1, 3, 2, 1)])
@torch.inference_mode()
def test_pooled_context_against_loops(shape):
    torch.manual_seed(0)
    context = PooledContext(3, 4, windows=(3, 5)).eval()
    maps = torch.rand(*shape)
    n, c, h, w = shape
    means = torch.zeros(n, 3 * c, h, w)
    for y in range(h):
        for x in range(w):
            means[:, :c, y, x] = maps[:, :, y, x]
            for k, reach in enumerate((1, 2), 1):
                rows, columns = (slice(max(at - reach, 0), at + reach + 1) for at in (y, x))
                means[:, k * c : (k + 1) * c, y, x] = maps[:, :, rows, columns].mean((2, 3))
    torch.testing.assert_close(context(maps), context.mix(means))


@torch.inference_mode()
def test_fcn_adds_scores_on_the_way_up():
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", strides=(8, 16, 32))
    net = TimmFCN(backbone, 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)).eval()
    images = torch.rand(2, 3, 64, 96)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.1, 0.2, 0.3), (0.5, 0.6, 0.7)))
    parts = [
        torch.einsum("oi,nihw->nohw", s.weight[:, :, 0, 0], m) + s.bias[:, None, None]
        for s, m in zip(net.scores, backbone((images - mean) / std), strict=True)
    ]
    up, last = (torch.nn.Upsample(scale_factor=k, mode="bilinear") for k in (2, 8))
    expected = last(parts[0] + up(parts[1] + up(parts[2])))
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [timm_fcn, small_semantic_network])
@torch.inference_mode()
def test_sizes_that_the_stride_does_not_divide_repeat_the_border(make):
    torch.manual_seed(0)
    net = make(4, "resnet18").eval()
    images = torch.rand(1, 3, 50, 33)
    padded = F.pad(images, (0, 31, 0, 14), mode="replicate")
    torch.testing.assert_close(net(images), net(padded)[:, :, :50, :33])


@torch.inference_mode()
def test_other_backbones_strides_and_widths():
    for name in ("mobilenetv3_small_050", "convnext_atto"):
        mean, std = timm_normalisation(name)
        net = small_semantic_network(2, name, strides=(4, 8, 16), widths=(4, 6, 8)).eval()
        assert isinstance(net, TopDownNet)
        assert net(torch.rand(1, 3, 40, 48)).shape == (1, 2, 40, 48)
        assert net.mean.flatten().tolist() == pytest.approx(mean)
        assert net.std.flatten().tolist() == pytest.approx(std)


def test_normalisation_is_that_of_the_named_weights():
    assert timm_normalisation("tf_efficientnet_lite0") == ((0.5,) * 3, (0.5,) * 3)
    assert timm_normalisation("resnet101.tv_in1k")[0] == (0.485, 0.456, 0.406)
    # A network without published weights.
    assert timm.get_pretrained_cfg("resnet18_no_such") is None
    assert timm_normalisation("resnet18_no_such")[1] == (0.229, 0.224, 0.225)


def test_it_learns_a_real_frame(shared_data):
    frame = sorted((shared_data / "camvid" / "train").glob("*.png"))[0]
    size = (96, 64)
    image = np.asarray(Image.open(frame).resize(size)).copy()
    annotation = frame.parents[1] / "trainannot" / frame.name
    labels = np.asarray(Image.open(annotation).resize(size, Image.Resampling.NEAREST)).copy()
    images = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    target = torch.from_numpy(labels).long()[None]
    torch.manual_seed(0)
    net = small_semantic_network(11, "resnet10t", widths=(8, 8, 16, 16)).train()
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(20):
        loss = F.cross_entropy(net(images), target, ignore_index=11)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    known = target < 11
    right = (net(images).argmax(1) == target)[known].float().mean().item()
    share_of_the_largest = torch.bincount(target[known]).max().item() / known.sum().item()
    assert right > max(0.7, share_of_the_largest + 0.2)


def test_timm_segmentation_mistakes_are_one_line():
    for call, message in (
        (lambda: timm_fcn(2, "efficientnet_lite"), "timm has no network efficientnet_lite"),
        (lambda: timm_fcn(2, "resnet18", strides=(4, 64)), "no feature map at stride 64"),
        (lambda: small_semantic_network(2, "resnet18", widths=(8, 8)), "2 widths for a backbone"),
        (
            lambda: small_semantic_network(2, "resnet18", strides=(4, 16), widths=(8, 8)),
            "each stride twice the one before",
        ),
        (
            lambda: named_backbone(
                "vit_small_patch16_224", strides=(4, 16), output_stride=16, pretrained=False
            ),
            "cannot build vit_small_patch16_224",
        ),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
