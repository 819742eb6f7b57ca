from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES
from pixelkin.data.class_maps.kitti import KittiInstances, KittiSemantic
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle

# Road, two cars, a group of cars, a person, unlabeled, ego vehicle, a licence plate (−1).
LABELS = np.array([[7, 26, 26, 26], [24, 0, 1, 255]])
NUMBERS = np.array([[0, 1, 2, 0], [255, 0, 0, 0]])


def write_kitti(root: Path, name: str, labels: np.ndarray, numbers: np.ndarray) -> None:
    base = root / "training"
    height, width = labels.shape
    arrays = {
        "image_2": np.zeros((height, width, 3), np.uint8),
        "semantic": labels.astype(np.uint8),
        "instance": (labels * 256 + numbers).astype(np.uint16),
    }
    for folder, array in arrays.items():
        (base / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(base / folder / f"{name}.png")


def test_images_of_mixed_sizes_have_the_classes_of_cityscapes(tmp_path: Path) -> None:
    write_kitti(tmp_path, "000000_10", LABELS, NUMBERS)
    write_kitti(tmp_path, "000001_10", LABELS[:, :3], NUMBERS[:, :3])
    for root in (tmp_path, tmp_path / "training"):
        data = KittiSemantic(root)
        assert data.names == ["000000_10", "000001_10"]
        assert data.class_names == CITYSCAPES_CLASSES
        expected = np.array([[0, 13, 13, 13], [11, 255, 255, 255]])
        np.testing.assert_array_equal(data[0].labels, expected)
        np.testing.assert_array_equal(data[1].labels, expected[:, :3])


def test_numbered_pixels_are_instances(tmp_path: Path) -> None:
    write_kitti(tmp_path, "000000_10", LABELS, NUMBERS)
    data = KittiInstances(tmp_path)
    sample = data[0]
    found = {
        (data.class_names[one.category], one.crowd): decode_rle(one.rle, (2, 4)).tolist()
        for one in sample.instances
        if one.key != "6658"
    }
    assert [one.key for one in sample.instances] == ["6399", "6656", "6657", "6658"]
    pixels = LABELS * 256 + NUMBERS
    assert found == {
        ("person", False): (pixels == 24 * 256 + 255).tolist(),
        ("car", True): (pixels == 26 * 256).tolist(),
        ("car", False): (pixels == 26 * 256 + 1).tolist(),
    }
    assert sample.ignore is not None
    np.testing.assert_array_equal(decode_rle(sample.ignore, (2, 4)), np.isin(LABELS, [0, 1, 255]))


def test_wrong_files_are_named(tmp_path: Path) -> None:
    write_kitti(tmp_path, "000000_10", LABELS, NUMBERS)
    semantic, instances = KittiSemantic(tmp_path), KittiInstances(tmp_path)
    base = tmp_path / "training"
    for folder, data in (("semantic", semantic), ("instance", instances)):
        write_kitti(tmp_path, "000000_10", LABELS + 27, NUMBERS)
        with pytest.raises(PixelkinError, match=rf"{folder}/000000_10\.png holds \d+ in"):
            data[0]
    Image.fromarray(LABELS.astype(np.uint8)).save(base / "instance" / "000000_10.png")
    with pytest.raises(PixelkinError, match=r"has 8 bits a pixel: expected 16, label id \* 256"):
        instances[0]
    Image.fromarray(LABELS.astype(np.uint16)).save(base / "semantic" / "000000_10.png")
    with pytest.raises(PixelkinError, match="has 16 bits a pixel"):
        semantic[0]
    for binary in (np.where(LABELS == 26, 255, 0), np.full_like(LABELS, 255)):
        Image.fromarray(binary.astype(np.uint8)).save(base / "semantic" / "000000_10.png")
        with pytest.raises(
            PixelkinError, match=r"semantic/000000_10\.png holds no id beside 0 and 255.*; if 255"
        ):
            semantic[0]
    Image.fromarray(np.zeros_like(LABELS, np.uint8)).save(base / "semantic" / "000000_10.png")
    assert (semantic[0].labels == 255).all()
    (base / "semantic" / "000000_10.png").unlink()
    with pytest.raises(PixelkinError, match=r"000000_10\.png has no label file"):
        KittiSemantic(tmp_path)
    with pytest.raises(PixelkinError, match="expected KITTI's data_semantics"):
        KittiSemantic(base / "instance")
