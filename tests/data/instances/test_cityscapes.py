from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.instances.cityscapes import THING_IDS, VOID_IDS, Cityscapes
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances

# Road, sky, the hood of the own car, two cars and a group of cars, a rider on a bicycle, a caravan
# and a trailer group.
IDS = np.array(
    [
        [23, 23, 23, 23, 23],
        [26000, 26000, 26, 26001, 30],
        [25000, 33000, 26, 26001, 29000],
        [7, 7, 0, 7, 7],
        [1, 1, 1, 1, 1],
    ]
)
NAME = "aachen_000000_000019"


def write_city(root: Path, ids: np.ndarray, *, name: str = NAME, kind: str = "gtFine") -> Path:
    city = name.split("_")[0]
    images, masks = root / "leftImg8bit" / "train" / city, root / kind / "train" / city
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 5), (1, 2, 3)).save(images / f"{name}_leftImg8bit.png")
    mask = masks / f"{name}_{kind}_instanceIds.png"
    Image.fromarray(ids if ids.dtype == np.uint8 else ids.astype(np.uint16)).save(mask)
    return mask


def test_numbered_things_are_instances_and_groups_are_crowds(tmp_path: Path) -> None:
    write_city(tmp_path, IDS)
    data = Cityscapes(tmp_path)
    assert data.names == [NAME]
    assert data.class_names == (
        *("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"),
    )
    sample = data[0]
    found = [(one.key, data.class_names[one.category], one.crowd) for one in sample.instances]
    assert found == [
        ("26", "car", True),
        ("25000", "rider", False),
        ("26000", "car", False),
        ("26001", "car", False),
        ("33000", "bicycle", False),
    ]
    for instance in sample.instances:
        np.testing.assert_array_equal(decode_rle(instance.rle, (5, 5)), int(instance.key) == IDS)
    assert sample.ignore is not None
    # The hood, unlabeled, and the group of trailers; a single caravan is background.
    void = np.isin(IDS, [1, 0, 30])
    np.testing.assert_array_equal(decode_rle(sample.ignore, (5, 5)), void)
    painted = paint_instances(sample)
    assert painted.labels.tolist() == [
        [0, 0, 0, 0, 0],
        [2, 2, 255, 3, 255],
        [1, 4, 255, 3, 0],
        [0, 0, 255, 0, 0],
        [255, 255, 255, 255, 255],
    ]
    assert painted.categories == (1, 2, 2, 7)


def test_every_id_that_the_official_label_table_has(tmp_path: Path) -> None:
    # From the table of the data set: ignored in evaluation, and counted one by one.
    ignored = {0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30}
    assert ignored == VOID_IDS
    assert set(THING_IDS) == set(range(24, 34)) - {29, 30}
    ids = np.resize(np.array([*range(34), *(i * 1000 + 999 for i in range(24, 34))]), (9, 5))
    write_city(tmp_path, ids)
    image = tmp_path / "leftImg8bit/train/aachen" / f"{NAME}_leftImg8bit.png"
    Image.new("RGB", (5, 9)).save(image)
    sample = Cityscapes(tmp_path)[0]
    assert {int(one.key) for one in sample.instances if one.crowd} == set(THING_IDS)
    single = {int(one.key) for one in sample.instances if not one.crowd}
    assert single == {i * 1000 + 999 for i in THING_IDS}
    assert len(sample.instances) == 16


def test_a_scene_without_things(tmp_path: Path) -> None:
    write_city(tmp_path, np.full((5, 5), 7))
    sample = Cityscapes(tmp_path)[0]
    assert sample.instances == ()
    assert sample.ignore is None


def test_cities_are_sorted_and_coarse_masks_are_found(tmp_path: Path) -> None:
    for name in ("zurich_000000_000019", NAME):
        write_city(tmp_path, IDS, name=name, kind="gtCoarse")
    assert Cityscapes(tmp_path, annotation="gtCoarse").names == [NAME, "zurich_000000_000019"]
    with pytest.raises(PixelkinError, match="gtFine: expected"):
        Cityscapes(tmp_path)
    with pytest.raises(PixelkinError, match="'gtfine' is unknown: expected 'gtFine' or 'gtCoarse'"):
        Cityscapes(tmp_path, annotation="gtfine")  # type: ignore[arg-type]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    mask = write_city(tmp_path, IDS)
    data = Cityscapes(tmp_path)
    write_city(tmp_path, np.full((5, 5), 7, np.uint8))
    with pytest.raises(PixelkinError, match=r"instanceIds\.png has 8 bits a pixel: expected 16"):
        data[0]
    for wrong in (34, 999, 7001, 23999, 34000):
        write_city(tmp_path, np.where(IDS == 7, wrong, IDS))
        with pytest.raises(PixelkinError, match=f"holds id {wrong}: expected 0 to 33"):
            data[0]
    write_city(tmp_path, IDS[:4])
    with pytest.raises(PixelkinError, match="is 5×4: expected 5×5"):
        data[0]
    Image.new("RGBA", (5, 5)).save(mask)
    with pytest.raises(PixelkinError, match="of mode RGBA: expected a PNG whose pixels are indic"):
        data[0]
    mask.unlink()
    with pytest.raises(PixelkinError, match=f"{NAME}_leftImg8bit.png has no mask: expected"):
        Cityscapes(tmp_path)
    with pytest.raises(PixelkinError, match=r"split 'tran' is unknown .* did you mean 'train'"):
        Cityscapes(tmp_path, "tran")
    (tmp_path / "leftImg8bit" / "val").mkdir()
    with pytest.raises(PixelkinError, match="val holds no image: expected the Cityscapes layout"):
        Cityscapes(tmp_path, "val")
    with pytest.raises(PixelkinError, match="leftImg8bit: expected the Cityscapes layout"):
        Cityscapes(tmp_path / "nowhere")
