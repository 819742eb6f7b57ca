"""Volumes in `pixelkin predict`: NIfTI files in, segmentations that lie on them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Integer

    from pixelkin.cli.stages import Stages
    from pixelkin.data.class_maps.nifti import NiftiVolume

NIFTI = "nifti"
SUFFIXES = (".nii", ".nii.gz")


def is_volume(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def stem_of(path: Path) -> str:
    """The name without its suffix, `.nii.gz` being one."""
    return path.name[: path.name.lower().rindex(".nii")] if is_volume(path) else path.stem


def volumes_in(folder: Path) -> list[Path]:
    """The NIfTI files directly in `folder`, by name."""
    return sorted(p for p in folder.iterdir() if is_volume(p) and not p.name.startswith("."))


def without_volumes(paths: list[Path], given: tuple[Path, ...], model: str) -> list[Path]:
    """The images among `paths`; raises where a volume was `given` by name, or nothing is left."""
    images = [path for path in paths if not is_volume(path)]
    asked = [path for path in (given if images else paths) if is_volume(path)]
    if asked:
        raise PixelkinError(
            f"{asked[0]} is a volume, which takes a semantic model, and {model} finds objects of "
            "images; choose another model, or leave it out"
        )
    return images


def formats_for(paths: list[Path], asked: str, default: str) -> str:
    """What `--format` says, or what images and volumes are written as where it says nothing.

    Raises `PixelkinError` where a volume, or an image, would have no result.
    """
    volumes = [path for path in paths if is_volume(path)]
    images = [path for path in paths if not is_volume(path)]
    if not asked:
        return ",".join([default] * bool(images) + [NIFTI] * bool(volumes))
    kinds = {part.strip() for part in asked.split(",")}
    if volumes and NIFTI not in kinds:
        raise PixelkinError(
            f"--format is {asked}, and {volumes[0]} is a volume, which is written as {NIFTI}; "
            f"add {NIFTI}, or leave --format out"
        )
    if NIFTI in kinds and not volumes:
        raise PixelkinError(
            f"--format {NIFTI} is for volumes, and none is among the images, expected "
            f"{' or '.join(SUFFIXES)} files; leave it out"
        )
    if images and kinds == {NIFTI}:
        raise PixelkinError(
            f"--format is {NIFTI} alone, and {images[0]} is no volume; add {default}"
        )
    return asked


def find_in_volume(
    path: Path,
    find: Callable[[Any], Any],
    stages: Stages,
    *,
    axes: str | None,
    window_hu: tuple[float, float] | None,
) -> tuple[NiftiVolume, Integer[np.ndarray, "z y x"]]:
    """The volume at `path` and the class of each of its voxels, seen in a window.

    `axes` are those of a volume whose header does not say how it lies.
    """
    from pixelkin.data.class_maps.nifti import open_volume
    from pixelkin.semantic.volumes import segment_volume

    with stages.stage("read"):
        volume = open_volume(path, stored_axes=axes)
    if not volume.placed:
        stages.say(
            f"{path.name} has lost its spacing and orientation (its affine is the identity); it "
            "is taken as its header has it, as in training"
        )
    bar = stages.bar(path.name)
    with stages.stage("find"):
        labels = segment_volume(
            find,
            volume,
            window_hu=window_hu,
            progress=lambda done, total: bar(path.name, done, total),
        )
    return volume, labels
