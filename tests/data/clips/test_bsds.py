from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.clips.bsds import Bsds
from pixelkin.errors import PixelkinError

FIRST = np.array([[1, 1, 2], [3, 3, 2]], np.uint16)
SECOND = np.array([[1, 1, 1], [254, 255, 300]], np.uint16)


def write_set(root: Path, maps: list[np.ndarray], size: tuple[int, int] = (3, 2)) -> Path:
    (root / "images" / "train").mkdir(parents=True)
    (root / "groundTruth" / "train").mkdir(parents=True)
    Image.new("RGB", size).save(root / "images" / "train" / "8049.jpg")
    cells = np.empty((1, len(maps)), object)
    for i, regions in enumerate(maps):
        cells[0, i] = {"Segmentation": regions, "Boundaries": np.zeros((2, 3), bool)}
    savemat(root / "groundTruth" / "train" / "8049.mat", {"groundTruth": cells})
    return root


def test_each_annotator_is_read(tmp_path: Path) -> None:
    write_set(tmp_path, [FIRST, SECOND])
    data = Bsds(tmp_path, "train")
    assert data.names == ["8049"]
    assert len(data) == 1
    assert data[0].labels.tolist() == FIRST.tolist()
    assert data[0].labels.dtype == np.int64


def test_regions_above_254_are_unknown(tmp_path: Path) -> None:
    write_set(tmp_path, [FIRST, SECOND])
    assert Bsds(tmp_path, "train", annotator=1)[0].labels.tolist() == [[1, 1, 1], [254, 255, 255]]


def test_caller_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected the BSDS500 layout"):
        Bsds(tmp_path, "train")
    write_set(tmp_path, [FIRST, SECOND])
    with pytest.raises(PixelkinError, match="did you mean 'train'"):
        Bsds(tmp_path, "trian")
    with pytest.raises(PixelkinError, match=r"has 2 annotators: .* choose 0 to 1"):
        Bsds(tmp_path, "train", annotator=2)[0]
    with pytest.raises(PixelkinError, match="annotator -1 is negative"):
        Bsds(tmp_path, "train", annotator=-1)
    mat = tmp_path / "groundTruth" / "train" / "8049.mat"
    savemat(mat, {"other": FIRST})
    with pytest.raises(PixelkinError, match=r"cannot read the region map .*8049\.mat"):
        Bsds(tmp_path, "train")[0]
    mat.unlink()
    with pytest.raises(PixelkinError, match=r"8049\.jpg has no region map"):
        Bsds(tmp_path, "train")


def test_size_mismatch_is_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="8049: image is 2×3, labels are 3×2"):
        Bsds(write_set(tmp_path, [FIRST], size=(2, 3)), "train")[0]


def test_real_photo(shared_data: Path) -> None:
    data = Bsds(shared_data / "bsds500", "train")
    assert len(data) == 141
    index = data.names.index("8049")
    labels = data[index].labels
    assert labels.shape == (321, 481)
    assert sorted(np.unique(labels)) == list(range(1, 58))
    # Looked at: sky in two corners is cut apart by the bare tree; the bird is a region of its own.
    assert labels[20, 300] == labels[60, 200]
    assert labels[150, 20] != labels[20, 300]
    assert labels[230, 250] not in {labels[20, 300], labels[150, 20]}
    others = [Bsds(shared_data / "bsds500", annotator=a)[index].labels.max() for a in (1, 2, 3)]
    assert others == [95, 13, 17]
