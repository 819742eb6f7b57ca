from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.class_maps.files import class_table, classes_of, paired_files, read_byte_indices
from pixelkin.errors import PixelkinError

FILE = Path("somewhere/map.png")


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=40),
    classes=st.dictionaries(st.integers(0, 255), st.integers(0, 254), max_size=12),
    ignored=st.sets(st.integers(0, 255), max_size=6),
)
def test_values_become_classes_as_by_a_plain_loop(
    values: list[int], classes: dict[int, int], ignored: set[int]
) -> None:
    table = class_table(classes, ignored=ignored)
    grid = np.array([values], np.uint8)
    unknown = [value for value in values if value not in classes and value not in ignored]
    if unknown:
        with pytest.raises(PixelkinError) as caught:
            classes_of(grid, table, FILE, expected="known ones")
        first = unknown[0]
        assert f"{FILE} holds {first} in {values.count(first)} pixel" in str(caught.value)
        assert "expected known ones; " in str(caught.value)
    else:
        found = classes_of(grid, table, FILE, expected="")
        assert found.tolist() == [[classes.get(value, 255) for value in values]]
        assert found.dtype == np.int64


def test_values_beyond_the_table_are_strange_too() -> None:
    table = class_table([7, 3], size=8)
    assert classes_of(np.array([[7, 3]]), table, FILE, expected="").tolist() == [[0, 1]]
    for wrong in (-1, 8, 70000):
        with pytest.raises(PixelkinError, match=f"holds {wrong} in 1 pixel: expected 3 or 7"):
            classes_of(np.array([[7, wrong]]), table, FILE, expected="3 or 7")


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (3, 2)).save(path)
    return path


def test_pairs_in_one_folder_are_told_by_their_suffixes(tmp_path: Path) -> None:
    for name in ("b_rgb.png", "b_label.png", "a_rgb.png", "a_label.png", ".c_rgb.png"):
        picture(tmp_path / name)
    files = paired_files(tmp_path, tmp_path, image_suffix="_rgb", mask_suffix="_label")
    assert list(files) == ["a", "b"]
    assert files["a"] == (tmp_path / "a_rgb.png", tmp_path / "a_label.png")


def test_missing_and_lossy_maps_are_named(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    picture(images / "a.jpg")
    with pytest.raises(PixelkinError, match=r"no folder .*masks: expected index PNGs"):
        paired_files(images, masks)
    picture(masks / "b.png")
    with pytest.raises(PixelkinError, match=r"a\.jpg has no label file: expected .*a\.png; add"):
        paired_files(images, masks)
    with pytest.raises(PixelkinError, match=r"no image of .* has a map in .*a\.jpg and a\.png"):
        paired_files(images, masks, skip_missing=True)
    picture(masks / "a.jpg")
    with pytest.raises(PixelkinError, match=r"masks/a\.jpg is no PNG.*save the map as PNG"):
        paired_files(images, masks)
    picture(masks / "a.png")
    picture(images / "c.jpg")
    assert list(paired_files(images, masks, skip_missing=True)) == ["a"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(PixelkinError, match="empty holds no image"):
        paired_files(tmp_path / "empty", masks)


def test_bytes_are_read_as_stored_and_nothing_else(tmp_path: Path) -> None:
    grid = np.array([[0, 255, 7], [3, 0, 255]], np.uint8)
    path = tmp_path / "map.png"
    Image.fromarray(grid).save(path)
    np.testing.assert_array_equal(read_byte_indices(path, size_hw=(2, 3)), grid)
    Image.fromarray(grid.astype(np.uint16)).save(path)
    with pytest.raises(PixelkinError, match="has 16 bits a pixel: expected an index of 8 bits"):
        read_byte_indices(path, size_hw=(2, 3))
    with pytest.raises(PixelkinError, match="is 3×2: expected 4×2"):
        read_byte_indices(path, size_hw=(2, 4))
