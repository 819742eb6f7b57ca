"""Volumes in NIfTI files: slices read one by one, in one orientation, and masks written back.

The NIfTI-1 data format, NIfTI Data Format Working Group, 2004. Needs nibabel, of the extra
`medical`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64, Integer, Num, UInt8

from pixelkin.data.class_maps.unpacked import unpacked
from pixelkin.data.reading import decoded
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path

Orientation = Literal["LPS", "RAS"]

_PACKED = ".nii.gz"
_SUFFIXES = (".nii", _PACKED)
_UNPLACED = "has neither qform nor sform: expected one, since nothing else says which way is up"


@dataclass(frozen=True)
class NiftiVolume:
    """A volume on disk, its voxels read when asked for and turned to `orientation`.

    Arrays are (z, y, x), so that a slice of one z is an image. In `"LPS"` x grows towards the
    patient's left, y to the back, z to the head: slices look as radiologists show them. In `"RAS"`
    x grows to the right and y to the front.

    Attributes:
        path: `.nii` or `.nii.gz`. The latter is unpacked when its first slice is asked for, once
            for all its slices, into a temporary file; see `unpacked.unpacked`.
        orientation: of the arrays, however the file is stored.
        size_zyx: voxels, turned.
        spacing_zyx: millimetres between voxels, turned.
        affine: float64 (4, 4) from stored indices (i, j, k) to millimetres in RAS, of the file.
        placed: False where the affine is the identity with spacing 1, but for signs, as that of
            volumes 28 to 47 of LiTS: somebody lost it, so that neither spacing nor orientation
            can be trusted.
    """

    path: Path
    orientation: Orientation
    size_zyx: tuple[int, int, int]
    spacing_zyx: tuple[float, float, float]
    affine: Float64[np.ndarray, "4 4"]
    placed: bool
    _axes: Int64[np.ndarray, "3 2"]

    def slice_yx(self, z: int) -> Num[np.ndarray, "y x"]:
        """The slice at `z`, with the file's scaling, and nothing of the others in memory.

        That holds of packed files too, but for what the system keeps of their unpacked copies as
        long as nobody needs the memory.
        """
        image: Num[np.ndarray, "y x"] = self.slab_zyx(z, z + 1)[0]
        return image

    def slab_zyx(self, start: int, stop: int) -> Num[np.ndarray, "z y x"]:
        """The slices `start` to `stop` − 1."""
        if not 0 <= start < stop <= self.size_zyx[0]:
            raise PixelkinError(
                f"{self.path.name} has no slices {start} to {stop - 1}: expected some of 0 to "
                f"{self.size_zyx[0] - 1}"
            )
        stored_axis = int(np.flatnonzero(self._axes[:, 0] == 2)[0])
        if self._axes[stored_axis, 1] < 0:
            start, stop = self.size_zyx[0] - stop, self.size_zyx[0] - start
        index = [slice(None)] * 3
        index[stored_axis] = slice(start, stop)
        stored = decoded(self.path, lambda: self._part(tuple(index)), kind="volume")
        return turned_zyx(stored, self._axes)

    def read_zyx(self) -> Num[np.ndarray, "z y x"]:
        """All voxels."""
        return self.slab_zyx(0, self.size_zyx[0])

    def like(self, other: NiftiVolume) -> NiftiVolume:
        """The same file, its stored axes taken to be those of `other`."""
        return _turned(self.path, self.affine, self._stored_size, other._axes, self.orientation)

    def _part(self, index: tuple[slice, ...]) -> Num[np.ndarray, "i j k"]:
        """Voxels as they are stored, with the file's scaling."""
        nibabel = _nibabel()
        proxy = nibabel.load(self.path).dataobj
        if not self.path.name.lower().endswith(_PACKED):
            return np.asarray(proxy[index])
        # nibabel would unpack all before a slice anew at every slice.
        stored = np.ndarray(
            proxy.shape, proxy.dtype, unpacked(self.path), offset=proxy.offset, order="F"
        )
        scale = np.float64(proxy.slope), np.float64(proxy.inter)
        return np.asarray(nibabel.volumeutils.apply_read_scaling(stored[index].copy(), *scale))

    @property
    def _stored_size(self) -> tuple[int, ...]:
        size_xyz = self.size_zyx[::-1]
        return tuple(size_xyz[axis] for axis in self._axes[:, 0])


