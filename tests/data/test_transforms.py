"""Image, ids and boxes move together, and no id is ever made up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pixelkin.data.appearance import Blur, ColourJitter, Noise
from pixelkin.data.instances.instance_png import InstancePng
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.transforms import (
    Compose,
    RandomWindow,
    Transform,
    boxes_xyxy,
    flip_horizontal,
    flip_vertical,
    ignore_small,
    resize,
    rotate_90,
    warp,
)
from pixelkin.errors import PixelkinError
from pixelkin.masks import paint_instances
from pixelkin.structures import IGNORE, InstanceSample, Sample, nth_instance_id

SEEDS = st.integers(0, 2**31)


def colours_of(labels: np.ndarray) -> np.ndarray:
    """An image that says its labels in its colours."""
    return np.stack([labels % 251, labels // 7 % 241, labels * 37 % 239], -1).astype(np.uint8)


def blocks(seed: int, rows: int = 9, columns: int = 11, side: int = 12) -> Sample:
    """Random ids, many beyond 255, in squares of `side` pixels; image in the labels' colours."""
    rng = np.random.default_rng(seed)
    count = 600
    ids = np.array([0, 0, IGNORE, *(nth_instance_id(i) for i in range(count))])
    labels = np.kron(rng.choice(ids, (rows, columns)), np.ones((side, side), np.int64))
    return Sample(colours_of(labels), labels, "blocks", tuple(range(count)))


def shares_its_surroundings(labels: np.ndarray, reach: int) -> np.ndarray:
    size = 2 * reach + 1
    around = np.lib.stride_tricks.sliding_window_view(labels, (size, size))
    same = np.zeros(labels.shape, bool)
    same[reach:-reach, reach:-reach] = around.min((2, 3)) == around.max((2, 3))
    return same & (labels != IGNORE)


def plain_boxes(labels: np.ndarray) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for y, row in enumerate(labels.tolist()):
        for x, label in enumerate(row):
            if label in (0, IGNORE):
                continue
            box = found.setdefault(label, [x, y, x + 1, y + 1])
            found[label] = [
                min(box[0], x),
                min(box[1], y),
                max(box[2], x + 1),
                max(box[3], y + 1),
            ]
    return found


def wild_window(size_hw: tuple[int, int] = (70, 90), near: float = 0.5) -> RandomWindow:
    return RandomWindow(
        size_hw,
        scale=(0.5, 2.5),
        rotate_degrees=180,
        shear_degrees=15,
        flip=True,
        rot90=True,
        near_instance=near,
    )


@given(seed=SEEDS)
def test_flips_undo_themselves_and_quarter_turns_add_up(seed: int) -> None:
    sample = blocks(seed, side=3)
    chains: list[list[Transform]] = [
        [flip_horizontal, flip_horizontal],
        [flip_vertical, flip_vertical],
        [rotate_90, rotate_90, rotate_90, rotate_90],
        [flip_horizontal, flip_vertical, lambda s: rotate_90(s, turns=2)],
    ]
    for chain in chains:
        there_and_back = Compose(tuple(chain))(sample)
        np.testing.assert_array_equal(there_and_back.image, sample.image)
        np.testing.assert_array_equal(there_and_back.labels, sample.labels)
        assert there_and_back.categories == sample.categories
    assert not (flip_horizontal(sample).labels == sample.labels).all()


