"""Instances from class scores, class boundaries and displacements to the objects' centres.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019, section 4.3, with the authors' numbers. Following the displacements takes
every cell to its object's centre; cells of one centre share a map of class scores of their own; the
maps walk as far as the boundaries; the best map takes the pixel. Pure functions.

Displacements, and what they are compared with, are in cells of the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64, Integer
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.grouping.boundary_affinity import POWER, WALK_RADIUS_CELLS, boundary_transition
from pixelkin.grouping.random_walk import walk
from pixelkin.masks import encode_window
from pixelkin.structures import Instances

PAPER_CONFIDENT_FOREGROUND = 0.3
"""The paper's: class maps above it are confident foreground for IRNet's training."""

PAPER_CONFIDENT_BACKGROUND = 0.05
"""The paper's: where no class map is above it, is confident background."""

_MAPS_AT_ONCE = 32
"""Maps that are at full size at the same time: 24 MB for a photo of 500×375."""


class Winners(NamedTuple):
    """Which map has each pixel.

    Attributes:
        numbers: int64 (H, W): 0 background, map m as m + 1.
        scores: float32 (H, W) in [0, 1], of the best map, 1 at the best pixel of the image.
    """

    numbers: Int64[Tensor, "h w"]
    scores: Float[Tensor, "h w"]


def with_constant_background(
    maps: Float[Tensor, "c h w"], *, score: float
) -> Float[Tensor, "c_and_background h w"]:
    """A background of one score in front of the class maps.

    `activation_maps.confident_regions` of these with `PAPER_CONFIDENT_FOREGROUND` and with
    `PAPER_CONFIDENT_BACKGROUND`, each after a dense CRF, gives the regions that IRNet learns from
    in the paper. The pipeline's are AffinityNet's, with `activation_maps.with_background`.
    """
    if not 0 < score < 1:
        raise PixelkinError(f"the background's score is {score}, expected above 0 and below 1")
    return functional.pad(maps, (0, 0, 0, 0, 1, 0), value=score)


@torch.no_grad()
def refine_centroids(
    displacement: Float[Tensor, "2 h w"], *, iterations: int = 300
) -> Int64[Tensor, "2 h w"]:
    """Where every cell comes to when it follows the displacements.

    p ← p + D(p), D bilinear between cells and p kept inside the field; at last rounded to a cell.
    Stops early where nothing moves any more.

    Args:
        displacement: (dy, dx) in cells, finite.
        iterations: 100 or more are as good as the authors' 300.

    Returns:
        (y, x) of each cell's centroid.
    """
    _check_field(displacement)
    _, h, w = displacement.shape
    rows = displacement.detach().float().flatten(1).T.contiguous()
    limit = rows.new_tensor([h - 1, w - 1])
    place = torch.cartesian_prod(torch.arange(h), torch.arange(w)).to(rows)
    for _ in range(iterations):
        low = place.floor()
        share = place - low
        first = low.long()
        second = place.ceil().long()
        step = torch.zeros_like(place)
        for y, weight_y in ((first[:, 0], 1 - share[:, 0]), (second[:, 0], share[:, 0])):
            for x, weight_x in ((first[:, 1], 1 - share[:, 1]), (second[:, 1], share[:, 1])):
                step += rows[y * w + x] * (weight_y * weight_x)[:, None]
        moved = torch.minimum((place + step).clamp_min(0), limit)
        if torch.equal(moved, place):
            break
        place = moved
    return place.round().long().T.reshape(2, h, w)


def cluster_centroids(
    centroids: Int64[Tensor, "2 h w"],
    displacement: Float[Tensor, "2 h w"],
    *,
    threshold_cells: float = 2.5,
) -> Int64[Tensor, "h w"]:
    """Cells whose centroids lie in one region of small displacements are of one cluster.

    Args:
        centroids: from `refine_centroids`.
        displacement: (dy, dx) in cells.
        threshold_cells: regions are connected (edge to edge) cells with ‖D‖ less than this.

    Returns:
        1 … n for the n regions that are reached, in reading order, 0 for cells whose centroid is
        in none; these are a cluster of their own, as in the authors' code.
    """
    _check_field(displacement)
    if centroids.shape != displacement.shape:
        raise PixelkinError(
            f"centroids {tuple(centroids.shape)} for displacements {tuple(displacement.shape)}: "
            "expected one shape; refine the centroids of the same field"
        )
    weak = displacement.detach().float().square().sum(0).sqrt() < threshold_cells
    regions, _ = ndimage.label(weak.cpu().numpy())
    y, x = centroids.cpu().numpy()
    reached = regions[y, x]
    names = np.unique(reached)
    numbers = np.searchsorted(names[names > 0], reached) + 1
    return torch.from_numpy(np.where(reached > 0, numbers, 0)).to(displacement.device)


