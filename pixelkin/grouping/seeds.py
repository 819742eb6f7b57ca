"""Seeds: which pixels shall each grow into a mask.

Fathi et al., "Semantic Instance Segmentation via Deep Metric Learning", arXiv 1703.10277,
section 3.3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.blocks import PixelBlocks, squared_apart
from pixelkin.grouping.lazy_seeds import choose_lazily, seed_weights

_LEAST_LAZY = 4096
"""Pixels below which bounds cost more than they save."""

_LEAST_ALPHA = 0.01
"""Below it 32-bit weights bound nothing."""


class Seeds(NamedTuple):
    """Chosen pixels, in the order of choice.

    Attributes:
        indices: int64 (T,), rows of the embeddings.
        scores: float32 (T,), their seediness.
    """

    indices: Int64[Tensor, " t"]
    scores: Float[Tensor, " t"]


def seediness(
    probabilities: Float[Tensor, "t c n"],
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """How likely each pixel is to grow into a good mask of an object.

    The maximum over similarity cuts and over classes other than background (section 3.3).

    Args:
        probabilities: float (T, 1 + C, N), of each class at each of T cuts; class 0 is background.

    Returns:
        Scores, float (N,); the cut that has the maximum, int64 (N,) in 0 … T−1; and its category,
        int64 (N,) in 0 … C−1 (category 0 is class 1). Of equal maxima, any. NaN gives NaN.

    Raises:
        PixelkinError: other dimensions, no cut, or no class besides background.
    """
    if probabilities.ndim != 3 or probabilities.shape[0] < 1 or probabilities.shape[1] < 2:
        raise PixelkinError(
            f"probabilities {tuple(probabilities.shape)}: expected (cuts, 1 + categories, pixels), "
            "with background as class 0"
        )
    categories = probabilities.shape[1] - 1
    scores, best = probabilities[:, 1:].flatten(0, 1).max(0)
    return scores, best.div(categories, rounding_mode="floor"), best.remainder(categories)


def choose_seeds(
    embeddings: Float[Tensor, "n d"],
    scores: Float[Tensor, " n"],
    *,
    count: int,
    alpha: float = 0.3,
    floor: float = 0.0,
    blocks: PixelBlocks | None = None,
) -> Seeds:
    """Seeds that score high and lie far from each other, by the paper's greedy rule, exactly.

    p₁ = argmax S; p_t = argmax [log S_p + α log D(p, {p₁ … p_{t−1}})], D the least squared distance
    to the seeds so far (section 3.3). Of equal pixels the one with the lowest index is taken.
    Pixels that coincide with a seed are never taken, whatever α.

    Args:
        embeddings: float (N, D).
        scores: float (N,), seediness S.
        count: seeds at most. There are fewer where no other pixel with a score above `floor` lies
            apart from the seeds.
        alpha: weight of the distance, 0 or more; the paper sweeps .1 to .6.
        floor: only scores above it can be seeds; 0 or more.
        blocks: of these embeddings, where they were made before; on a CPU only.

    Returns:
        `Seeds`, at most `count`. Scores that are not finite, and pixels whose embedding is not,
        are passed over.

    Raises:
        PixelkinError: shapes that do not match, or a count, alpha or floor below 0.
    """
    if embeddings.ndim != 2 or scores.shape != embeddings.shape[:1]:
        raise PixelkinError(
            f"embeddings {tuple(embeddings.shape)} and scores {tuple(scores.shape)}: expected "
            "(N, D) and (N,)"
        )
    if not (count >= 0 and alpha >= 0 and floor >= 0):
        raise PixelkinError(
            f"count {count}, alpha {alpha}, floor {floor}: none of them can be negative"
        )
    embeddings, scores = embeddings.detach().float().contiguous(), scores.detach().float()
    count = min(count, len(scores))
    if embeddings.device.type == "cpu" and alpha >= _LEAST_ALPHA and len(scores) >= _LEAST_LAZY:
        blocks = blocks or PixelBlocks(embeddings)
    found = None
    if blocks is not None and blocks.usable and alpha >= _LEAST_ALPHA:
        found = choose_lazily(blocks, scores, count, alpha, floor)
    if found is None:
        found = _plain(embeddings, scores, count, alpha, floor)
    indices = torch.tensor(found, dtype=torch.int64, device=scores.device)
    return Seeds(indices, scores[indices])


def _plain(
    embeddings: Float[Tensor, "n d"],
    scores: Float[Tensor, " n"],
    count: int,
    alpha: float,
    floor: float,
) -> list[int]:
    """The rule as it stands: every pixel's distance to every seed."""
    weights = seed_weights(scores.where(embeddings.isfinite().all(1), -torch.inf), alpha, floor)
    priority = scores.where(weights > 0, -torch.inf).double()
    distances = torch.full_like(scores, torch.inf)
    chosen: list[int] = []
    while len(chosen) < count:
        best = int(priority.argmax())
        if not priority[best] > 0:
            break
        chosen.append(best)
        distances = torch.fmin(distances, squared_apart(embeddings, embeddings[best]))
        priority = (weights * (distances if alpha else distances.sign())).nan_to_num(nan=0.0)
    return chosen
