"""Instance trainings: every method runs, losses are those of loops, options follow the objects."""

import csv
import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from disc_stills import CLASS_NAMES, DiscStills, disc_still

from pixelkin.engine import Ramp, train
from pixelkin.engine.loop import weights_at
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import load_segmenter
from pixelkin.losses.discriminative import discriminative_loss
from pixelkin.masks import paint_instances
from pixelkin.models.instance_embedding import InstanceNet
from pixelkin.structures import IGNORE, InstanceBatch, InstanceFields, Sample, nth_instance_id
from pixelkin.trainings import backbones, instance_losses
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.instance_losses import (
    cell_labels,
    discriminative_losses,
    ground_loss,
    seeds_loss,
    semantic_labels,
)
from pixelkin.trainings.instance_model import ModelPlan, NetworkShape
from pixelkin.trainings.instances import instance_training
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.user_data import ObjectSizes, object_sizes, shrink_sample, train_on

METHODS = {
    "seeds": {"pairs", "scores", "ground"},
    "discriminative": {"variance", "distance", "regularisation", "semantic"},
    "boundary": {"cross_entropy", "dice"},
    "mask_rcnn": {"proposal", "proposal_box", "class", "box", "mask"},
}


def refuse(constant: str):
    raise AssertionError(f"{constant} is no JSON")


# Whole trainings


