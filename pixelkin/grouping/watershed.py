"""Instances from maps of background, interior and boundary, by a watershed.

The grouping behind the networks that won microscopy challenges with a U-Net (Ronneberger, Fischer,
Brox, MICCAI 2015; Caicedo et al., "Evaluation of deep learning strategies for nucleus segmentation
in fluorescence images", Cytometry A 2019): the interiors, which boundaries keep apart, are seeds,
and grow until they meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int32, Integer
from scipy import ndimage
from skimage.segmentation import watershed
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.masks import encode_window
from pixelkin.structures import InstanceFields, Instances

CLASSES = 3
"""Background, interior and boundary, in the order of the logits."""

Window = tuple[slice, slice]


@dataclass(frozen=True)
class WatershedGrouping:
    """From a network's background, interior and boundary to instances, all of category 0.

    Attributes:
        min_seed: interior minus boundary of a seed's pixels, from -1 to 1.
        min_foreground: interior plus boundary of an object's pixels.
        min_px: smaller objects are dropped.
    """

    min_seed: float = 0.1
    min_foreground: float = 0.5
    min_px: int = 12

    def __call__(self, fields: InstanceFields, size_hw: tuple[int, int]) -> Instances:
        """Instances of one image, best first, scored by their mean interior probability.

        Args:
            fields: N = 1; logits of background, interior and boundary.
            size_hw: of the image in pixels, at most what the fields cover.

        Raises:
            PixelkinError: the fields are those of several images, or have other logits.
        """
        if fields.logits.shape[:2] != (1, CLASSES):
            raise PixelkinError(
                f"fields of {len(fields.logits)} images with {fields.logits.shape[1]} logits: "
                "expected one image, and logits of background, interior and boundary"
            )
        interior, boundary = _full_size(fields.logits.softmax(1)[:, 1:], fields.stride, size_hw)
        labels = watershed_labels(
            interior, boundary, min_seed=self.min_seed, min_foreground=self.min_foreground
        )
        return instances_from_labels(
            labels,
            lambda window, mask: float(interior[window][mask].mean()),
            min_px=self.min_px,
        )


def _full_size(
    maps: Float[Tensor, "1 c h w"], stride: int, size_hw: tuple[int, int]
) -> Float[np.ndarray, "c H W"]:
    if stride > 1:
        maps = F.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)
    if maps.shape[2] < size_hw[0] or maps.shape[3] < size_hw[1]:
        raise PixelkinError(
            f"the fields cover {maps.shape[3]}×{maps.shape[2]} pixels, the image has "
            f"{size_hw[1]}×{size_hw[0]}; give the fields of this image"
        )
    full: np.ndarray = maps[0, :, : size_hw[0], : size_hw[1]].float().cpu().numpy()
    return full


def watershed_labels(
    interior: Float[np.ndarray, "h w"],
    boundary: Float[np.ndarray, "h w"],
    *,
    min_seed: float,
    min_foreground: float,
) -> Int32[np.ndarray, "h w"]:
    """Label map, 0 background, that the seeds grow to within the foreground.

    Seeds are the connected parts (by edges, not corners) of interior − boundary ≥ `min_seed`. They
    flood the foreground, interior + boundary ≥ `min_foreground`, from the surest pixel to the least
    sure one. A connected part of the foreground without a seed is one object: small objects are
    all boundary.

    Args:
        interior: probability of every pixel.
        boundary: probability of every pixel.
        min_seed: see above.
        min_foreground: see above.
    """
    sure = interior - boundary
    foreground = (interior + boundary >= min_foreground) | (sure >= min_seed)
    seeds, count = ndimage.label(sure >= min_seed)
    parts, total = ndimage.label(foreground)
    seeded = np.zeros(total + 1, bool)
    seeded[parts[seeds > 0]] = True
    lone = foreground & ~seeded[parts]
    markers = np.where(lone, parts + count, seeds)
    labels: np.ndarray = watershed(  # type: ignore[no-untyped-call]
        -sure, markers, mask=foreground
    )
    return labels.astype(np.int32)


def instances_from_labels(
    labels: Integer[np.ndarray, "h w"],
    score: Callable[[Window, Bool[np.ndarray, "h w"]], float],
    *,
    min_px: int = 1,
) -> Instances:
    """The objects of a label map, best first, all of category 0; 0 is background.

    Args:
        labels: ids of any size; each is one object, in one piece or not.
        score: from an object's window in the image and its mask there to its confidence; cut off
            at 0 and 1.
        min_px: objects of fewer pixels are left out.
    """
    size_hw = (labels.shape[0], labels.shape[1])
    found: list[tuple[float, bytes]] = []
    for index, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        mask = labels[window] == index + 1
        if mask.sum() < min_px:
            continue
        corner_xy = (window[1].start, window[0].start)
        rle = encode_window(mask, corner_xy=corner_xy, size_hw=size_hw)
        found.append((min(max(score(window, mask), 0.0), 1.0), rle))
    found.sort(key=lambda one: -one[0])
    return Instances(
        size_hw,
        rles=tuple(rle for _, rle in found),
        categories=(0,) * len(found),
        scores=tuple(value for value, _ in found),
    )
