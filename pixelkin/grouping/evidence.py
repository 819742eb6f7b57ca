"""What the references and the past say about each cell of a frame: retrieval as dense maps.

Chen et al. 2018 let each pixel take the label of its nearest references. Here the vote is soft (all
references, weighted by exp(β · cosine)), what is retrieved is the matched cell's own small mask
rather than one label, and a global, a local and a discriminant answer are kept apart for the mask
decoder to weigh. Local and global matching apart is FEELVOS's idea (Voigtlaender et al. 2019); the
closed-form discriminant per clip is FRTM's (Robinson et al., CVPR 2020), here a ridge regression.

A frame has Q cells of 16×16 pixels; a cell's mask has P = 16 parts of 4×4 pixels. B is the batch,
O the number of objects, M the number of cells in memory.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelkin.structures import IGNORE

SHARPNESS = 20.0
"""β of the soft vote. Unit-norm embeddings at cosine .9 then count e² times those at .8."""

LOCAL_SIGMA_CELLS = 3.0
"""Spread of the local match: at video rate few objects move more than 50 pixels a frame."""

RIDGE = 0.03
"""λ of the discriminant, for features of squared norm 3 and class weights that sum to 2."""

CELL_PX = 16
PART_PX = 4
PARTS = (CELL_PX // PART_PX) ** 2
_TINY = 1e-18


@dataclass(frozen=True)
class Memory:
    """Labelled cells, from the user's references or from the tracker's own past.

    Attributes:
        embeddings: (B, M, D), unit norm.
        features: (B, M, C), what the discriminant sees.
        parts: (B, O, M, P) in [0, 1]: each object's share in each part of the cell.
        weights: (B, O, M) ≥ 0; 0 where nothing is known of that object there.
    """

    embeddings: Float[Tensor, "b m d"]
    features: Float[Tensor, "b m c"]
    parts: Float[Tensor, "b o m p"]
    weights: Float[Tensor, "b o m"]

    def columns(self) -> Float[Tensor, "b m c"]:
        """What a vote adds up, C = O·(P + 2): the parts, the object's share, and the rest's share.

        One table for all objects: exponentials are the cost of a vote, and objects share them.
        """
        share = self.parts.mean(dim=3, keepdim=True)
        each = torch.cat([self.parts, share, 1.0 - share], dim=3) * self.weights[..., None]
        b, o, m, c = each.shape
        return each.permute(0, 2, 1, 3).reshape(b, m, o * c)


def join(memories: list[Memory]) -> Memory:
    """One memory of all cells, in the order given."""
    return Memory(
        torch.cat([m.embeddings for m in memories], dim=1),
        torch.cat([m.features for m in memories], dim=1),
        torch.cat([m.parts for m in memories], dim=2),
        torch.cat([m.weights for m in memories], dim=2),
    )


def cells(map_: Float[Tensor, "b c h w"]) -> Float[Tensor, "b q c"]:
    """A dense map as a list of cells, row by row."""
    return map_.flatten(2).transpose(1, 2).contiguous()


def parts_of(probabilities: Float[Tensor, "b o h4 w4"]) -> Float[Tensor, "b o q p"]:
    """Masks at stride 4 as the masks of their stride-16 cells."""
    b, o, h4, w4 = probabilities.shape
    side = CELL_PX // PART_PX
    blocks = F.pixel_unshuffle(probabilities.reshape(b * o, 1, h4, w4), side)
    return blocks.reshape(b, o, PARTS, -1).transpose(2, 3)


def label_parts(
    labels: UInt8[Tensor, "h w"], object_id: int
) -> tuple[Float[Tensor, "q p"], Float[Tensor, "q p"], Float[Tensor, " q"]]:
    """A partly labelled frame as cells, for one object.

    Args:
        labels: ids, 0 background, `IGNORE` where nothing is known; height and width divisible
            by 16.

    Returns:
        (known, parts, weights): `known` is .5 in parts without a label; `parts` fills those with
        the mean of the cell's labelled parts; `weights` is 1 for cells with any label, else 0.
    """
    is_known = (labels != IGNORE).float()[None, None]
    is_object = (labels == object_id).float()[None, None]
    known_share = F.avg_pool2d(is_known, PART_PX)
    object_share = F.avg_pool2d(is_object, PART_PX)
    known = parts_of(known_share)[0, 0] > 0
    share = parts_of(object_share / known_share.clamp(min=1e-6))[0, 0]
    count = known.sum(dim=1)
    mean = (share * known).sum(dim=1) / count.clamp(min=1)
    parts = torch.where(known, share, mean[:, None])
    return torch.where(known, share, torch.full_like(share, 0.5)), parts, (count > 0).float()


def local_bias(
    size_hw: tuple[int, int], *, sigma_cells: float = LOCAL_SIGMA_CELLS
) -> Float[Tensor, "q q"]:
    """−d²/2σ² between the cells of a frame of h × w cells: the spatial part of the local match."""
    h, w = size_hw
    rows = (torch.arange(h)[:, None] - torch.arange(h)).square().float()
    columns = (torch.arange(w)[:, None] - torch.arange(w)).square().float()
    squared = rows.view(h, 1, h, 1) + columns.view(1, w, 1, w)
    return squared.view(h * w, h * w).div_(-2 * sigma_cells**2)


def recall(
    queries: Float[Tensor, "b q d"],
    keys: Float[Tensor, "b m d"],
    columns: Float[Tensor, "b m c"],
    *,
    bias: Float[Tensor, "q m"] | None = None,
    sharpness: float = SHARPNESS,
) -> tuple[Float[Tensor, "b o q p"], Float[Tensor, "b o q"], Float[Tensor, "b o q"]]:
    """Soft nearest-neighbour vote of a memory for every query cell.

    Args:
        queries: unit norm.
        keys, columns: `embeddings` and `columns()` of a memory.
        bias: added to the exponent.

    Returns:
        (parts, on, off): the retrieved cell masks; and how near the nearest object cells and the
        nearest background cells are, as log-sum-exp of the cosine, about 1 for a perfect match,
        near 0 for none.
    """
    exponent = (sharpness * queries) @ keys.transpose(1, 2)
    votes = (exponent if bias is None else exponent + bias).exp()
    # exp(β(cos − 1)) with the constant taken out: one pass less over the Q × M table.
    sums = votes @ columns * math.exp(-sharpness)
    b, q, c = sums.shape
    sums = sums.reshape(b, q, c // (PARTS + 2), PARTS + 2).transpose(1, 2)
    on, off = sums[..., PARTS], sums[..., PARTS + 1]
    parts = sums[..., :PARTS] / (on + off + _TINY)[..., None]
    return parts, _nearness(on, sharpness), _nearness(off, sharpness)


def _nearness(mass: Tensor, sharpness: float) -> Tensor:
    # Cosine 0 is where "no match" begins; below it differences mean nothing.
    return 1.0 + (mass + math.exp(-sharpness)).log() / sharpness


def discriminant_features(
    embeddings: Float[Tensor, "b q d"], context: Float[Tensor, "b q c"]
) -> Float[Tensor, "b q e"]:
    """What the discriminant sees of a cell: embedding, context, a constant, each of unit norm."""
    one = torch.ones_like(embeddings[..., :1])
    return torch.cat([embeddings, F.normalize(context, dim=2), one], dim=2)


def discriminant(
    memory: Memory, *, ridge: float = RIDGE, prior: float = 0.1
) -> Float[Tensor, "b o c"]:
    """Ridge regression from cell features to object (+1) against the rest (−1), per object.

    Both classes weigh the same in total. Cells of which nothing is known count as background with
    total weight `prior`: without it, clicks on the object alone would have no other side.
    """
    share = memory.parts.mean(dim=3)
    known = (memory.weights > 0).float()
    positive = memory.weights * share
    negative = memory.weights * (1.0 - share)
    unknown = 1.0 - known
    positive = positive / positive.sum(dim=2, keepdim=True).clamp(min=1e-6)
    negative = negative / negative.sum(dim=2, keepdim=True).clamp(min=1e-6)
    negative = negative + prior * unknown / memory.weights.shape[2]
    x = memory.features[:, None]
    gram = x.transpose(2, 3) @ (x * (positive + negative)[..., None])
    target = x.transpose(2, 3) @ (positive - negative)[..., None]
    eye = torch.eye(gram.shape[-1], device=gram.device, dtype=gram.dtype)
    weights: Tensor = torch.linalg.solve(gram + ridge * eye, target)[..., 0]
    return weights


def evidence_maps(
    size_hw: tuple[int, int],
    globally: tuple[Tensor, Tensor, Tensor],
    locally: tuple[Tensor, Tensor, Tensor],
    previous: Float[Tensor, "b o q p"],
    score: Float[Tensor, "b o q"],
) -> Float[Tensor, "bo e h w"]:
    """Stack everything that is known of each cell into the mask decoder's input, per object."""
    columns = torch.cat(
        [
            globally[0],
            locally[0],
            previous,
            torch.stack([globally[1], globally[2], locally[1], locally[2], score], dim=3),
        ],
        dim=3,
    )
    b, o, _, e = columns.shape
    return columns.reshape(b * o, size_hw[0], size_hw[1], e).permute(0, 3, 1, 2)
