"""The training of a tag classifier: it learns, and what it saved is what it was."""

import csv
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pixelkin.engine import train
from pixelkin.errors import PixelkinError
from pixelkin.structures import TagBatch
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.tags import classifier_loss, load_classifier, tag_training

pytest.importorskip("lightning")

CLASSES = ("red", "blue")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def stills(count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Photos half of which is red, or blue, or both, or none."""
    rng = np.random.default_rng(0)
    images, tags = [], np.zeros((count, 2), bool)
    for number in range(count):
        image = rng.integers(80, 120, (64, 64, 3), dtype=np.uint8)
        tags[number] = number & 1, number & 2
        if tags[number, 0]:
            image[:32] = (250, 20, 20)
        if tags[number, 1]:
            image[32:] = (20, 20, 250)
        images.append(image)
    return images, tags


def of(steps: int, **changes):
    images, tags = stills(8)
    options = {"learning_rate": 3e-3, "backbone_rate": 1.0, "weights": "none", "workers": 0}
    options |= {"ema_decay": 0.0}
    optimisation = Optimisation(steps=steps, batch_size=8, **(options | changes))
    return tag_training(
        images, tags, class_names=CLASSES, window_hw=(64, 64), optimisation=optimisation
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    training, out = of(20), tmp_path_factory.mktemp("tags")
    train(training, out=out, accelerator="cpu", log_every=5)
    return training, out


def test_the_loss_falls(trained):
    with open(trained[1] / "metrics.csv", newline="") as handle:
        losses = [float(row["loss"]) for row in csv.DictReader(handle)]
    assert len(losses) == 4
    # Half a bit per tag is what one knows who knows how frequent each is.
    assert losses[0] > 0.6
    assert losses[-1] < 0.6 * losses[0]


def test_save_and_load_give_equal_scores_and_finer_maps(trained):
    training, out = trained
    model = training.model.eval()
    loaded = load_classifier(out / "model")
    assert not loaded.training
    assert (model.stride, loaded.stride, loaded.multiple) == (32, 16, 16)
    weights, found = model.state_dict(), loaded.state_dict()
    assert weights.keys() == found.keys()
    assert all(torch.equal(weights[key], found[key]) for key in weights)
    pixels = torch.rand(1, 3, 96, 64)
    with torch.inference_mode():
        coarse, fine = model.activation_maps(pixels), loaded.activation_maps(pixels)
    torch.testing.assert_close(fine[:, :, 1::2, 1::2], coarse, rtol=1e-3, atol=1e-4)
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["class_names"] == list(CLASSES)
    assert config["architecture"] == "tag_classifier"


def test_with_a_decay_the_average_is_kept(tmp_path):
    """After 3 steps, by the engine's rule: min(decay, (1 + step) / (10 + step))."""
    training, seen = of(3, ema_decay=0.22, learning_rate=0.3), []
    average = {k: v.clone() for k, v in training.model.state_dict().items()}
    training.optimizer.register_step_post_hook(
        lambda *_: seen.append({k: v.clone() for k, v in training.model.state_dict().items()})
    )
    train(training, out=tmp_path, accelerator="cpu")
    for step, state in enumerate(seen, start=1):
        decay = min(0.22, (1 + step) / (10 + step))
        for name, value in state.items():
            if value.is_floating_point():
                average[name] += (1 - decay) * (value - average[name])
    kept = load_file(tmp_path / "model" / "model.safetensors")
    name = "classifier.weight"
    torch.testing.assert_close(kept[name], average[name], rtol=1e-6, atol=1e-7)
    assert not torch.allclose(kept[name], seen[-1][name])


def test_batch_statistics_stay_as_they_were(trained):
    fresh = of(20)
    before = {k: v for k, v in fresh.model.state_dict().items() if "running" in k}
    after = trained[0].model.state_dict()
    assert before
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    model = fresh.model.train()
    images, tags = stills(2)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    loss = classifier_loss(model, TagBatch(pixels, torch.from_numpy(tags)))
    assert loss.keys() == {"tags"}
    assert model.training
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_the_seed_gives_the_weights_and_shipped_ones_end_at_stride_16():
    def weights(**changes):
        return of(3, **changes).model.classifier.weight

    assert torch.equal(weights(seed=1), weights(seed=1))
    assert not torch.equal(weights(seed=1), weights(seed=2))
    assert of(3, weights="shipped").model.stride == 16


def test_as_many_images_as_tags():
    images, tags = stills(4)
    with pytest.raises(PixelkinError, match="4 images and 3 rows of tags"):
        tag_training(images, tags[:3], class_names=CLASSES, window_hw=(64, 64),
                     optimisation=Optimisation(steps=1, weights="none"))  # fmt: skip
    with pytest.raises(PixelkinError, match="0 tagged images"):
        tag_training([], tags[:0], class_names=CLASSES, window_hw=(64, 64),
                     optimisation=Optimisation(steps=1, weights="none"))  # fmt: skip
