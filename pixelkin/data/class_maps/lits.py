"""LiTS: computed tomographies of the belly with liver and tumours, slice by slice.

Bilic et al.: The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 2023.
"""

import os
import re
from copy import copy
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, Num

from pixelkin.data.class_maps.files import class_table, classes_of, one_still
from pixelkin.data.class_maps.nifti import NiftiVolume, Orientation, open_volume, windowed
from pixelkin.data.reading import require_folder
from pixelkin.data.source import Case
from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample

LitsTarget = Literal["tumour", "liver"]

WINDOW_HU = (-200.0, 250.0)
"""Hounsfield units that become black and white."""

_LAYOUT = "the LiTS layout: volume-0.nii and segmentation-0.nii, or .nii.gz, in any sub-folder"
_CLASSES = ("background", "liver", "tumour")


class Lits:
    """The slices of the volumes that have a segmentation (131), names `volume-<n>_<slice>`.

    Images are grey, as RGB; the liver is what is liver or tumour, 1 and 2 in the files. NaN, which
    many programs write where the scanner saw nothing, is black as air is, see `nifti.windowed`;
    only a slice of nothing else in which something is labelled is refused. Packed
    files (`.nii.gz`) are unpacked once, when their first slice is asked for, into temporary files
    that take disk and no memory. Of more cases than `unpacked.UNPACKED_BYTES` hold, the longest
    unused go first: to train on those, unpack them yourself.

    Args:
        folder: searched with its sub-folders for `volume-<n>.nii` and `segmentation-<n>.nii`.
        window_hu: Hounsfield units that become 0 and 255.
        target: `"tumour"` gives background, liver and tumour; `"liver"` background and liver, the
            tumours in it.
        orientation: of the slices, whatever that of the files; see `nifti.NiftiVolume`.

    Raises:
        PixelkinError: nibabel is not installed; no volume is there or one has no segmentation; a
            header is corrupt or has no affine, or sizes differ; on reading, a file is corrupt, a
            label is none of 0, 1, 2, or a labelled slice holds no number.
    """

    names: list[str]
    class_names: tuple[str, ...]
    window_hu: tuple[float, float]
    unplaced: tuple[str, ...]
    """Volumes whose affine is the identity with spacing 1 (28 to 47), so that nobody knows which
    way they lie; their segmentation is taken to be stored as they are."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        window_hu: tuple[float, float] = WINDOW_HU,
        target: LitsTarget = "tumour",
        orientation: Orientation = "LPS",
    ) -> None:
        if target not in get_args(LitsTarget):
            raise PixelkinError(f"target {target!r} is unknown: expected 'tumour' or 'liver'")
        windowed(np.zeros(0), window_hu)
        base = require_folder(folder, _LAYOUT)
        self.window_hu = window_hu
        self._table = class_table((0, 1, 2) if target == "tumour" else {0: 0, 1: 1, 2: 1}, size=3)
        self.class_names = _CLASSES if target == "tumour" else _CLASSES[:2]
        volumes, masks = _numbered(base, "volume"), _numbered(base, "segmentation")
        if not volumes:
            raise PixelkinError(
                f"{base} holds no volume: expected {_LAYOUT}; give the folder that holds volumes"
            )
        self._places: list[tuple[NiftiVolume, NiftiVolume, int]] = []
        self.names = []
        unplaced = []
        for number, path in sorted(volumes.items()):
            with one_still():
                if number not in masks:
                    raise PixelkinError(
                        f"{path} has no segmentation: expected segmentation-{number}.nii below "
                        f"{base}; add it, or move the volume away"
                    )
                volume, mask = _pair(path, masks[number], orientation)
                if not volume.placed:
                    unplaced.append(f"volume-{number}")
                depth = volume.size_zyx[0]
                self._places += ((volume, mask, z) for z in range(depth))
                self.names += (f"volume-{number}_{z:04}" for z in range(depth))
        self.unplaced = tuple(unplaced)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        volume, mask, z = self._places[index]
        values = volume.slice_yx(z)
        labels = self.labels_of(mask.slice_yx(z), mask.path)
        if labels.any() and not np.isfinite(values).any():
            raise PixelkinError(
                f"{volume.path} holds no number in slice {z}, but NaN or infinite values, and "
                f"{mask.path.name} labels pixels there: expected Hounsfield units; export the "
                "volume again"
            )
        image = np.repeat(windowed(values, self.window_hu)[..., None], 3, axis=2)
        return Sample(image, labels, self.names[index])

    def image_file(self, index: int) -> Path | None:
        """None: a slice is no file; see `Source`."""
        return None

    def in_window(self, window_hu: tuple[float, float]) -> "Lits":
        """The same slices, whose files are not opened again; see `source.Windowed`."""
        windowed(np.zeros(0), window_hu)
        other = copy(self)
        other.window_hu = window_hu
        return other

    def cases(self) -> list[Case]:
        """The volumes; see `source.Cases`."""
        found: list[Case] = []
        first = 0
        for volume, _ in self.volumes():
            depth = volume.size_zyx[0]
            name = self.names[first].rsplit("_", 1)[0]
            spacing = volume.spacing_zyx if volume.placed else None
            found.append(Case(name, range(first, first + depth), spacing))
            first += depth
        return found

    def labels(self, index: int) -> Int64[np.ndarray, "h w"]:
        """The labels of one slice without its image, as when frequencies are counted."""
        _, mask, z = self._places[index]
        return self.labels_of(mask.slice_yx(z), mask.path)

    def volumes(self) -> list[tuple[NiftiVolume, NiftiVolume]]:
        """Volume and segmentation, in the order of the slices, as for scores per case."""
        return [(volume, mask) for volume, mask, z in self._places if z == 0]

    def labels_of(self, values: Num[np.ndarray, "*size"], path: Path) -> Int64[np.ndarray, "*size"]:
        """Classes of voxels of the segmentation at `path`."""
        if not np.isfinite(values).all():
            raise PixelkinError(
                f"{path} holds NaN or infinite values: expected 0, 1 and 2; write 0 where nothing "
                "was labelled"
            )
        whole = np.rint(values)
        # Some tools save labels as floats; a fraction is the mark of one that interpolated.
        if not np.array_equal(whole, values):
            raise PixelkinError(f"{path} holds fractions: expected 0, 1 and 2; resample by nearest")
        return classes_of(
            whole.astype(np.int64), self._table, path, expected="0, 1 (liver) or 2 (tumour)"
        )


def _numbered(base: Path, kind: str) -> dict[int, Path]:
    """Number → file of `<kind>-<number>.nii` or `.nii.gz` below `base`."""
    found: dict[int, Path] = {}
    for path in sorted(base.rglob(f"{kind}-*.nii*")):
        match = re.fullmatch(rf"{kind}-(\d+)\.nii(\.gz)?", path.name)
        if match is None or not path.is_file():
            continue
        number = int(match[1])
        if number in found:
            raise PixelkinError(
                f"{found[number]} and {path}: expected one {kind} {number}; move one"
            )
        found[number] = path
    return found


def _pair(path: Path, mask_path: Path, orientation: Orientation) -> tuple[NiftiVolume, NiftiVolume]:
    volume = open_volume(path, orientation=orientation)
    mask = open_volume(mask_path, orientation=orientation)
    if not (volume.placed and mask.placed):
        # Half of a lost affine would turn one of the two and not the other.
        mask = mask.like(volume)
    if mask.size_zyx != volume.size_zyx:
        raise PixelkinError(
            f"{mask_path} has {mask.size_zyx} voxels (z, y, x): expected {volume.size_zyx} as "
            f"{path.name}; use the segmentation of this volume"
        )
    return volume, mask
