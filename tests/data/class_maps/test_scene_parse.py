from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.scene_parse import SceneParse150, read_object_info
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

VALUES = np.array([[0, 1, 150], [13, 0, 2]], np.uint8)


def write_set(root: Path, values: np.ndarray = VALUES) -> Path:
    (root / "images" / "validation").mkdir(parents=True)
    (root / "annotations" / "validation").mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(root / "images/validation/ADE_val_00000001.jpg")
    Image.fromarray(values).save(root / "annotations/validation/ADE_val_00000001.png")
    # Blanks before tabs and after names, as the published file has them.
    rows = [f"{i}{' ' * (i % 2)}\t0.1\t5\t6\tname {i}, other {i} " for i in range(1, 151)]
    text = "\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows])
    (root / "objectInfo150.txt").write_text(text + "\n")
    return root


def test_one_is_the_first_class_and_zero_is_ignored(tmp_path: Path) -> None:
    data = SceneParse150(write_set(tmp_path), "validation")
    assert data.names == ["ADE_val_00000001"]
    assert data.class_names == tuple(f"name {i}" for i in range(1, 151))
    labels = data[0].labels
    assert labels.tolist() == [[IGNORE, 0, 149], [12, IGNORE, 1]]
    np.testing.assert_array_equal(data.labels(0), labels)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    data = SceneParse150(write_set(tmp_path), "validation")
    path = tmp_path / "annotations/validation/ADE_val_00000001.png"
    Image.fromarray(VALUES + 1).save(path)
    with pytest.raises(PixelkinError, match="holds 151 in 1 pixel: expected 0 to 150"):
        data[0]
    Image.new("RGB", (3, 2)).save(path)
    with pytest.raises(PixelkinError, match="of mode RGB: expected a PNG whose pixels are indices"):
        data[0]
    Image.fromarray(VALUES.astype(np.uint16)).save(path)
    with pytest.raises(PixelkinError, match="has 16 bits a pixel"):
        data[0]
    path.unlink()
    with pytest.raises(PixelkinError, match="has no label file: expected"):
        SceneParse150(tmp_path, "validation")
    with pytest.raises(PixelkinError, match="'val' is unknown"):
        SceneParse150(tmp_path, "val")


def test_another_list_of_classes_is_refused(tmp_path: Path) -> None:
    write_set(tmp_path)
    path = tmp_path / "objectInfo150.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(PixelkinError, match="lists 149 classes: expected 1 to 150"):
        read_object_info(path)
    path.write_text("\n".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(PixelkinError, match="in order, with tabs"):
        read_object_info(path)
    path.unlink()
    with pytest.raises(PixelkinError, match=r"no list of classes file .*objectInfo150\.txt"):
        SceneParse150(tmp_path, "validation")
