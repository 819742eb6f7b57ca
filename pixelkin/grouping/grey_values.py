"""Segmentation by grey values alone: thresholds, regions that grow, watersheds of the gradient.

Textbook methods (R. C. Gonzalez, R. E. Woods: "Digital Image Processing", chapter 10), by
similarity and by discontinuity, that a learned network must be better than. Thresholds: N. Otsu: "A
threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and
Cybernetics 1979. Regions: R. Adams, L. Bischof: "Seeded region growing", TPAMI 1994. Watershed:
S. Beucher, F. Meyer: "The morphological approach to segmentation", 1993. All through scikit-image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt8
from skimage.color import rgb2gray
from skimage.filters import gaussian, sobel, threshold_multiotsu
from skimage.segmentation import flood, watershed

from pixelkin.errors import PixelkinError

MAX_OTSU_CLASSES = 4
"""The search through all thresholds takes seconds with four classes, an hour with five."""


def grey_of(image: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Grey values of an RGB image in [0, 255] (luminance, ITU-R BT.709).

    Raises:
        PixelkinError: the image is not RGB in bytes, or is empty.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise PixelkinError(
            f"got an image of shape {image.shape} and type {image.dtype}, expected "
            "(height, width, 3) uint8; convert it to RGB"
        )
    grey: np.ndarray = rgb2gray(image)
    return (grey * 255).astype(np.float32)


def otsu_classes(
    image: UInt8[np.ndarray, "h w 3"], *, classes: int = 2
) -> Int64[np.ndarray, "h w"]:
    """Class map by the thresholds that make grey values vary least within the classes.

    Args:
        image: RGB.
        classes: 2, 3 or 4.

    Returns:
        0 the darkest class, `classes` − 1 the brightest. An image of fewer grey values than classes
        (rounded to whole numbers) has all pixels told apart that differ.

    Raises:
        PixelkinError: another number of classes.
    """
    if not 2 <= classes <= MAX_OTSU_CLASSES:
        raise PixelkinError(f"got {classes} classes, expected 2 to {MAX_OTSU_CLASSES}")
    grey = np.rint(grey_of(image)).astype(np.uint8)
    values = np.unique(grey)
    if len(values) <= classes:
        return np.asarray(np.searchsorted(values, grey), np.int64)
    thresholds = threshold_multiotsu(grey, classes)  # type: ignore[no-untyped-call]
    # A threshold is the last value of the darker class.
    return np.asarray(np.digitize(grey, thresholds, right=True), np.int64)


def grow_regions(
    image: UInt8[np.ndarray, "h w 3"],
    points_xy: Sequence[tuple[int, int]],
    *,
    tolerance: float = 16.0,
) -> Int32[np.ndarray, "h w"]:
    """Label map of the regions that grow from seed points over neighbours of like grey value.

    A region takes pixels, joined by edges or corners, whose grey value differs from that of its
    seed by at most `tolerance`. Where two could grow, the earlier seed has the pixel.

    Args:
        image: RGB.
        points_xy: column and row of each seed.
        tolerance: in grey values, of 255.

    Returns:
        0 where no region came, n for the n-th seed, from 1.

    Raises:
        PixelkinError: a seed lies outside the image, or the tolerance is negative.
    """
    grey = grey_of(image)
    _check_tolerance(tolerance)
    height, width = grey.shape
    labels = np.zeros(grey.shape, np.int32)
    for number, (x, y) in enumerate(points_xy, start=1):
        if not (0 <= x < width and 0 <= y < height):
            raise PixelkinError(
                f"seed {number} is at ({x}, {y}), the image is {width}×{height}; "
                "give column and row of a pixel of the image"
            )
        region = flood(grey, (y, x), tolerance=tolerance)  # type: ignore[no-untyped-call]
        labels[region & (labels == 0)] = number
    return labels


def grow_all_regions(
    image: UInt8[np.ndarray, "h w 3"], *, tolerance: float = 16.0, regions: int = 64
) -> Int32[np.ndarray, "h w"]:
    """Label map of the whole image by regions that grow from where grey values are flattest.

    One after another grows as in `grow_regions`, over pixels that no region has yet; the next seed
    is the flattest pixel left. What is left at the end, mostly texture, goes to the region that
    reaches it by the gentlest slope.

    Args:
        image: RGB.
        tolerance: in grey values, of 255, between a seed and the pixels of its region.
        regions: at most so many.

    Returns:
        1 … n, every number in use.

    Raises:
        PixelkinError: the tolerance is negative, or `regions` is below 1.
    """
    grey = grey_of(image)
    _check_tolerance(tolerance)
    if regions < 1:
        raise PixelkinError(f"got {regions} regions, expected at least 1")
    slopes: np.ndarray = sobel(grey)  # type: ignore[no-untyped-call]
    labels = np.zeros(grey.shape, np.int32)
    number = 0
    for place in np.argsort(slopes, axis=None, kind="stable"):
        seed = np.unravel_index(place, grey.shape)
        if labels[seed]:
            continue
        number += 1
        like = (np.abs(grey - grey[seed]) <= tolerance) & (labels == 0)
        labels[flood(like, seed)] = number  # type: ignore[no-untyped-call]
        if number == regions:
            break
    whole: np.ndarray = watershed(slopes, labels)  # type: ignore[no-untyped-call]
    return whole.astype(np.int32)


def gradient_watershed(
    image: UInt8[np.ndarray, "h w 3"], *, sigma_px: float = 2.0, regions: int | None = None
) -> Int32[np.ndarray, "h w"]:
    """Label map of the whole image by a watershed of the gradient: borders lie on its crests.

    Args:
        image: RGB.
        sigma_px: of the Gaussian that smooths before; more makes fewer regions.
        regions: about so many, from seeds on a grid; None for one per minimum of the gradient.

    Returns:
        1 … n, every number in use.

    Raises:
        PixelkinError: sigma is negative, or `regions` is below 1.
    """
    if sigma_px < 0 or (regions is not None and regions < 1):
        raise PixelkinError(
            f"got sigma {sigma_px} px and {regions} regions: expected at least 0 and at least 1"
        )
    smooth = gaussian(grey_of(image), sigma_px)  # type: ignore[no-untyped-call]
    slopes: np.ndarray = sobel(smooth)  # type: ignore[no-untyped-call]
    labels: np.ndarray = watershed(slopes, regions)  # type: ignore[no-untyped-call]
    return labels.astype(np.int32)


def _check_tolerance(tolerance: float) -> None:
    if tolerance < 0:
        raise PixelkinError(f"the tolerance is {tolerance}, expected 0 or more grey values")
