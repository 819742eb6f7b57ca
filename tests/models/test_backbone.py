"""Backbones: cutting changes nothing."""

import pytest
import timm
import torch
from torch import nn

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone, freeze_batch_norm, trainable


@pytest.mark.parametrize(
    ("name", "strides", "output_stride"),
    [
        ("tf_efficientnet_lite0", (4, 8, 16), None),
        ("tf_efficientnet_lite0", (4, 8), 8),
        ("resnet18", (2, 4, 8, 16), None),
        ("resnet18", (4, 8), 8),
    ],
)
@torch.inference_mode()
def test_cut_backbone_gives_the_features_of_the_uncut_one(name, strides, output_stride):
    torch.manual_seed(0)
    options = {} if output_stride is None else {"output_stride": output_stride}
    whole = timm.create_model(name, features_only=True, **options).eval()
    cut = TimmBackbone(name, strides=strides, output_stride=output_stride).eval()
    state = whole.state_dict()
    cut.net.load_state_dict({key: state[key] for key in cut.net.state_dict()})
    images = torch.rand(2, 3, 64, 96)
    # Of the maps at one stride the deepest is meant: of the whole network the last.
    by_stride = {64 // map_.shape[2]: map_ for map_ in whole(images)}
    found = cut(images)
    assert cut.strides == strides
    assert cut.channels == tuple(map_.shape[1] for map_ in found)
    for stride, map_ in zip(strides, found, strict=True):
        assert torch.equal(map_, by_stride[stride])
    if name.startswith("tf_") and output_stride is None:
        assert len(cut.net.state_dict()) < len(state)


def test_missing_stride_is_one_line_and_says_which_there_are():
    with pytest.raises(
        PixelkinError, match=r"no feature map at stride 64: it has \[2, 4"
    ) as caught:
        TimmBackbone("resnet18", strides=(4, 64))
    assert "\n" not in str(caught.value)


def test_frozen_batch_norm_keeps_its_statistics():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    net.train()
    freeze_batch_norm(net)
    before = {key: value.clone() for key, value in net[1].state_dict().items()}
    net(torch.rand(2, 3, 5, 5)).sum().backward()
    assert all(torch.equal(before[key], value) for key, value in net[1].state_dict().items())
    assert {id(p) for p in trainable(net)} == {id(p) for p in net[0].parameters()}