def open_volume(
    path: str | os.PathLike[str],
    *,
    orientation: Orientation = "LPS",
    stored_axes: str | None = None,
) -> NiftiVolume:
    """The volume at `path`, of which the header alone is read.

    Args:
        path: `.nii` or `.nii.gz`.
        orientation: what its arrays are turned to.
        stored_axes: where a file has neither qform nor sform, what its three axes are, such as
            `"LPS"`; None refuses it. Of other files the file itself says so.

    Raises:
        PixelkinError: nibabel is not installed; the file is missing, corrupt, has no three axes,
            has voxels of colours or complex numbers, or an affine that is singular or, without
            `stored_axes`, missing.
    """
    file = Path(path)
    if orientation not in get_args(Orientation):
        raise PixelkinError(f"orientation {orientation!r} is unknown: expected 'LPS' or 'RAS'")
    nibabel = _nibabel()
    image = decoded(file, lambda: nibabel.load(file), kind="volume")
    if not isinstance(image, nibabel.Nifti1Image):
        raise PixelkinError(f"{file} is {type(image).__name__}: expected a NIfTI file; convert it")
    if len(image.shape) != 3 or 0 in image.shape:
        raise PixelkinError(f"{file} has size {image.shape}: expected three axes; take one volume")
    if image.get_data_dtype().kind not in "iuf":
        kind = image.header.get_value_label("datatype")
        raise PixelkinError(
            f"{file} has voxels of type {kind}: expected one number each, integer or float; save "
            "one channel of it"
        )
    affine = np.array(image.affine, np.float64)
    if not (image.header["qform_code"] or image.header["sform_code"]):
        if stored_axes is None:
            raise PixelkinError(
                f"{file} {_UNPLACED}; mend its header, or say stored_axes='LPS' (predict: --axes "
                "LPS) if you know it"
            )
        # What nibabel makes up here is a guess about a radiologist's habits.
        spacing = np.diag([*image.header.get_zooms(), 1.0])
        affine = _affine_of(stored_axes) @ spacing
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise PixelkinError(f"{file} has a singular affine: expected three axes; mend its header")
    axes = _axes(nibabel, affine, orientation)
    return _turned(file, affine, image.shape, axes, orientation)


def save_segmentation(
    path: str | os.PathLike[str],
    labels: Integer[np.ndarray, "z y x"],
    *,
    like: NiftiVolume,
) -> None:
    """Write labels of a volume as a NIfTI file that lies on it voxel by voxel, atomically.

    They are turned back to how `like` is stored; its affine and header are kept, but for the data
    type, which is uint8, or int16 where labels need it, and the scaling, which is none.

    Args:
        path: `.nii` or `.nii.gz`.
        labels: in the orientation of `like`.
        like: the volume that they are of.

    Raises:
        PixelkinError: the suffix is another, the labels have another size than the volume, are
            no integers or beyond 16 bits.
    """
    target = Path(path)
    if not target.name.endswith(_SUFFIXES):
        raise PixelkinError(f"{target.name} has another suffix: expected .nii or .nii.gz")
    if labels.shape != like.size_zyx:
        raise PixelkinError(
            f"labels are {labels.shape}: expected {like.size_zyx} as {like.path.name}; give those "
            "of this volume"
        )
    low, high = int(labels.min()), int(labels.max())
    if labels.dtype.kind not in "uib" or low < -(1 << 15) or high >= 1 << 15:
        raise PixelkinError(
            f"labels are {labels.dtype}, {low} to {high}: expected integers of 16 bits; round them"
        )
    dtype = np.uint8 if low >= 0 and high < 256 else np.int16
    nibabel = _nibabel()
    source = nibabel.load(like.path)
    header = source.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    # The display range is one of Hounsfield units.
    header["cal_min"] = header["cal_max"] = 0
    stored = turned_back(labels, like._axes).astype(dtype)
    with atomic_path(target) as temporary:
        # Without an affine of its own the header's qform and sform stay as they are, bit by bit.
        nibabel.save(type(source)(stored, None, header=header), temporary)