@given(seed=SEEDS)
@settings(max_examples=60, deadline=None)
def test_image_and_labels_move_together_and_no_id_is_made_up(seed: int) -> None:
    sample = blocks(seed)
    np.random.seed(seed)
    moved = wild_window()(sample)
    assert moved.labels.shape == moved.image.shape[:2] == (70, 90)
    assert moved.labels.dtype == np.int64
    assert moved.image.dtype == np.uint8
    assert set(np.unique(moved.labels)) <= {*np.unique(sample.labels), IGNORE}
    inner = shares_its_surroundings(moved.labels, 2)
    np.testing.assert_array_equal(moved.image[inner], colours_of(moved.labels)[inner])
    assert moved.categories == sample.categories


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_objects_of_a_class_map_stay_under_their_classes(seed: int) -> None:
    """Single pixels of 600 ids, so that half a pixel's difference would show."""
    instances = blocks(seed, rows=40, columns=50, side=1)
    table = np.random.default_rng(seed).integers(0, 7, 700)
    table[0], table[IGNORE] = 0, IGNORE
    sample = Sample(instances.image, table[instances.labels], objects=instances.labels)
    np.random.seed(seed)
    transforms: list[Transform] = [
        flip_horizontal, flip_vertical, rotate_90, lambda s: resize(s, (31, 57)), wild_window()
    ]  # fmt: skip
    for transform in transforms:
        moved = transform(sample)
        assert moved.objects is not None
        assert moved.objects.dtype == np.int64
        np.testing.assert_array_equal(moved.labels, table[moved.objects])
        # A window may lie nearly beside the image. Too many such would fail the test.
        assume(len(np.unique(moved.objects)) > 50)
        assert not np.array_equal(moved.objects, sample.objects)


def test_the_comparison_of_image_and_labels_compares_something() -> None:
    np.random.seed(3)
    seen = [shares_its_surroundings(wild_window()(blocks(s)).labels, 2).mean() for s in range(20)]
    assert np.mean(seen) > 0.1


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_warp_reads_the_nearest_label(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2000, (23, 31)) + 2**24  # float32 would round such ids
    sample = Sample(np.zeros((23, 31, 3), np.uint8), labels)
    matrix = np.column_stack([rng.normal(0, 1, (2, 2)), rng.uniform(0, 25, 2)])
    moved = warp(sample, matrix, size_hw=(14, 17))
    compared = 0
    for y in range(14):
        for x in range(17):
            column, row = matrix @ [x, y, 1]
            if max(abs(column % 1 - 0.5), abs(row % 1 - 0.5)) < 0.05 or (
                min(abs(column % 1 - 0.5), abs(row % 1 - 0.5)) < 0.05
            ):
                continue  # between two pixels, either is near
            compared += 1
            i, j = round(row), round(column)
            inside = 0 <= i < 23 and 0 <= j < 31
            assert moved.labels[y, x] == (labels[i, j] if inside else IGNORE)
    assert compared > 50


def test_a_window_of_half_size_averages_instead_of_skipping() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    sample = Sample(stripes, np.zeros((64, 64), np.int64))
    matrix = np.array([[2.0, 0, 8], [0, 2.0, 8]])
    inner = warp(sample, matrix, size_hw=(16, 16)).image[2:-2, 2:-2]
    np.testing.assert_allclose(inner, 100, atol=20)  # skipped lines would leave 0 or 200


def test_shrinking_keeps_things_where_they_are() -> None:
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:70, 50:95] = 255
    labels = (image[..., 0] > 0).astype(np.int64)
    for matrix in ([[3.0, 0, 2], [0, 3.0, 1]], [[2.2, 0.9, 4], [-0.9, 2.2, 20]]):
        moved = warp(Sample(image, labels), np.array(matrix), size_hw=(36, 40))
        assert 40 < (moved.labels == 1).sum() < 500
        bright = np.argwhere(moved.image[..., 0] > 127).mean(0)
        np.testing.assert_allclose(bright, np.argwhere(moved.labels == 1).mean(0), atol=0.15)


