"""Class activation maps: from an image's tags to regions that are surely object or background.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018, sections 3.1 and 3.3. Between the maps and the regions
a dense CRF may refine the scores; every function here is pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

SCALES = (1.0, 0.5, 1.5, 2.0)
"""Of the image, at which activations are taken (the authors' code)."""

PAPER_ALPHA_WALK = 16.0
"""The paper's α of the background map that takes part in the random walk. All three are for objects
that fill a photo; the pipeline takes lower ones (docs/adr/0009)."""

PAPER_ALPHA_FOREGROUND = 4.0
"""The paper's α at which much is background: what still is not, is confident foreground."""

PAPER_ALPHA_BACKGROUND = 24.0
"""The paper's α at which little is background: what still is, is confident background. The authors'
code takes 32."""


def scaled_size(size_hw: tuple[int, int], scale: float, *, multiple: int) -> tuple[int, int]:
    """The size nearest to `scale` times `size_hw` whose sides are divisible by `multiple`.

    An image of such a size is covered by whole cells, so its maps can be resized to the image
    without a shift.
    """
    if scale <= 0:
        raise PixelkinError(f"the scale is {scale}, expected more than 0; give a larger number")
    h, w = (max(round(side * scale / multiple), 1) * multiple for side in size_hw)
    return h, w


def combine_activations(
    maps: Sequence[Float[Tensor, "c _h _w"]],
    tags: Bool[Tensor, " c"],
    *,
    size_hw: tuple[int, int],
    mirrored: Sequence[Float[Tensor, "c _h _w"]] = (),
) -> Float[Tensor, "c h w"]:
    """One map per class from those of several scales and of the mirrored image.

    Brought to one size (bilinear) and summed; negative values, and classes that are not tagged,
    become 0; each class is divided by its maximum. The authors' code takes the negative values away
    before the sum too: give `map.clamp_min(0)` for that.

    Args:
        maps: float (C, h_i, w_i), any sizes, each covering the whole image.
        tags: bool (C,), whether the class is in the image.
        size_hw: of the result.
        mirrored: the same of the image mirrored left to right, as the network gave them.

    Returns:
        (C, h, w) in [0, 1] with a maximum of 1 in each class, or all 0 for a class that is not
        tagged or has no positive activation.
    """
    if not maps and not mirrored:
        raise PixelkinError("there are no activation maps to combine: expected one or more")
    total: Tensor | None = None
    for one in [*maps, *(flipped.flip(-1) for flipped in mirrored)]:
        if one.ndim != 3 or one.shape[:1] != tags.shape:
            raise PixelkinError(
                f"an activation map has shape {tuple(one.shape)} for tags {tuple(tags.shape)}: "
                "expected (C, h, w) and (C,); give one map and one tag per class"
            )
        resized = functional.interpolate(
            one[None], size_hw, mode="bilinear", align_corners=False
        ).squeeze(0)
        total = resized if total is None else total + resized
    assert total is not None
    positive = torch.where(tags[:, None, None], total.clamp_min(0), 0)
    peak = positive.amax((1, 2), keepdim=True)
    return positive / torch.where(peak > 0, peak, 1)


def background_map(maps: Float[Tensor, "c h w"], *, alpha: float) -> Float[Tensor, "h w"]:
    """(1 − max_c M_c)^α (section 3.1): the larger α, the less is background.

    Args:
        maps: in [0, 1], from `combine_activations`.
        alpha: above 0.
    """
    if alpha <= 0:
        raise PixelkinError(
            f"alpha is {alpha}, expected more than 0; the paper's is {PAPER_ALPHA_WALK:g}"
        )
    if len(maps) == 0:
        raise PixelkinError("there are no class maps: expected one or more; give some classes")
    return (1 - maps.amax(0)).clamp(0, 1) ** alpha


def with_background(
    maps: Float[Tensor, "c h w"], *, alpha: float
) -> Float[Tensor, "c_and_background h w"]:
    """`background_map` in front of the class maps: index 0 background, class c at c + 1."""
    return torch.cat([background_map(maps, alpha=alpha)[None], maps])


def confident_regions(
    generous: Float[Tensor, "c_and_background h w"],
    strict: Float[Tensor, "c_and_background h w"],
) -> Int64[Tensor, "h w"]:
    """Pixels that are surely of a class or surely background; all others are neutral.

    Where the best of `generous` is a class, it is that class although the background was given
    much; where the best of `strict` is the background, it is background although it was given
    little. Where a dense CRF has made both so, background it is, as in the authors' code.

    Args:
        generous: scores, background first: `with_background(maps, alpha=α)` of a small α, or the
            same after a dense CRF; the paper's is `PAPER_ALPHA_FOREGROUND`.
        strict: the same of a larger α; the paper's is `PAPER_ALPHA_BACKGROUND`.

    For labels of cells, average the scores over the cells first (the authors' code).

    Returns:
        int64: 0 background, class c as c + 1, `IGNORE` neutral; a pixel without any score, in a
        padding say, is neutral. An image without tags is all background.
    """
    if generous.shape != strict.shape or generous.ndim != 3:
        raise PixelkinError(
            f"scores of shapes {tuple(generous.shape)} and {tuple(strict.shape)}: expected the "
            "same (1 + C, h, w); give both for the same classes and size"
        )
    if len(generous) > IGNORE:
        raise PixelkinError(
            f"{len(generous) - 1} classes: expected at most {IGNORE - 1}, since {IGNORE} marks "
            "neutral pixels; keep the classes that are tagged in this image"
        )
    regions = generous.argmax(0)
    regions[regions == 0] = IGNORE
    regions[strict.argmax(0) == 0] = 0
    blank = torch.maximum(generous.amax(0), strict.amax(0)) <= 0
    regions[blank] = IGNORE
    return regions