def windowed(
    values: Num[np.ndarray, "*size"], window_hu: tuple[float, float]
) -> UInt8[np.ndarray, "*size"]:
    """Grey values: the lower end of the window 0, the upper 255, rounded; NaN 0.

    NaN is taken as air, below any window: programs that turn or resample a volume write it outside
    of what the scanner saw, where others write −1024 or less.

    Args:
        values: Hounsfield units.
        window_hu: (lower, upper) end; −200 to 250 shows the organs of the belly.
    """
    low, high = window_hu
    if not low < high:
        raise PixelkinError(f"window {window_hu}: expected the lower end first, as (-200, 250)")
    scaled = (np.clip(np.nan_to_num(values, nan=low), low, high) - low) * (255 / (high - low))
    grey: UInt8[np.ndarray, "*size"] = np.rint(scaled).astype(np.uint8)
    return grey


def turned_zyx(
    stored: Num[np.ndarray, "i j k"], axes: Int64[np.ndarray, "3 2"]
) -> Num[np.ndarray, "z y x"]:
    """Stored voxels as (z, y, x); `axes` has a row (target axis of x y z, sign) per stored axis."""
    flipped = stored[tuple(slice(None, None, int(sign)) for sign in axes[:, 1])]
    order = np.argsort(axes[:, 0])
    return np.ascontiguousarray(flipped.transpose(order).transpose(2, 1, 0))


def turned_back(
    volume: Num[np.ndarray, "z y x"], axes: Int64[np.ndarray, "3 2"]
) -> Num[np.ndarray, "i j k"]:
    """The inverse of `turned_zyx`."""
    flipped = volume.transpose(2, 1, 0).transpose(axes[:, 0])
    return flipped[tuple(slice(None, None, int(sign)) for sign in axes[:, 1])]


def _turned(
    path: Path,
    affine: Float64[np.ndarray, "4 4"],
    stored_size: tuple[int, ...],
    axes: Int64[np.ndarray, "3 2"],
    orientation: Orientation,
) -> NiftiVolume:
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    stored_axis_of = np.argsort(axes[:, 0])[::-1]
    return NiftiVolume(
        path=path,
        orientation=orientation,
        size_zyx=_triple(int(stored_size[axis]) for axis in stored_axis_of),
        spacing_zyx=_triple(float(spacing[axis]) for axis in stored_axis_of),
        affine=affine,
        placed=not np.allclose(np.abs(affine), np.eye(4), atol=1e-6),
        _axes=axes,
    )


def _triple(values: Any) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def _axes(
    nibabel: ModuleType, affine: Float64[np.ndarray, "4 4"], orientation: Orientation
) -> Int64[np.ndarray, "3 2"]:
    """Of each stored axis: which of x, y, z it is nearest to, and whether it runs its way."""
    axes = nibabel.orientations.io_orientation(affine).astype(np.int64)
    # nibabel's directions are RAS; LPS runs against the first two of them.
    if orientation == "LPS":
        axes[:, 1] = np.where(axes[:, 0] < 2, -axes[:, 1], axes[:, 1])
    return np.asarray(axes)


def _affine_of(stored_axes: str) -> Float64[np.ndarray, "4 4"]:
    """Directions of axes given by letters, such as "LPS", in millimetres of RAS."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    letters = stored_axes.upper()
    rows = [
        next((n for n, pair in enumerate(("RL", "AP", "SI")) if c in pair), -1) for c in letters
    ]
    if sorted(rows) != [0, 1, 2]:
        raise PixelkinError(
            f"stored_axes is {stored_axes!r}: expected one of R L, one of A P and one of S I, in "
            "the order of the file's axes, such as 'LPS'"
        )
    for column, (row, letter) in enumerate(zip(rows, letters, strict=True)):
        affine[row, column] = 1 if letter in "RAS" else -1
    return affine


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise PixelkinError(
            "NIfTI volumes need nibabel, which is not installed; run pip install "
            "'pixelkin[medical]'"
        ) from error
    module: ModuleType = nibabel
    return module
