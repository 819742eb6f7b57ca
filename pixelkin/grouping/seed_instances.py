"""Instances grown from seeds.

A. Fathi et al.: "Semantic Instance Segmentation via Deep Metric Learning", arXiv 1703.10277, 2017,
section 3.3: choose seeds, take each one's mask at its best cut, its category and its score.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.cells import CellMask, instances_from_cells
from pixelkin.grouping.seeds import choose_seeds, seediness
from pixelkin.grouping.similarity import distance_at, similar
from pixelkin.structures import InstanceFields, Instances

SEEDS_AT_ONCE = 64
"""Seeds whose masks exist at the same time: hundreds of instances never stand side by side."""


@dataclass(frozen=True)
class SeedGrouping:
    """From embeddings and mask scores to instances, by seeds.

    Attributes:
        cuts: similarities τ, in the order of the network's logits.
        seeds: chosen at most. The paper finds that 100 cover nearly every object of VOC; images
            with hundreds of objects need more.
        alpha: weight of a seed's distance from those before (the paper sweeps .1 to .6).
        min_score: seeds below are not grown. The paper keeps all and leaves it to the ranking;
            ours saves the time where precision is lost anyway.
        keep: share of a mask that no better one may have taken (`instances_from_cells`). The paper
            does not say how it suppresses duplicates.
        min_cells: smaller masks are dropped.
        min_member: a cell whose own seediness is lower belongs to no mask. 0 is the paper: there
            the embedding alone decides.
    """

    cuts: tuple[float, ...]
    seeds: int = 100
    alpha: float = 0.3
    min_score: float = 0.05
    keep: float = 0.5
    min_cells: int = 4
    min_member: float = 0.0

    def __call__(self, fields: InstanceFields, size_hw: tuple[int, int]) -> Instances:
        """Instances of one image, best first.

        Args:
            fields: N = 1; logits of cuts · (classes + 1) channels, the background first in each.
            size_hw: of the image in pixels, at most what the fields cover.
        """
        if len(fields.embeddings) != 1 or fields.logits.shape[1] % len(self.cuts):
            raise PixelkinError(
                f"fields of {len(fields.embeddings)} images with {fields.logits.shape[1]} logits: "
                f"expected one image and a multiple of {len(self.cuts)} logits"
            )
        field_hw = (fields.logits.shape[2], fields.logits.shape[3])
        cells = fields.embeddings[0].flatten(1).T.contiguous()
        logits = fields.logits[0].reshape(len(self.cuts), -1, len(cells))
        scores, cut, category = seediness(logits.softmax(1))
        chosen = choose_seeds(
            cells, scores, count=self.seeds, alpha=self.alpha, floor=self.min_score
        )
        radii = torch.tensor([distance_at(cut) for cut in self.cuts], device=cells.device)
        # Only cells that may belong somewhere are compared with the seeds.
        able = (scores >= self.min_member).nonzero()[:, 0]
        members, index = cells[able], able.cpu().numpy()
        candidates = []
        for start in range(0, len(chosen.indices), SEEDS_AT_ONCE):
            indices = chosen.indices[start : start + SEEDS_AT_ONCE]
            masks = member_cells(members, cells[indices], radii[cut[indices]])
            candidates += [
                CellMask(index[mask], int(c), float(s))
                for mask, c, s in zip(masks, category[indices], scores[indices], strict=True)
            ]
        return instances_from_cells(
            candidates,
            field_hw=field_hw,
            stride=fields.stride,
            size_hw=size_hw,
            keep=self.keep,
            min_cells=self.min_cells,
        )


def member_cells(
    embeddings: Tensor, seeds: Tensor, distances: Tensor
) -> list[Int[np.ndarray, " k"]]:
    """Indices of the cells within each seed's squared distance, ascending.

    Args:
        embeddings: float (N, D).
        seeds: float (T, D).
        distances: float (T,).
    """
    found, start = [], 0
    for inside in similar(embeddings, seeds, distances):
        hits = inside.nonzero()
        hits[:, 0] += start
        found.append(hits)
        start += len(inside)
    hits = torch.cat(found) if found else torch.empty(0, 2, dtype=torch.long)
    order = torch.sort(hits[:, 1], stable=True).indices
    cells = hits[order, 0].cpu().numpy()
    counts = torch.bincount(hits[:, 1], minlength=len(seeds)).cpu().numpy()
    return np.split(cells, np.cumsum(counts)[:-1])
