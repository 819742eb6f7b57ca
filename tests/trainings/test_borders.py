"""U-Net's border term in the training of class maps, against loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.borders import border_weigher, regions
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.semantic import Balance, semantic_training
from pixelkin.trainings.semantic_networks import NetworkOptions

NAMES = ("cell", "background", "rod")
GROUND = 1


def scene(size_px: int = 24) -> np.ndarray:
    """Two cells three pixels apart, a rod that touches one, a cell joined by a corner."""
    labels = np.full((size_px, size_px), GROUND, np.int64)
    labels[3:8, 2:8] = 0
    labels[3:8, 11:15] = 0
    labels[8:10, 3:5] = 2
    labels[8, 15] = 0
    labels[20:, :3] = IGNORE
    return labels


def by_loops(labels: np.ndarray, class_weights: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    objects = [
        [(y, x) for y in range(3, 8) for x in range(2, 8)],
        [(y, x) for y in range(3, 8) for x in range(11, 15)] + [(8, 15)],
        [(y, x) for y in range(8, 10) for x in range(3, 5)],
    ]
    weights = np.zeros(labels.shape)
    for y, x in np.argwhere(labels != IGNORE):
        weights[y, x] = class_weights[labels[y, x]]
        if labels[y, x] == GROUND:
            d = sorted(min(math.hypot(y - v, x - u) for v, u in one) for one in objects)
            weights[y, x] += w0 * math.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))
    return weights


def test_weights_of_classes_and_gaps_add_up():
    labels, class_weights = scene(), np.array([3.0, 0.5, 2.0])
    weigh = border_weigher(NAMES, class_weights, ground="background", w0=10.0, sigma_px=2.0)
    found = weigh(labels)
    assert found.dtype == np.float32
    known = labels != IGNORE
    product = class_weights[np.where(known, labels, 0)] * found
    expected = by_loops(labels, class_weights, 10.0, 2.0)
    np.testing.assert_allclose(product[known], expected[known], rtol=1e-5, atol=1e-5)
    assert product[5, 9] > 3 * product[15, 20]


def test_regions_by_hand_and_none_is_called_unknown():
    found = regions(scene(), ground=GROUND)
    assert found[5, 5] != found[5, 12]
    assert found[8, 15] == found[5, 12], "joined by a corner"
    assert found[9, 4] not in (0, found[5, 5])
    assert (found[scene() == GROUND] == 0).all()
    assert (found[scene() == IGNORE] == IGNORE).all()
    many = np.zeros((64, 64), np.int64)
    many[::2, ::2] = 1
    found = regions(many, ground=0)
    assert sorted(np.unique(found)) == [i for i in range(1026) if i != IGNORE]


@pytest.mark.parametrize("border_weight", [0.0, 10.0])
def test_the_loss_of_a_training_uses_the_map(border_weight):
    """What the engine would minimise for a window, by loops over its pixels."""
    rng = np.random.default_rng(0)
    still = Sample(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8), scene(), name="still")
    training = semantic_training(
        [still], "segnet", class_names=NAMES, options=NetworkOptions(widths=(2, 2, 2, 2, 2)),
        optimisation=Optimisation(steps=1, batch_size=1), windows=Windows(crop_px=40),
        balance=Balance(1.0, border_weight=border_weight, border_sigma_px=2.0,
                        border_ground="background"),
    )  # fmt: skip
    labels = np.full((40, 40), IGNORE, np.int64)
    labels[:24, :24] = still.labels
    image = np.zeros((40, 40, 3), np.uint8)
    image[:24, :24] = still.image
    batch = training.collate([replace(still, image=image, labels=labels)])
    assert (batch.weights is None) is (border_weight == 0)
    model = training.model.eval()
    with torch.no_grad():
        found = float(training.loss(model, batch)["cross_entropy"])
        logits = model(batch.images)[0].double()
    class_weights = np.array(training.config["class_weights"])
    weights = by_loops(still.labels, class_weights, border_weight, 2.0)
    total = 0.0
    for y, x in np.argwhere(still.labels != IGNORE):
        total -= weights[y, x] * float(F.log_softmax(logits[:, y, x], 0)[still.labels[y, x]])
    assert found == pytest.approx(total / weights.sum(), rel=1e-4)


def test_mistakes_are_told():
    with pytest.raises(PixelkinError, match="no class is named 'sky': expected one of cell, back"):
        border_weigher(NAMES, np.ones(3), ground="sky", w0=10.0, sigma_px=5.0)
    with pytest.raises(PixelkinError, match="border_weight is -1 and border_sigma_px 5, expected"):
        Balance(border_weight=-1)
    with pytest.raises(PixelkinError, match="border_sigma_px 0, expected"):
        Balance(border_sigma_px=0)
