"""U-Net's border term in the training of class maps, against loops."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pixelkin.data.class_maps.sources import open_semantic_source
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.borders import border_weigher, regions, separated
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
    found = weigh(Sample(np.zeros((24, 24, 3), np.uint8), labels))
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


def told_apart(seed: int, size_px: int = 20) -> Sample:
    """Rods and cells that touch, and unknown pixels; two ids beyond 255."""
    rng = np.random.default_rng(seed)
    objects = np.zeros((size_px, size_px), np.int64)
    table = np.full(302, GROUND)
    table[IGNORE] = IGNORE
    for thing in (1, 2, 3, 256, 301):
        table[thing] = rng.choice([0, 2])
        y, x = rng.integers(0, size_px - 8, 2)
        objects[y : y + rng.integers(4, 9), x : x + rng.integers(4, 9)] = thing
    objects[rng.random(objects.shape) < 0.03] = IGNORE
    image = rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)
    return Sample(image, table[objects], "still", objects=objects)


def cut_by_loops(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Labels and objects with ground where an object has another one among its 8 neighbours."""
    labels, objects = sample.labels.copy(), sample.objects.copy()
    for y, x in np.ndindex(labels.shape):
        around = sample.objects[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if sample.objects[y, x] not in (0, IGNORE) and {*around.flat} - {
            0, IGNORE, sample.objects[y, x]
        }:  # fmt: skip
            labels[y, x], objects[y, x] = GROUND, 0
    return labels, objects


def term_by_loops(labels: np.ndarray, objects: np.ndarray, w0: float, sigma: float) -> np.ndarray:
    term = np.zeros(labels.shape)
    places = [np.argwhere(objects == thing) for thing in {*objects.flat} - {0, IGNORE}]
    for y, x in np.argwhere(labels == GROUND):
        d = sorted(min(math.hypot(y - v, x - u) for v, u in one) for one in places)
        term[y, x] = w0 * math.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))
    return term


@pytest.mark.parametrize("seed", range(4))
def test_objects_told_apart_are_separated_and_weighed_as_by_loops(seed):
    sample, class_weights = told_apart(seed), np.array([3.0, 0.5, 2.0])
    labels, objects = cut_by_loops(sample)
    assert (objects != sample.objects).any(), "some touch"
    found = separated(sample, ground=GROUND)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.objects, objects)
    np.testing.assert_array_equal(found.image, sample.image)
    weigh = border_weigher(NAMES, class_weights, ground="background", w0=10.0, sigma_px=2.0)
    expected = 1 + term_by_loops(labels, objects, 10.0 / class_weights[GROUND], 2.0)
    np.testing.assert_allclose(weigh(found), expected, rtol=1e-5, atol=1e-5)
    assert weigh(found)[objects != sample.objects].max() > 5


def test_objects_of_the_class_that_is_ground_are_none():
    labels = np.full((9, 9), 2)
    labels[2:7, 1:4], labels[2:7, 4:8] = 0, 1
    objects = np.zeros((9, 9), np.int64)
    objects[2:7, 1:4], objects[2:7, 4:8] = 1, 2
    sample = Sample(np.zeros((9, 9, 3), np.uint8), labels, objects=objects)
    found = separated(sample, ground=GROUND)
    np.testing.assert_array_equal(found.labels, labels)
    assert set(np.unique(found.objects)) == {0, 1}
    weigh = border_weigher(NAMES, np.ones(3), ground="background", w0=10.0, sigma_px=2.0)
    assert (weigh(found) == 1).all(), "one object has no other beside it"


def test_without_objects_nothing_is_cut():
    sample = Sample(np.zeros((24, 24, 3), np.uint8), scene())
    assert separated(sample, ground=GROUND) is sample


@pytest.mark.parametrize("border_weight", [0.0, 10.0])
def test_windows_of_a_training_are_separated_where_the_ground_is_weighed(border_weight):
    sample = told_apart(2, 40)
    training = semantic_training(
        [sample], "segnet", class_names=NAMES, options=NetworkOptions(widths=(2, 2, 2, 2, 2)),
        optimisation=Optimisation(steps=1, batch_size=1), windows=Windows(crop_px=64),
        balance=Balance(border_weight=border_weight),
    )  # fmt: skip
    np.random.seed(0)
    window = training.data[0]
    cut = (window.labels == GROUND) & (window.objects != 0)
    assert not cut.any()
    touching = separated(window, ground=GROUND).objects != window.objects
    assert touching.any() is np.bool_(border_weight == 0)
    weights = training.collate([window]).weights
    assert (weights is None) is (border_weight == 0)


TOUCHING = {
    # Still → nuclei, connected regions of nuclei before and after gaps are cut.
    "9fb32aba1c2fd53273dca9abefac944ba747f578da82dfaa1249f332a2324944": (89, 61, 89),
    "1f0008060150b5b93084ae2e4dabd160ab80a95ce8071a321b80ec4e33b58aca": (29, 22, 29),
    "7f55678298adb736987d9fb5d1d2daefb08fe5bf4d81b2380bedf9449f79cc38": (64, 49, 64),
}


@pytest.mark.parametrize("name", TOUCHING)
def test_real_nuclei_that_touch_get_a_gap_that_weighs(shared_data, name):
    source = open_semantic_source(f"nuclei:{shared_data / 'dsb2018'}")
    still = source[source.names.index(name)]
    weigh = border_weigher(source.class_names, np.ones(2), ground="background", w0=10.0, sigma_px=5)
    apart = separated(still, ground=0)
    gap = apart.labels != still.labels
    nuclei, before, after = TOUCHING[name]
    assert len(np.unique(still.objects)) - 1 == nuclei
    assert len(np.unique(regions(still.labels, ground=0))) - 1 == before
    assert len(np.unique(regions(apart.labels, ground=0))) - 1 == after
    # Without objects the gap is a nucleus, which the term leaves alone.
    by_regions = weigh(replace(still, objects=None))
    assert (by_regions[gap] == 1).all()
    weights = weigh(apart)
    assert weights[gap].min() > 7.9
    # In a straight gap of two pixels the nuclei are 1 and 2 px away.
    assert weights[gap].max() == pytest.approx(1 + 10 * math.exp(-9 / 50))
    assert (weights[apart.labels == 1] == 1).all()


def test_mistakes_are_told():
    with pytest.raises(PixelkinError, match="no class is named 'sky': expected one of cell, back"):
        border_weigher(NAMES, np.ones(3), ground="sky", w0=10.0, sigma_px=5.0)
    with pytest.raises(PixelkinError, match="border_weight is -1 and border_sigma_px 5, expected"):
        Balance(border_weight=-1)
    with pytest.raises(PixelkinError, match="border_sigma_px 0, expected"):
        Balance(border_sigma_px=0)
