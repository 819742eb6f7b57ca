"""IRNet's training: its loss, its frozen backbone, and the mean that its model takes away."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixelkin.data.semantic_crops import collate_semantic
from pixelkin.engine import train
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.losses.affinity import affinity_labels
from pixelkin.losses.irnet import IRNET_WEIGHTS, irnet_losses
from pixelkin.models.irnet import IRNet
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.backbones import start_from
from pixelkin.trainings.irnet import irnet_loss, irnet_training, load_irnet, spread_images
from pixelkin.trainings.optimisation import Optimisation

QUICK = Optimisation(
    steps=4,
    batch_size=2,
    learning_rate=5e-3,
    backbone_rate=0.0,
    weights="shipped",
    ema_decay=0.0,
    workers=0,
)
SIZE_HW = (64, 96)


def disc_sample(number: int) -> Sample:
    """A blue disc on noise; a ring around its edge is neutral."""
    rng = np.random.default_rng(number)
    image = rng.integers(90, 130, (*SIZE_HW, 3), dtype=np.uint8)
    centre = tuple(int(v) for v in rng.integers((24, 24), (72, 40)))
    cv2.circle(image, centre, 18, (30, 40, 220), -1)
    labels = np.zeros(SIZE_HW, np.uint8)
    cv2.circle(labels, centre, 21, IGNORE, -1)
    cv2.circle(labels, centre, 15, 1, -1)
    return Sample(image, labels.astype(np.int64), f"disc{number}")


SAMPLES = [disc_sample(number) for number in range(3)]


def trained(out: Path, *, save_every: int = 100, **changes: object) -> IRNet:
    torch.set_num_threads(1)
    training = irnet_training(
        SAMPLES, window_hw=(64, 64), radius=5, optimisation=replace(QUICK, **changes)
    )
    train(training, out=out, accelerator="cpu", save_every=save_every)
    assert isinstance(training.model, IRNet)
    return training.model


def test_the_loss_is_of_the_middle_pixels_of_cells():
    training = irnet_training(SAMPLES, window_hw=(64, 64), optimisation=QUICK)
    net = training.model.eval()
    batch = collate_semantic(SAMPLES[:2])
    offsets = half_plane_offsets(6)
    with torch.no_grad():
        found = irnet_loss(net, batch, offsets=offsets)
        fields = net(batch.images)
        kinds = affinity_labels(batch.labels[:, 2::4, 2::4], offsets)
        expected = irnet_losses(fields.logits, fields.displacement, kinds, offsets)
    assert found.keys() == IRNET_WEIGHTS.keys()
    for name, loss in expected.items():
        assert float(loss) > 0
        torch.testing.assert_close(found[name], loss)


def test_the_saved_model_is_the_trained_one_less_its_mean(tmp_path):
    model = trained(tmp_path / "run")
    loaded = load_irnet(tmp_path / "run" / "model")
    assert not loaded.training
    model.train()
    raw = []
    with torch.no_grad():
        for sample in SAMPLES:
            image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255
            raw.append(model(image).displacement)
            assert torch.equal(loaded(image).logits, model(image).logits)
        mean = torch.stack(raw).double().mean((0, 1, 3, 4))
        assert mean.abs().min() > 1e-4
        torch.testing.assert_close(
            loaded(image).displacement, raw[-1] - mean.float().view(1, 2, 1, 1), atol=1e-5, rtol=0
        )


def test_a_backbone_at_rate_0_stays_as_it_came_and_the_heads_learn(tmp_path):
    fresh = irnet_training(SAMPLES, window_hw=(64, 64), optimisation=QUICK).model
    start_from(fresh.backbone, "shipped")
    model = trained(tmp_path / "frozen")
    before, after = fresh.backbone.state_dict(), model.backbone.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    for part in ("boundary", "displacement"):
        first, last = getattr(fresh, part).state_dict(), getattr(model, part).state_dict()
        assert not any(torch.equal(last[name], first[name]) for name in first)
    free = trained(tmp_path / "free", backbone_rate=0.5, steps=1).backbone.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(free[name], value)}
    assert changed
    # Batch statistics, and the first stages, are ImageNet's still.
    assert not any("running" in name or name.startswith("blocks.0.") for name in changed)


def test_saving_changes_nothing_of_the_training(tmp_path):
    seldom = trained(tmp_path / "seldom").state_dict()
    often = trained(tmp_path / "often", save_every=1).state_dict()
    assert seldom.keys() == often.keys()
    assert all(torch.equal(often[name], value) for name, value in seldom.items())


def test_some_steps_lower_the_loss():
    """Windows as they come; what counts is the same images before and after."""
    torch.set_num_threads(1)
    training = irnet_training(
        SAMPLES, window_hw=(64, 96), radius=6, optimisation=replace(QUICK, steps=30)
    )
    batch = collate_semantic(SAMPLES)

    def total() -> torch.Tensor:
        found = training.loss(training.model.train(), batch)
        return torch.stack([weight * found[k] for k, weight in IRNET_WEIGHTS.items()]).sum()

    before = float(total().detach())
    optimizer = torch.optim.Adam(
        [p for p in training.model.parameters() if p.requires_grad], lr=5e-3
    )
    for _ in range(20):
        optimizer.zero_grad()
        total().backward()
        optimizer.step()
    assert float(total().detach()) < before / 2


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (9, [0, 1, 2])]
)
def test_images_for_the_mean_are_spread_over_the_samples(count, expected):
    found = list(spread_images(SAMPLES, device="cpu", count=count))
    assert len(found) == len(expected)
    for image, place in zip(found, expected, strict=True):
        assert image.shape == (1, 3, *SIZE_HW)
        assert np.array_equal((image[0] * 255).round().permute(1, 2, 0), SAMPLES[place].image)
