"""Labels by nearest labelled pixels in embedding space.

Chen, Pont-Tuset, Montes, Van Gool, "Blazingly Fast Video Object Segmentation with Pixel-Wise
Metric Learning", CVPR 2018, section 3: references are embedded pixels with a label, every other
pixel takes the label that its k nearest references vote for. Pure functions on tensors; on a CPU
and on a GPU.

Labels are dense here: 0 background, 1 … `objects`. Callers map their object ids to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.grouping.nearest import nearest
from pixelkin.structures import IGNORE


@dataclass(frozen=True)
class ReferenceStore:
    """Labelled pixels in embedding space.

    Attributes:
        embeddings: float (R, D).
        labels: int64 (R,), 0 background, 1 … objects.
        xy: float (R, 2), place in pixels of the frame.
        t: float (R,), frame index.
        weights: float (R,), the weight of each reference's vote.
    """

    embeddings: Float[Tensor, "r d"]
    labels: Int64[Tensor, " r"]
    xy: Float[Tensor, "r 2"]
    t: Float[Tensor, " r"]
    weights: Float[Tensor, " r"]

    def __post_init__(self) -> None:
        counts = {len(self.embeddings), *map(len, (self.labels, self.xy, self.t, self.weights))}
        if len(counts) != 1:
            raise PixelkinError(
                f"a reference store got fields of {sorted(counts)} rows; give equally many of each"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Int64[Tensor, " n"] | slice) -> ReferenceStore:
        """The references at `index`, in that order."""
        return ReferenceStore(
            self.embeddings[index],
            self.labels[index],
            self.xy[index],
            self.t[index],
            self.weights[index],
        )


def concatenate(stores: Sequence[ReferenceStore]) -> ReferenceStore:
    """One store with the references of all `stores`, in order; at least one store."""
    return ReferenceStore(
        torch.cat([store.embeddings for store in stores]),
        torch.cat([store.labels for store in stores]),
        torch.cat([store.xy for store in stores]),
        torch.cat([store.t for store in stores]),
        torch.cat([store.weights for store in stores]),
    )


def cell_centres(
    grid_hw: tuple[int, int], stride: float, device: torch.device | None = None
) -> Float[Tensor, "hw 2"]:
    """(x, y) of the centres of a grid's cells in pixels, row by row."""
    y = (torch.arange(grid_hw[0], device=device) + 0.5) * stride
    x = (torch.arange(grid_hw[1], device=device) + 0.5) * stride
    return torch.stack([x.repeat(grid_hw[0]), y.repeat_interleave(grid_hw[1])], 1)


def make_store(
    embeddings: Float[Tensor, "d h w"],
    labels: UInt8[Tensor, "h w"] | Int64[Tensor, "h w"],
    *,
    t: float,
    stride: float,
    weight: float = 1.0,
) -> ReferenceStore:
    """The labelled cells of one frame as references, row by row; `IGNORE` cells are left out.

    Args:
        embeddings: float (D, h, w) of the frame.
        labels: (h, w), 0 … objects or `IGNORE`.
        t: frame index.
        stride: pixels per cell.
        weight: the vote of each.
    """
    if embeddings.shape[1:] != labels.shape:
        raise PixelkinError(
            f"embeddings have a grid of {tuple(embeddings.shape[1:])}, labels of "
            f"{tuple(labels.shape)}; label the cells of the same grid"
        )
    flat = labels.flatten().to(torch.int64)
    index = (flat != IGNORE).nonzero()[:, 0]
    ones = torch.ones(len(index), device=embeddings.device)
    centres = cell_centres((labels.shape[0], labels.shape[1]), stride, embeddings.device)
    return ReferenceStore(
        embeddings.flatten(1).T[index], flat[index], centres[index], ones * t, ones * weight
    )


