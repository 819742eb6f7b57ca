from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.class_maps.bdd100k import (
    LANE_CLASSES,
    PANOPTIC_CLASSES,
    BddDrivable,
    BddLanes,
    BddPanopticSemantic,
    BddSemantic,
    lane_bytes,
    lane_labels,
)
from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES
from pixelkin.data.instances.bdd100k import INSTANCE_CLASSES, BddInstances
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle

NAME = "0a0a0b1a-7c39d841"
FILE = Path("lane.png")


def write_bdd(
    root: Path, labels: np.ndarray, *, task: str, images: str = "10k", kind: str = "masks"
) -> Path:
    path = root / "labels" / task / kind / "train" / f"{NAME}.png"
    picture = root / "images" / images / "train" / f"{NAME}.jpg"
    for one in (path, picture):
        one.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (labels.shape[1], labels.shape[0])).save(picture)
    Image.fromarray(labels).save(path)
    return path


def test_semantic_and_drivable_maps(tmp_path: Path) -> None:
    grid = np.array([[*range(19), 255]], np.uint8)
    write_bdd(tmp_path, grid, task="sem_seg")
    data = BddSemantic(tmp_path)
    assert data.names == [NAME]
    assert data.class_names == CITYSCAPES_CLASSES
    np.testing.assert_array_equal(data[0].labels, grid)
    path = write_bdd(tmp_path, np.array([[0, 1, 2]], np.uint8), task="drivable", images="100k")
    drivable = BddDrivable(tmp_path)
    assert drivable.class_names == ("direct", "alternative", "background")
    assert drivable[0].labels.tolist() == [[0, 1, 2]]
    Image.fromarray(np.array([[0, 1, 3]], np.uint8)).save(path)
    with pytest.raises(PixelkinError, match=r"7c39d841\.png holds 3 in 1 pixel: expected 0 to 2"):
        drivable[0]
    with pytest.raises(PixelkinError, match=r"split 'val' is unknown .*'train'"):
        BddDrivable(tmp_path, "val")
    path.unlink()
    with pytest.raises(PixelkinError, match=r"7c39d841\.jpg has no label file"):
        BddDrivable(tmp_path)


# Lane marks


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50))
def test_lane_bytes_are_read_bit_by_bit(values: list[int]) -> None:
    grid = np.array([values], np.uint8)
    strange = [v for v in values if 63 < v < 255]
    for target, kinds in LANE_CLASSES.items():
        if strange:
            count = values.count(strange[0])
            told = rf"lane\.png holds {strange[0]} in {count} pixels?: expected bytes of lane marks"
            with pytest.raises(PixelkinError, match=told):
                lane_labels(grid, target, FILE)
            continue
        expected = []
        for value in values:
            # Bit 7 is the first letter: …direction, style, background, three of the category.
            bits = f"{value:08b}"
            own = {"category": int(bits[5:], 2), "style": int(bits[3]), "direction": int(bits[2])}
            expected.append(len(kinds) - 1 if bits[4] == "1" else own[target])
        assert lane_labels(grid, target, FILE).tolist() == [expected]


lane_pixels = st.tuples(st.integers(0, 8), st.integers(0, 1), st.integers(0, 1))


@given(st.lists(lane_pixels, min_size=1, max_size=50))
def test_lane_marks_survive_a_round_trip(pixels: list[tuple[int, int, int]]) -> None:
    category, style, direction = np.array(pixels).T[:, None]
    background = category == 8
    style, direction = np.where(background, 2, style), np.where(background, 2, direction)
    packed = lane_bytes(category, style, direction)
    assert packed.dtype == np.uint8
    assert (packed[background] == 255).all()
    np.testing.assert_array_equal(lane_labels(packed, "category", FILE), category)
    np.testing.assert_array_equal(lane_labels(packed, "style", FILE), style)
    np.testing.assert_array_equal(lane_labels(packed, "direction", FILE), direction)


def test_lane_maps_of_a_data_set(tmp_path: Path) -> None:
    # A dashed single white, a vertical crosswalk, background in both ways.
    grid = np.array([[0b010110, 0b100000, 255, 0b001000]], np.uint8)
    write_bdd(tmp_path, grid, task="lane", images="100k")
    named = {
        target: [BddLanes(tmp_path, target=target).class_names[n] for n in labels]
        for target in LANE_CLASSES
        for labels in BddLanes(tmp_path, target=target)[0].labels.tolist()
    }
    assert named == {
        "category": ["single white", "crosswalk", "background", "background"],
        "style": ["dashed", "solid", "background", "background"],
        "direction": ["parallel", "vertical", "background", "background"],
    }
    assert [len(kinds) for kinds in LANE_CLASSES.values()] == [9, 3, 3]
    with pytest.raises(PixelkinError, match="target 'kind' is unknown: expected one of 'category'"):
        BddLanes(tmp_path, target="kind")  # type: ignore[arg-type]


