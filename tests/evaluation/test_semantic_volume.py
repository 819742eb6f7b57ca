import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic import (
    LITS_STRUCTURES,
    SemanticEvaluation,
    VolumeScores,
    structures_of,
    surface_distances_mm,
    volume_scores,
)
from pixelkin.structures import IGNORE

SPACING = (2.5, 0.7, 0.9)
seeds = st.integers(0, 2**32 - 1)


def blobs(seed, shape=(6, 9, 8)):
    """(truth, predicted) with labels 0, 1, 2."""
    generator = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(generator.normal(size=(2, *shape)), (0, 1, 1, 1))
    fields[1] += fields[0]
    return [np.digitize(f, np.quantile(f, [0.6, 0.9])) for f in fields]


def surface_by_loops(mask):
    points = []
    for place in np.argwhere(mask).tolist():
        for step in product((-1, 0, 1), repeat=3):
            if sum(map(abs, step)) > 2:
                continue
            there = [p + s for p, s in zip(place, step, strict=True)]
            inside = all(0 <= t < n for t, n in zip(there, mask.shape, strict=True))
            if not inside or not mask[tuple(there)]:
                points.append(place)
                break
    return np.array(points) * SPACING


def distances_by_loops(mask, truth):
    a, b = surface_by_loops(mask), surface_by_loops(truth)
    table = np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return table.min(axis=1), table.min(axis=0)


@settings(max_examples=15, deadline=None)
@given(seeds)
def test_surface_distances_equal_brute_force(seed):
    truth, predicted = (volume >= 1 for volume in blobs(seed))
    ours = surface_distances_mm(predicted, truth, spacing_mm=SPACING)
    for one, other in zip(ours, distances_by_loops(predicted, truth), strict=True):
        assert np.sort(one) == pytest.approx(np.sort(other))
    both = np.concatenate(ours)
    scores = volume_scores(predicted, truth, spacing_mm=SPACING)
    assert scores["ASSD"] == pytest.approx(both.mean())
    assert scores["MSSD"] == pytest.approx(both.max())


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_values_equal_loops(seed):
    cases = [blobs(seed), blobs(seed + 1)]
    scores = VolumeScores()
    for truth, predicted in cases:
        scores.update(truth, torch.from_numpy(predicted), spacing_mm=SPACING)
    values = scores.compute()
    for name, labels in (("liver", (1, 2)), ("tumour", (2,))):
        dices, errors, differences, means, largest = [], [], [], [], []
        common_all = total_all = 0
        for truth, predicted in cases:
            pairs = list(zip(truth.ravel(), predicted.ravel(), strict=True))
            common = sum(t in labels and p in labels for t, p in pairs)
            wanted = sum(t in labels for t, _ in pairs)
            found = sum(p in labels for _, p in pairs)
            dices.append(2 * common / (wanted + found))
            errors.append(1 - common / (wanted + found - common))
            differences.append((found - wanted) / wanted)
            both = np.concatenate(
                distances_by_loops(np.isin(predicted, labels), np.isin(truth, labels))
            )
            means.append(both.mean())
            largest.append(both.max())
            common_all, total_all = common_all + common, total_all + wanted + found
        expected = {
            "Dice_per_case": np.mean(dices),
            "Dice_global": 2 * common_all / total_all,
            "VOE": np.mean(errors),
            "RVD": np.mean(differences),
            "|RVD|": np.mean(np.abs(differences)),
            "ASSD": np.mean(means),
            "MSSD": np.mean(largest),
            "one_sided": 0,
        }
        for key, value in expected.items():
            assert values[f"{key}/{name}"] == pytest.approx(value)


def test_a_known_shift():
    truth, predicted = np.zeros((2, 8, 8, 8), bool)
    truth[2:5, 2:5, 2:5] = predicted[3:6, 2:5, 2:5] = True
    scores = volume_scores(predicted, truth, spacing_mm=(5, 1, 1))
    assert scores["Dice"] == pytest.approx(2 / 3)
    assert scores["VOE"] == pytest.approx(1 / 2)
    assert scores["RVD"] == 0
    assert scores["MSSD"] == pytest.approx(5)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_perfect_merged_and_unknown(seed):
    truth, predicted = blobs(seed)
    perfect = VolumeScores()
    perfect.update(truth, truth, spacing_mm=SPACING)
    values = perfect.compute()
    assert values["Dice_per_case/liver"] == values["Dice_global/tumour"] == 1
    for key in ("VOE", "RVD", "|RVD|", "ASSD", "MSSD", "one_sided"):
        assert values[f"{key}/liver"] == values[f"{key}/tumour"] == 0
    unknown = np.random.default_rng(seed).random(truth.shape) < 0.1
    one, other = VolumeScores(), VolumeScores()
    one.update(np.where(unknown, IGNORE, truth), predicted, spacing_mm=SPACING)
    other.update(np.where(unknown, IGNORE, truth), predicted * ~unknown, spacing_mm=SPACING)
    assert one.compute() == other.compute()
    whole = VolumeScores()
    whole.update(truth, truth, spacing_mm=SPACING)
    whole.update(np.where(unknown, IGNORE, truth), predicted, spacing_mm=SPACING)
    perfect.merge(one)
    assert perfect.compute() == pytest.approx(whole.compute())


