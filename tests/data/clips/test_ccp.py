from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.clips.ccp import Ccp, read_classes
from pixelkin.errors import PixelkinError

CLASSES = np.array([[0, 41, 41], [19, 58, 0]], np.uint8)


def write_set(root: Path, content: object = CLASSES, key: str = "groundtruth") -> Path:
    (root / "photos").mkdir()
    (root / "annotations" / "pixel-level").mkdir(parents=True)
    Image.new("RGB", (3, 2), (9, 9, 9)).save(root / "photos" / "0001.jpg")
    Image.new("RGB", (3, 2)).save(root / "photos" / "0002.jpg")  # tags only: not listed
    savemat(root / "annotations" / "pixel-level" / "0001.mat", {key: content})
    return root


def test_garments_are_numbered_by_class(tmp_path: Path) -> None:
    data = Ccp(write_set(tmp_path))
    assert data.names == ["0001"]
    assert len(data) == 1
    sample = data[0]
    assert sample.labels.tolist() == [[0, 2, 2], [1, 3, 0]]
    assert sample.labels.dtype == np.int64
    assert sample.image.shape == (2, 3, 3)


def test_person_is_everything_that_is_not_null(tmp_path: Path) -> None:
    labels = Ccp(write_set(tmp_path), target="person")[0].labels
    assert labels.tolist() == [[0, 1, 1], [1, 1, 0]]
    assert labels.dtype == np.int64


def test_caller_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected the CCP layout"):
        Ccp(tmp_path)
    write_set(tmp_path)
    with pytest.raises(PixelkinError, match="expected 'person' or 'garments'"):
        Ccp(tmp_path, target="people")  # type: ignore[arg-type]
    (tmp_path / "photos" / "0001.jpg").write_bytes(b"")
    with pytest.raises(PixelkinError, match=r"0001\.jpg: the file is empty"):
        Ccp(tmp_path)[0]
    (tmp_path / "photos" / "0001.jpg").unlink()
    with pytest.raises(PixelkinError, match=r"no image file .*0001\.jpg"):
        Ccp(tmp_path)[0]
    Image.new("RGB", (4, 2)).save(tmp_path / "photos" / "0001.jpg")
    told = r"pixel-level/0001\.mat is 3×2: expected 4×2 as its image; make them the same size"
    with pytest.raises(PixelkinError, match=told):
        Ccp(tmp_path)[0]


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        (CLASSES, "tags", "holds no groundtruth"),
        (CLASSES.astype(float), "groundtruth", "holds no groundtruth of uint8"),
        (CLASSES + 1, "groundtruth", "holds class 59: expected 0 to 58, CCP's classes; use CCP's"),
    ],
)
def test_other_mat_files_are_refused(
    tmp_path: Path, content: object, key: str, message: str
) -> None:
    with pytest.raises(PixelkinError, match=message):
        Ccp(write_set(tmp_path, content, key))[0]


def test_a_broken_mat_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "0001.mat").write_bytes(b"not a MAT-file" * 20)
    with pytest.raises(PixelkinError, match=r"cannot read the MAT-file .*0001\.mat") as caught:
        read_classes(tmp_path / "0001.mat")
    assert "\n" not in str(caught.value)


def test_real_photo(shared_data: Path) -> None:
    garments = Ccp(shared_data / "ccp")
    assert len(garments) == 484
    labels = garments[0].labels
    assert garments.names[0] == "0003"
    assert sorted(np.unique(labels)) == list(range(14))
    # Looked up in the photo: hair (19), the jacket (13) and the face (41).
    present = [2, 3, 5, 7, 13, 14, 19, 24, 29, 31, 33, 41, 47]
    for y, x, class_id in [(130, 312, 19), (302, 343, 13), (154, 286, 41)]:
        assert present[labels[y, x] - 1] == class_id
    person = Ccp(shared_data / "ccp", target="person")[0].labels
    np.testing.assert_array_equal(person, labels > 0)
    assert int(person.sum()) == 831 * 550 - 356012
