"""How long and how fast a network learns: one set of options for every training."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn

from pixelkin.engine import Training, parse_recipe_options, recipe_options
from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.structures import Sample
from pixelkin.trainings import TRAININGS
from pixelkin.trainings import affinity as affinity_room
from pixelkin.trainings import irnet as irnet_room
from pixelkin.trainings import tags as tags_room
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.backbones import names_in
from pixelkin.trainings.instance_model import ModelPlan
from pixelkin.trainings.instances import instance_training
from pixelkin.trainings.optimisation import (
    FROZEN_STAGES,
    Optimisation,
    adamw,
    parameter_groups,
    poly_schedule,
)
from pixelkin.trainings.semantic import semantic_training
from pixelkin.trainings.semantic_networks import NetworkOptions

RATES = Optimisation(learning_rate=0.4, backbone_rate=0.25, weight_decay=0.5)


class BackboneAndHead(nn.Module):
    def __init__(self, name: str = "tf_efficientnet_lite0") -> None:
        super().__init__()
        self.backbone = TimmBackbone(name, strides=(2, 4))
        self.head = nn.Conv2d(self.backbone.channels[-1], 2, 1)

    def names(self) -> frozenset[str]:
        return names_in(self, self.backbone, self.backbone.state_dict())


@pytest.mark.parametrize(("frozen", "learning"), [(-1, "stem"), (0, "blocks.0"), (1, "blocks.1")])
def test_stages_below_are_frozen_and_the_backbone_is_slower(frozen, learning):
    model = BackboneAndHead()
    slow, fast = parameter_groups(model, model.names(), RATES, frozen_stages=frozen)
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


def test_of_other_backbones_only_batch_normalisation_is_frozen():
    model = BackboneAndHead("resnet18")
    slow, _ = parameter_groups(model, model.names(), RATES)
    assert any(p is model.backbone.net.conv1.weight for p in slow["params"])
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert all(".bn" in name or ".downsample.1." in name for name in frozen)


def test_what_a_network_freezes_itself():
    """Of the trained part it stands among the slow ones, without gradients; else nowhere."""
    model = BackboneAndHead()
    model.backbone.requires_grad_(False)
    model.head.bias.requires_grad_(False)
    slow, fast = parameter_groups(model, model.names(), RATES, frozen_stages=0)
    kept, _ = parameter_groups(BackboneAndHead(), model.names(), RATES, frozen_stages=0)
    assert len(slow["params"]) == len(kept["params"]) > 0
    assert not any(p.requires_grad for p in slow["params"])
    assert [id(p) for p in fast["params"]] == [id(model.head.weight)]


@pytest.mark.parametrize(("weights", "stages"), [("none", -1), ("shipped", FROZEN_STAGES)])
def test_random_edges_learn(weights, stages):
    model, other = BackboneAndHead(), BackboneAndHead()
    optimizer, schedule = adamw(model, replace(RATES, weights=weights, steps=50))
    groups = parameter_groups(other, other.names(), RATES, frozen_stages=stages)
    counts = [[p.shape for p in group["params"]] for group in groups]
    assert [[p.shape for p in group["params"]] for group in optimizer.param_groups] == counts
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.4]
    assert schedule.get_last_lr()[1] == pytest.approx(0.4 / 100)


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


def test_repeats_make_one_pass_the_whole_training():
    for steps, batch_size, items in ((10, 4, 7), (1, 1, 500), (3, 2, 6)):
        repeats = Optimisation(steps=steps, batch_size=batch_size).repeats(items)
        assert repeats * items >= steps * batch_size
        assert (repeats - 1) * items <= steps * batch_size
    assert Optimisation(steps=3).repeats(0) == 25


def still() -> Sample:
    labels = np.zeros((64, 64), np.int64)
    labels[20:40, 20:40] = 1
    return Sample(np.full((64, 64, 3), 99, np.uint8), labels, name="still")


def unet(optimisation: Optimisation) -> Training:
    return semantic_training(
        [still()], "unet", class_names=("ground", "square"), optimisation=optimisation,
        options=NetworkOptions(channels=2), windows=Windows(crop_px=32),
    )  # fmt: skip


def boundary(optimisation: Optimisation) -> Training:
    return instance_training(
        [still()], ModelPlan("boundary", ("square",)), optimisation=optimisation,
        windows=Windows(crop_px=32),
    )  # fmt: skip


def tags(optimisation: Optimisation) -> Training:
    return tags_room.tag_training(
        [still().image], np.ones((1, 1), bool), class_names=("square",), window_hw=(32, 32),
        optimisation=optimisation,
    )  # fmt: skip


def affinity(optimisation: Optimisation) -> Training:
    return affinity_room.affinity_training(
        [still()], window_hw=(32, 32), radius=2, optimisation=optimisation
    )


def irnet(optimisation: Optimisation) -> Training:
    return irnet_room.irnet_training(
        [still()], window_hw=(32, 32), radius=2, optimisation=optimisation
    )


EVERY_KIND = {unet: 1e-3, boundary: 2e-3, tags: 2e-3, affinity: 1e-3, irnet: 2e-3}


@pytest.mark.parametrize("make", EVERY_KIND)
def test_every_training_takes_every_option(make):
    asked = Optimisation(
        steps=7, batch_size=3, learning_rate=0.02, backbone_rate=0.5, weight_decay=0.3,
        weights="none", ema_decay=0.75, validate_every=4, seed=5, workers=2,
    )  # fmt: skip
    assert all(getattr(asked, one.name) != one.default for one in fields(Optimisation))
    training = make(asked)
    assert (training.steps, training.batch_size, training.workers) == (7, 3, 2)
    assert training.ema_decay == 0.75
    if make in (unet, boundary):  # something may be held out
        assert training.validate_every == 4
        assert make(replace(asked, validate_every=0)).validate_every == 7
    groups = training.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.3}
    # A network without a backbone has nothing that is trained already.
    rates = {0.02} if make is unet else {0.01, 0.02}
    if make is irnet:  # its displacements learn faster
        rates.add(0.02 * irnet_room.DISPLACEMENT_RATE)
    assert {group["initial_lr"] for group in groups} == rates
    assert len(training.data) >= 7 * 3
    for one in fields(Optimisation):
        assert training.config[one.name] == getattr(asked, one.name)

    def weights(optimisation: Optimisation) -> list[torch.Tensor]:
        return list(make(optimisation).model.parameters())

    first = weights(asked)
    assert all(torch.equal(a, b) for a, b in zip(first, weights(asked), strict=True))
    other = weights(replace(asked, seed=6))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(("make", "rate"), EVERY_KIND.items())
def test_rate_0_is_the_own_of_the_network(make, rate):
    training = make(Optimisation(steps=2, weights="none"))
    fastest = rate * irnet_room.DISPLACEMENT_RATE if make is irnet else rate
    assert max(group["initial_lr"] for group in training.optimizer.param_groups) == fastest
    assert training.config["learning_rate"] == rate


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_of_the_command_line_knows_them(name):
    known = recipe_options(TRAININGS[name])
    assert [n for n, one in known.items() if one.group == "optimisation"] == [
        one.name for one in fields(Optimisation)
    ]
    given = {"data": "x", "ema-decay": "0.9", "validate-every": "20", "weight-decay": "0"}
    parsed = parse_recipe_options(TRAININGS[name], given)["optimisation"]
    assert parsed == Optimisation(ema_decay=0.9, validate_every=20, weight_decay=0.0)


class Unread:
    """Stills that nobody may look at."""

    names, class_names = ("still",), ("square",)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        pytest.fail("read")


@pytest.mark.parametrize("name", ["seeds", "discriminative", "boundary", "mask-rcnn"])
def test_what_timm_fetches_is_refused_before_stills_are_read(name, monkeypatch):
    """It is for networks of class maps; the message lists what there is for objects."""
    monkeypatch.setattr("pixelkin.trainings.user_data.open_source", lambda *a, **k: Unread())
    options = {"data": "x", "weights": "timm", "validation": "0"}
    with pytest.raises(PixelkinError, match="'timm', expected one of auto, imagenet, shipped, n"):
        TRAININGS[name](**parse_recipe_options(TRAININGS[name], options))


@pytest.mark.parametrize("name", ["steps", "batch_size"])
def test_nothing_to_do_is_refused(name):
    with pytest.raises(PixelkinError, match=f"{name} is 0, expected 1 or more"):
        Optimisation(**{name: 0})


def test_a_boosted_part_learns_so_many_times_faster():
    model = BackboneAndHead()
    plain, _ = adamw(model, replace(RATES, weights="none", steps=50))
    rates = {id(p): group["lr"] for group in plain.param_groups for p in group["params"]}
    boosted, _ = adamw(model, replace(RATES, weights="none", steps=50), boosts={model.head: 10.0})
    own = set(map(id, model.head.parameters()))
    found = {id(p): group["lr"] for group in boosted.param_groups for p in group["params"]}
    assert found == pytest.approx({k: v * (10 if k in own else 1) for k, v in rates.items()})
    assert sum(len(group["params"]) for group in boosted.param_groups) == len(rates)