@given(seed=SEEDS, flip=st.booleans(), rot90=st.booleans())
@settings(deadline=None, max_examples=60)
def test_a_window_without_scale_and_turn_is_an_exact_copy(
    seed: int, flip: bool, rot90: bool
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(24 * 30, dtype=np.int64).reshape(24, 30) + 256
    sample = Sample(rng.integers(0, 256, (24, 30, 3), dtype=np.uint8), labels)
    np.random.seed(seed)
    moved = RandomWindow((13, 16), flip=flip, rot90=rot90)(sample)
    # Every label stands for one pixel, so it says where the image must have come from.
    rows, columns = np.divmod(moved.labels - 256, 30)
    np.testing.assert_array_equal(moved.image, sample.image[rows, columns])
    if not (flip or rot90):
        y, x = int(rows[0, 0]), int(columns[0, 0])
        np.testing.assert_array_equal(moved.labels, labels[y : y + 13, x : x + 16])


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_still_smaller_than_the_window_lies_whole_in_it(seed: int) -> None:
    sample = Sample(
        np.full((9, 7, 3), 90, np.uint8), np.arange(63, dtype=np.int64).reshape(9, 7) + 300
    )
    np.random.seed(seed)
    for reflect, around in ((True, 90), (False, 0)):
        moved = RandomWindow((20, 16), reflect=reflect, rot90=True, near_instance=0.5)(sample)
        inside = moved.labels != IGNORE
        assert sorted(moved.labels[inside]) == list(range(300, 363))
        assert (moved.image[~inside] == around).all()
        assert (moved.image[inside] == 90).all()


def test_windows_near_instances_hold_one_and_choose_small_ones_as_often() -> None:
    labels = np.zeros((300, 400), np.int64)
    labels[20:180, 30:200] = 1
    labels[250:253, 340:343] = 2
    labels[0, 0] = 300
    labels[299, :9] = IGNORE
    sample = Sample(np.zeros((300, 400, 3), np.uint8), labels)
    np.random.seed(0)
    window = RandomWindow((64, 48), scale=(1.0, 1.5), rotate_degrees=40, near_instance=1.0)
    seen = [set(np.unique(window(sample).labels)) - {0, IGNORE} for _ in range(400)]
    assert all(seen)
    # Blind draws from 1 … 300 hardly find any: chosen by their pixels then. 1 … 3 are found.
    several = Sample(sample.image, np.where(labels == 300, 3, labels))
    seen = [set(np.unique(window(several).labels)) for _ in range(400)]
    assert all(np.mean([label in s for s in seen]) > 0.25 for label in (1, 2, 3))
    anywhere = RandomWindow((64, 48))
    assert np.mean([2 in np.unique(anywhere(sample).labels) for _ in range(200)]) < 0.2


def test_windows_of_a_still_without_instances_lie_anywhere() -> None:
    labels = np.zeros((60, 60), np.int64)
    labels[:9] = IGNORE
    np.random.seed(1)
    moved = RandomWindow((16, 16), near_instance=1.0)(
        Sample(np.zeros((60, 60, 3), np.uint8), labels)
    )
    assert set(np.unique(moved.labels)) <= {0, IGNORE}


def test_scale_turn_and_lean_span_their_range() -> None:
    np.random.seed(5)
    window = RandomWindow((32, 32), scale=(0.5, 2.0), rotate_degrees=30)
    maps = [window._draw_linear() for _ in range(500)]
    zooms = [1 / np.sqrt(np.linalg.det(m)) for m in maps]
    turns = [np.degrees(np.arctan2(m[1, 0], m[0, 0])) for m in maps]
    assert 0.5 <= min(zooms) < 0.55
    assert 1.8 < max(zooms) <= 2
    assert abs(np.mean(np.log(zooms))) < 0.1
    assert -30 <= min(turns) < -27
    assert 27 < max(turns) <= 30
    leaning = RandomWindow((32, 32), shear_degrees=20)
    angles = [np.degrees(np.arctan2(*leaning._draw_linear()[:, 1])) for _ in range(200)]
    assert 17 < np.max(np.abs(angles)) <= 20
    symmetric = RandomWindow((32, 32), flip=True, rot90=True)
    drawn = {tuple(np.rint(symmetric._draw_linear()).ravel()) for _ in range(200)}
    assert len(drawn) == 8


@given(seed=SEEDS)
@settings(max_examples=40, deadline=None)
def test_boxes_equal_plain_loops(seed: int) -> None:
    np.random.seed(seed)
    labels = wild_window((30, 40))(blocks(seed)).labels
    ids, boxes = boxes_xyxy(labels)
    expected = plain_boxes(labels)
    assert ids.tolist() == sorted(expected)
    assert boxes.tolist() == [expected[i] for i in sorted(expected)]
    assert boxes.dtype == ids.dtype == np.int64


def test_boxes_of_nothing() -> None:
    ids, boxes = boxes_xyxy(np.full((4, 5), IGNORE))
    assert ids.shape == (0,)
    assert boxes.shape == (0, 4)


@given(seed=SEEDS, least=st.integers(1, 60))
@settings(max_examples=40, deadline=None)
def test_small_instances_become_ignored(seed: int, least: int) -> None:
    np.random.seed(seed)
    sample = wild_window((30, 40))(blocks(seed))
    cleaned = ignore_small(sample, min_pixels=least)
    for label in np.unique(sample.labels):
        where = sample.labels == label
        kept = label == 0 or where.sum() >= least
        assert (cleaned.labels[where] == (label if kept else IGNORE)).all()


@pytest.mark.parametrize("size_hw", [(36, 44), (108, 132), (75, 301), (216, 264)])
def test_resize_keeps_labels_on_their_pixels(size_hw: tuple[int, int]) -> None:
    sample = blocks(7)
    scaled = resize(sample, size_hw)
    assert scaled.labels.shape == size_hw
    inner = shares_its_surroundings(scaled.labels, 1)
    assert inner.mean() > 0.1
    np.testing.assert_array_equal(scaled.image[inner], colours_of(scaled.labels)[inner])
    for box, label in zip(*reversed(boxes_xyxy(scaled.labels)), strict=True):
        rows, columns = np.nonzero(sample.labels == label)
        ratio = np.array([size_hw[1] / 132, size_hw[0] / 108])
        exact = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(box - exact * np.tile(ratio, 2)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomWindow((0, 5)),
        lambda: RandomWindow((5, 5), scale=(2.0, 1.0)),
        lambda: RandomWindow((5, 5), scale=(0.0, 1.0)),
        lambda: RandomWindow((5, 5), near_instance=1.5),
        lambda: RandomWindow((5, 5), shear_degrees=90),
        lambda: resize(blocks(0), (0, 4)),
        lambda: resize(
            Sample(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 2**31, np.int64)), (2, 2)
        ),
        lambda: resize(
            Sample(np.zeros((4, 4, 3), np.uint8), np.full((4, 4), -1, np.int64)), (2, 2)
        ),
    ],
)
def test_mistakes_are_said_in_one_line(make: Callable[[], object]) -> None:
    with pytest.raises(PixelkinError, match="expected") as caught:
        make()
    assert "\n" not in str(caught.value)


