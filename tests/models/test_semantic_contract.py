"""What every network that gives each pixel a class keeps: one test, one table."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from onnxruntime import InferenceSession
from torch import Tensor, nn

from pixelkin.checkpoint import load_into, load_state, save_checkpoint
from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.deeplab_v2 import DeepLabV2
from pixelkin.models.deeplab_v3_plus import DeepLabV3Plus, deeplab_v3_plus
from pixelkin.models.fcn import FCN
from pixelkin.models.inference import for_inference
from pixelkin.models.patch_network import PatchNetwork
from pixelkin.models.segnet import SegNet
from pixelkin.models.timm_segmentation import small_semantic_network, timm_fcn
from pixelkin.models.unet import UNet

CLASSES = 3
THIN_VGG = (2, 3, 4, 5, 6)
SMALL = "mobilenetv3_small_050"
"""A timm network of half a million parameters, with everything that the larger ones have."""


def _deeplab_v3_plus(*, output_stride: int, separable: bool) -> nn.Module:
    backbone = TimmBackbone(SMALL, strides=(4, output_stride), output_stride=output_stride)
    return DeepLabV3Plus(backbone, CLASSES, separable=separable, channels=8, low_channels=4)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "patch_network": lambda: PatchNetwork(CLASSES, width=3, hidden=5),
    "fcn32s": lambda: FCN(CLASSES, stride=32, widths=THIN_VGG, head_channels=8),
    "fcn16s": lambda: FCN(CLASSES, stride=16, widths=THIN_VGG, head_channels=8),
    "fcn8s": lambda: FCN(CLASSES, stride=8, widths=THIN_VGG, head_channels=8),
    "segnet": lambda: SegNet(CLASSES, widths=THIN_VGG),
    "unet": lambda: UNet(CLASSES, channels=2),
    "unet_grey": lambda: UNet(CLASSES, channels=2, grey=True),
    "unet_batch_norm": lambda: UNet(CLASSES, channels=2, batch_norm=True),
    "deeplab_v2": lambda: DeepLabV2(TimmBackbone(SMALL, strides=(8,), output_stride=8), CLASSES),
    "deeplab_v3_plus": lambda: _deeplab_v3_plus(output_stride=16, separable=True),
    "deeplab_v3_plus_stride8": lambda: _deeplab_v3_plus(output_stride=8, separable=True),
    "deeplab_v3_plus_plain": lambda: _deeplab_v3_plus(output_stride=16, separable=False),
    "deeplab_v3_plus_timm": lambda: deeplab_v3_plus(CLASSES, SMALL, channels=8),
    "timm_fcn": lambda: timm_fcn(CLASSES, SMALL),
    "small_semantic_network": lambda: small_semantic_network(CLASSES, widths=(4, 6, 8, 10)),
}
"""Every semantic network of the project, thin."""

every_network = pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)


def built(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return make()


@functools.cache
def settled(make: Callable[[], nn.Module]) -> nn.Module:
    """In evaluation mode, with statistics and weights that are not those of the start.

    Layers that start at zero would hide what lies behind them. Shared by the tests: not to be
    changed.
    """
    net = built(make).eval()
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.05)
            module.running_var.uniform_(0.8, 1.25)
    return net


def images_for(net: nn.Module, count: int = 2) -> Tensor:
    h, w = net.valid_size((48, 64))
    return torch.rand(count, 3, h, w, generator=torch.Generator().manual_seed(1))


@every_network
@torch.inference_mode()
def test_made_for_inference_computes_the_same(make):
    net = settled(make)
    images = images_for(net)
    ready = for_inference(net, images_for(net, 1) * 0)
    expected = net(images)
    torch.testing.assert_close(ready(images), expected, rtol=1e-4, atol=1e-4)
    count = batch_norms(net)
    assert batch_norms(ready) < count or count == 0


def batch_norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


@every_network
@torch.inference_mode()
def test_scores_of_every_pixel_but_the_margin(make):
    net = settled(make)
    images = images_for(net)
    scores = net(images)
    margin = net.margin_px
    assert net.classes == CLASSES
    assert scores.dtype == images.dtype == torch.float32
    assert scores.shape == (
        2, CLASSES, images.shape[2] - 2 * margin, images.shape[3] - 2 * margin,
    )  # fmt: skip
    assert scores.isfinite().all()
    # Not the same everywhere: the images are seen.
    assert scores.std(dim=(2, 3)).min() > 0
    assert not torch.equal(scores[0], scores[1])


@every_network
def test_every_parameter_gets_a_finite_gradient(make):
    net = built(make).train()
    images = images_for(net)
    scores = net(images)
    labels = torch.randint(0, CLASSES, (2, *scores.shape[2:]))
    labels[:, ::3] = 255
    F.cross_entropy(scores, labels, ignore_index=255).backward()
    asked = {name: p for name, p in net.named_parameters() if p.requires_grad}
    assert asked
    lacking = [name for name, p in asked.items() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []
    assert sum(bool(p.grad.any()) for p in asked.values()) > len(asked) / 4


@every_network
@pytest.mark.parametrize("more", [(1, 3), (7, 0), (16, 15)])
@torch.inference_mode()
def test_any_size_or_the_error_names_one_that_fits(make, more):
    net = settled(make)
    h, w = (side + extra for side, extra in zip(images_for(net).shape[2:], more, strict=True))
    try:
        scores = net(torch.rand(1, 3, h, w))
    except PixelkinError as error:
        message = str(error)
        assert "\n" not in message
        assert f"{w}×{h}" in message
        named = [(int(b), int(a)) for a, b in re.findall(r"(\d+)×(\d+)", message)]
        h, w = net.valid_size((h, w))
        assert (h, w) in named[1:]
        for size_hw in named[1:]:
            margin = 2 * net.margin_px
            found = net(torch.rand(1, 3, *size_hw)).shape[2:]
            assert found == (size_hw[0] - margin, size_hw[1] - margin)
    else:
        assert net.valid_size((h, w)) == (h, w)
        assert scores.shape == (1, CLASSES, h - 2 * net.margin_px, w - 2 * net.margin_px)
        assert scores.isfinite().all()


@every_network
def test_valid_sizes_are_the_smallest_that_fit(make):
    net = settled(make)
    for size_hw in ((1, 1), (97, 200), (188, 700)):
        valid = net.valid_size(size_hw)
        assert all(v >= side for v, side in zip(valid, size_hw, strict=True))
        assert net.valid_size(valid) == valid
        for axis in (0, 1):
            if valid[axis] > size_hw[axis]:
                less = [*valid]
                less[axis] -= 1
                assert net.valid_size((less[0], less[1])) == valid


@every_network
@torch.inference_mode()
def test_saved_and_loaded_it_gives_the_same(make, tmp_path: Path):
    net = settled(make)
    images = images_for(net, 1)
    save_checkpoint(tmp_path / "model", net.state_dict(), {}, "")
    other = built(make, seed=9).eval()
    assert not torch.equal(other(images), net(images))
    load_into(other, load_state(tmp_path / "model"), source="model")
    assert torch.equal(other(images), net(images))


@every_network
@torch.inference_mode()
def test_a_batch_gives_what_its_images_give_alone(make):
    net = settled(make)
    images = images_for(net, 3)
    alone = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(net(images), alone, rtol=1e-4, atol=1e-5)


@every_network
@torch.inference_mode()
def test_normalisation_is_inside_and_travels_with_the_weights(make):
    net = copy.deepcopy(settled(make))
    assert {"mean", "std"} <= set(net.state_dict())
    images = images_for(net, 1)
    expected = net(images)
    mean, std = net.mean.clone(), net.std.clone()
    net.mean.zero_()
    net.std.fill_(1)
    torch.testing.assert_close(net((images - mean) / std), expected, rtol=1e-3, atol=1e-4)


@every_network
@pytest.mark.filterwarnings("ignore")
@torch.inference_mode()
def test_traced_to_onnx_it_gives_the_same_for_other_images(make, tmp_path: Path):
    pytest.importorskip("onnx")
    net = settled(make)
    images = images_for(net)
    path = str(tmp_path / "graph.onnx")
    torch.onnx.export(net, (images,), path, dynamo=False, opset_version=18, input_names=["images"])
    others = images.flip(0, 3) * 0.7
    (found,) = InferenceSession(path).run(None, {"images": others.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), net(others), rtol=1e-3, atol=1e-4)


@every_network
def test_a_seed_determines_weights_and_training(make):
    first, second = (built(make, seed=4).train() for _ in range(2))
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    images = images_for(first)
    gradients = []
    for net in (first, second):
        torch.manual_seed(5)
        net(images).square().mean().backward()
        gradients.append([p.grad for p in net.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
