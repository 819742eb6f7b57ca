from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.class_maps.cityscapes import (
    CITYSCAPES_CLASSES,
    CityscapesSemantic,
    label_ids,
    train_ids,
    write_label_ids,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

NAME = "aachen_000000_000019"
# The official table: label id, train id.
OFFICIAL = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip


def write_city(root: Path, ids: np.ndarray, *, kind: str = "gtFine", split: str = "train") -> Path:
    images, masks = root / "leftImg8bit" / split / "aachen", root / kind / split / "aachen"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), (1, 2, 3)).save(images / f"{NAME}_leftImg8bit.png")
    path = masks / f"{NAME}_{kind}_labelIds.png"
    Image.fromarray(ids).save(path)
    return path


def test_every_label_id_becomes_its_train_id_or_is_ignored(tmp_path: Path) -> None:
    ids = np.array([*range(34), 255, 7], np.uint8).reshape(6, 6)
    write_city(tmp_path, ids)
    data = CityscapesSemantic(tmp_path)
    assert data.names == [NAME]
    assert data.class_names == CITYSCAPES_CLASSES
    assert len(CITYSCAPES_CLASSES) == 19
    assert [CITYSCAPES_CLASSES[n] for n in (0, 10, 13, 18)] == ["road", "sky", "car", "bicycle"]
    expected = [OFFICIAL.get(value, IGNORE) for value in ids.ravel().tolist()]
    assert data[0].labels.ravel().tolist() == expected


def test_coarse_maps_are_found(tmp_path: Path) -> None:
    ids = np.full((6, 6), 26, np.uint8)
    write_city(tmp_path, ids, kind="gtCoarse", split="train_extra")
    data = CityscapesSemantic(tmp_path, "train_extra", annotation="gtCoarse")
    assert (data[0].labels == 13).all()
    with pytest.raises(PixelkinError, match=r"gtFine: expected train_extra/<city>/…_labelIds\.png"):
        CityscapesSemantic(tmp_path, "train_extra")


@given(st.lists(st.sampled_from([*range(19), IGNORE]), min_size=1, max_size=60))
def test_results_go_back_to_the_same_classes(values: list[int]) -> None:
    labels = np.array([values])
    ids = label_ids(labels)
    assert ids.dtype == np.uint8
    np.testing.assert_array_equal(train_ids(ids, Path("result.png")), labels)


def test_results_are_written_as_grey_label_ids(tmp_path: Path) -> None:
    labels = np.array([[*range(19), IGNORE]])
    write_label_ids(tmp_path / "results" / "a.png", labels)
    with Image.open(tmp_path / "results" / "a.png") as image:
        assert image.mode == "L"
        assert np.array(image).tolist() == [[*OFFICIAL, 0]]
    for wrong in (19, -1, 254):
        with pytest.raises(PixelkinError, match=f"class {wrong} is none of Cityscapes"):
            write_label_ids(tmp_path / "b.png", np.where(labels == 18, wrong, labels))
    assert not (tmp_path / "b.png").exists()


def test_binary_masks_are_refused_and_unlabeled_images_are_not(tmp_path: Path) -> None:
    binary = np.zeros((6, 6), np.uint8)
    write_city(tmp_path, binary)
    data = CityscapesSemantic(tmp_path)
    assert (data[0].labels == IGNORE).all()
    for rows in (2, 6):
        binary[:rows] = 255
        write_city(tmp_path, binary)
        with pytest.raises(
            PixelkinError,
            match=r"labelIds\.png holds no id beside 0 and 255, .*; if 255 is the object here, use",
        ):
            data[0]


def test_wrong_files_are_named(tmp_path: Path) -> None:
    path = write_city(tmp_path, np.full((6, 6), 34, np.uint8))
    data = CityscapesSemantic(tmp_path)
    with pytest.raises(PixelkinError, match=r"labelIds\.png holds 34 in 36 pixels: expected label"):
        data[0]
    write_city(tmp_path, np.full((6, 6), 26001, np.uint16))
    with pytest.raises(PixelkinError, match="has 16 bits a pixel: expected an index of 8 bits"):
        data[0]
    path.unlink()
    with pytest.raises(PixelkinError, match="has no mask: expected"):
        CityscapesSemantic(tmp_path)
