"""Instances grown from seeds.

A. Fathi et al.: "Semantic Instance Segmentation via Deep Metric Learning", arXiv 1703.10277, 2017,
section 3.3: choose seeds, take each one's mask at its best cut, its category and its score.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.blocks import PixelBlocks, changes_of_masks
from pixelkin.grouping.cells import CellMask, instances_of, suppress
from pixelkin.grouping.nearest import nearest
from pixelkin.grouping.seeds import choose_seeds, seediness
from pixelkin.grouping.similarity import (
    distance_at,
    similar,
    similarity,
    squared_distances,
)
from pixelkin.structures import InstanceFields, Instances

SEEDS_AREA_PX = 1024 * 1024
"""Images of more pixels hold more objects."""

FIRST_SEEDS = 64
"""Seeds that are chosen before asking whether more would find anything new."""

REPEATED = 0.75
"""Similarity to an earlier seed from which a seed repeats it."""

LEAST_SIMILARITY = 0.1
"""Of a cell to the object that it is given to; what is less similar than this to every object stays
background."""

SEEDS_AT_ONCE = 64
"""Seeds whose masks exist at the same time: hundreds of instances never stand side by side."""


@dataclass(frozen=True)
class SeedGrouping:
    """From embeddings and mask scores to instances, by seeds.

    Attributes:
        cuts: similarities τ, in the order of the network's logits.
        seeds: chosen at most; no more are chosen once they only repeat others. The paper finds that
            100 cover nearly every object of VOC; images with hundreds of objects need more. Images
            of over `SEEDS_AREA_PX` get more in proportion.
        alpha: weight of a seed's distance from those before (the paper sweeps .1 to .6).
        min_score: seeds below are not grown. The paper keeps all and leaves it to the ranking;
            ours saves the time where precision is lost anyway.
        keep: share of a mask that no better one may have taken (`cells.suppress`). The paper does
            not say how it suppresses duplicates.
        min_cells: smaller masks are dropped.
        ground_units: bound of the network's background dimension (`InstanceNet`), 0 where it has
            none.
        share_out: the seeds' masks say how many objects there are and what each is like; every cell
            that looks less like background than this then goes to the object it is most similar
            to, by the mean of the object's mask. Needs the background dimension. 0 leaves the masks
            as the seeds cut them (the paper), with their seediness as their score.
        alike: objects whose means are at least so similar are one; the better one stays, and the
            other's cells are shared out. Part of sharing out.
    """

    cuts: tuple[float, ...]
    seeds: int = 100
    alpha: float = 0.3
    min_score: float = 0.05
    keep: float = 0.8
    min_cells: int = 4
    ground_units: float = 0.0
    share_out: float = 0.4
    alike: float = 0.5

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
        cells = fields.embeddings[0].flatten(1).T.contiguous()
        area = len(cells) * fields.stride**2
        masks = suppress(
            self._grow(
                cells, fields.logits[0], math.ceil(self.seeds * max(1, area / SEEDS_AREA_PX))
            ),
            cells=len(cells),
            keep=self.keep,
            min_cells=self.min_cells,
        )
        if self.ground_units and self.share_out and masks:
            masks = self._share_out(masks, cells)
        field_hw = (fields.logits.shape[2], fields.logits.shape[3])
        return instances_of(masks, field_hw=field_hw, stride=fields.stride, size_hw=size_hw)

    def _share_out(self, masks: list[CellMask], cells: Tensor) -> list[CellMask]:
        able = (cells[:, 2] < self.share_out * self.ground_units).nonzero()[:, 0]
        masks = shared_out(unlike(masks, cells, alike=self.alike), cells, able)
        return [one for one in masks if len(one.cells) >= self.min_cells]

    def _choose(
        self, cells: Tensor, scores: Tensor, count: int, blocks: PixelBlocks | None
    ) -> Tensor:
        """Up to `count` seeds; fewer where the last ones only repeat those before.

        Seeds are chosen one after the other, so fewer are the first of more.
        """
        some = min(FIRST_SEEDS, count)
        while True:
            chosen = choose_seeds(
                cells, scores, count=some, alpha=self.alpha, floor=self.min_score, blocks=blocks
            ).indices
            if some == count or len(chosen) < some:
                return chosen
            before = 3 * some // 4
            last = squared_distances(cells[chosen[before:]], cells[chosen[:before]]).amin(1)
            if bool((last < distance_at(REPEATED)).all()):
                return chosen
            some = min(2 * some, count)

    def _grow(self, cells: Tensor, logits: Tensor, count: int) -> Iterator[CellMask]:
        """The mask of every seed at its best cut; overlapping, in the order of choice."""
        maps = logits.reshape(len(self.cuts), -1, len(cells))
        scores, cut, category = seediness(maps.softmax(1))
        blocks = PixelBlocks(cells) if cells.device.type == "cpu" else None
        chosen = self._choose(cells, scores, count, blocks)
        radii = torch.tensor([distance_at(cut) for cut in self.cuts], device=cells.device)
        for start in range(0, len(chosen), SEEDS_AT_ONCE):
            seeds = chosen[start : start + SEEDS_AT_ONCE]
            masks = member_cells(cells, cells[seeds], radii[cut[seeds]], blocks=blocks)
            for mask, c, s in zip(masks, category[seeds], scores[seeds], strict=True):
                yield CellMask(mask, int(c), float(s))


def mean_embeddings(masks: Sequence[CellMask], cells: Tensor) -> Tensor:
    """float (M, D), of masks of one cell or more each."""
    own = [torch.from_numpy(one.cells).to(cells.device) for one in masks]
    return torch.stack([cells[index].mean(0) for index in own])


def unlike(masks: Sequence[CellMask], cells: Tensor, *, alike: float) -> list[CellMask]:
    """The masks without those whose mean is at least `alike` similar to that of a kept one before.

    Args:
        masks: best first.
        cells: float (N, D), embeddings.
        alike: similarity; above 1 keeps all.
    """
    means = mean_embeddings(masks, cells)
    near = (similarity(squared_distances(means, means)) >= alike).cpu().numpy()
    kept: list[int] = []
    for index in range(len(masks)):
        if not near[index, kept].any():
            kept.append(index)
    return [masks[index] for index in kept]


def shared_out(masks: Sequence[CellMask], cells: Tensor, able: Tensor) -> list[CellMask]:
    """Every able cell to the mask whose mean embedding is nearest, if it is similar at all.

    The score of a mask falls by its similarity to the mask most like it: of two alike, one is
    probably a part of the other.

    Args:
        masks: not empty, of one cell or more each.
        cells: float (N, D), embeddings.
        able: int64 (K,), indices of the cells that may belong to an object.

    Returns:
        The masks, best first; some may be empty.
    """
    means = mean_embeddings(masks, cells)
    distances, owner = nearest(cells[able], means, k=1)
    belongs = distances[:, 0] <= distance_at(LEAST_SIMILARITY)
    index, to = able[belongs].cpu().numpy(), owner[belongs, 0].cpu().numpy()
    order = np.argsort(to, kind="stable")
    parts = np.split(index[order], np.bincount(to, minlength=len(masks)).cumsum()[:-1])
    between = squared_distances(means, means).fill_diagonal_(torch.inf)
    distinct = (1 - similarity(between.amin(1))).tolist()
    shared = [
        CellMask(part, one.category, one.score * apart)
        for one, part, apart in zip(masks, parts, distinct, strict=True)
    ]
    return sorted(shared, key=lambda one: -one.score)


def member_cells(
    embeddings: Tensor, seeds: Tensor, distances: Tensor, *, blocks: PixelBlocks | None = None
) -> list[Int[np.ndarray, " k"]]:
    """Indices of the cells within each seed's squared distance, ascending.

    Args:
        embeddings: float (N, D).
        seeds: float (T, D).
        distances: float (T,).
        blocks: of these embeddings, on a CPU.
    """
    if blocks is not None and blocks.usable:
        return _members_by_blocks(blocks, seeds, distances)
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


def _members_by_blocks(
    blocks: PixelBlocks, seeds: Tensor, distances: Tensor
) -> list[Int[np.ndarray, " k"]]:
    runs = changes_of_masks(blocks, seeds, distances).reshape(-1, 2)
    lengths = runs[:, 1] - runs[:, 0]
    ends = np.cumsum(lengths)
    owner, begins = np.divmod(runs[:, 0], len(blocks.embeddings) + 1)
    cells = np.arange(lengths.sum()) + np.repeat(begins - ends + lengths, lengths)
    runs_before = np.searchsorted(owner, np.arange(1, len(seeds)))
    return np.split(cells, np.concatenate([[0], ends])[runs_before])
