"""The modified triplet loss of Chen et al. 2018.

Chen, Pont-Tuset, Montes, Van Gool, "Blazingly Fast Video Object Segmentation with Pixel-Wise
Metric Learning", CVPR 2018, section 3.3:

    L = Σ_a [ min_{p ∈ P} ‖f_a − f_p‖² − min_{n ∈ N} ‖f_a − f_n‖² + α ]₊

An anchor is drawn to its NEAREST positive only and pushed from its nearest negative, since the
parts of one object may look different. The pools P and N come from the clip's other frames: in
its own frame an anchor's neighbours would make the task trivial.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE


def sample_anchors(
    labels: Int64[Tensor, "*shape"],
    *,
    count: int = 256,
    generator: torch.Generator | None = None,
) -> Int64[Tensor, " a"]:
    """Flat indices of up to `count` pixels, half of them foreground and half background.

    Within foreground the pixels are drawn alike, whatever their object. Where one half has too
    few pixels all of them are taken, and the other half is not enlarged: balance matters more
    than count. `IGNORE` pixels are never drawn.

    Args:
        labels: int64 of any shape: 0 background, object ids, `IGNORE`.
        count: anchors, 256 in the paper.
        generator: source of randomness, on the CPU.
    """
    flat = labels.flatten()
    halves = []
    for member in (flat == 0, (flat != 0) & (flat != IGNORE)):
        index = member.nonzero()[:, 0]
        order = torch.randperm(len(index), generator=generator)[: count // 2]
        halves.append(index[order.to(index.device)])
    return torch.cat(halves)


def modified_triplet_loss(
    anchors: Float[Tensor, "a d"],
    anchor_labels: Int64[Tensor, " a"],
    pool: Float[Tensor, "p d"],
    pool_labels: Int64[Tensor, " p"],
    *,
    margin: float = 0.7,
    reduction: Literal["mean", "sum"] = "mean",
    chunk: int = 8192,
) -> Float[Tensor, ""]:
    """The hinge of every anchor on its nearest positive and its nearest negative in the pool.

    A positive bears the anchor's label, a negative another one; `IGNORE` is neither. Anchors
    without a positive or without a negative in the pool (an object that left the view) are left
    out of the sum and of the mean; where none remains the loss is 0, with zero gradients.

    The nearest pixels are searched without gradients, in chunks of the pool, and only the pairs
    found take part in the graph: memory is A × `chunk`, and the gradient is that of the formula.

    Args:
        anchors: float (A, D), all of one frame.
        anchor_labels: int64 (A,).
        pool: float (P, D), pixels of the clip's other frames.
        pool_labels: int64 (P,).
        margin: α. .7 for unit vectors; the paper does not state it, a port of it uses .7.
        reduction: "sum" as in the paper, or "mean" over the anchors that count.
        chunk: pool pixels compared at once.

    Returns:
        A scalar of the dtype of `anchors`.
    """
    if len(anchors) != len(anchor_labels) or len(pool) != len(pool_labels):
        raise PixelkinError(
            f"{len(anchors)} anchors with {len(anchor_labels)} labels, {len(pool)} pool pixels "
            f"with {len(pool_labels)} labels; give one label each"
        )
    if reduction not in ("mean", "sum"):
        raise PixelkinError(f"reduction {reduction!r}: expected 'mean' or 'sum'")
    positive, has_positive, negative, has_negative = _nearest_pairs(
        anchors.detach(), anchor_labels, pool.detach(), pool_labels, chunk
    )
    counts = has_positive & has_negative & (anchor_labels != IGNORE)
    kept = anchors[counts]
    pull = (kept - pool[positive[counts]]).square().sum(1)
    push = (kept - pool[negative[counts]]).square().sum(1)
    # The hinge stands inside the sum: an anchor that is well placed must not pay for another.
    total = functional.relu(pull - push + margin).sum()
    return total / counts.sum().clamp_min(1) if reduction == "mean" else total


def _nearest_pairs(
    anchors: Float[Tensor, "a d"],
    anchor_labels: Int64[Tensor, " a"],
    pool: Float[Tensor, "p d"],
    pool_labels: Int64[Tensor, " p"],
    chunk: int,
) -> tuple[Int64[Tensor, " a"], Bool[Tensor, " a"], Int64[Tensor, " a"], Bool[Tensor, " a"]]:
    """Pool rows of each anchor's nearest positive and negative, and whether there is one."""
    index = [torch.zeros_like(anchor_labels) for _ in range(2)]
    best = [anchors.new_full((len(anchors),), torch.inf) for _ in range(2)]
    for start in range(0, len(pool), chunk):
        part, labels = pool[start : start + chunk], pool_labels[start : start + chunk]
        # |a|² is the same for every candidate of an anchor.
        distances = torch.addmm(part.square().sum(1), anchors, part.T, alpha=-2)
        same = anchor_labels[:, None] == labels
        known = labels != IGNORE
        for which, member in enumerate((same & known, ~same & known)):
            value, place = distances.masked_fill(~member, torch.inf).min(1)
            closer = value < best[which]
            best[which] = torch.where(closer, value, best[which])
            index[which] = torch.where(closer, place + start, index[which])
    return index[0], best[0].isfinite(), index[1], best[1].isfinite()


def clip_triplet_loss(
    embeddings: Float[Tensor, "n t d h w"],
    labels: Int64[Tensor, "n t h w"],
    *,
    anchors: int = 256,
    margin: float = 0.7,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """The modified triplet loss of N clips, averaged over the clips.

    In each clip one frame, drawn at random, gives the anchors (half foreground, half background)
    and all other frames form the pools. Object ids must mean the same object through a clip.

    Args:
        embeddings: float (N, T, D, h, w), unit norm along D, T ≥ 2 (3 in the paper).
        labels: int64 (N, T, h, w) of the cells: 0 background, object ids, `IGNORE`.
        anchors: anchors per clip, 256 in the paper.
        margin: see `modified_triplet_loss`.
        generator: source of randomness, on the CPU.
    """
    clips, frames = embeddings.shape[:2]
    if frames < 2 or labels.shape != embeddings.shape[:2] + embeddings.shape[3:]:
        raise PixelkinError(
            f"embeddings {tuple(embeddings.shape)} and labels {tuple(labels.shape)}: expected "
            "(N, T, D, h, w) and (N, T, h, w) with T of 2 or more"
        )
    losses = []
    for clip in range(clips):
        own = int(torch.randint(frames, (1,), generator=generator))
        others = [frame for frame in range(frames) if frame != own]
        index = sample_anchors(labels[clip, own], count=anchors, generator=generator)
        losses.append(
            modified_triplet_loss(
                embeddings[clip, own].flatten(1).T[index],
                labels[clip, own].flatten()[index],
                embeddings[clip, others].flatten(2).transpose(1, 2).flatten(0, 1),
                labels[clip, others].flatten(),
                margin=margin,
            )
        )
    return torch.stack(losses).mean()