def split_by_cluster(
    maps: Float[Tensor, "c h w"], clusters: Int64[Tensor, "h w"], *, most: int | None = None
) -> tuple[Float[Tensor, "m h w"], tuple[int, ...]]:
    """One map per class and cluster: the class's scores there, 0 elsewhere.

    Args:
        maps: 0 or more, all of a class that the image does not have is 0.
        clusters: from `cluster_centroids`.
        most: this many maps at most, those with the highest sums of scores. A field that has
            learnt little falls into thousands of clusters, each of which would walk.

    Returns:
        The maps that are not 0 everywhere, class by class, and the class of each.
    """
    if maps.ndim != 3 or maps.shape[1:] != clusters.shape:
        raise PixelkinError(
            f"class maps {tuple(maps.shape)} for clusters {tuple(clusters.shape)}: expected "
            "(C, h, w) and (h, w); bring the maps to the size of the field"
        )
    sums = maps.new_zeros(len(maps), int(clusters.max()) + 1)
    sums.index_add_(1, clusters.flatten(), maps.flatten(1))
    ranked = sums.flatten().sort(descending=True, stable=True)
    kept = ranked.indices[ranked.values > 0][:most].sort().values
    parts, categories = [], []
    for place in kept.tolist():
        category, cluster = divmod(place, sums.shape[1])
        parts.append(torch.where(clusters == cluster, maps[category], 0))
        categories.append(category)
    found = torch.stack(parts) if parts else maps.new_zeros(0, *clusters.shape)
    return found, tuple(categories)


