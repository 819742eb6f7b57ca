"""Grey-value baselines against plain loops, and on real photographs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import find_boundaries

from pixelkin.data.clips.bsds import Bsds
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.errors import PixelkinError
from pixelkin.grouping.grey_values import (
    gradient_watershed,
    grey_of,
    grow_all_regions,
    grow_regions,
    otsu_classes,
)
from pixelkin.masks import decode_rle


def rgb(grey):
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


def within(grey, labels):
    """Sum of squared differences from the classes' means."""
    parts = [grey[labels == label].astype(float) for label in np.unique(labels)]
    return sum(((part - part.mean()) ** 2).sum() for part in parts)


@pytest.mark.parametrize("classes", [2, 3])
def test_otsus_classes_vary_less_than_those_of_any_other_thresholds(classes):
    rng = np.random.default_rng(0)
    centres = [20, 90, 200][:classes]
    grey = np.concatenate([rng.normal(c, 12, 100).clip(0, 255) for c in centres]).reshape(20, -1)
    grey = np.rint(grey).astype(np.uint8)
    labels = otsu_classes(rgb(grey), classes=classes)
    assert labels.dtype == np.int64
    assert sorted(np.unique(labels)) == list(range(classes))
    values = np.unique(grey)[:-1]
    pairs = [(a, b) for a in values for b in values if a < b] if classes == 3 else values[:, None]
    best = min(within(grey, np.searchsorted(cut, grey)) for cut in pairs)
    assert within(grey, labels) == pytest.approx(best)
    assert grey[labels == 0].max() < grey[labels == 1].min()


@pytest.mark.parametrize(("grey", "wanted"), [([[7, 7]], [[0, 0]]), ([[9, 3]], [[1, 0]])])
def test_images_of_few_grey_values_are_told_apart_by_them(grey, wanted):
    assert otsu_classes(rgb(grey), classes=3).tolist() == wanted


def test_grey_is_the_luminance():
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], np.uint8)
    assert grey_of(image)[0].tolist() == pytest.approx([54.2, 182.4, 18.4, 255], abs=0.1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 60))
def test_regions_are_what_a_queue_reaches(seed, tolerance):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 120, (6, 7))
    points_xy = [(int(rng.integers(7)), int(rng.integers(6))) for _ in range(3)]
    wanted = np.zeros((6, 7), int)
    for number, (x, y) in enumerate(points_xy, start=1):
        queue, reached = [(y, x)], {(y, x)}
        while queue:
            row, column = queue.pop()
            for r, c in np.ndindex(3, 3):
                near = (row + r - 1, column + c - 1)
                inside = 0 <= near[0] < 6 and 0 <= near[1] < 7
                if inside and near not in reached and abs(grey[near] - grey[y, x]) <= tolerance:
                    reached.add(near)
                    queue.append(near)
        for place in reached:
            wanted[place] = wanted[place] or number
    # Half a grey value: the weights of the luminance sum to one only up to rounding.
    labels = grow_regions(rgb(grey), points_xy, tolerance=tolerance + 0.5)
    assert np.array_equal(labels, wanted)


def blocks():
    grey = np.zeros((30, 40))
    grey[:15, :20], grey[:15, 20:], grey[15:, :20], grey[15:, 20:] = 20, 90, 160, 230
    return rgb(grey + np.random.default_rng(0).integers(-3, 4, grey.shape))


def test_blocks_of_grey_are_found_whole_by_every_method():
    block = np.repeat(np.repeat([[0, 1], [2, 3]], 15, axis=0), 20, axis=1)
    image = blocks()
    assert np.array_equal(otsu_classes(image, classes=4), block)
    points_xy = [(5, 5), (30, 5), (5, 25), (30, 25)]
    assert np.array_equal(grow_regions(image, points_xy, tolerance=8), block + 1)
    labels = grow_all_regions(image, tolerance=8, regions=4)
    assert sorted(np.unique(labels)) == [1, 2, 3, 4]
    pairs = {(int(a), int(b)) for a, b in zip(labels.flat, block.flat, strict=True)}
    assert len(pairs) == 4
    flooded = gradient_watershed(image, sigma_px=1.0, regions=4)
    inner = np.zeros(block.shape, bool)
    inner[4:11], inner[19:26] = True, True
    inner[:, 16:24] = False
    pairs = {(int(a), int(b)) for a, b in zip(flooded[inner], block[inner], strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}), "no region spans two blocks"


def test_label_maps_of_whole_images_use_every_number_and_hang_together():
    image = np.random.default_rng(0).integers(0, 256, (24, 31, 3)).astype(np.uint8)
    for labels in (
        grow_all_regions(image, regions=9),
        gradient_watershed(image, regions=6),
        gradient_watershed(image, sigma_px=1.0),
    ):
        assert labels.dtype == np.int32
        numbers = np.unique(labels)
        assert numbers.tolist() == list(range(1, len(numbers) + 1))
        for number in numbers:
            _, pieces = ndimage.label(labels == number, np.ones((3, 3)))
            assert pieces == 1
    assert grow_all_regions(image, regions=1).max() == 1
    assert gradient_watershed(image, sigma_px=4.0).max() < gradient_watershed(image).max()


def test_otsu_finds_real_nuclei(shared_data):
    found = []
    source = Nuclei(shared_data / "dsb2018")
    for index in range(5):
        sample = source[index]
        truth = np.zeros(sample.size_hw, bool)
        for instance in sample.instances:
            truth |= decode_rle(instance.rle, sample.size_hw)
        mask = otsu_classes(sample.image) == 1
        found.append((mask & truth).sum() / (mask | truth).sum())
    assert np.mean(found) > 0.75


def test_borders_on_real_photographs_lie_where_people_draw_them_more_than_by_chance(shared_data):
    source = Bsds(shared_data / "bsds500")
    methods = {
        "watershed": lambda image: gradient_watershed(image, regions=60),
        "growing": grow_all_regions,
        "otsu": lambda image: otsu_classes(image, classes=3),
    }
    lifts = {name: [] for name in methods}
    for index in range(4):
        sample = source[index]
        near = ndimage.binary_dilation(find_boundaries(sample.labels), iterations=2)
        for name, method in methods.items():
            borders = find_boundaries(method(sample.image))
            lifts[name].append(near[borders].mean() / near.mean())
    means = {name: np.mean(values) for name, values in lifts.items()}
    assert min(means.values()) > 1.5


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda i: otsu_classes(i, classes=5), "got 5 classes, expected 2 to 4"),
        (lambda i: otsu_classes(i[..., 0]), r"\(30, 40\) and type uint8"),
        (lambda i: otsu_classes(i / 255), "float64"),
        (lambda i: otsu_classes(i[:0]), r"\(0, 40, 3\)"),
        (lambda i: grow_regions(i, [(1, 1), (40, 3)]), r"seed 2 is at \(40, 3\).*40×30"),
        (lambda i: grow_regions(i, [(-1, 0)]), r"seed 1 is at \(-1, 0\)"),
        (lambda i: grow_regions(i, [], tolerance=-1), "tolerance is -1"),
        (lambda i: grow_all_regions(i, regions=0), "got 0 regions"),
        (lambda i: gradient_watershed(i, sigma_px=-1), "sigma -1"),
        (lambda i: gradient_watershed(i, regions=0), "0 regions"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, what):
    with pytest.raises(PixelkinError, match=what):
        call(blocks())