@pytest.mark.parametrize("method", METHODS)
def test_two_steps_of_every_method_give_a_model_that_loads(method, tmp_path):
    pytest.importorskip("lightning")
    torch.set_num_threads(1)
    samples = [paint_instances(disc_still(n, side=64, radius=7)) for n in range(4)]
    training = instance_training(
        samples,
        ModelPlan(
            method,
            CLASS_NAMES,
            network=NetworkShape(dimensions=4),
            boxes={"channels": 8, "proposals": 50},
        ),
        optimisation=Optimisation(steps=2, batch_size=2, weights="none", workers=0),
        windows=Windows(crop_px=64),
        validate=lambda model, config: {"classes": len(config["class_names"])},
        config={"note": "tiny"},
    )
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    result = train(training, out=tmp_path / "run", accelerator="cpu", log_every=1)
    assert (result.step, result.stopped) == (2, "steps")
    with open(tmp_path / "run" / "metrics.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["loss"]]
    assert [row["step"] for row in rows] == ["1", "2"]
    for row in rows:
        assert all(math.isfinite(float(row[name])) for name in ("loss", *METHODS[method]))
    learns = {n for n, p in training.model.named_parameters() if p.requires_grad}
    after = dict(training.model.named_parameters())
    moved = {name for name, old in before.items() if not torch.equal(old, after[name])}
    assert moved <= learns
    assert len(moved) > len(learns) / 2
    # Nothing is kept of a backbone that knows nothing.
    assert any("conv_stem" in name for name in moved)
    run = json.loads((tmp_path / "run" / "run.json").read_text(), parse_constant=refuse)
    assert run["config"]["architecture"] == f"instance_{method}"
    assert (run["config"]["samples"], run["config"]["note"]) == (4, "tiny")
    assert set(run["config"]["loss_weights"]) == METHODS[method]
    segmenter = load_segmenter(tmp_path / "run" / "model", device="cpu")
    assert segmenter.class_names == CLASS_NAMES
    found = segmenter.segment(samples[0].image)
    assert found.size_hw == (64, 64)


def test_seeds_without_a_ground_or_without_cuts():
    optimisation = Optimisation(steps=8, weights="none")
    sample = paint_instances(disc_still(0, side=64))
    plan = ModelPlan("seeds", ("a",), network=NetworkShape(ground_units=0.0))
    training = instance_training([sample], plan, optimisation=optimisation)
    assert set(training.loss_weights) == {"pairs", "scores"}
    with pytest.raises(PixelkinError, match="no similarity cuts; give one or more"):
        ModelPlan("seeds", ("a",), network=NetworkShape(cuts=())).config()


def test_the_lowest_stages_of_a_trained_backbone_are_kept(monkeypatch):
    monkeypatch.setattr(backbones, "load_efficientnet_lite0", lambda backbone: None)
    sample = paint_instances(disc_still(0, side=64))
    training = instance_training(
        [sample], ModelPlan("boundary", ("a",)), optimisation=Optimisation(steps=8)
    )
    kept = {
        n for n, p in training.model.named_parameters() if not p.requires_grad and "bn" not in n
    }
    assert kept
    assert {re.search(r"conv_stem|blocks\.[01]\.", name) is not None for name in kept} == {True}
    held = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert all(p.requires_grad for p in held)
    assert len(held) == sum(p.requires_grad for p in training.model.parameters())


def test_scores_come_in_slowly():
    weights = {"pairs": 2.0, "scores": Ramp(0.2, 4)}
    expected = {0: 0.0, 1: 0.05, 2: 0.1, 3: 0.15, 4: 0.2, 5: 0.2, 900: 0.2}
    for step, value in expected.items():
        assert weights_at(weights, step) == {"pairs": 2.0, "scores": pytest.approx(value)}
    sample = paint_instances(disc_still(0, side=64))
    training = instance_training(
        [sample],
        ModelPlan("seeds", ("a",)),
        optimisation=Optimisation(steps=100, weights="none"),
    )
    assert training.loss_weights == {"pairs": 1.0, "scores": Ramp(0.2, 25), "ground": 1.0}
    written = json.loads(json.dumps(training.config), parse_constant=refuse)
    assert written["loss_weights"]["scores"] == {"final": 0.2, "steps": 25}


# Losses


class Given(InstanceNet):
    """A network that says what it is told."""

    def __init__(self, fields: InstanceFields, *, ground_units: float = 0.0) -> None:
        torch.nn.Module.__init__(self)
        self.fields = fields
        self.ground_units = ground_units

    def forward(self, images, corner_xy=(0, 0)):
        return self.fields


@pytest.fixture
def no_backbone(monkeypatch):
    monkeypatch.setattr(instance_losses, "_train_mode", lambda model: None)


LABELS = torch.tensor([[
    [0, 0, 1, 1, IGNORE],
    [0, 254, 254, 256, 256],
    [300, 300, 0, IGNORE, 0],
]])  # fmt: skip
CATEGORIES = torch.full((1, 299), -1)
for _label, _category in ((1, 0), (254, 1), (256, 1), (300, 0)):
    CATEGORIES[0, _label - 1 - (_label > IGNORE)] = _category


def batch_of(cells: torch.Tensor) -> InstanceBatch:
    """Labels at stride 2 whose cells are `cells`; what no cell looks at is another instance."""
    labels = torch.full((len(cells), 2 * cells.shape[1], 2 * cells.shape[2]), 2)
    labels[:, 1::2, 1::2] = cells
    return InstanceBatch(torch.zeros(len(cells), 3, *labels.shape[1:]), labels, CATEGORIES)


def fields_of(channels: int, *, seed: int) -> InstanceFields:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.rand(1, 3, 3, 5, generator=generator) * 1.5
    return InstanceFields(embeddings, torch.randn(1, channels, 3, 5, generator=generator), 2)


def test_cell_labels_are_those_of_the_middle():
    labels = torch.arange(48).view(1, 6, 8)
    assert cell_labels(labels, 2).tolist() == [
        [[9, 11, 13, 15], [25, 27, 29, 31], [41, 43, 45, 47]]
    ]
    assert cell_labels(labels[:, :4], 4).tolist() == [[[18, 22]]]
    assert torch.equal(cell_labels(labels, 1), labels)


def pairs_by_loops(embeddings, labels, *, pull_background):
    known = [i for i, label in enumerate(labels) if label != IGNORE]
    total = weight_of_all = 0.0
    for p in known:
        for q in known:
            if not pull_background and labels[p] == labels[q] == 0:
                continue
            weight = 1 / (labels.count(labels[p]) * labels.count(labels[q]))
            d = float(((embeddings[p] - embeddings[q]) ** 2).sum())
            s = 2 / (1 + math.exp(d))
            total -= weight * math.log(s if labels[p] == labels[q] else 1 - s)
            weight_of_all += weight
    return total / weight_of_all


def scores_by_loops(embeddings, logits, labels, cuts):
    """Hard targets: the category where the mask of the pixel overlaps its object by half."""
    known = [i for i, label in enumerate(labels) if label != IGNORE]
    total = 0.0
    for t, cut in enumerate(cuts):
        for p in known:
            inside = {
                q
                for q in known
                if 2 / (1 + math.exp(float(((embeddings[p] - embeddings[q]) ** 2).sum()))) >= cut
            }
            own = {q for q in known if labels[q] == labels[p]}
            target = 0
            if labels[p] and len(inside & own) / len(inside | own) >= 0.5:
                target = 1 + int(CATEGORIES[0, labels[p] - 1 - (labels[p] > IGNORE)])
            chances = np.exp(logits[3 * t : 3 * t + 3, p])
            total -= math.log(chances[target] / chances.sum())
    return total / (len(cuts) * len(known))


@pytest.mark.parametrize("pull_background", [True, False])
def test_seeds_loss_equals_loops(no_backbone, pull_background):
    cuts = (0.5, 0.9)
    fields = fields_of(len(cuts) * 3, seed=2)
    fields.embeddings[0, :, 1, 1:3] = fields.embeddings[0, :, 1, 3:4]
    fields.embeddings[0, :, 1, 3:] += 1
    embeddings = fields.embeddings[0].flatten(1).T.double().numpy()
    labels = LABELS.flatten().tolist()
    # So many pixels are asked for that all are drawn.
    losses = seeds_loss(
        Given(fields, ground_units=2.0),
        batch_of(LABELS),
        cuts=cuts,
        per_instance=9,
        background=99,
        shares=None,
        pull_background=pull_background,
    )
    assert set(losses) == {"pairs", "scores", "ground"}
    expected = pairs_by_loops(embeddings, labels, pull_background=pull_background)
    assert float(losses["pairs"]) == pytest.approx(expected, rel=1e-4)
    logits = fields.logits[0].flatten(1).double().numpy()
    expected = scores_by_loops(embeddings, logits, labels, cuts)
    assert float(losses["scores"]) == pytest.approx(expected, rel=1e-4)
    known = [
        math.log(e[2] / 2 if label == 0 else 1 - e[2] / 2)
        for e, label in zip(embeddings, labels, strict=True)
        if label != IGNORE
    ]
    assert float(losses["ground"]) == pytest.approx(-np.mean(known), rel=1e-4)


def test_no_known_pixel_costs_nothing(no_backbone):
    nothing = torch.full_like(LABELS, IGNORE)
    for losses in (
        seeds_loss(Given(fields_of(12, seed=0), ground_units=2.0), batch_of(nothing)),
        discriminative_losses(Given(fields_of(3, seed=0)), batch_of(nothing)),
    ):
        assert {float(value) for value in losses.values()} == {0.0}


def test_the_ground_is_learned_under_half_precision_too():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ground_loss(torch.full((1, 2, 2), 0.3, dtype=torch.bfloat16), torch.zeros(1, 2, 2))
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(-math.log(0.3), rel=1e-2)


def test_discriminative_losses_are_those_of_the_cells(no_backbone):
    fields = fields_of(3, seed=4)
    losses = discriminative_losses(Given(fields), batch_of(LABELS))
    for name, value in discriminative_loss(fields.embeddings, LABELS).items():
        assert float(losses[name]) == pytest.approx(float(value))
    chances = F.softmax(fields.logits[0].double(), 0).flatten(1)
    costs = [
        -math.log(chances[0 if label == 0 else 1 + CATEGORIES[0, label - 1 - (label > IGNORE)], i])
        for i, label in enumerate(LABELS.flatten().tolist())
        if label != IGNORE
    ]
    assert float(losses["semantic"]) == pytest.approx(np.mean(costs), rel=1e-5)


def test_semantic_labels_know_ids_and_classes_beyond_255():
    categories = torch.stack([torch.arange(300), torch.arange(300).flip(0)])
    labels = torch.tensor([[0, 1, 2, 254, IGNORE, 256, 257, nth_instance_id(299)]] * 2)[:, None]
    index = [0, 1, 253, None, 254, 255, 299]
    expected = [[0, *(None if n is None else n + 1 for n in index)]]
    expected.append([0, *(None if n is None else 300 - n for n in index)])
    found = semantic_labels(labels, categories)
    assert found.shape == labels.shape
    for row, wanted in zip(found[:, 0].tolist(), expected, strict=True):
        unknown = row[wanted.index(None)]
        assert unknown < 0, "no class may have the number of what is unknown"
        assert row == [unknown if value is None else value for value in wanted]
    nobody = semantic_labels(torch.tensor([[[0, IGNORE]]]), torch.zeros(1, 0, dtype=torch.long))
    assert nobody.tolist() == [[[0, unknown]]]


# What follows from the objects


def still(labels: np.ndarray) -> Sample:
    return Sample(np.zeros((*labels.shape, 3), np.uint8), labels)


def test_object_sizes_are_counted_without_the_unknown():
    first, second = np.zeros((40, 50), np.int64), np.zeros((40, 50), np.int64)
    first[:4, :4], first[10:20, 10:20], first[30:, :] = 1, 2, IGNORE
    second[:20, :20] = 300
    # Areas 16, 100 and 400.
    assert object_sizes([still(first), still(second)]) == ObjectSizes(10.0, 2)
    with pytest.raises(PixelkinError, match="run pixelkin check"):
        object_sizes([still(np.where(first == IGNORE, IGNORE, 0))])


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_shrunk_sample_has_the_labels_of_the_middles(factor):
    rng = np.random.default_rng(0)
    sample = Sample(
        rng.integers(0, 256, (11, 13, 3), dtype=np.uint8), rng.integers(0, 400, (11, 13)), "a", (1,)
    )
    small = shrink_sample(sample, factor)
    size_hw = (-(-11 // factor), -(-13 // factor))
    assert (small.image.shape[:2], small.name, small.categories) == (size_hw, "a", (1,))
    for y in range(size_hw[0]):
        for x in range(size_hw[1]):
            middle = min(y * factor + factor // 2, 10), min(x * factor + factor // 2, 12)
            assert small.labels[y, x] == sample.labels[middle]


class Squares(DiscStills):
    """One still with `count` squares of `side` pixels."""

    def __init__(self, side: int, count: int) -> None:
        super().__init__(1)
        self.side, self.squares = side, count

    def __getitem__(self, index):
        edge = math.ceil(math.sqrt(self.squares))
        side = edge * (self.side + 2)
        labels = np.zeros((side, side), np.int64)
        for n in range(self.squares):
            y, x = (v * (self.side + 2) for v in divmod(n, edge))
            labels[y : y + self.side, x : x + self.side] = nth_instance_id(n)
        return Sample(np.zeros((side, side, 3), np.uint8), labels, "s", (0,) * self.squares)


FOUR_STEPS = Optimisation(steps=4, weights="none")


def open_plan(method: str) -> ModelPlan:
    """One that leaves to the objects what can be left to them."""
    return ModelPlan(method, shrink=0, network=NetworkShape(px_per_unit=-1))


@pytest.mark.parametrize(
    ("side", "count", "expected"),
    [
        # side / 2.5 = 8 pixels to the unit, a power of two.
        (20, 3, {"shrink": 1, "px_per_unit": 8.0, "seeds": 100}),
        # At least 2, and half again as many seeds as objects, in hundreds.
        (4, 150, {"shrink": 1, "px_per_unit": 2.0, "seeds": 300}),
        # Seen at 100 pixels; 100 / 2.5 = 40 is nearest to 32.
        (300, 1, {"shrink": 3, "px_per_unit": 32.0, "seeds": 100}),
    ],
)
def test_scale_units_and_seeds_follow_from_the_objects(side, count, expected):
    training = train_on(Squares(side, count), None, open_plan("seeds"), optimisation=FOUR_STEPS)
    config = training.config
    assert config["shrink"] == expected["shrink"]
    assert config["network"]["px_per_unit"] == expected["px_per_unit"]
    assert config["grouping"]["seeds"] == expected["seeds"]
    sides = training.data.samples[0].labels.shape[0] * expected["shrink"]
    assert abs(sides - math.ceil(math.sqrt(count)) * (side + 2)) < expected["shrink"]


def test_what_is_given_is_taken():
    steps: list[tuple[int, int]] = []
    training = train_on(
        DiscStills(2),
        None,
        ModelPlan(
            "seeds", shrink=2, network=NetworkShape(px_per_unit=3.0), grouping={"min_cells": 9}
        ),
        optimisation=FOUR_STEPS,
        seeds=7,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert training.config["shrink"] == 2
    assert training.config["network"]["px_per_unit"] == 3.0
    grouping = training.config["grouping"]
    assert (grouping["seeds"], grouping["min_cells"]) == (7, 9)
    assert steps == [(1, 2), (2, 2)]
    assert training.validate is None


def test_validation_runs_through_the_segmenter_on_held_out_stills():
    training = train_on(
        DiscStills(2),
        DiscStills(2, side=64, radius=7),
        open_plan("boundary"),
        optimisation=FOUR_STEPS,
    )
    values = training.validate(training.model)
    assert set(values) == {"AP", "AP50", "AP75"}
    assert all(0 <= value <= 1 for value in values.values())