def painted(item: Sample | InstanceSample) -> Sample:
    return paint_instances(item) if isinstance(item, InstanceSample) else item


CHAIN = Compose(
    (
        wild_window((128, 128), near=1.0),
        ColourJitter(brightness=0.1, contrast=0.3, gamma=0.3, saturation=0.3, invert=0.5),
        Blur(probability=0.5),
        Noise(probability=0.5),
    )
)


def test_real_nuclei_beyond_255_survive(shared_data: Path) -> None:
    root = shared_data / "dsb2018"
    crowd = max(root.glob("*/masks"), key=lambda folder: len(list(folder.iterdir()))).parent.name
    data = Nuclei(root)
    sample = painted(data[data.names.index(crowd)])
    assert sample.labels.max() > 300
    np.random.seed(0)
    seen: set[int] = set()
    for _ in range(60):
        moved = CHAIN(sample)
        ids = set(np.unique(moved.labels).tolist())
        assert ids <= {*np.unique(sample.labels).tolist(), IGNORE}
        assert ids - {0, IGNORE}
        assert moved.categories == sample.categories
        seen |= ids
    assert len([label for label in seen if label > IGNORE]) > 50
    expected = plain_boxes(moved.labels)
    assert boxes_xyxy(moved.labels)[1].tolist() == [expected[i] for i in sorted(expected)]


def test_real_pedestrians_stay_on_their_pixels(shared_data: Path) -> None:
    folder = shared_data / "penn_fudan"
    data = InstancePng(folder / "PNGImages", folder / "PedMasks", mask_suffix="_mask")
    sample = painted(data[0])
    tagged = Sample(colours_of(sample.labels), sample.labels, sample.name, sample.categories)
    for seed in range(10):
        np.random.seed(seed)
        moved = wild_window((192, 160), near=1.0)(tagged)
        assert moved.labels[moved.labels != IGNORE].any()
        inner = shares_its_surroundings(moved.labels, 3)
        differs = moved.image[inner] != colours_of(moved.labels)[inner]
        # Slits of a few pixels between legs are there in the average, but not in the nearest.
        assert differs.mean() < 0.002