def test_structures_that_a_side_has_not():
    empty, ball = np.zeros((3, 3, 3), int), np.zeros((3, 3, 3), int)
    ball[1, 1, 1] = 2
    scores = VolumeScores({"tumour": [2]})
    scores.update(empty, empty, spacing_mm=SPACING)
    values = scores.compute()
    assert values["Dice_per_case/tumour"] == values["Dice_global/tumour"] == 1
    assert math.isnan(values["ASSD/tumour"])
    scores.update(empty, ball, spacing_mm=SPACING)
    scores.update(ball, empty, spacing_mm=SPACING)
    scores.update(ball, ball, spacing_mm=SPACING)
    values = scores.compute()
    assert values["Dice_per_case/tumour"] == pytest.approx(2 / 4)
    assert values["Dice_global/tumour"] == pytest.approx(1 / 2)
    assert values["VOE/tumour"] == pytest.approx(2 / 4)
    assert values["RVD/tumour"] == pytest.approx((0 - 1 + 0) / 3)
    assert values["ASSD/tumour"] == 0
    assert values["one_sided/tumour"] == 2
    assert all(math.isnan(v) for v in (VolumeScores().compute()[k] for k in ("ASSD/liver",)))


def test_mistakes_of_the_caller():
    volume = np.zeros((2, 3, 4), int)
    scores = VolumeScores()
    with pytest.raises(PixelkinError, match="expected three axes; stack the slices"):
        scores.update(volume[0], volume[0], spacing_mm=SPACING)
    with pytest.raises(PixelkinError, match=r"\(2, 3, 4\).*\(3, 3, 4\)"):
        scores.update(volume, np.zeros((3, 3, 4), int), spacing_mm=SPACING)
    with pytest.raises(PixelkinError, match="holds float64"):
        scores.update(volume, volume * 0.5, spacing_mm=SPACING)
    for spacing in ((1, 1), (1, 0, 1), (1, 1, math.nan)):
        with pytest.raises(PixelkinError, match=r"spacing is .* one per axis"):
            scores.update(volume, volume, spacing_mm=spacing)
    with pytest.raises(PixelkinError, match="empty and has no surface"):
        surface_distances_mm(volume > 0, volume == 0, spacing_mm=SPACING)
    with pytest.raises(PixelkinError, match="each with its labels"):
        VolumeScores({"liver": ()})
    with pytest.raises(PixelkinError, match="differ; merge scores of the same"):
        scores.merge(VolumeScores({"liver": (1,)}))


def test_a_case_without_spacing_has_no_distance():
    truth = np.zeros((4, 4, 4), int)
    truth[1:3, 1:3, 1:3] = 2
    scores = VolumeScores()
    scores.update(truth, np.roll(truth, 1, axis=0), spacing_mm=(2, 1, 1), name="a")
    with_all = scores.compute()
    scores.update(truth, np.roll(truth, 1, axis=1), spacing_mm=None, name="b")
    values = scores.compute()
    assert values["no_spacing/liver"] == 1
    assert not any(key.startswith("no_spacing") for key in with_all)
    assert values["ASSD/liver"] == with_all["ASSD/liver"] > 0
    assert values["Dice_per_case/liver"] == pytest.approx(0.5)
    assert values["one_sided/liver"] == 0
    rows = scores.by_case()
    assert [(row["case"], row["structure"]) for row in rows] == [
        (case, structure) for case in "ab" for structure in ("liver", "tumour")
    ]
    assert math.isnan(rows[2]["MSSD"])
    assert rows[0]["ASSD"] == with_all["ASSD/liver"]


def test_structures_of_classes():
    assert structures_of(("background", "liver", "tumour")) == dict(LITS_STRUCTURES)
    assert structures_of(("background", "liver")) == {"liver": (1,)}
    assert structures_of(("kidney", "air"), background=["air"]) == {"kidney": (0,)}
    with pytest.raises(PixelkinError, match="all of background are background"):
        structures_of(("background",))


def test_volumes_beside_other_measures():
    truth = np.zeros((2, 3, 3), int)
    truth[:, 1] = 1
    both, first, second = (
        SemanticEvaluation(("background", "liver"), measures=["volumes", "overlap"])
        for _ in range(3)
    )
    for one in (both, first):
        one.update_volume(truth, truth, spacing_mm=SPACING, name="a")
    for one in (both, second):
        one.update_volume(truth, truth[::-1] * 0, spacing_mm=SPACING, name="b")
    first.merge(second)
    assert first.names == ["overlap", "volumes"]
    assert first.compute() == pytest.approx(both.compute(), nan_ok=True)
    assert both.compute()["volumes/Dice_per_case/liver"] == 0.5
    with pytest.raises(PixelkinError, match="'volumes' is not among the measures"):
        SemanticEvaluation(("a", "b")).update_volume(truth, truth, spacing_mm=None)
