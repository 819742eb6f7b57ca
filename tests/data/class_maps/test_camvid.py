from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.camvid import (
    CAMVID_CLASSES,
    CAMVID_COLOURS,
    CAMVID_GROUPS,
    CamVid,
    CamVidRgb,
    colour_table,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

NAMES = list(CAMVID_COLOURS)


def picture(path: Path, size_wh: tuple[int, int] = (8, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size_wh, (9, 9, 9)).save(path)


def grey(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def colours(path: Path, indices: np.ndarray) -> None:
    table = np.array(list(CAMVID_COLOURS.values()), np.uint8)
    grey(path, table[indices])


def test_the_real_part_has_eleven_classes_and_void(shared_data: Path) -> None:
    root = shared_data / "camvid"
    train, val = CamVid(root), CamVid(root, "val")
    assert (len(train), len(val)) == (105, 12)
    assert not set(train.names) & set(val.names)
    assert train.class_names == CAMVID_CLASSES
    counts = np.zeros(256, np.int64)
    for index in range(len(val)):
        sample = val[index]
        assert sample.image.shape == (360, 480, 3)
        stored = np.array(Image.open(root / "valannot" / f"{sample.name}.png"))
        np.testing.assert_array_equal(sample.labels, np.where(stored == 11, IGNORE, stored))
        np.testing.assert_array_equal(sample.labels, val.labels(index))
        counts += np.bincount(sample.labels.ravel(), minlength=256)
    # Road is most of a street, and the 11 classes of SegNet's index are those that are there.
    assert CAMVID_CLASSES[counts[:IGNORE].argmax()] == "Road"
    assert (counts[:11] > 0).all()
    assert counts[11:IGNORE].sum() == 0
    assert counts[IGNORE] == 38240


def test_both_voids_of_the_index_are_ignored(tmp_path: Path) -> None:
    picture(tmp_path / "test" / "a.png", (13, 1))
    grey(tmp_path / "testannot" / "a.png", np.array([[*range(12), 255]], np.uint8))
    sample = CamVid(tmp_path, "test")[0]
    assert sample.labels.tolist() == [[*range(11), IGNORE, IGNORE]]
    grey(tmp_path / "testannot" / "a.png", np.array([[*range(12), 31]], np.uint8))
    with pytest.raises(PixelkinError, match=r"a\.png holds 31 in 1 pixel: expected 0 to 10, or 11"):
        CamVid(tmp_path, "test")[0]
    with pytest.raises(PixelkinError, match=r"split 'tests' .* did you mean 'test'"):
        CamVid(tmp_path, "tests")
    grey(tmp_path / "testannot" / "a.png", np.array([[0, 255] * 6 + [0]], np.uint8))
    with pytest.raises(PixelkinError, match=r"a\.png holds no id beside 0 and 255"):
        CamVid(tmp_path, "test")[0]
    (tmp_path / "testannot" / "a.png").unlink()
    with pytest.raises(PixelkinError, match=r"a\.png has no label file"):
        CamVid(tmp_path, "test")


def test_the_32_classes_are_each_of_one_group_or_void() -> None:
    assert len(CAMVID_COLOURS) == len(set(CAMVID_COLOURS.values())) == 32
    assert tuple(CAMVID_GROUPS) == CAMVID_CLASSES
    grouped = [name for group in CAMVID_GROUPS.values() for name in group]
    assert sorted([*grouped, "Void"]) == sorted(NAMES)


PUBLISHED = """
64 128 64 Animal Pedestrian; 192 0 128 Archway Building; 0 128 192 Bicyclist Bicyclist;
0 128 64 Bridge Building; 128 0 0 Building Building; 64 0 128 Car Car;
64 0 192 CartLuggagePram Pedestrian; 192 128 64 Child Pedestrian; 192 192 128 Column_Pole Pole;
64 64 128 Fence Fence; 128 0 192 LaneMkgsDriv Road; 192 0 64 LaneMkgsNonDriv Road;
128 128 64 Misc_Text SignSymbol; 192 0 192 MotorcycleScooter Bicyclist; 128 64 64 OtherMoving Car;
64 192 128 ParkingBlock Pavement; 64 64 0 Pedestrian Pedestrian; 128 64 128 Road Road;
128 128 192 RoadShoulder Pavement; 0 0 192 Sidewalk Pavement; 192 128 128 SignSymbol SignSymbol;
128 128 128 Sky Sky; 64 128 192 SUVPickupTruck Car; 0 0 64 TrafficCone Pole;
0 64 64 TrafficLight SignSymbol; 192 64 128 Train Car; 128 128 0 Tree Tree;
192 128 192 Truck_Bus Car; 64 0 64 Tunnel Building; 192 192 0 VegetationMisc Tree; 0 0 0 Void -;
64 192 0 Wall Building
"""
"""A line of the data set's `label_colors.txt` each, and the class of MATLAB's SegNet example."""


def test_every_published_colour_has_its_class(tmp_path: Path) -> None:
    lines = [line.split() for line in PUBLISHED.replace("\n", " ").split(";")]
    picture(tmp_path / "train" / "a.png", (32, 1))
    rgb = np.array([[[int(value) for value in line[:3]] for line in lines]], np.uint8)
    grey(tmp_path / "train_labels" / "a_L.png", rgb)
    for classes, column in ((32, 3), (11, 4)):
        data = CamVidRgb(tmp_path, "train", classes=classes)
        expected = ["-" if line[3] == "Void" else line[column] for line in lines]
        labels = data[0].labels[0].tolist()
        assert ["-" if n == IGNORE else data.class_names[n] for n in labels] == expected


@pytest.mark.parametrize("split", [None, "train", "val"])
def test_colours_become_32_or_11_classes(tmp_path: Path, split: str | None) -> None:
    grid = np.arange(32).reshape(4, 8)
    images, masks = tmp_path / "701_StillsRaw_full", tmp_path / "LabeledApproved_full"
    if split == "val":
        images, masks = tmp_path / "val", tmp_path / "val_labels"
    for name in ("0001TP_006690", "0016E5_00390"):
        picture(images / f"{name}.png")
        colours(masks / f"{name}_L.png", grid)
    # SegNet's lists hold an image and its map a line.
    (tmp_path / "train.txt").write_text("/data/0016E5_00390.png /data/0016E5_00390_L.png;\n")
    eleven, all_classes = CamVidRgb(tmp_path, split), CamVidRgb(tmp_path, split, classes=32)
    assert eleven.names == (
        ["0016E5_00390"] if split == "train" else ["0001TP_006690", "0016E5_00390"]
    )
    void = NAMES.index("Void")
    np.testing.assert_array_equal(all_classes[0].labels, np.where(grid == void, IGNORE, grid))
    assert all_classes.class_names == tuple(NAMES)
    for name, label in zip(NAMES, eleven[0].labels.ravel().tolist(), strict=True):
        if name == "Void":
            assert label == IGNORE
        else:
            assert name in CAMVID_GROUPS[CAMVID_CLASSES[label]]
    assert set(eleven[0].labels.ravel().tolist()) == {*range(11), IGNORE}
    assert colour_table(11)[NAMES.index("MotorcycleScooter")] == 10


def test_wrong_colours_lists_and_counts_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "701_StillsRaw_full" / "a.png")
    path = tmp_path / "LabeledApproved_full" / "a_L.png"
    colours(path, np.zeros((4, 8), np.int64))
    rgb = np.array(Image.open(path))
    rgb[2, 5] = (64, 128, 65)
    grey(path, rgb)
    with pytest.raises(
        PixelkinError, match=r"a_L\.png has the colour \(64, 128, 65\) at x 5, y 2, which is no"
    ):
        CamVidRgb(tmp_path)[0]
    grey(path, rgb[:2])
    with pytest.raises(PixelkinError, match="is 8×2: expected 8×4"):
        CamVidRgb(tmp_path)[0]
    grey(path, rgb[..., 0])
    with pytest.raises(PixelkinError, match="is PNG of mode L: expected an RGB PNG"):
        CamVidRgb(tmp_path)[0]
    with pytest.raises(PixelkinError, match="classes is 12: expected 11 or 32"):
        CamVidRgb(tmp_path, classes=12)  # type: ignore[arg-type]
    (tmp_path / "train.txt").write_text("b.png\n")
    with pytest.raises(PixelkinError, match=r"train\.txt lists b, which is not there"):
        CamVidRgb(tmp_path, "train")
    with pytest.raises(PixelkinError, match=r"split 'trai' .* did you mean 'train'"):
        CamVidRgb(tmp_path, "trai")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(PixelkinError, match=r"train\.txt lists no image"):
        CamVidRgb(tmp_path, "train")
