"""The losses of deep metric learning for instances.

A. Fathi et al.: "Semantic Instance Segmentation via Deep Metric Learning", arXiv 1703.10277, 2017.
`pair_loss` is its section 3.1, `mask_score_loss` its section 3.2. What the paper leaves open is a
named constant here, with a reason; docs/model_zoo.md shows what each is worth on our data.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pixelkin.grouping.similarity import (
    distance_at,
    log_dissimilarity,
    log_similarity,
    squared_distances,
)
from pixelkin.structures import IGNORE

PIXELS_PER_INSTANCE = 10
"""K: pixels drawn from each instance (the paper's)."""

BACKGROUND_PIXELS = 300
"""Pixels drawn from the background. The paper counts it as one instance (K = 10); it holds most of
the image and every outline, so ours draws more."""

NEAR_CELLS = 3
"""Half of the background's pixels are drawn within so many cells of an instance (0: all anywhere,
the paper). Far ones are told apart early; where an outline runs is learned on near ones alone."""

SHARES = (1 / 3, 1 / 3, 1 / 3)
"""What pairs of one instance, of two instances, and of an instance and the background weigh
together. By the paper's formula the first and the last weigh one over the number of instances: next
to nothing in an image with a hundred of them, where most pairs of instances are far apart and
learned at once."""

SETTLED_DISTANCE = 8.0
"""Pairs of different instances farther apart than this (σ < 7e-4) do not count in the mean of their
kind, which would else say little but how many easy pairs an image has."""

SEEDS_PER_INSTANCE = 2
"""Pixels of an instance whose masks are built for the class scores. The paper says about ten an
image or instance, depending on how it is read; crowded images have hundreds of instances."""

MATCH_IOU = 0.5
"""Overlap from which a pixel's mask counts as its instance (with hard targets)."""


class Samples(NamedTuple):
    """Pixels drawn from one image.

    Attributes:
        cells: int64 (S,), index into the flattened field.
        instances: int64 (S,), 0 background, else the instance's label.
    """

    cells: Int64[Tensor, " s"]
    instances: Int64[Tensor, " s"]


def sample_pixels(
    labels: Int64[Tensor, "h w"],
    *,
    per_instance: int = PIXELS_PER_INSTANCE,
    background: int = BACKGROUND_PIXELS,
    near_cells: int = NEAR_CELLS,
) -> Samples:
    """Draw pixels of every instance and of the background, without repetition.

    An instance with fewer pixels gives all it has; `IGNORE` gives none. Uses torch's global
    generator.

    Args:
        labels: 0 background, instances, `IGNORE`.
        per_instance: pixels of each instance.
        background: pixels of the background, of which half lie within `near_cells` of an instance.
        near_cells: 0 draws all of them anywhere.
    """
    flat = labels.reshape(-1)
    limits = {0: background, IGNORE: 0}
    if near_cells:
        instance = ((labels > 0) & (labels != IGNORE)).float()[None, None]
        near = F.max_pool2d(instance, 2 * near_cells + 1, 1, near_cells)[0, 0] > 0
        flat = torch.where(near.reshape(-1) & (flat == 0), -1, flat)
        limits = {0: background - background // 2, -1: background // 2, IGNORE: 0}
    # A random order, then a stable sort by label: each label's first pixels are a fair draw.
    order = torch.randperm(flat.numel(), device=flat.device)
    order = order[torch.sort(flat[order], stable=True).indices]
    present, counts = torch.unique_consecutive(flat[order], return_counts=True)
    rank = torch.arange(len(order), device=flat.device) - torch.repeat_interleave(
        counts.cumsum(0) - counts, counts
    )
    limit = torch.full_like(present, per_instance)
    for label, most in limits.items():
        limit = torch.where(present == label, most, limit)
    kept = order[rank < torch.repeat_interleave(limit, counts)]
    return Samples(kept, labels.reshape(-1)[kept])


def pair_weights(instances: Int64[Tensor, " s"]) -> Float[Tensor, "s s"]:
    """w_pq: inversely proportional to the sizes of both instances, summing to 1 (section 3.1).

    A size is the number of pixels drawn, so that every pair of instances weighs the same.
    """
    _, inverse, counts = torch.unique(instances, return_inverse=True, return_counts=True)
    size = counts[inverse].float()
    weights: Tensor = 1 / (size[:, None] * size[None, :])
    return weights / weights.sum()


def pair_loss(
    embeddings: Float[Tensor, "s d"],
    instances: Int64[Tensor, " s"],
    *,
    shares: tuple[float, float, float] | None = None,
    pull_background: bool = True,
) -> Float[Tensor, ""]:
    """L_e, the weighted log loss over all ordered pairs of sampled pixels (section 3.1).

    −Σ w_pq [1{y_p = y_q} log σ + 1{y_p ≠ y_q} log(1 − σ)], σ = 2 / (1 + exp ‖e_p − e_q‖²). The
    paper divides by |S| beside Σ w = 1; that constant is left to the loss's weight.

    Args:
        embeddings: of the sampled pixels.
        instances: their labels, 0 background.
        shares: what pairs of one instance (or of the background), of two instances, and of an
            instance and the background weigh together, each kind averaged by w over those pairs
            that are not yet `SETTLED_DISTANCE` apart. None is the paper's formula.
        pull_background: whether background pixels shall lie together, as in the paper. Networks
            that add a pixel's place to its embedding cannot have it so, and need not.
    """
    if len(instances) == 0:
        return embeddings.sum() * 0
    distances = squared_distances(embeddings, embeddings)
    same = instances[:, None] == instances[None, :]
    ground = instances == 0
    weights = pair_weights(instances).to(distances.dtype)
    if not pull_background:
        weights = weights * ~(ground[:, None] & ground[None, :])
    costs = -weights * torch.where(same, log_similarity(distances), log_dissimilarity(distances))
    if shares is None:
        return costs.sum() / weights.sum().clamp_min(1e-12)
    open_weights = weights * (same | (distances.detach() < SETTLED_DISTANCE))
    with_ground = ~same & (ground[:, None] | ground[None, :])
    loss = costs.sum() * 0
    for kind, share in zip((same, ~same & ~with_ground, with_ground), shares, strict=True):
        # A handful of open pairs must not get the weight of all.
        least = 1e-3 * (weights * kind).sum()
        loss = loss + share * (costs * kind).sum() / torch.maximum(
            (open_weights * kind).sum(), least
        ).clamp_min(1e-12)
    return loss


class MaskScores(NamedTuple):
    """Pixels whose masks were compared with the truth.

    Attributes:
        cells: int64 (P,), index into the flattened field.
        overlaps: float (T, P), IoU of each pixel's mask at each cut with its instance; 0 for
            background pixels.
        categories: int64 (P,), category of its instance, -1 background.
    """

    cells: Int64[Tensor, " p"]
    overlaps: Float[Tensor, "t p"]
    categories: Int64[Tensor, " p"]


@torch.no_grad()
def mask_overlaps(
    embeddings: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    categories: Int64[Tensor, " m"],
    samples: Samples,
    *,
    cuts: tuple[float, ...],
) -> MaskScores:
    """Build the masks {q : σ(p, q) ≥ τ} of sampled pixels, and compare them with the truth.

    Args:
        embeddings: of all cells of one image.
        labels: of the same cells; `IGNORE` counts neither for nor against.
        categories: of the instances in label order.
        samples: the pixels.
        cuts: τ, ascending or not.
    """
    foreground = samples.instances > 0
    owners = samples.instances[foreground]
    distances = squared_distances(embeddings[samples.cells[foreground]], embeddings)
    counted = labels != IGNORE
    truth = labels[None, :] == owners[:, None]
    area = truth.sum(1)
    overlaps = embeddings.new_zeros(len(cuts), len(foreground))
    for t, cut in enumerate(cuts):
        inside = (distances <= distance_at(cut)) & counted
        both = (inside & truth).sum(1)
        overlaps[t, foreground] = both / (inside.sum(1) + area - both).clamp_min(1)
    index = samples.instances - 1 - (samples.instances > IGNORE).long()
    known = torch.full_like(index, -1)
    known[foreground] = categories[index[foreground]]
    return MaskScores(samples.cells, overlaps, known)


def mask_score_loss(
    logits: Float[Tensor, "l n"], scored: MaskScores, *, hard: bool = True
) -> Float[Tensor, ""]:
    """L_cls, the cross-entropy of the mask scores (section 3.2), mean over cuts and pixels.

    Args:
        logits: of all cells of one image, L = cuts · (classes + 1), the background first in each.
        scored: from `mask_overlaps`.
        hard: target is the category where the overlap reaches `MATCH_IOU`, else background (the
            paper). If not, the category's target IS the overlap and the background's the rest: the
            score then estimates how good a mask is, which average precision over several overlaps
            asks for.
    """
    cuts, pixels = scored.overlaps.shape
    if pixels == 0:
        return logits.sum() * 0
    chosen = logits[:, scored.cells].reshape(cuts, -1, pixels)
    share = (scored.overlaps >= MATCH_IOU).to(chosen.dtype) if hard else scored.overlaps
    log_probabilities = F.log_softmax(chosen, dim=1)
    category = (scored.categories.clamp_min(0) + 1).expand(cuts, 1, pixels)
    named = log_probabilities.gather(1, category).squeeze(1)
    return -(share * named + (1 - share) * log_probabilities[:, 0]).mean()


def metric_instance_losses(
    embeddings: Float[Tensor, "n d h w"],
    logits: Float[Tensor, "n l h w"],
    labels: Int64[Tensor, "n h w"],
    categories: Int64[Tensor, "n m"],
    *,
    cuts: tuple[float, ...],
    per_instance: int = PIXELS_PER_INSTANCE,
    background: int = BACKGROUND_PIXELS,
    near_cells: int = NEAR_CELLS,
    shares: tuple[float, float, float] | None = SHARES,
    pull_background: bool = True,
    hard: bool = True,
) -> dict[str, Tensor]:
    """Both losses, means over the images: "pairs" (L_e) and "scores" (L_cls).

    Args:
        embeddings, logits: of the network.
        labels: at the same stride.
        categories: of the instances in label order, -1 beyond the last.
        cuts, shares, pull_background, hard: see the parts.
        per_instance, background, near_cells: see `sample_pixels`.
    """
    pairs, scores = [], []
    for field, scored, truth, known in zip(embeddings, logits, labels, categories, strict=True):
        cells = field.flatten(1).T
        samples = sample_pixels(
            truth, per_instance=per_instance, background=background, near_cells=near_cells
        )
        pairs.append(
            pair_loss(
                cells[samples.cells],
                samples.instances,
                shares=shares,
                pull_background=pull_background,
            )
        )
        few = sample_pixels(
            truth,
            per_instance=SEEDS_PER_INSTANCE,
            background=max(background // 2, 1),
            near_cells=near_cells,
        )
        overlaps = mask_overlaps(cells, truth.reshape(-1), known, few, cuts=cuts)
        scores.append(mask_score_loss(scored.flatten(1), overlaps, hard=hard))
    return {"pairs": torch.stack(pairs).mean(), "scores": torch.stack(scores).mean()}
