import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelkin.data.class_maps.nifti import NiftiVolume, open_volume, save_segmentation, windowed
from pixelkin.errors import PixelkinError

nibabel = pytest.importorskip("nibabel")

ORIENTATIONS = [
    "".join(letters)
    for axes in itertools.permutations(("LR", "AP", "IS"))
    for letters in itertools.product(*axes)
]
SPACING = {"L": 0.7, "R": 0.7, "A": 0.9, "P": 0.9, "I": 2.5, "S": 2.5}


def oblique(axes: str, tilt: float = 0.1) -> np.ndarray:
    """Affine of stored axes, each tilted a little towards the next."""
    affine = np.eye(4)
    for column, letter in enumerate(axes):
        row = next(n for n, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[:3, column] = 0
        affine[row, column] = SPACING[letter] if letter in "RAS" else -SPACING[letter]
        affine[(row + 1) % 3, column] = tilt * SPACING[letter]
    affine[:3, 3] = (-120.5, 33, 7.25)
    return affine


def write_volume(path: Path, stored: np.ndarray, affine: np.ndarray | None) -> Path:
    image = nibabel.Nifti1Image(stored, affine)
    if affine is not None:
        image.set_sform(affine, 2)
        image.set_qform(affine, 1)
    image.header["descrip"] = b"scanner of the south"
    nibabel.save(image, path)
    return path


def voxels(dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(3).integers(-1000, 1000, (4, 5, 6)).astype(dtype)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_orientation_against_nibabel(tmp_path: Path, axes: str) -> None:
    path = write_volume(tmp_path / "volume.nii", voxels(), oblique(axes))
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    ras = np.asarray(canonical.dataobj).transpose(2, 1, 0)
    for orientation, expected in (("RAS", ras), ("LPS", ras[:, ::-1, ::-1])):
        volume = open_volume(path, orientation=orientation)  # type: ignore[arg-type]
        assert volume.size_zyx == expected.shape
        np.testing.assert_allclose(volume.spacing_zyx, canonical.header.get_zooms()[::-1], 1e-5)
        assert volume.placed
        np.testing.assert_array_equal(volume.read_zyx(), expected)
        np.testing.assert_array_equal(volume.slab_zyx(1, 3), expected[1:3])
        for z in range(len(expected)):
            np.testing.assert_array_equal(volume.slice_yx(z), expected[z])


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_a_segmentation_lies_on_its_volume(tmp_path: Path, axes: str) -> None:
    stored = voxels()
    path = write_volume(tmp_path / "volume.nii", stored, oblique(axes))
    volume = open_volume(path)
    save_segmentation(tmp_path / "mask.nii.gz", (volume.read_zyx() > 0) * 2, like=volume)
    original, saved = nibabel.load(path), nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(saved.dataobj), (stored > 0) * 2)
    assert saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(saved.affine, original.affine)
    kept = set(original.header) - {"datatype", "bitpix", "scl_slope", "scl_inter"}
    for key in kept:
        np.testing.assert_array_equal(saved.header[key], original.header[key], err_msg=key)
    np.testing.assert_array_equal(
        open_volume(tmp_path / "mask.nii.gz").read_zyx(), (volume.read_zyx() > 0) * 2
    )


def test_scaling_of_the_file_is_applied_and_not_kept_on_masks(tmp_path: Path) -> None:
    path = tmp_path / "scaled.nii"
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), oblique("LPS"))
    image.header.set_slope_inter(2, -1024)
    image.header["cal_max"] = 250
    nibabel.save(image, path)
    volume = open_volume(path)
    expected = 2 * np.arange(24) - 1024
    np.testing.assert_array_equal(volume.read_zyx().transpose(2, 1, 0).ravel(), expected)
    save_segmentation(tmp_path / "mask.nii", np.full(volume.size_zyx, 7), like=volume)
    saved = nibabel.load(tmp_path / "mask.nii")
    assert set(np.unique(np.asarray(saved.dataobj.get_unscaled()))) == {7}
    assert (saved.dataobj.slope, saved.dataobj.inter) == (1, 0)
    assert saved.header["cal_max"] == 0


def test_one_slice_reads_no_more_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_volume(tmp_path / "big.nii", np.zeros((64, 64, 200), np.int16), oblique("LPS"))
    volume = open_volume(path)
    read: list[int] = []
    whole = nibabel.arrayproxy.fileslice

    def counted(*args: object, **options: object) -> np.ndarray:
        part: np.ndarray = whole(*args, **options)
        read.append(part.size)
        return part

    monkeypatch.setattr(nibabel.arrayproxy, "fileslice", counted)
    assert volume.slice_yx(150).shape == (64, 64)
    assert sum(read) == 64 * 64


