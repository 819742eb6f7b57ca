"""The discriminative loss of De Brabandere et al. 2017.

De Brabandere, Neven, Van Gool, "Semantic Instance Segmentation with a Discriminative Loss
Function", CVPR workshops 2017 (arXiv 1708.02551), section 3.1. In one image with C instances c of
N_c pixels each, with μ_c the mean of an instance's embeddings and norms L2:

    variance        1/C Σ_c 1/N_c Σ_i [‖μ_c − x_i‖ − δ_v]₊²            pixels to their own mean
    distance        1/(C(C−1)) Σ_{a ≠ b} [2δ_d − ‖μ_a − μ_b‖]₊²        means from each other
    regularisation  1/C Σ_c ‖μ_c‖                                      means near the origin

The paper's weights are 1, 1 and .001, its margins δ_v = .5 and δ_d = 1.5. With δ_d > 2δ_v every
pixel of a perfect embedding lies nearer to all of its own instance than to any other, and
`pixelkin.grouping.mean_shift` finds the instances again.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE


def discriminative_loss(
    embeddings: Float[Tensor, "n d h w"],
    labels: Int64[Tensor, "n h w"],
    *,
    margin_variance: float = 0.5,
    margin_distance: float = 1.5,
) -> dict[str, Float[Tensor, ""]]:
    """The three terms, each averaged over the N images.

    Every instance counts alike within its image, whatever its size: a widespread port divides the
    variance by all pixels of the image instead. An image without instances adds 0 to every term,
    one with a single instance adds no distance; both still count among the N. Where a norm is 0 its
    gradient is taken as 0.

    Half precision is raised to float32: sums over thousands of pixels need it. The cost is linear
    in pixels; the pairs of one image's means are C(C−1)/2 numbers.

    Args:
        embeddings: float (N, D, h, w), not normalised.
        labels: int64 (N, h, w): 0 background and `IGNORE` are left out, any other id above 0 is an
            instance of its own image; ids need not follow each other.
        margin_variance: δ_v, a pixel nearer to its mean is content.
        margin_distance: δ_d, means farther apart than 2δ_d are content.

    Returns:
        "variance", "distance" and "regularisation", scalars, float32 or float64 as `embeddings`.

    Raises:
        PixelkinError: shapes that do not belong together, or a label below 0.
    """
    images = len(embeddings)
    if embeddings.ndim != 4 or labels.shape != (images, *embeddings.shape[2:]) or images == 0:
        raise PixelkinError(
            f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}: expected "
            "(N, D, h, w) and (N, h, w) with N of 1 or more"
        )
    image, row, column = ((labels != 0) & (labels != IGNORE)).nonzero(as_tuple=True)
    ids = labels[image, row, column]
    if len(ids) and ids.min() < 0:
        raise PixelkinError(
            f"label {int(ids.min())}: expected 0 background, instances above 0, or {IGNORE} ignore"
        )
    points = embeddings[image, :, row, column]
    points = points if points.dtype == torch.float64 else points.float()
    # One key per instance and image, which sorts by image first.
    span = int(ids.max()) + 1 if len(ids) else 1
    keys, member, sizes = torch.unique(image * span + ids, return_inverse=True, return_counts=True)
    home = keys // span
    instances_of_image = torch.bincount(home, minlength=images)
    # What one instance weighs in a mean over its image's instances, then over the images.
    share = 1.0 / (instances_of_image[home].to(points.dtype) * images)

    sums = points.new_zeros(len(keys), points.shape[1]).index_add(0, member, points)
    means = sums / sizes[:, None]
    spread = functional.relu(_norm(points - means[member]) - margin_variance).square()
    variance = (spread * (share / sizes)[member]).sum()
    distance = sum(
        (_repulsion(group, margin_distance) for group in means.split(instances_of_image.tolist())),
        start=points.new_zeros(()),
    )
    return {
        "variance": variance,
        "distance": distance / images,
        "regularisation": (_norm(means) * share).sum(),
    }


def _norm(vectors: Float[Tensor, "k d"]) -> Float[Tensor, " k"]:
    """Euclidean length of each row; torch gives a zero vector the gradient 0, not NaN."""
    norms: Tensor = torch.linalg.vector_norm(vectors, dim=1)
    return norms


def _repulsion(means: Float[Tensor, "c d"], margin: float) -> Float[Tensor, ""]:
    """Mean over the pairs of one image's means; 0 where there is no pair."""
    if len(means) < 2:
        return means.new_zeros(())
    # Unordered pairs have the mean of ordered ones; equal means have the gradient 0, not NaN.
    return functional.relu(2 * margin - functional.pdist(means)).square().mean()
