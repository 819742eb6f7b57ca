"""The benchmark "tangle": its scenes, and what it makes of the truth."""

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, encode_rle, palette
from pixelkin.structures import Instance, Instances, InstanceSample

# Benchmarks are programs, not a package. At the end, so that none of them hides a module.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import tangle
import tangle_oracle as oracle
from tangle_scenes import KINDS, MIN_VISIBLE_PX, Stroke, TangleScenes, coverage, render

SCENES = TangleScenes(3 * len(KINDS), 5)


@pytest.fixture(scope="module")
def drawn():
    return [SCENES[i] for i in range(len(SCENES))]


def masks_of(scene):
    return np.stack([decode_rle(one.rle, scene.size_hw) for one in scene.instances])


def test_scenes_keep_the_contract_of_a_source(drawn):
    assert SCENES.class_names == ("thing",)
    assert SCENES.names == [scene.name for scene in drawn]
    assert len(set(SCENES.names)) == len(SCENES) == len(SCENES.kinds)
    assert SCENES.kinds == list(KINDS) * 3
    assert {scene.image.shape for scene in drawn} == {(256, 256, 3)}
    assert {scene.image.dtype for scene in drawn} == {np.dtype(np.uint8)}
    with pytest.raises(IndexError, match="scene 21 of 21"):
        SCENES[21]


def test_scenes_depend_on_seed_and_index_alone(drawn):
    again = TangleScenes(len(KINDS), 5, size_px=256)
    for index in (6, 0):
        assert (again[index].image == drawn[index].image).all()
        assert again[index].instances == drawn[index].instances
    assert (TangleScenes(1, 6)[0].image != drawn[0].image).any()


def test_visible_objects_are_disjoint_and_large_enough(drawn):
    for scene in drawn:
        masks = masks_of(scene)
        assert len(masks) >= 2
        assert masks.sum(0).max() == 1
        assert masks.sum((1, 2)).min() >= MIN_VISIBLE_PX


def test_boxes_nearly_coincide_in_every_kind(drawn):
    for kind in KINDS:
        own = [s for s, k in zip(drawn, SCENES.kinds, strict=True) if k == kind]
        assert np.concatenate([oracle.nearest_box(s) for s in own]).mean() > 0.45, kind


def test_objects_are_thin_and_some_fall_into_parts(drawn):
    parts = []
    for scene in drawn:
        for mask in masks_of(scene):
            depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
            # Where a spine meets a tooth the inside is wider than half of a stroke.
            assert depth.max() < 9
            parts.append(cv2.connectedComponents(mask.astype(np.uint8))[0] - 1)
    assert max(parts) > 2


def test_a_stroke_covers_its_width_about_its_line():
    cover = coverage(Stroke((np.array([[20.0, 30.0], [60.0, 30.0]]),), 5), 100)
    assert cover[:, 40].sum() == pytest.approx(5, abs=0.3)
    assert cover[28:33, 40].min() > 0.8
    rows = (cover.sum(1) * np.arange(100)).sum() / cover.sum()
    columns = (cover.sum(0) * np.arange(100)).sum() / cover.sum()
    assert (rows, columns) == (pytest.approx(30, abs=0.15), pytest.approx(40, abs=0.15))


@pytest.mark.parametrize("seed", range(6))
def test_two_rings_interlock(seed):
    angle = np.linspace(0, 2 * np.pi, 80)
    ring = 50 * np.stack([np.cos(angle), np.sin(angle)], 1)
    strokes = [Stroke((ring + np.array([x, 100]),), 6.0) for x in (80, 120)]
    _, labels = render(np.random.default_rng(seed), strokes, 200)
    both = (coverage(strokes[0], 200) > 0.99) & (coverage(strokes[1], 200) > 0.99)
    count, crossings = cv2.connectedComponents(both.astype(np.uint8))
    on_top = [set(labels[crossings == n].tolist()) for n in range(1, count)]
    assert sorted(on_top, key=min) == [{1}, {2}]


@pytest.mark.parametrize("wrong", [(0, 1, 256), (3, 1, 100), (3, -1, 256)])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(PixelkinError, match="expected one or more"):
        TangleScenes(wrong[0], wrong[1], size_px=wrong[2])


# The truth through both rules


def test_masks_lose_nothing_that_boxes_lose(drawn):
    lost = oracle.oracle(drawn, SCENES.kinds)["lost"]
    boxes, luckiest = lost["true boxes, NMS 0.5"], lost["true boxes, NMS 0.5, luckiest order"]
    assert set(boxes) == {*KINDS, "all"}
    assert all(0.2 < luckiest[kind] <= boxes[kind] for kind in boxes)
    assert set(lost["true masks, our rule, stride 1"].values()) == {0.0}
    assert set(lost["true masks, our rule, stride 2"].values()) == {0.0}