@torch.no_grad()
def walk_to_boundaries(
    maps: Float[Tensor, "m h w"],
    boundaries: Float[Tensor, "h w"],
    *,
    size_hw: tuple[int, int],
    stride: int = 4,
    background: float = 0.25,
    radius: int = WALK_RADIUS_CELLS,
    power: float = POWER,
    steps: int = 256,
) -> Winners:
    """M × (1 − boundary), walked, brought to the image's size, and the best of them per pixel.

    Of class maps it gives IRNet's class map; of the maps of `split_by_cluster`, its instances.

    Args:
        maps: float (M, h, w), 0 or more.
        boundaries: float (h, w), probability of a class boundary, in [0, 1].
        size_hw: of the image in pixels, ⌈H / stride⌉ × ⌈W / stride⌉ = h × w.
        stride: pixels per cell.
        background: share of the image's highest score up to which a pixel is background.
        radius: in cells; steps are strictly shorter.
        power: β, the Hadamard power of the affinities.
        steps: of the walk.

    Returns:
        All background where every map is 0.
    """
    cells = tuple(-(-side // stride) for side in size_hw)
    if maps.ndim != 3 or not maps.shape[1:] == boundaries.shape == cells:
        raise PixelkinError(
            f"maps {tuple(maps.shape)} and boundaries {tuple(boundaries.shape)} for an image of "
            f"{size_hw[1]}×{size_hw[0]} at stride {stride}: expected {cells[1]}×{cells[0]} cells; "
            "resize the maps, or give another stride"
        )
    best = torch.zeros(size_hw, device=maps.device)
    numbers = torch.zeros(size_hw, dtype=torch.int64, device=maps.device)
    grid = boundary_transition(boundaries, radius=radius, power=power)
    start = maps.float() * (1 - boundaries.float())
    for first in range(0, len(maps), _MAPS_AT_ONCE):
        walked = walk(grid, start[first : first + _MAPS_AT_ONCE], steps=steps)
        fine = functional.interpolate(
            walked[None], scale_factor=stride, mode="bilinear", align_corners=False
        )[0, :, : size_hw[0], : size_hw[1]]
        highest, winner = fine.max(0)
        numbers = torch.where(highest > best, winner + first + 1, numbers)
        best = torch.maximum(best, highest)
    peak = best.max()
    scores = best / torch.where(peak > 0, peak, 1)
    return Winners(torch.where(scores > background, numbers, 0), scores)


def instances_of_winners(
    winners: Winners,
    categories: tuple[int, ...],
    *,
    min_share: float = 0.01,
    keep_fragments: bool = False,
) -> Instances:
    """Every connected region (edge to edge) of one map is an object; its score its best pixel's.

    Args:
        winners: from `walk_to_boundaries`.
        categories: class of each map.
        min_share: of the image's area, below which a region is a fragment.
        keep_fragments: keep fragments, at score 0, as the authors' code does.

    Returns:
        Objects without overlap, best first.
    """
    numbers, scores = winners.numbers.cpu().numpy(), winners.scores.cpu().numpy()
    if numbers.max(initial=0) > len(categories):
        raise PixelkinError(
            f"{len(categories)} categories for {numbers.max()} maps: expected one for each map"
        )
    size_hw = (numbers.shape[0], numbers.shape[1])
    found = []
    for number, (own_rows, own_columns) in _windows(numbers):
        regions, _ = ndimage.label(numbers[own_rows, own_columns] == number)
        for region, (rows, columns) in _windows(regions):
            mask = regions[rows, columns] == region
            inside = scores[own_rows, own_columns][rows, columns][mask]
            whole = len(inside) >= min_share * numbers.size
            if whole or keep_fragments:
                corner_xy = (own_columns.start + columns.start, own_rows.start + rows.start)
                rle = encode_window(mask, corner_xy=corner_xy, size_hw=size_hw)
                found.append((float(inside.max()) if whole else 0.0, categories[number - 1], rle))
    found.sort(key=lambda one: -one[0])
    return Instances(
        size_hw,
        tuple(rle for _, _, rle in found),
        tuple(category for _, category, _ in found),
        tuple(score for score, _, _ in found),
    )


@dataclass(frozen=True)
class CentroidGrouping:
    """From class maps and IRNet's fields to instances; defaults are the authors'.

    Attributes:
        stride: pixels per cell.
        iterations: of `refine_centroids`.
        threshold_cells: of `cluster_centroids`.
        most: of `split_by_cluster`; the authors keep all.
        background, radius, power, steps: of `walk_to_boundaries`.
        min_share, keep_fragments: of `instances_of_winners`.
    """

    stride: int = 4
    iterations: int = 300
    threshold_cells: float = 2.5
    most: int | None = None
    background: float = 0.25
    radius: int = WALK_RADIUS_CELLS
    power: float = POWER
    steps: int = 256
    min_share: float = 0.01
    keep_fragments: bool = False

    def __call__(
        self,
        maps: Float[Tensor, "c h w"],
        boundaries: Float[Tensor, "h w"],
        displacement: Float[Tensor, "2 h w"],
        size_hw: tuple[int, int],
    ) -> Instances:
        """Instances of one image, best first; categories are the indices of their class maps.

        Args:
            maps: of every class, 0 or more, 0 for those that the image does not have:
                `activation_maps.combine_activations` at the size of the fields.
            boundaries: float (h, w), probability of a class boundary, in [0, 1].
            displacement: float (2, h, w), (dy, dx) in cells.
            size_hw: of the image in pixels.
        """
        centroids = refine_centroids(displacement, iterations=self.iterations)
        clusters = cluster_centroids(centroids, displacement, threshold_cells=self.threshold_cells)
        parts, categories = split_by_cluster(maps, clusters, most=self.most)
        winners = walk_to_boundaries(
            parts,
            boundaries,
            size_hw=size_hw,
            stride=self.stride,
            background=self.background,
            radius=self.radius,
            power=self.power,
            steps=self.steps,
        )
        return instances_of_winners(
            winners, categories, min_share=self.min_share, keep_fragments=self.keep_fragments
        )


def _windows(numbers: Integer[np.ndarray, "h w"]) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Every number above 0 that occurs, and the rows and columns it lies in."""
    for number, window in enumerate(ndimage.find_objects(numbers), start=1):
        if window is not None:
            yield number, window


def _check_field(displacement: Float[Tensor, "2 h w"]) -> None:
    if displacement.ndim != 3 or len(displacement) != 2 or not displacement.numel():
        raise PixelkinError(
            f"displacements have shape {tuple(displacement.shape)}: expected (2, h, w) with a "
            "cell at least, (dy, dx) in cells; give one image's"
        )
    if not bool(torch.isfinite(displacement).all()):
        raise PixelkinError("displacements hold a value that is no number; train the network anew")
