"""What trainings start from, and what they see."""

import pytest
import torch
from torch import nn

from pixelkin.data.transforms import Compose
from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.trainings import backbones
from pixelkin.trainings.augmentation import augmentation
from pixelkin.trainings.backbones import backbone_of, load_shipped, names_in, start_from


class Net(nn.Module):
    def __init__(self, name: str = "tf_efficientnet_lite0") -> None:
        super().__init__()
        self.backbone = TimmBackbone(name, strides=(2, 4))
        self.head = nn.Conv2d(self.backbone.channels[-1], 2, 1)


def test_shipped_weights_fill_what_they_reach():
    model = Net()
    before = model.backbone.net.conv_stem.weight.clone()
    start_from(model.backbone, "none")
    assert torch.equal(model.backbone.net.conv_stem.weight, before)
    start_from(model.backbone, "shipped")
    assert not torch.equal(model.backbone.net.conv_stem.weight, before)
    with pytest.raises(PixelkinError, match="end at stride 16; choose the weights imagenet or"):
        start_from(TimmBackbone("tf_efficientnet_lite0", strides=(32,)), "shipped")
    with pytest.raises(PixelkinError, match="of EfficientNet-Lite0, the network's backbone is an"):
        start_from(TimmBackbone("resnet18", strides=(32,)), "shipped")
    with pytest.raises(PixelkinError, match="expected one of auto, imagenet, shipped, none: "):
        start_from(model.backbone, "timm")


def test_shipped_weights_say_how_far_they_reach():
    """All tensors that are named have changed, and no others."""
    model = nn.Sequential(TimmBackbone("tf_efficientnet_lite0", strides=(32,)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    filled = names_in(model, model[0], load_shipped(model[0]))
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    # Counters of batches, and what batch normalisation starts from, may be as they were.
    assert changed <= filled <= before.keys()
    assert {name for name in filled if "conv" in name} == {n for n in changed if "conv" in n}
    assert "0.net.blocks.4.0.conv_pw.weight" in filled
    assert "0.net.blocks.6.0.conv_pw.weight" not in filled
    assert names_in(model[0], model[0], ["net.x"]) == {"net.x"}


def test_auto_takes_the_shipped_weights_where_they_reach(monkeypatch):
    taken = []
    monkeypatch.setattr(backbones, "load_efficientnet_lite0", taken.append)
    model, shipped = Net(), Net()
    start_from(shipped.backbone, "shipped")
    start_from(model.backbone, "auto")
    stem = model.backbone.net.conv_stem.weight
    assert torch.equal(stem, shipped.backbone.net.conv_stem.weight)
    assert not taken
    deep = TimmBackbone("tf_efficientnet_lite0", strides=(32,))
    start_from(deep, "auto")
    assert taken == [deep]


def test_a_network_without_a_backbone_is_told():
    with pytest.raises(PixelkinError, match="Conv2d has no TimmBackbone"):
        backbone_of(nn.Conv2d(1, 1, 1))
    model = Net()
    assert backbone_of(model) is model.backbone


@pytest.mark.parametrize(("rotate", "degrees"), [(True, 180), (False, 8)])
def test_windows_have_the_size_and_lean_that_is_asked_for(rotate, degrees):
    transform = augmentation(48, (0.5, 2.0), rotate, near_instance=0)
    assert isinstance(transform, Compose)
    window = transform.steps[0]
    assert (window.size_hw, window.scale, window.near_instance) == ((48, 48), (0.5, 2.0), 0)
    assert window.rotate_degrees == degrees
    assert augmentation(48, (1, 1), rotate).steps[0].near_instance > 0.5
