"""U-Net's weight map: every class counts alike, and the gaps between near objects count more.

O. Ronneberger, P. Fischer, T. Brox: "U-Net", MICCAI 2015, section 3, equations 1 and 2.
"""

from __future__ import annotations

import math

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64, Int64
from scipy import ndimage
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

_NEGLIGIBLE = 1e-7
"""Share of w0 below which the border term is left out; float32 would not see it beside 1."""


def border_weights(
    instances: Int64[np.ndarray, "h w"], *, w0: float = 10.0, sigma_px: float = 5.0
) -> Float32[np.ndarray, "h w"]:
    """w(x) = w_c(x) + w0 · exp(−(d1(x) + d2(x))² / (2 σ²)).

    d1 and d2 are the Euclidean distances, in pixels, to the nearest pixel of the nearest and of the
    second nearest instance; the term is 0 where there is only one. It is added to the background
    alone, which is what the paper shows (figure 3d): within an instance it would drown the class
    balance of small objects. w_c balances background and foreground: each has the same sum, and
    the mean over the known pixels is 1; the formula is ours, the paper does not give one.

    Args:
        instances: 0 background, instance labels, `IGNORE` unknown. Instances that touch have no
            gap to weigh: see `cut_gaps`.
        w0: height of the border term.
        sigma_px: width of the border term.

    Returns:
        0 where `instances` is unknown, else more than 0.

    Raises:
        PixelkinError: σ is not positive, or w0 is negative.
    """
    term = border_term(instances, w0=w0, sigma_px=sigma_px)
    known = instances != IGNORE
    foreground = known & (instances != 0)
    background = known & (instances == 0)
    weights = np.zeros(instances.shape)
    parts = [part for part in (foreground, background) if part.any()]
    for part in parts:
        weights[part] = known.sum() / (len(parts) * part.sum())
    weights += term
    return weights.astype(np.float32)


def border_term(
    instances: Int64[np.ndarray, "h w"], *, w0: float, sigma_px: float
) -> Float64[np.ndarray, "h w"]:
    """The second term of `border_weights` alone: of the background, 0 elsewhere.

    Raises:
        PixelkinError: σ is not positive, or w0 is negative.
    """
    if sigma_px <= 0 or w0 < 0:
        raise PixelkinError(
            f"w0 is {w0} and sigma_px {sigma_px}: expected w0 of 0 or more and a positive σ; "
            "the paper has 10 and 5"
        )
    d1, d2 = _two_nearest(instances, sigma_px * math.sqrt(-2 * math.log(_NEGLIGIBLE)))
    term = w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma_px**2))
    ground: Float64[np.ndarray, "h w"] = np.where(instances == 0, term, 0.0)
    return ground


def _two_nearest(instances: np.ndarray, reach_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the two nearest instances; infinite beyond `reach_px` or where there is none."""
    h, w = instances.shape
    d1, d2 = np.full((h, w), np.inf), np.full((h, w), np.inf)
    margin = math.ceil(reach_px)
    labels = np.where(instances == IGNORE, 0, instances)
    ids, compact = np.unique(labels, return_inverse=True)
    first = int(ids[0] == 0)
    # `find_objects` counts to the largest label, which may be anything: so it gets ranks.
    for rank, box in enumerate(ndimage.find_objects(compact.reshape(h, w) + (1 - first)), 1):
        around = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in box)
        distance = ndimage.distance_transform_edt(labels[around] != ids[rank - 1 + first])
        nearest, second = d1[around], d2[around]
        np.minimum(second, np.maximum(nearest, distance), out=second)
        np.minimum(nearest, distance, out=nearest)
    return d1, d2


def cut_gaps(instances: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, "h w"]:
    """Make background of the pixels of an instance that touch another one, corners included.

    Before training the paper lays a background ridge between touching cells (section 3), which
    the border term then weighs. Its ridge comes from morphology that is not described; this is
    the thinnest one that two masks allow, and `IGNORE` stays as it is.
    """
    real = (instances != 0) & (instances != IGNORE)
    high = np.where(real, instances, -1)
    # Not the largest integer: the filters compute in floats.
    low = np.where(real, instances, instances.max() + 1)
    highest = ndimage.maximum_filter(high, 3, mode="nearest")
    lowest = ndimage.minimum_filter(low, 3, mode="nearest")
    return np.where(real & (highest != lowest), 0, instances)


def weighted_cross_entropy(
    logits: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, "n h w"],
    weights: Float[Tensor, "n h w"],
) -> Float[Tensor, ""]:
    """Σ w · cross-entropy / Σ w over the known pixels; 0 where none is known or has weight.

    Args:
        logits: of C classes, of the labels' size: crop the labels by the network's margin first.
        labels: class indices or `IGNORE`.
        weights: 0 or more, such as `border_weights`.

    Raises:
        PixelkinError: the sizes differ.
    """
    expected = (logits.shape[0], *logits.shape[2:])
    if labels.shape != expected or weights.shape != expected:
        raise PixelkinError(
            f"labels are {tuple(labels.shape)} and weights {tuple(weights.shape)}: expected "
            f"{tuple(expected)} as the logits; crop both by the network's margin_px"
        )
    weights = weights * (labels != IGNORE)
    costs = F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")
    return (costs * weights).sum() / weights.sum().clamp(min=1e-6)
