"""Synthetic clips: repeatable, and their labels true to their pixels."""

import cv2
import numpy as np
import pytest
import torch

from pixelkin.data.clips.synthetic_clips import (
    Cutout,
    Motion,
    SceneSettings,
    SyntheticClips,
    collate_clips,
    cover_transform,
    draw,
    find_cutouts,
    motion_blur,
    photometric,
    shrink,
)
from pixelkin.structures import IGNORE, Sample

SIZE = (64, 96)


def still(seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(80, 140, (100, 140, 3), dtype=np.uint8)
    labels = np.zeros((100, 140), np.int64)
    for i, centre in enumerate([(45, 40), (95, 60)]):
        cv2.ellipse(labels_view := labels.astype(np.int32), centre, (26, 18), 30, 0, 360, i + 1, -1)
        labels = labels_view.astype(np.int64)
    image[labels == 1] = (200, 40, 40)
    image[labels == 2] = (40, 60, 210)
    labels[:, :6] = IGNORE
    return Sample(image, labels, f"still{seed}")


@pytest.fixture(scope="module")
def samples():
    return [still(seed) for seed in range(3)]


def test_item_depends_on_seed_and_index_alone(samples):
    one = SyntheticClips(samples, frames=3, size_hw=SIZE, seed=4)
    two = SyntheticClips(samples, frames=3, size_hw=SIZE, seed=4)
    for index in (3, 0, 7):
        one[index + 1]
        for a, b in zip(one[index], two[index], strict=True):
            assert np.array_equal(a, b)
    other = SyntheticClips(samples, frames=3, size_hw=SIZE, seed=5)
    assert not np.array_equal(one[0][0], other[0][0])
    assert not np.array_equal(one[0][0], one[1][0])


@pytest.mark.parametrize("whole_still", [0.0, 1.0])
def test_items_are_what_they_say(samples, whole_still):
    clips = SyntheticClips(
        samples, frames=3, size_hw=SIZE, settings=SceneSettings(whole_still=whole_still)
    )
    ignored = 0
    for index in range(25):
        images, labels, prompt = clips[index]
        assert images.shape == (3, *SIZE, 3)
        assert images.dtype == labels.dtype == prompt.dtype == np.uint8
        assert labels.shape == (3, *SIZE)
        assert prompt.shape == SIZE
        ids = set(np.unique(labels).tolist())
        assert ids <= {0, 1, 2, 3, 4, 5, IGNORE}
        assert 0.004 <= (labels[0] == 1).mean() <= 0.7
        assert set(np.unique(prompt).tolist()) <= {0, 1, IGNORE}
        assert (prompt != IGNORE).any()
        ignored += IGNORE in ids
        if IGNORE not in prompt and (prompt == 1).any():
            assert np.array_equal(prompt == 1, labels[0] == 1)
    assert (ignored > 0) == (whole_still == 1.0)


def test_labels_lie_on_the_object_they_name(samples):
    """In whole stills the objects have colours of their own: red and blue."""
    clips = SyntheticClips(samples, frames=4, size_hw=SIZE, seed=1)
    for index in range(10):
        rng = np.random.default_rng(index)
        images, labels = clips._whole_still(rng)
        red = images[..., 0].astype(int) - images[..., 2]
        coloured = np.where(red > 110, 1, np.where(red < -110, 2, 0))
        known = labels != IGNORE
        target = labels == 1
        # The target is one of the two; its colour is the same in all frames.
        colour = np.bincount(coloured[target], minlength=3)
        assert colour.max() / colour.sum() > 0.9
        object_ = colour.argmax()
        assert object_ in (1, 2)
        both = (target & (coloured == object_) & known).sum()
        assert both / ((target | (coloured == object_)) & known).sum() > 0.85


def test_first_frame_is_nearest_to_the_still(samples):
    settings = SceneSettings()
    rng = np.random.default_rng(0)
    motion = Motion(rng, settings, scale=1.0)
    base = cover_transform((100, 140), SIZE, rng)
    map_x, map_y = motion.grid(0.0, base, (100, 140), SIZE)
    inverse = np.linalg.inv(base)
    for y, x in ((0, 0), (40, 70), (63, 95)):
        expected = inverse @ [x, y, 1]
        assert (map_x[y, x], map_y[y, x]) == pytest.approx(tuple(expected[:2]), abs=1e-2)
    # Covering means that the whole frame looks into the still.
    assert map_x.min() > -1
    assert map_x.max() < 141
    assert map_y.min() > -1
    assert map_y.max() < 101


def test_cutouts_hold_the_object_without_its_rim(samples):
    found = find_cutouts(samples[0], 7)
    assert len(found) == 2
    for cutout, colour in zip(found, [(200, 40, 40), (40, 60, 210)], strict=True):
        assert cutout.source == 7
        assert cutout.image.shape[:2] == cutout.alpha.shape
        assert (cutout.image[cutout.alpha > 0] == colour).all()


def test_objects_cut_off_small_or_huge_are_no_cutouts():
    labels = np.zeros((100, 140), np.int64)
    labels[30:70, :50] = 1  # at the border
    labels[5:15, 100:110] = 2  # small
    image = np.zeros((100, 140, 3), np.uint8)
    assert find_cutouts(Sample(image, labels), 0) == []
    labels[:] = 0
    labels[5:95, 5:135] = 3
    assert find_cutouts(Sample(image, labels), 0) == []


def test_drawn_object_covers_what_it_labels():
    frame = np.zeros((20, 30, 3), np.uint8)
    labels = np.full((20, 30), 9, np.uint8)
    cutout = Cutout(np.full((8, 8, 3), 255, np.uint8), np.full((8, 8), 255, np.uint8), 0)
    ys, xs = np.mgrid[0:20, 0:30].astype(np.float32)
    draw(frame, labels, cutout, 3, (xs - 10, ys - 5))
    assert (labels[5:13, 10:18] == 3).all()
    assert (labels == 3).sum() == 64
    assert (frame[6:12, 11:17] == 255).all()
    assert (frame[labels == 9][:, 0] < 128).all()
    before = frame.copy()
    draw(frame, labels, cutout, 4, (xs - 100, ys))
    assert np.array_equal(frame, before)
    assert 4 not in labels


def test_shrinking_keeps_ids_and_small_stills():
    sample = still(0)
    small = shrink(sample, longest_px=70)
    assert small.image.shape == (50, 70, 3)
    assert small.labels.dtype == np.int64
    assert set(np.unique(small.labels)) == {0, 1, 2, IGNORE}
    assert shrink(sample, longest_px=140) is sample


def test_looks_change_but_shapes_do_not():
    images = np.stack([still(0).image] * 3)
    kept = images.copy()
    for seed in range(12):
        out = photometric(images, np.random.default_rng(seed))
        assert out.shape == images.shape
        assert out.dtype == np.uint8
    assert np.array_equal(images, kept)


def test_motion_blur_spreads_a_point_along_a_line():
    image = np.zeros((21, 21, 3), np.uint8)
    image[10, 10] = 210
    blurred = motion_blur(image, length_px=7, angle=0.0)
    ys, xs = np.nonzero(blurred[..., 0])
    assert set(ys.tolist()) == {10}
    assert sorted(xs.tolist()) == list(range(7, 14))
    assert blurred[10, 7:14, 0].tolist() == [30] * 7


def test_batch_is_the_items(samples):
    clips = SyntheticClips(samples, frames=2, size_hw=SIZE)
    items = [clips[0], clips[1]]
    batch = collate_clips(items)
    for n, (images, labels, prompt) in enumerate(items):
        expected = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
        assert np.allclose(batch.images[n].numpy(), expected)
        assert np.array_equal(batch.labels[n].numpy(), labels)
        assert np.array_equal(batch.prompts[n].numpy(), prompt)
    assert batch.labels.dtype == torch.int64


def test_length_is_as_asked(samples):
    assert len(SyntheticClips(samples, length=17)) == 17
