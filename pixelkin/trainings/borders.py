"""U-Net's border term for class maps: the ground between near objects counts more.

O. Ronneberger, P. Fischer, T. Brox: "U-Net", MICCAI 2015, section 3, equation 2. Cells of the paper
are told apart; here an object is a connected region of one class within the window, corners
included, so that objects of one class that touch are one, and have no ground between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Float, Float32, Int64
from skimage import measure

from pixelkin.data.semantic_crops import Weigh
from pixelkin.errors import PixelkinError
from pixelkin.losses.border_weights import border_term
from pixelkin.structures import IGNORE


def border_weigher(
    class_names: Sequence[str],
    class_weights: Float[np.ndarray, " classes"],
    *,
    ground: str,
    w0: float,
    sigma_px: float,
) -> Weigh:
    """What makes the loss weigh a pixel by w_c + w0 · exp(−(d1 + d2)² / (2 σ²)).

    w_c are the weights of the classes; the second term is that of the ground alone, see
    `losses.border_weights`.

    Args:
        class_names: of the data.
        class_weights: of each class, by which the loss multiplies what this gives.
        ground: name of the class that lies between the objects.
        w0: height of the term.
        sigma_px: its width.

    Raises:
        PixelkinError: no class has that name.
    """
    if ground not in class_names:
        raise PixelkinError(
            f"border_weight weighs the ground between objects, and no class is named {ground!r}: "
            f"expected one of {', '.join(class_names)}; give it as border_ground"
        )
    index = list(class_names).index(ground)
    return partial(_weigh, ground=index, share=w0 / float(class_weights[index]), sigma_px=sigma_px)


def _weigh(
    labels: Int64[np.ndarray, "h w"], *, ground: int, share: float, sigma_px: float
) -> Float32[np.ndarray, "h w"]:
    term = border_term(regions(labels, ground=ground), w0=share, sigma_px=sigma_px)
    return (1 + term).astype(np.float32)


def regions(labels: Int64[np.ndarray, "h w"], *, ground: int) -> Int64[np.ndarray, "h w"]:
    """Connected regions of one class, 1 and up; 0 is the ground, `IGNORE` stays and is no region.

    Args:
        labels: class indices or `IGNORE`.
        ground: index of the class that makes no region.
    """
    unknown = labels == IGNORE
    found: Int64[np.ndarray, "h w"] = measure.label(  # type: ignore[no-untyped-call]
        np.where(unknown, ground, labels), background=ground, connectivity=2
    ).astype(np.int64)
    # No region may have the number that means unknown.
    found += found >= IGNORE
    found[unknown] = IGNORE
    return found
