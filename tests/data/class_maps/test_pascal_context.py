from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.class_maps.pascal_context import (
    CONTEXT_CLASSES,
    CONTEXT_RAW_CLASSES,
    PascalContext,
    context_table,
)
from pixelkin.errors import PixelkinError

NAME = "2008_000002"
# Nothing, accordion, aeroplane, bedclothes, cloth, clothes tree, table, tableware, unknown, wool.
RAW = np.array([[0, 1, 2, 19, 80], [81, 397, 398, 431, 459]], np.uint16)


def write_context(root: Path, content: dict[str, np.ndarray]) -> Path:
    for inner in ("JPEGImages", "ImageSets/Main", "trainval"):
        (root / inner).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 2)).save(root / "JPEGImages" / f"{NAME}.jpg")
    savemat(root / "trainval" / f"{NAME}.mat", content)
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"{NAME}\n")
    return root


def test_raw_numbers_are_those_of_the_data_set() -> None:
    assert len(CONTEXT_RAW_CLASSES) == len(set(CONTEXT_RAW_CLASSES)) == 459
    assert len(CONTEXT_CLASSES) == len(set(CONTEXT_CLASSES)) == 59
    numbers = {name: n for n, name in enumerate(CONTEXT_RAW_CLASSES, start=1)}
    # Looked up in labels.txt of the data set.
    published = {"accordion": 1, "bag": 9, "bedclothes": 19, "car": 59, "cloth": 80, "dog": 113,
                 "keyboard": 220, "person": 284, "sky": 360, "table": 397, "tvmonitor": 427,
                 "unknown": 431, "wood": 458, "wool": 459}  # fmt: skip
    assert {name: numbers[name] for name in published} == published
    # The order of 59_labels.txt.
    places = {"aeroplane": 1, "diningtable": 11, "tvmonitor": 20, "bag": 21, "clothes": 28,
              "curtain": 42, "bedcloth": 52, "wood": 59}  # fmt: skip
    assert {name: CONTEXT_CLASSES.index(name) + 1 for name in places} == places


def test_the_table_joins_by_name_with_three_renames() -> None:
    rename = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
    for classes in (59, 60):
        table = context_table(classes)
        assert len(table) == 460
        background = classes == 60
        for index, name in enumerate(CONTEXT_CLASSES):
            raw = CONTEXT_RAW_CLASSES.index(rename.get(name, name)) + 1
            assert table[raw] == index + background
        others = 0 if background else 255
        assert (table == others).sum() == 460 - 59
        assert set(table.tolist()) == {*range(background, 59 + background), others}


def test_59_or_60_classes(tmp_path: Path) -> None:
    root = write_context(tmp_path, {"LabelMap": RAW})
    data = PascalContext(root)
    assert data.class_names == CONTEXT_CLASSES
    names = [["" if n == 255 else data.class_names[n] for n in row] for row in data[0].labels]
    assert names == [
        ["", "", "aeroplane", "bedcloth", "clothes"],
        ["", "diningtable", "", "", ""],
    ]
    data60 = PascalContext(root, classes=60, annotations=root)
    assert data60.class_names == ("background", *CONTEXT_CLASSES)
    labels = data[0].labels
    np.testing.assert_array_equal(data60[0].labels, np.where(labels == 255, 0, labels + 1))


def test_its_own_lists_come_first(tmp_path: Path) -> None:
    root = write_context(tmp_path, {"LabelMap": RAW})
    lists = root / "ImageSets" / "SegmentationContext"
    lists.mkdir()
    (lists / "train.txt").write_text("2008_000003\n")
    with pytest.raises(PixelkinError, match=r"no file .*2008_000003\.jpg"):
        PascalContext(root)
    with pytest.raises(PixelkinError, match=r"split 'val' is unknown .*'train'"):
        PascalContext(root, "val")


def test_faults_are_named(tmp_path: Path) -> None:
    data = PascalContext(write_context(tmp_path, {"LabelMap": RAW}))
    for content, match in (
        ({"LabelMap": RAW + 1}, "holds 460 in 1 pixel: expected 0 to 459"),
        ({"LabelMap": RAW[:1]}, "is 5×1: expected 5×2"),
        ({"LabelMap": RAW + 0.5}, "holds no LabelMap of whole numbers"),
        ({"labels": RAW}, "holds no LabelMap"),
    ):
        write_context(tmp_path, content)
        with pytest.raises(PixelkinError, match=rf"{NAME}\.mat {match}"):
            data[0]
    write_context(tmp_path, {"LabelMap": RAW.astype(np.float64)})
    assert data[0].labels[0, 2] == 0
    with pytest.raises(PixelkinError, match="classes is 33: expected 59, or 60 with background"):
        PascalContext(tmp_path, classes=33)  # type: ignore[arg-type]
    with pytest.raises(PixelkinError, match="trainval: expected VOC 2010"):
        PascalContext(tmp_path, annotations=tmp_path / "JPEGImages")