def test_labels_that_need_16_bits(tmp_path: Path) -> None:
    volume = open_volume(write_volume(tmp_path / "v.nii", voxels(), oblique("RAS")))
    labels = np.arange(120).reshape(volume.size_zyx) + 200
    save_segmentation(tmp_path / "m.nii", labels, like=volume)
    np.testing.assert_array_equal(open_volume(tmp_path / "m.nii").read_zyx(), labels)
    for wrong in (labels + 40000, labels * 0.5):
        with pytest.raises(PixelkinError, match="expected integers of 16 bits"):
            save_segmentation(tmp_path / "w.nii", wrong, like=volume)
    with pytest.raises(PixelkinError, match=r"labels are \(2, 2, 2\): expected \(6, 5, 4\)"):
        save_segmentation(tmp_path / "w.nii", np.zeros((2, 2, 2), int), like=volume)
    with pytest.raises(PixelkinError, match=r"expected \.nii or \.nii\.gz"):
        save_segmentation(tmp_path / "w.mha", labels, like=volume)
    assert not list(tmp_path.glob("w.*"))


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_a_lost_affine_is_flagged(tmp_path: Path, signs: tuple[int, int, int]) -> None:
    path = write_volume(tmp_path / "v.nii", voxels(), np.diag([*signs, 1.0]))
    assert not open_volume(path).placed


def test_a_file_without_affine_is_refused_until_one_says_how_it_lies(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "v.nii", voxels(), None)
    header = nibabel.load(path).header
    assert (header["qform_code"], header["sform_code"]) == (0, 0)
    with pytest.raises(PixelkinError, match=r"v\.nii has neither qform nor sform"):
        open_volume(path)
    for axes in ORIENTATIONS:
        known = write_volume(tmp_path / "known.nii", voxels(), oblique(axes, tilt=0))
        np.testing.assert_array_equal(
            open_volume(path, stored_axes=axes).read_zyx(), open_volume(known).read_zyx()
        )
    for wrong in ("LPX", "LRS", "LP"):
        with pytest.raises(PixelkinError, match="expected one of R L, one of A P and one of S I"):
            open_volume(path, stored_axes=wrong)


def test_wrong_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PixelkinError, match=r"no volume file .*none\.nii"):
        open_volume(tmp_path / "none.nii")
    (tmp_path / "broken.nii").write_bytes(b"no volume" * 99)
    with pytest.raises(PixelkinError, match=r"cannot read the volume .*broken\.nii"):
        open_volume(tmp_path / "broken.nii")
    path = write_volume(tmp_path / "cut.nii", voxels(), oblique("RAS"))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(PixelkinError, match=r"cannot read the volume .*cut\.nii"):
        open_volume(path).slice_yx(5)
    for z in (-1, 6):
        with pytest.raises(PixelkinError, match=f"has no slices {z} to {z}: expected some of 0 to"):
            open_volume(path).slice_yx(z)
    write_volume(tmp_path / "4d.nii", np.zeros((2, 2, 2, 2), np.int16), np.eye(4))
    with pytest.raises(PixelkinError, match=r"4d\.nii has size \(2, 2, 2, 2\): expected three"):
        open_volume(tmp_path / "4d.nii")
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for stored, kind in ((colours, "RGB"), (np.zeros((2, 2, 2), np.complex64), "complex64")):
        write_volume(tmp_path / "colours.nii", stored, np.eye(4))
        with pytest.raises(
            PixelkinError, match=rf"colours\.nii has voxels of type {kind}: expected one .*; save"
        ):
            open_volume(tmp_path / "colours.nii")
    with pytest.raises(PixelkinError, match="'RSA' is unknown: expected 'LPS' or 'RAS'"):
        open_volume(path, orientation="RSA")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(PixelkinError, match=r"run pip install 'pixelkin\[medical\]'"):
        open_volume(path)


def test_window_of_hounsfield_units() -> None:
    values = np.array([-3024, -200, -199, 25, 250, 3000, np.nan, np.inf, -np.inf])
    assert windowed(values, (-200, 250)).tolist() == [0, 0, 1, 128, 255, 255, 0, 255, 0]
    assert windowed(values[:1].astype(np.int16), (-200, 250)).dtype == np.uint8
    with pytest.raises(PixelkinError, match="expected the lower end first"):
        windowed(values, (250, -200))


def test_a_volume_is_plain_data(tmp_path: Path) -> None:
    import pickle

    volume = open_volume(write_volume(tmp_path / "v.nii", voxels(), oblique("SPL")))
    again: NiftiVolume = pickle.loads(pickle.dumps(volume))
    np.testing.assert_array_equal(again.slice_yx(2), volume.slice_yx(2))
