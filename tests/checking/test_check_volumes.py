"""Volumes of LiTS: what is wrong with their headers, their voxels and their segmentations."""

from pathlib import Path

import numpy as np
import pytest

from pixelkin.checking.check import check_data

nibabel = pytest.importorskip("nibabel")


def test_volumes_without_affine_with_fractions_and_of_other_sizes(tmp_path: Path) -> None:
    labels = np.zeros((6, 4, 3), np.uint8)
    labels[1, 1] = 2

    def save(name: str, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
        placed = np.diag([1, 1, 2, 1]) if affine is None else affine
        nibabel.save(nibabel.Nifti1Image(values, placed), tmp_path / name)
        return tmp_path / name

    def unplaced(path: Path) -> None:
        image = nibabel.load(path)
        image = nibabel.Nifti1Image(np.array(image.dataobj), None, image.header)
        image.header["qform_code"] = image.header["sform_code"] = 0
        nibabel.save(image, path)

    hounsfield = labels.astype(np.int16) - 100
    for n in (*range(8), 9):
        save(f"volume-{n}.nii", hounsfield)
        save(f"segmentation-{n}.nii", labels)
    save("segmentation-0.nii", np.where(labels == 2, 7, 0).astype(np.uint8))
    save("segmentation-1.nii", labels.astype(np.float32) / 4)
    save("segmentation-2.nii", labels[..., :2])
    unplaced(tmp_path / "volume-3.nii")
    save("volume-4.nii", hounsfield, np.eye(4))
    flat = nibabel.load(tmp_path / "volume-5.nii")
    flat = nibabel.Nifti1Image(np.array(flat.dataobj), None, flat.header)
    flat.header["sform_code"], flat.header["qform_code"], flat.header["srow_y"] = 1, 0, 0
    nibabel.save(flat, tmp_path / "volume-5.nii")
    (tmp_path / "segmentation-6.nii").write_bytes(b"")
    (tmp_path / "segmentation-7.nii").unlink()
    save("volume-8.nii", labels.astype(np.int16))
    save("segmentation-8.nii.gz", labels)
    save("segmentation-9.nii", np.zeros(labels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]))
    name, report = check_data(tmp_path)
    assert name == "lits"
    words = {
        "segmentation-0.nii": "holds 7 in 3 pixels: expected 0, 1 (liver) or 2 (tumour)",
        "segmentation-1.nii": "holds fractions: expected 0, 1 and 2",
        "segmentation-2.nii": "has (2, 4, 6) voxels (z, y, x): expected (3, 4, 6) as volume-2.nii",
        "volume-3.nii": "has neither qform nor sform: expected one, since nothing else says",
        "volume-4.nii": "has the identity as its affine",
        "volume-5.nii": "has a singular affine: expected three axes",
        "segmentation-6.nii": "cannot be read: the file is empty",
        "volume-7.nii": "has no segmentation: expected segmentation-7.nii below",
        "volume-8.nii": "holds no value below 0",
        "segmentation-9.nii": "has voxels of type RGB: expected one number each",
    }
    found = {p.where: p.what for p in report.problems}
    assert found.keys() == words.keys()
    for where, what in words.items():
        assert what in found[where]
    assert report.classes is not None
    assert report.classes.pixels == {
        "background": 2 * (labels.size - 3), "liver": 0, "tumour": 6,
    }  # fmt: skip


def test_voxels_that_are_no_number_are_named(tmp_path: Path) -> None:
    values = {
        "volume-0": np.full((6, 4, 70), np.nan, np.float32),
        "volume-1": np.full((6, 4, 70), -100, np.float32),
        "volume-2": np.full((6, 4, 70), -100, np.float32),
        "segmentation-0": np.zeros((6, 4, 70), np.uint8),
        "segmentation-1": np.zeros((6, 4, 70), np.float32),
        "segmentation-2": np.zeros((6, 4, 70), np.uint8),
    }
    # Whole slabs of slices too.
    values["volume-1"][..., :65] = np.nan
    values["volume-2"][0, 0, :2] = np.inf, -np.inf
    values["segmentation-1"][1, 1, 1] = np.nan
    for name, voxels in values.items():
        image = nibabel.Nifti1Image(voxels, np.diag([1, 1, 2, 1]))
        nibabel.save(image, tmp_path / f"{name}.nii")
    found = [(p.where, p.severity, p.what, p.fix) for p in check_data(tmp_path)[1].problems]
    assert [one[:3] for one in found] == [
        ("volume-0.nii", "error", "holds no number: NaN in 1680 voxels, infinite values in 0"),
        (
            "segmentation-1.nii",
            "error",
            "in slices 0 to 63: holds NaN or infinite values: expected 0, 1 and 2",
        ),
        (
            "volume-1.nii",
            "warning",
            "holds NaN in 1560 of 1680 voxels, which is read as air",
        ),
        (
            "volume-2.nii",
            "warning",
            "holds infinite values in 2 of 1680 voxels, which are read as the ends of the window",
        ),
    ]
    assert found[0][3].startswith("export the volume again")
    assert found[1][3] == "write 0 where nothing was labelled"
    assert found[2][3].startswith("write air (-1000) where the scanner saw nothing")