def test_binary_masks_are_no_lanes_and_crosswalks_alone_are(tmp_path: Path) -> None:
    grid = np.full((10, 20), 255, np.uint8)
    path = write_bdd(tmp_path, grid, task="lane", images="100k")
    data = BddLanes(tmp_path)
    assert (data[0].labels == 8).all()
    # Two thin lines are a crosswalk without anything else; more of it is a mask's ground.
    grid[4, ::2] = 0
    Image.fromarray(grid).save(path)
    assert (data[0].labels == np.where(grid == 0, 0, 8)).all()
    for rows, share in ((2, "25%"), (8, "80%"), (10, "100%")):
        grid[:rows] = 0
        Image.fromarray(grid).save(path)
        told = rf"7c39d841\.png holds nothing but 0 and 255, .* in {share} of its .*; use the files"
        with pytest.raises(PixelkinError, match=told):
            data[0]
    # Beside a single lane mark of another kind it is no mask.
    grid[9, 9] = 6
    Image.fromarray(grid).save(path)
    assert data[0].labels[9, 9] == 6


def test_road_alone_in_what_is_unknown_is_no_fault(tmp_path: Path) -> None:
    grid = np.array([[0, 0, 255]], np.uint8)
    write_bdd(tmp_path, grid, task="sem_seg")
    np.testing.assert_array_equal(BddSemantic(tmp_path)[0].labels, grid)


# Bitmasks


def test_forty_classes_of_panoptic_bitmasks(tmp_path: Path) -> None:
    grid = np.zeros((1, 41, 4), np.uint8)
    grid[0, :, 0] = range(41)
    grid[0, :, 3] = range(41)
    write_bdd(tmp_path, grid, task="pan_seg", kind="bitmasks")
    data = BddPanopticSemantic(tmp_path)
    assert len(PANOPTIC_CLASSES) == len(set(PANOPTIC_CLASSES)) == 40
    assert [PANOPTIC_CLASSES[n - 1] for n in (1, 7, 31, 40)] == [
        *("dynamic", "road", "person", "truck"),
    ]
    assert data[0].labels.tolist() == [[255, *range(40)]]
    grid[0, 0, 0] = 41
    write_bdd(tmp_path, grid, task="pan_seg", kind="bitmasks")
    with pytest.raises(PixelkinError, match="holds 41 in 1 pixel: expected categories 0 to 40 in"):
        data[0]
    write_bdd(tmp_path, grid[..., :3], task="pan_seg", kind="bitmasks")
    with pytest.raises(PixelkinError, match="is PNG of mode RGB: expected an RGBA PNG"):
        data[0]


def bitmask(pixels: list[tuple[int, int, int]]) -> np.ndarray:
    """R category, G attributes, id in B and A."""
    return np.array([[(r, g, number >> 8, number & 255) for r, g, number in pixels]], np.uint8)


PIXELS = [
    (0, 0, 0),
    (0, 3, 1),  # Background of a blank mask, its id no instance's.
    (3, 0b1100, 2),
    (3, 0b1100, 2),
    (1, 0b0010, 258),
    (8, 0b0001, 9),
    (8, 0b0000, 10),
]


def test_instances_of_bitmasks(tmp_path: Path) -> None:
    path = write_bdd(tmp_path, bitmask(PIXELS), task="ins_seg", kind="bitmasks")
    data = BddInstances(tmp_path)
    sample = data[0]
    assert data.class_names == INSTANCE_CLASSES
    assert [(one.key, data.class_names[one.category], one.crowd) for one in sample.instances] == [
        ("2", "car", False),
        ("10", "bicycle", False),
        ("258", "pedestrian", True),
    ]
    for one in sample.instances:
        mask = [r > 0 and number == int(one.key) for r, _, number in PIXELS]
        assert decode_rle(one.rle, (1, 7)).tolist() == [mask]
    assert sample.ignore is not None
    assert decode_rle(sample.ignore, (1, 7)).tolist() == [[r == 8 and g == 1 for r, g, _ in PIXELS]]
    Image.fromarray(bitmask([(0, 0, 0)] * 7)).save(path)
    assert (data[0].instances, data[0].ignore) == ((), None)


@pytest.mark.parametrize(
    ("pixels", "match"),
    [
        ([(9, 0, 1)], "holds category 9 in R: expected 0 to 8"),
        ([(1, 0, 0)], "holds an instance of id 0"),
        ([(1, 0, 5), (2, 0, 5)], r"pixels of id 5 have .* \(1, 0\) and \(2, 0\)"),
        ([(1, 0, 5), (1, 8, 5)], r"pixels of id 5 have .* \(1, 0\) and \(1, 8\)"),
    ],
)
def test_bitmasks_that_contradict_themselves_are_named(
    tmp_path: Path, pixels: list[tuple[int, int, int]], match: str
) -> None:
    write_bdd(tmp_path, bitmask(pixels), task="ins_seg", kind="bitmasks")
    with pytest.raises(PixelkinError, match=match):
        BddInstances(tmp_path)[0]


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 65535)), min_size=1, max_size=30))
def test_ids_of_two_bytes_survive(pairs: list[tuple[int, int]]) -> None:
    from pixelkin.data.instances.bdd100k import bitmask_ids

    kind_of = {number: kind for kind, number in pairs}
    pixels = [(kind, 0, number) for number, kind in kind_of.items()]
    ids, kinds = bitmask_ids(bitmask(pixels), FILE)
    assert ids.tolist() == [list(kind_of)]
    assert kinds == {number: (kind, 0) for number, kind in kind_of.items()}
