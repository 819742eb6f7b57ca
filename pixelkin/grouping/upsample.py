"""Score maps from the embedding grid to full resolution."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError


def upsample_scores(
    scores: Float[Tensor, "n o h w"],
    size_hw: tuple[int, int],
    *,
    mode: Literal["bilinear", "nearest"] = "bilinear",
) -> Float[Tensor, "n o height width"]:
    """Score maps at `size_hw`, cells being taken as areas (half-pixel centres)."""
    if mode == "nearest":
        return functional.interpolate(scores, size_hw, mode="nearest-exact")
    if scores.device.type != "cpu" or scores.requires_grad or scores.dtype != torch.float32:
        return functional.interpolate(scores, size_hw, mode="bilinear", align_corners=False)
    # OpenCV takes .06 ms for a map of 480×854, torch .56 ms on one thread and 8 ms on two threads
    # of a busy machine.
    result = np.empty((*scores.shape[:2], *size_hw), np.float32)
    size_wh = (size_hw[1], size_hw[0])
    for index in np.ndindex(*scores.shape[:2]):
        plane = scores[index].numpy()
        cv2.resize(plane, size_wh, dst=result[index], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(result)


def guided_upsample(
    scores: Float[Tensor, "o h w"],
    image: UInt8[np.ndarray, "height width 3"],
    *,
    radius_px: float = 4.0,
    eps: float = 3e-3,
    anchored: bool = True,
) -> Float[Tensor, "o height width"]:
    """Edge-aware upsampling: the fast guided filter.

    He and Sun, "Fast Guided Filter", 2015: within every window the scores are a linear function
    of the image's brightness; its coefficients are found on the grid of `scores` with the image
    shrunk to it, and are applied to the full image. Windows are clipped at the border.

    The published filter also replaces the scores themselves by window means, which wears thin
    parts away. `anchored`, ours, takes the slope alone from the filter and keeps every cell's
    score at the cell's mean brightness. IoU of true masks cut to cells and put back, 18 DAVIS
    frames, stride 8 / 4: bilinear .882 / .935, published .872 / .933, anchored .903 / .946.

    Args:
        scores: float (O, h, w), on the CPU; usually in [0, 1], and the result may leave that
            range a little.
        image: uint8 (H, W, 3), RGB; the whole picture that the grid covers.
        radius_px: half the window's side in pixels of the image; one cell at least.
        eps: how much variance of brightness (in [0, 1]², so .003 is a standard deviation of 14 of
            255) counts as flat; larger values smooth more.
        anchored: False for the published filter.

    Returns:
        float32 (O, H, W).
    """
    if scores.ndim != 3 or image.ndim != 3 or image.dtype != np.uint8:
        raise PixelkinError(
            f"scores {tuple(scores.shape)} and image {image.dtype} {image.shape}: expected "
            "(O, h, w) and uint8 (H, W, 3)"
        )
    if eps <= 0 or radius_px < 0:
        raise PixelkinError(f"radius {radius_px} px and eps {eps}: expected 0 or more and above 0")
    size_wh = (image.shape[1], image.shape[0])
    height, width = scores.shape[1:]
    radius = max(1, round(radius_px * height / image.shape[0]))
    bright = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # Area sampling is the mean over a cell, which is what the cell's score stands for.
    guide = cv2.resize(bright, (width, height), interpolation=cv2.INTER_AREA)
    guide = guide.astype(np.float32) / 255
    mean_guide = _window_mean(guide, radius)
    variance = _window_mean(guide * guide, radius) - mean_guide**2 + eps
    result = np.empty((len(scores), *image.shape[:2]), np.float32)
    for row, score in zip(result, scores.detach().float().numpy(), strict=True):
        mean_score = _window_mean(score, radius)
        covariance = _window_mean(guide * score, radius) - mean_guide * mean_score
        slope = covariance / variance
        mean_slope = _window_mean(slope, radius)
        if anchored:
            offset = score - mean_slope * guide
        else:
            offset = _window_mean(mean_score - slope * mean_guide, radius)
        cv2.resize(mean_slope / 255, size_wh, dst=row, interpolation=cv2.INTER_LINEAR)
        cv2.multiply(row, bright, dst=row, dtype=cv2.CV_32F)
        cv2.add(row, cv2.resize(offset, size_wh, interpolation=cv2.INTER_LINEAR), dst=row)
    return torch.from_numpy(result)


def _window_mean(values: Any, radius: int) -> Any:
    """Mean over windows of 2 · radius + 1, clipped at the border."""
    side = (2 * radius + 1, 2 * radius + 1)
    total = cv2.boxFilter(values, -1, side, normalize=False, borderType=cv2.BORDER_CONSTANT)
    rows, columns = (_window_sizes(length, radius) for length in values.shape)
    return total / (rows[:, None] * columns)


def _window_sizes(length: int, radius: int) -> Any:
    place = np.arange(length)
    last = np.minimum(place + radius, length - 1)
    return (last - np.maximum(place - radius, 0) + 1).astype(np.float32)