def vote(
    distances: Float[Tensor, "q k"],
    indices: Int64[Tensor, "q k"],
    labels: Int64[Tensor, " r"],
    weights: Float[Tensor, " r"] | None = None,
    *,
    objects: int,
    temperature: float | None = None,
    unknown_threshold: float | None = None,
) -> Float[Tensor, "q objects_1"]:
    """The share of each label in the vote of the nearest references.

    Args:
        distances: squared distances, float (Q, k), as `nearest` gives them.
        indices: rows of the references, int64 (Q, k).
        labels: int64 (R,), 0 … `objects`.
        weights: weight of each reference's vote, float (R,), not negative; 1 where None.
        objects: number of objects.
        temperature: None counts every neighbour alike (the paper's k-NN vote); else a neighbour
            counts exp(−(d² − d²_nearest) / temperature).
        unknown_threshold: queries whose nearest reference is farther (squared distance) get no
            votes at all; `decide` gives them `IGNORE`.

    Returns:
        float32 (Q, objects + 1), rows sum to 1, or are 0 where nothing votes.
    """
    if temperature is None:
        votes = torch.ones_like(distances)
    elif temperature > 0:
        votes = ((distances[:, :1] - distances) / temperature).exp()
    else:
        raise PixelkinError(f"temperature {temperature}: expected above 0, or None")
    if weights is not None:
        votes = votes * weights[indices]
    scores = distances.new_zeros(len(distances), objects + 1)
    scores.scatter_add_(1, labels[indices], votes)
    scores /= scores.sum(1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)
    if unknown_threshold is not None:
        scores *= distances[:, :1] <= unknown_threshold
    return scores


def decide(scores: Float[Tensor, "objects_1 h w"]) -> UInt8[Tensor, "h w"]:
    """The label with the highest score, of equals the lowest; `IGNORE` where all are 0."""
    best, label = scores.max(0)
    return torch.where(best > 0, label, IGNORE).to(torch.uint8)


def spatio_temporal_bias(
    query_xy: Float[Tensor, "q 2"],
    query_t: Float[Tensor, " q"],
    ref_xy: Float[Tensor, "r 2"],
    ref_t: Float[Tensor, " r"],
    *,
    sigma_px: float,
    sigma_frames: float,
) -> Float[Tensor, "q r"]:
    """What being apart in the clip adds to a squared embedding distance.

    ‖Δxy‖² / sigma_px² + Δt² / sigma_frames², so a shift by one sigma adds 1; an infinite sigma
    switches its term off. The form is ours: the paper feeds (x, y, t) to its network's head.
    """
    place = (query_xy[:, None] - ref_xy).square().sum(2) / sigma_px**2
    return place + (query_t[:, None] - ref_t).square() / sigma_frames**2


def join_space_time(
    embeddings: Float[Tensor, "n d"],
    xy: Float[Tensor, "n 2"],
    t: Float[Tensor, " n"],
    *,
    sigma_px: float,
    sigma_frames: float,
) -> Float[Tensor, "n d_3"]:
    """Embeddings with (x, y, t) / sigma as three more dimensions.

    Squared distances between them are those of the embeddings plus `spatio_temporal_bias`, so a
    biased search is a plain exact search and needs no matrix of Q × R biases.
    """
    if sigma_px <= 0 or sigma_frames <= 0:
        raise PixelkinError(f"sigmas {sigma_px} px, {sigma_frames} frames: expected above 0")
    return torch.cat([embeddings, xy / sigma_px, t[:, None] / sigma_frames], 1)


def retrieve(
    embeddings: Float[Tensor, "d h w"],
    store: ReferenceStore,
    *,
    t: float,
    stride: float,
    objects: int,
    k: int = 5,
    temperature: float | None = None,
    sigmas: tuple[float, float] | None = None,
    unknown_threshold: float | None = None,
) -> Float[Tensor, "objects_1 h w"]:
    """Score maps of one frame by plain retrieval, the paper's method.

    Args:
        embeddings: float (D, h, w) of the frame.
        store: the references.
        t: frame index; counts only with `sigmas`.
        stride: pixels per cell; counts only with `sigmas`.
        objects: number of objects.
        k: neighbours that vote, 5 in the paper.
        temperature: see `vote`.
        sigmas: (sigma_px, sigma_frames) of the spatio-temporal weighting; None for none.
        unknown_threshold: see `vote`; of the biased distance where there are `sigmas`.

    Returns:
        float32 (objects + 1, h, w): shares of the vote per cell, 0 everywhere at unknown cells.
    """
    _, height, width = embeddings.shape
    queries, references = embeddings.flatten(1).T.float(), store.embeddings.float()
    if sigmas is not None:
        px, frames = sigmas
        xy = cell_centres((height, width), stride, embeddings.device)
        # Centred on the frame's own time and middle: small numbers keep float32 exact enough.
        middle = xy.mean(0)
        zeros = torch.zeros(len(xy), device=xy.device)
        queries = join_space_time(queries, xy - middle, zeros, sigma_px=px, sigma_frames=frames)
        references = join_space_time(
            references, store.xy - middle, store.t - t, sigma_px=px, sigma_frames=frames
        )
    distances, indices = nearest(queries, references, k=k)
    scores = vote(
        distances,
        indices,
        store.labels,
        store.weights,
        objects=objects,
        temperature=temperature,
        unknown_threshold=unknown_threshold,
    )
    return scores.T.reshape(objects + 1, height, width)


