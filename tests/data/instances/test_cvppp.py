from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.instances.cvppp import Cvppp
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances, write_indexed_png

LEAVES = np.array([[0, 1, 1, 0], [2, 2, 1, 0], [5, 5, 0, 0]])


def write_plant(folder: Path, number: int, leaves: np.ndarray = LEAVES) -> None:
    folder.mkdir(exist_ok=True)
    Image.new("RGBA", (4, 3), (9, 8, 7, 255)).save(folder / f"plant{number:03d}_rgb.png")
    write_indexed_png(folder / f"plant{number:03d}_label.png", leaves)


def test_leaves_are_instances(tmp_path: Path) -> None:
    write_plant(tmp_path, 2)
    write_plant(tmp_path, 1, np.zeros((3, 4), int))
    (tmp_path / "plant001_fg.png").write_bytes(b"")
    data = Cvppp(tmp_path)
    assert data.names == ["plant001", "plant002"]
    assert data.class_names == ("leaf",)
    assert data[0].instances == ()
    sample = data[1]
    assert [one.key for one in sample.instances] == ["1", "2", "5"]
    for leaf in sample.instances:
        np.testing.assert_array_equal(decode_rle(leaf.rle, (3, 4)), int(leaf.key) == LEAVES)
    np.testing.assert_array_equal(paint_instances(sample).labels, np.where(LEAVES == 5, 3, LEAVES))
    assert sample.image[0, 0].tolist() == [9, 8, 7]


def test_grey_and_deep_labels_are_read_alike(tmp_path: Path) -> None:
    write_plant(tmp_path, 1)
    expected = [one.rle for one in Cvppp(tmp_path)[0].instances]
    for dtype in (np.uint8, np.uint16):
        Image.fromarray(LEAVES.astype(dtype)).save(tmp_path / "plant001_label.png")
        assert [one.rle for one in Cvppp(tmp_path)[0].instances] == expected


def test_folders_of_several_sets(tmp_path: Path) -> None:
    for folder in ("A2", "A1"):
        write_plant(tmp_path / folder, 1)
    data = Cvppp(tmp_path)
    assert data.names == ["A1/plant001", "A2/plant001"]
    assert data[1].name == "A2/plant001"


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match=r"holds no \*_rgb\.png: expected the CVPPP layout"):
        Cvppp(tmp_path)
    write_plant(tmp_path, 1)
    data, label = Cvppp(tmp_path), tmp_path / "plant001_label.png"
    write_indexed_png(label, LEAVES[:2])
    with pytest.raises(PixelkinError, match=r"plant001_label\.png is 4×2: expected 4×3"):
        data[0]
    write_indexed_png(label, np.where(LEAVES, 255, 0))
    with pytest.raises(PixelkinError, match="give every leaf its id"):
        data[0]
    Image.new("RGB", (4, 3)).save(label)
    with pytest.raises(PixelkinError, match=r"plant001_label\.png is PNG of mode RGB"):
        data[0]
    (tmp_path / "plant001_rgb.png").write_bytes(b"")
    with pytest.raises(PixelkinError, match=r"plant001_rgb\.png: the file is empty"):
        data[0]
    label.unlink()
    with pytest.raises(PixelkinError, match=r"has no mask: expected plant001_label\.png"):
        Cvppp(tmp_path)
