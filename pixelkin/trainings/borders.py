"""U-Net's border term for class maps: the ground between near objects counts more.

O. Ronneberger, P. Fischer, T. Brox: "U-Net", MICCAI 2015, section 3, equation 2. Where the data set
tells objects apart (`Sample.objects`), those that touch get ground between them, as in the paper.
Where it does not, an object is a connected region of one class within the window, corners included,
so that objects of one class that touch are one, and have no ground between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from jaxtyping import Float, Float32, Int64
from skimage import measure

from pixelkin.data.semantic_crops import Weigh
from pixelkin.errors import PixelkinError
from pixelkin.losses.border_weights import border_term, cut_gaps
from pixelkin.structures import IGNORE, Sample


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
    index = ground_index(class_names, ground)
    return partial(_weigh, ground=index, share=w0 / float(class_weights[index]), sigma_px=sigma_px)


def ground_index(class_names: Sequence[str], ground: str) -> int:
    """Index of the class that lies between the objects; `PixelkinError` where there is none."""
    if ground not in class_names:
        raise PixelkinError(
            f"border_weight weighs the ground between objects, and no class is named {ground!r}: "
            f"expected one of {', '.join(class_names)}; give it as border_ground"
        )
    return list(class_names).index(ground)


def _weigh(
    sample: Sample, *, ground: int, share: float, sigma_px: float
) -> Float32[np.ndarray, "h w"]:
    is_ground = sample.labels == ground
    if sample.objects is None:
        objects = regions(sample.labels, ground=ground)
    else:
        objects = np.where(is_ground, 0, sample.objects)
    term = border_term(objects, w0=share, sigma_px=sigma_px)
    return (1 + np.where(is_ground, term, 0)).astype(np.float32)


def separated(sample: Sample, *, ground: int) -> Sample:
    """The still with ground where its objects touch: see `losses.border_weights.cut_gaps`.

    For windows as the network sees them, so that no scaling closes the gap again. An object that is
    nowhere wider than 2 px and lies between others vanishes: 1 of 3,004 nuclei of DSB 2018. A still
    whose objects nobody told apart stays as it is.

    Args:
        sample: with a class per pixel.
        ground: index of the class that lies between the objects, and is none.
    """
    if sample.objects is None:
        return sample
    objects = np.where(sample.labels == ground, 0, sample.objects)
    left = cut_gaps(objects)
    return replace(sample, labels=np.where(left != objects, ground, sample.labels), objects=left)


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
