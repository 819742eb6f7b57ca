"""One step of following objects: from an embedded frame and memories to mask logits.

Training and clip sessions run this same step, so what is trained is what users get.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from pixelkin.grouping.evidence import (
    Memory,
    cells,
    discriminant_features,
    evidence_maps,
    parts_of,
    recall,
)
from pixelkin.structures import Fields

Decode = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(details at strides 16, 8, 4, evidence) → logits at stride 4, as `MaskDecoder.forward`."""


@dataclass(frozen=True)
class FrameCells:
    """An embedded frame as cells. B frames of h × w cells, Q = h·w.

    Attributes:
        embeddings: (B, Q, D), unit norm.
        features: (B, Q, E), what the discriminant sees.
        details: at strides 16, 8, 4, each (B, C, …).
        grid_hw: (h, w).
    """

    embeddings: Float[Tensor, "b q d"]
    features: Float[Tensor, "b q e"]
    details: tuple[Tensor, ...]
    grid_hw: tuple[int, int]


def frame_cells(fields: Fields) -> FrameCells:
    """The dense outputs of the embedding network as cells."""
    embeddings = cells(fields.embeddings)
    features = discriminant_features(embeddings, cells(fields.details[0]))
    h, w = fields.embeddings.shape[-2:]
    return FrameCells(embeddings, features, fields.details, (h, w))


def remember(
    frame: FrameCells,
    parts: Float[Tensor, "b o q p"],
    weights: Float[Tensor, "b o q"] | None = None,
) -> Memory:
    """A frame with known or predicted masks, as memory; `weights` None: all cells are known."""
    if weights is None:
        weights = torch.ones_like(parts[..., 0])
    return Memory(frame.embeddings, frame.features, parts, weights)


@dataclass(frozen=True)
class Question:
    """What is asked of an embedded frame, for O objects: everything but the frame itself.

    Attributes:
        keys, columns: of the memory that is matched anywhere in the frame.
        near_keys, near_columns: of what is matched near its own place: the previous frame, or this
            frame's own clicks.
        bias: `local_bias` between the frame's cells and those of `near_keys`.
        previous: masks of the previous frame in place, or what is known of this one; .5 unknown.
        direction: `discriminant` of the memory.
    """

    keys: Float[Tensor, "b m d"]
    columns: Float[Tensor, "b m c"]
    near_keys: Float[Tensor, "b k d"]
    near_columns: Float[Tensor, "b k c"]
    bias: Float[Tensor, "q k"]
    previous: Float[Tensor, "b o q p"]
    direction: Float[Tensor, "b o e"]


def predict(decode: Decode, frame: FrameCells, question: Question) -> Float[Tensor, "b o h4 w4"]:
    """Mask logits of every object at stride 4."""
    globally = recall(frame.embeddings, question.keys, question.columns)
    locally = recall(
        frame.embeddings, question.near_keys, question.near_columns, bias=question.bias
    )
    score = question.direction @ frame.features.transpose(1, 2)
    evidence = evidence_maps(frame.grid_hw, globally, locally, question.previous, score)
    b, objects = question.previous.shape[:2]
    details = [d if objects == 1 else d.repeat_interleave(objects, dim=0) for d in frame.details]
    logits = decode(details[0], details[1], details[2], evidence)
    return logits.reshape(b, objects, *logits.shape[-2:])


def compete(logits: Float[Tensor, "b o h w"]) -> Float[Tensor, "b o h w"]:
    """Probabilities of objects that exclude each other.

    Soft aggregation (Oh et al., CVPR 2018, RGMP, section 3.3): the background's probability is the
    product of the objects' complements, and the odds are normalised.
    """
    if logits.shape[1] == 1:
        return logits.sigmoid()
    background = torch.nn.functional.logsigmoid(-logits).sum(dim=1, keepdim=True)
    odds = background - torch.log1p(-background.exp().clamp(max=1 - 1e-6))
    joined: Tensor = torch.cat([odds, logits], dim=1).softmax(dim=1)[:, 1:]
    return joined


def as_parts(logits: Float[Tensor, "b o h4 w4"]) -> Float[Tensor, "b o q p"]:
    """Predicted masks as the masks of cells."""
    return parts_of(compete(logits))