def test_the_luckiest_order_is_the_best_of_all(drawn):
    for scene in drawn:
        count = len(scene.instances)
        if count > 9:
            continue
        near = oracle.box_iou(oracle.true_boxes(scene), oracle.true_boxes(scene)) > 0.5
        near.fill_diagonal_(False)
        sets = (
            list(chosen)
            for size in range(count + 1)
            for chosen in itertools.combinations(range(count), size)
        )
        most = max(len(s) for s in sets if not near[s][:, s].any())
        assert count - oracle.lost_at_least(scene, 0.5).sum() == most


def rectangles(*corners):
    masks = []
    for x1, y1, x2, y2 in corners:
        mask = np.zeros((40, 40), bool)
        mask[y1:y2, x1:x2] = True
        masks.append(mask)
    instances = tuple(Instance(encode_rle(mask)) for mask in masks)
    return InstanceSample(np.zeros((40, 40, 3), np.uint8), instances, "rectangles")


def test_each_of_two_like_boxes_is_lost_half_of_the_time():
    scene = rectangles((0, 0, 10, 10), (1, 0, 11, 10), (20, 20, 30, 30))
    lost = oracle.lost_by_boxes(scene, 0.5)
    assert lost[:2].sum() == pytest.approx(1)
    assert lost[0] == pytest.approx(0.5, abs=0.3)
    assert lost[2] == 0
    assert oracle.nearest_box(scene) == pytest.approx([90 / 110, 90 / 110, 0])
    assert (oracle.true_boxes(scene)[2] == torch.tensor([19.5, 19.5, 29.5, 29.5])).all()


def test_recall_counts_objects_matched_by_half_among_the_best():
    scene = rectangles((0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30))
    found = rectangles((0, 0, 10, 5), (20, 0, 30, 4), (0, 21, 10, 30))
    rles = tuple(one.rle for one in found.instances)
    found = Instances((40, 40), rles, (0,) * 3, (0.5, 0.9, 0.4))
    assert oracle.recalled(scene, found).tolist() == [1, 0, 1]
    assert oracle.recalled(scene, found, best=2).tolist() == [1, 0, 0]
    assert oracle.recalled(scene, Instances((40, 40))).tolist() == [0, 0, 0]


# Numbers and picture


@pytest.fixture(scope="module")
def few():
    return tangle.InMemoryScenes(TangleScenes(2, 9))


def test_the_truth_is_found_wholly(few):
    found = [tangle._truth(scene) for scene in few.scenes]
    values = tangle.numbers(few, found)
    assert (values["AP"], values["AP50"], values["AP75"]) == (1, 1, 1)
    assert values["AP50_by_kind"] == {"rings": 1, "links": 1, "all": 1}
    assert values["recall"] == values["recall_of_n_best"] == {"rings": 1, "links": 1, "all": 1}


def test_found_objects_have_the_colour_of_what_they_match(few, tmp_path):
    scene = few.scenes[0]
    found = tangle._truth(scene)
    painted = tangle._paint(scene, found)
    for index, mask in enumerate(masks_of(scene)):
        assert (painted[mask] == palette()[index + 1]).all()
    empty = Instances(scene.size_hw)
    assert len(np.unique(tangle._paint(scene, empty).reshape(-1, 3), axis=0)) == 1
    path = tmp_path / "sheet.png"
    results = [tangle._truth(few.scenes[0]), Instances(few.scenes[1].size_hw)]
    tangle.write_picture(path, few, {"seeds": results}, most_bytes=300_000)
    assert path.stat().st_size < 300_000


def test_what_matches_nothing_alone_is_grey():
    scene = TangleScenes(4, 9)[3]
    assert len(scene.instances) > 6  # the seventh colour of VOC is grey
    corner = np.zeros(scene.size_hw, np.uint8)
    corner[:3, :3] = 1
    missed = Instances(scene.size_hw, (encode_rle(corner),), (0,), (1.0,))
    for found, grey in ((tangle._truth(scene), False), (missed, True)):
        painted = tangle._paint(scene, found)
        objects = painted[(painted != 24).any(axis=2)]
        assert len(objects) >= 9
        assert ((np.ptp(objects, axis=1) == 0) == grey).all()


def test_a_run_is_finished_when_all_its_steps_are_done(tmp_path):
    assert not tangle.finished(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "run.json").write_text('{"config": {"steps": 40}}')
    (tmp_path / "metrics.csv").write_text("step,loss\n20,1.0\n")
    assert not tangle.finished(tmp_path)
    (tmp_path / "metrics.csv").write_text("step,loss\n20,1.0\n40,0.5\n")
    assert tangle.finished(tmp_path)
