"""What trainings start from, and how fast each part learns."""

import pytest
import torch
from torch import nn

from pixelkin.data.transforms import Compose
from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.trainings import backbones
from pixelkin.trainings.augmentation import augmentation
from pixelkin.trainings.backbones import (
    backbone_of,
    frozen_stages,
    parameter_groups,
    poly_schedule,
    start_from,
)


class Net(nn.Module):
    def __init__(self, name: str = "tf_efficientnet_lite0") -> None:
        super().__init__()
        self.backbone = TimmBackbone(name, strides=(2, 4))
        self.head = nn.Conv2d(self.backbone.channels[-1], 2, 1)


@pytest.mark.parametrize(("frozen", "learning"), [(-1, "stem"), (0, "blocks.0"), (1, "blocks.1")])
def test_stages_below_are_frozen_and_the_backbone_is_slower(frozen, learning):
    model = Net()
    slow, fast = parameter_groups(
        model, model.backbone, learning_rate=0.4, backbone_rate=0.25, weight_decay=0.5,
        frozen_stages=frozen,
    )  # fmt: skip
    assert (slow["lr"], fast["lr"]) == (0.1, 0.4)
    assert slow["weight_decay"] == fast["weight_decay"] == 0.5
    assert {id(p) for p in fast["params"]} == {id(p) for p in model.head.parameters()}
    names = {id(p): name for name, p in model.backbone.net.named_parameters()}
    learned = [names[id(p)] for p in slow["params"]]
    assert not any("bn" in name for name in learned)
    order = ["conv_stem", "blocks.0", "blocks.1"]
    expected = order[order.index("conv_stem" if learning == "stem" else learning) :]
    assert {part for name in learned for part in order if name.startswith(part)} == set(expected)
    assert {p.requires_grad for p in slow["params"]} == {True}
    assert sum(p.requires_grad for p in model.backbone.parameters()) == len(learned)


def test_stages_that_are_called_otherwise_are_not_frozen_in_silence():
    model = Net("resnet18")
    rates = {"learning_rate": 1.0, "backbone_rate": 0.1}
    with pytest.raises(PixelkinError, match="give frozen_stages=-1"):
        parameter_groups(model, model.backbone, **rates, frozen_stages=0)
    slow, _ = parameter_groups(model, model.backbone, **rates, frozen_stages=-1)
    assert any(p is model.backbone.net.conv1.weight for p in slow["params"])


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
    assert (frozen_stages("none"), frozen_stages("shipped")) == (-1, backbones.FROZEN_STAGES)


def test_the_rate_rises_and_falls_as_the_formula_says():
    optimizer = torch.optim.SGD(nn.Conv2d(1, 1, 1).parameters(), lr=2.0)
    schedule = poly_schedule(optimizer, 20, warmup=5)
    for step in range(20):
        expected = 2 * min(1, (step + 1) / 5) * (1 - step / 20) ** 0.9
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    assert poly_schedule(optimizer, 20, warmup=0).get_last_lr() == [2.0]


@pytest.mark.parametrize(("rotate", "degrees"), [(True, 180), (False, 8)])
def test_windows_have_the_size_and_lean_that_is_asked_for(rotate, degrees):
    transform = augmentation(48, (0.5, 2.0), rotate, near_instance=0)
    assert isinstance(transform, Compose)
    window = transform.steps[0]
    assert (window.size_hw, window.scale, window.near_instance) == ((48, 48), (0.5, 2.0), 0)
    assert window.rotate_degrees == degrees
    assert augmentation(48, (1, 1), rotate).steps[0].near_instance > 0.5
