from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.class_maps.ccp import CcpSemantic, read_class_names
from pixelkin.data.clips.ccp import read_classes
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

CLASSES = np.array([[0, 41, 41], [19, 58, 0]], np.uint8)
NAMES = ["null", *(f"garment {number}" for number in range(1, 59))]
NAMES[19], NAMES[41] = "hair", "skin"


def write_set(root: Path, names: list[str] = NAMES) -> Path:
    (root / "photos").mkdir()
    (root / "annotations" / "pixel-level").mkdir(parents=True)
    savemat(root / "label_list.mat", {"label_list": np.array([names], dtype=object)})
    for number in (1, 2, 3):  # 2 has tags only
        Image.new("RGB", (3, 2), (number,) * 3).save(root / "photos" / f"{number:04}.jpg")
    for number in (3, 1, 4):  # 4 has no photo
        path = root / "annotations" / "pixel-level" / f"{number:04}.mat"
        savemat(path, {"groundtruth": CLASSES})
    return root


def test_all_classes_are_those_of_the_file(tmp_path: Path) -> None:
    data = CcpSemantic(write_set(tmp_path))
    assert data.names == ["0001", "0003"]
    assert len(data) == 2
    assert data.class_names == tuple(NAMES)
    sample = data[1]
    assert sample.name == "0003"
    assert sample.image[0, 0].tolist() == [3, 3, 3]
    assert sample.labels.dtype == np.int64
    np.testing.assert_array_equal(sample.labels, CLASSES)


def test_chosen_classes_and_what_becomes_of_the_others(tmp_path: Path) -> None:
    data = CcpSemantic(write_set(tmp_path), classes=["skin", "hair"])
    assert data.class_names == ("background", "skin", "hair")
    assert data[0].labels.tolist() == [[0, 1, 1], [2, 0, 0]]
    data = CcpSemantic(tmp_path, classes=("hair",), others="ignore")
    assert data.class_names == ("background", "hair")
    assert data[0].labels.tolist() == [[0, IGNORE, IGNORE], [1, IGNORE, 0]]


def test_caller_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected the CCP layout"):
        CcpSemantic(tmp_path)
    write_set(tmp_path)
    with pytest.raises(PixelkinError, match=r"class 'hairs' is unknown.*did you mean 'hair'"):
        CcpSemantic(tmp_path, classes=["hairs"])
    with pytest.raises(PixelkinError, match="class 'null' is unknown"):
        CcpSemantic(tmp_path, classes=["null"])
    with pytest.raises(PixelkinError, match="'skin' is chosen twice"):
        CcpSemantic(tmp_path, classes=["skin", "hair", "skin"])
    with pytest.raises(PixelkinError, match="expected a list of names"):
        CcpSemantic(tmp_path, classes="skin")
    with pytest.raises(PixelkinError, match="expected 'background' or 'ignore'"):
        CcpSemantic(tmp_path, others="drop")  # type: ignore[arg-type]
    Image.new("RGB", (4, 2)).save(tmp_path / "photos" / "0001.jpg")
    told = r"pixel-level/0001\.mat is 3×2: expected 4×2 as its image; make them the same size"
    with pytest.raises(PixelkinError, match=told):
        CcpSemantic(tmp_path)[0]
    for number in (1, 3):
        (tmp_path / "photos" / f"{number:04}.jpg").unlink()
    with pytest.raises(PixelkinError, match=r"no photo of .* has pixel labels"):
        CcpSemantic(tmp_path)


def test_another_list_of_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="lists 58 classes: expected 59, the first null"):
        CcpSemantic(write_set(tmp_path, NAMES[:-1]))
    (tmp_path / "label_list.mat").unlink()
    with pytest.raises(PixelkinError, match=r"no list of classes file .*label_list\.mat"):
        CcpSemantic(tmp_path)


def test_real_photos(shared_data: Path) -> None:
    whole = CcpSemantic(shared_data / "ccp")
    assert len(whole) == 484
    assert whole.names[0] == "0003"
    assert (whole.class_names[19], whole.class_names[41]) == ("hair", "skin")
    assert whole.class_names == read_class_names(shared_data / "ccp" / "label_list.mat")
    truth = read_classes(shared_data / "ccp/annotations/pixel-level/0003.mat")
    labels = whole[0].labels
    np.testing.assert_array_equal(labels, truth)
    # Looked up in the photo: hair, and the face.
    assert whole.class_names[labels[130, 312]] == "hair"
    assert whole.class_names[labels[154, 286]] == "skin"
    part = CcpSemantic(shared_data / "ccp", classes=["skin", "hair"], others="ignore")[0].labels
    np.testing.assert_array_equal(part == 1, truth == 41)
    np.testing.assert_array_equal(part == 2, truth == 19)
    np.testing.assert_array_equal(part == 0, truth == 0)
    np.testing.assert_array_equal(part == IGNORE, ~np.isin(truth, (0, 19, 41)))