def append_confident(
    store: ReferenceStore,
    embeddings: Float[Tensor, "d h w"],
    scores: Float[Tensor, "objects_1 h w"],
    *,
    t: float,
    stride: float,
    threshold: float = 0.95,
    limit: int = 400,
    capacity: int | None = None,
    keep: int = 0,
) -> ReferenceStore:
    """Online adaptation: the store with the confident cells of one more frame appended.

    The paper appends confident pixels but its rule is not established; this one is ours. A cell
    is confident where its label's score is at least `threshold` and the 3×3 cells about it bear
    the same label, which keeps loose boundaries out. Every label gets an equal part of `limit`
    and takes its confident cells evenly spaced in row order, so the result is deterministic and
    covers the object.

    Args:
        store: the references so far.
        embeddings: float (D, h, w) of the frame.
        scores: float (objects + 1, h, w) of the frame, as `retrieve` gives them.
        t: frame index.
        stride: pixels per cell.
        threshold: smallest score, in (0, 1].
        limit: most cells to append.
        capacity: most references in the result; None for no bound. The oldest go first.
        keep: the first `keep` references (the user's) never go.
    """
    label = decide(scores)
    pooled = functional.pad(label[None, None].float(), (1, 1, 1, 1), mode="replicate")
    same = functional.max_pool2d(pooled, 3, 1) == -functional.max_pool2d(-pooled, 3, 1)
    sure = same[0, 0] & (scores.max(0).values >= threshold) & (label != IGNORE)
    chosen = torch.full_like(label, IGNORE)
    quota = limit // len(scores)
    for value in range(len(scores)):
        cells = (sure & (label == value)).flatten().nonzero()[:, 0]
        if len(cells) > quota:
            even = torch.arange(quota, device=cells.device) * len(cells) // max(quota, 1)
            cells = cells[even]
        chosen.view(-1)[cells] = value
    grown = concatenate([store, make_store(embeddings, chosen, t=t, stride=stride)])
    if capacity is not None and len(grown) > capacity:
        rest = max(capacity - keep, 0)
        grown = concatenate(
            [grown.rows(slice(0, keep)), grown.rows(slice(len(grown) - rest, None))]
        )
    return grown


def temporal_agreement(
    embeddings: Float[Tensor, "d h w"],
    previous: Float[Tensor, "d h w"],
    *,
    temperature: float = 0.1,
) -> Float[Tensor, "h w"]:
    """How surely a cell shows the same thing as one frame before: exp(−d² / temperature)."""
    return (-(embeddings.float() - previous.float()).square().sum(0) / temperature).exp()


def smooth_in_time(
    scores: Float[Tensor, "objects_1 h w"],
    previous: Float[Tensor, "objects_1 h w"],
    *,
    weight: float,
    agreement: Float[Tensor, "h w"] | float = 1.0,
) -> Float[Tensor, "objects_1 h w"]:
    """Scores drawn toward the previous frame's where the picture stands still.

    (1 − w) · scores + w · previous with w = `weight` · `agreement`, per cell; ours, against the
    flicker that the paper's table shows (T = 47.1).

    Args:
        scores: float (objects + 1, h, w) of this frame.
        previous: the same of the frame before, smoothed or not.
        weight: in [0, 1).
        agreement: in [0, 1], (h, w) or one number; see `temporal_agreement`.
    """
    if not 0 <= weight < 1:
        raise PixelkinError(f"smoothing weight {weight}: expected 0 or more and below 1")
    return torch.lerp(scores, previous, torch.as_tensor(weight * agreement).to(scores))
