from pathlib import Path

import numpy as np
import pytest

from pixelkin.data.class_maps.lits import WINDOW_HU, Lits
from pixelkin.data.class_maps.nifti import save_segmentation, windowed
from pixelkin.data.memory import InMemory
from pixelkin.data.source import Subset, cases, in_window, window_of
from pixelkin.errors import PixelkinError

nibabel = pytest.importorskip("nibabel")

RAS = np.diag([0.7, 0.8, 2.5, 1])
LPS = np.diag([-0.7, -0.8, 2.5, 1])
LOST = np.eye(4)
SIZE = (4, 3, 2)


def hounsfield(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(-400, 400, SIZE).astype(np.int16)


def truth(number: int) -> np.ndarray:
    return np.random.default_rng(number + 99).integers(0, 3, SIZE)


def save(path: Path, stored: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(stored, affine)
    image.set_sform(affine, 1)
    nibabel.save(image, path)


def write_set(root: Path) -> Path:
    # Two batches, packed and not, masks as floats too, a lost affine and a test volume.
    save(root / "batch 1/volume-0.nii", hounsfield(0), RAS)
    save(root / "batch 1/segmentation-0.nii", truth(0).astype(np.uint8), RAS)
    save(root / "batch 2/volume-10.nii.gz", hounsfield(10), LPS)
    save(root / "batch 2/segmentation-10.nii.gz", truth(10).astype(np.float32), LPS)
    save(root / "batch 2/volume-28.nii", hounsfield(28), LOST)
    save(root / "batch 2/segmentation-28.nii", truth(28).astype(np.uint8), LOST)
    save(root / "test/test-volume-3.nii", hounsfield(3), RAS)
    return root


def test_slices_in_one_orientation(tmp_path: Path) -> None:
    data = Lits(write_set(tmp_path))
    assert data.names == [f"volume-{n}_{z:04}" for n in (0, 10, 28) for z in (0, 1)]
    assert data.class_names == ("background", "liver", "tumour")
    assert data.unplaced == ("volume-28",)
    for index, (number, z) in enumerate((n, z) for n in (0, 10, 28) for z in (0, 1)):
        stored, labels = hounsfield(number)[:, :, z].T, truth(number)[:, :, z].T
        if number != 10:  # stored as RAS
            stored, labels = stored[::-1, ::-1], labels[::-1, ::-1]
        sample = data[index]
        np.testing.assert_array_equal(sample.labels, labels)
        np.testing.assert_array_equal(data.labels(index), labels)
        assert sample.labels.dtype == np.int64
        grey = np.rint((stored.clip(-200, 250) + 200.0) / 450 * 255).astype(np.uint8)
        for channel in range(3):
            np.testing.assert_array_equal(sample.image[..., channel], grey)


def test_liver_alone_in_another_window_and_orientation(tmp_path: Path) -> None:
    data = Lits(write_set(tmp_path), target="liver", window_hu=(0, 100), orientation="RAS")
    assert data.class_names == ("background", "liver")
    sample = data[1]
    np.testing.assert_array_equal(sample.labels, truth(0)[:, :, 1].T >= 1)
    grey = windowed(hounsfield(0)[:, :, 1].T, (0, 100))
    np.testing.assert_array_equal(sample.image[..., 0], grey)


def test_labels_written_back_are_those_of_the_file(tmp_path: Path) -> None:
    data = Lits(write_set(tmp_path))
    for volume, mask in data.volumes():
        path = tmp_path / "out" / f"{volume.path.name.split('.')[0]}.nii"
        save_segmentation(path, mask.read_zyx().astype(np.int64), like=volume)
        written, original = nibabel.load(path), nibabel.load(mask.path)
        np.testing.assert_array_equal(written.get_fdata(), original.get_fdata())
        np.testing.assert_array_equal(written.affine, nibabel.load(volume.path).affine)


def test_a_mask_of_a_volume_without_place_follows_it(tmp_path: Path) -> None:
    save(tmp_path / "volume-28.nii", hounsfield(28), LOST)
    save(tmp_path / "segmentation-28.nii", truth(28).astype(np.uint8), LPS)
    labels = Lits(tmp_path)[0].labels
    np.testing.assert_array_equal(labels, truth(28)[:, :, 0].T[::-1, ::-1])
    # One that is placed otherwise than its placed volume lies where its affine says.
    save(tmp_path / "volume-28.nii", hounsfield(28), RAS)
    np.testing.assert_array_equal(Lits(tmp_path)[0].labels, truth(28)[:, :, 0].T)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="holds no volume: expected the LiTS layout"):
        Lits(tmp_path)
    write_set(tmp_path)
    with pytest.raises(PixelkinError, match="'lesion' is unknown: expected 'tumour' or 'liver'"):
        Lits(tmp_path, target="lesion")  # type: ignore[arg-type]
    with pytest.raises(PixelkinError, match="expected the lower end first"):
        Lits(tmp_path, window_hu=(250, -200))
    mask = tmp_path / "batch 1/segmentation-0.nii"
    save(mask, truth(0).astype(np.uint8) + 1, RAS)
    with pytest.raises(
        PixelkinError, match=r"segmentation-0\.nii holds 3 in \d+ pixels?: expected"
    ):
        Lits(tmp_path)[0]
    save(mask, truth(0) / np.float32(2), RAS)
    with pytest.raises(PixelkinError, match="holds fractions"):
        Lits(tmp_path)[0]
    save(mask, truth(0)[:2].astype(np.uint8), RAS)
    with pytest.raises(PixelkinError, match=r"has \(2, 3, 2\) voxels .*expected \(2, 3, 4\)"):
        Lits(tmp_path)
    mask.unlink()
    with pytest.raises(PixelkinError, match=r"volume-0\.nii has no segmentation"):
        Lits(tmp_path)
    nibabel.save(nibabel.Nifti1Image(hounsfield(0), None), tmp_path / "batch 1/volume-0.nii")
    save(mask, truth(0).astype(np.uint8), RAS)
    with pytest.raises(PixelkinError, match=r"volume-0\.nii has neither qform nor sform"):
        Lits(tmp_path)
    save(tmp_path / "again/volume-0.nii.gz", hounsfield(0), RAS)
    with pytest.raises(PixelkinError, match="expected one volume 0; move one"):
        Lits(tmp_path)


def test_nan_is_air_unless_nothing_else_is_in_a_labelled_slice(tmp_path: Path) -> None:
    values = hounsfield(0).astype(np.float32)
    values[0, :, 0] = np.nan
    save(tmp_path / "volume-0.nii", values, LPS)
    save(tmp_path / "segmentation-0.nii", truth(0).astype(np.uint8), LPS)
    data = Lits(tmp_path)
    assert (data[0].image[:, 0] == 0).all()
    np.testing.assert_array_equal(data[0].image[:, 1:], np.repeat(
        windowed(hounsfield(0)[1:, :, 0].T, WINDOW_HU)[..., None], 3, axis=2
    ))  # fmt: skip
    for nothing in (np.nan, np.inf):
        values[..., 0] = nothing
        save(tmp_path / "volume-0.nii", values, LPS)
        told = r"volume-0\.nii holds no number in slice 0, .* segmentation-0\.nii labels .*; export"
        with pytest.raises(PixelkinError, match=told):
            Lits(tmp_path)[0]
    # Slices beyond what the scanner saw have nothing to label.
    labels = truth(0).astype(np.float32)
    labels[..., 0] = 0
    save(tmp_path / "segmentation-0.nii", labels, LPS)
    assert Lits(tmp_path)[0].labels.sum() == 0
    labels[0, 0, 0] = np.nan
    save(tmp_path / "segmentation-0.nii", labels, LPS)
    with pytest.raises(PixelkinError, match=r"segmentation-0\.nii holds NaN or infinite values: "):
        Lits(tmp_path)[0]


def test_another_window_shows_the_same_slices_in_other_greys(tmp_path: Path) -> None:
    data = Lits(write_set(tmp_path))
    assert data.window_hu == WINDOW_HU == window_of(data) == window_of(InMemory(data))
    part = Subset(data, [0, 1])
    for source, index in ((data, 1), (part, 1)):
        seen = in_window(source, (0, 100))
        assert window_of(seen) == (0, 100)
        expected = Lits(tmp_path, window_hu=(0, 100))[1]
        np.testing.assert_array_equal(seen[index].image, expected.image)
        np.testing.assert_array_equal(seen[index].labels, expected.labels)
        assert (seen[index].image != source[index].image).any()
        assert cases(seen) == cases(source)
    assert data.window_hu == WINDOW_HU
    assert in_window(data, None) is data
    with pytest.raises(PixelkinError, match="expected the lower end first"):
        in_window(data, (100, 0))
