"""A class for every voxel of a volume, slice by slice, by a network that sees images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Integer, UInt8

from pixelkin.data.class_maps.lits import WINDOW_HU
from pixelkin.data.class_maps.nifti import NiftiVolume, windowed

Segment = Callable[[UInt8[np.ndarray, "h w 3"]], Integer[np.ndarray, "h w"]]
"""From an image to its classes, as `SemanticSegmenter.segment`."""

_SLAB = 32


def grey_slices(
    volume: NiftiVolume, *, window_hu: tuple[float, float] | None = None
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """The slices of a volume as the images that a model of LiTS is trained on, z ascending.

    Args:
        volume: in the orientation of the training, which is `"LPS"`.
        window_hu: Hounsfield units that become 0 and 255, such as `SemanticSegmenter.window_hu`;
            None is that of LiTS.
    """
    depth = volume.size_zyx[0]
    window_hu = window_hu or WINDOW_HU
    # Where z is not the last stored axis a slab costs hardly more than a slice.
    for start in range(0, depth, _SLAB):
        for grey in windowed(volume.slab_zyx(start, min(start + _SLAB, depth)), window_hu):
            yield np.repeat(grey[..., None], 3, axis=2)


def segment_volume(
    segment: Segment,
    volume: NiftiVolume,
    *,
    window_hu: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Integer[np.ndarray, "z y x"]:
    """The class of every voxel, in the orientation of `volume`; `save_segmentation` writes it.

    Args:
        segment: called with one slice after the other.
        volume: of which a slab of slices is in memory at a time.
        window_hu: Hounsfield units that become 0 and 255, such as `SemanticSegmenter.window_hu`;
            None is that of LiTS.
        progress: called after every slice with (slices done, slices in all).

    Raises:
        PixelkinError: the file is corrupt, or the window is no window.
    """
    labels: Integer[np.ndarray, "z y x"] = np.empty(volume.size_zyx, np.uint8)
    for z, image in enumerate(grey_slices(volume, window_hu=window_hu)):
        found = segment(image)
        if not z:
            labels = labels.astype(found.dtype, copy=False)
        labels[z] = found
        progress(z + 1, len(labels))
    return labels
