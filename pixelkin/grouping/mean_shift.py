"""Groups of pixels in embedding space: mean shift, and the one pass that is cheaper.

`mean_shift` is the flat-kernel mode seeking of Fukunaga and Hostetler 1975 and Comaniciu and Meer,
"Mean Shift: A Robust Approach Toward Feature Space Analysis", PAMI 2002, with the merging of
scikit-learn's `MeanShift`. `one_pass` is the grouping of De Brabandere, Neven, Van Gool, "Semantic
Instance Segmentation with a Discriminative Loss Function", CVPR workshops 2017, section 3.2: take
a pixel, threshold around it, repeat with what is left.

For embeddings trained with that loss (margins δ_v, δ_d) the paper's bandwidth is δ_v for
`mean_shift`; a pixel's own instance lies within 2δ_v of it, which is the radius for `one_pass`
without refinement.

Pure functions on the rows of (n, d), on a CPU and on a GPU, deterministic on a CPU, without
gradients. No matrix has n rows and n columns: memory is that of the points and a few fixed blocks.
A GPU must compute float32 products in full: TF32 loses distances that are small beside the norms.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.nearest import nearest

_BLOCK = 2**20
"""Distances computed at once on a CPU: 4 MB, which stay in a usual L2 or L3 cache."""

_GPU_BLOCKS = 64
_STOP = 1e-3

_CAUGHT = 0.25
"""Bandwidths from a mode that covers at which a seed on its way is caught; a third less time."""

_STEADY = 32
"""Points that a mode needs to cover others. What lies near a mode of a few points often goes
elsewhere: at 1 the adjusted Rand index against all seeds fell to .94 on nuclei of 15 pixels, at 32
it was 1, and 10,000 embeddings of 100 instances take 2,240 seeds instead of 1,890.
"""


@torch.no_grad()
def mean_shift(
    points: Float[Tensor, "n d"],
    *,
    bandwidth: float,
    min_size: int = 1,
    sample: int | None = 20_000,
    max_steps: int = 300,
    seeds_at_once: int = 64,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "k d"]]:
    """Modes of the points' density under a flat kernel, and each point's nearest mode.

    A seed moves to the mean of all points within `bandwidth` of it until it moves by less than
    .001 bandwidths. Modes are then merged: the one with most points within `bandwidth` stays and
    takes all others within `bandwidth` of it, and so on. Each point takes the nearest mode.

    scikit-learn starts from every point. Here points within `bandwidth` of a mode of 32 points or
    more that is already found start nothing: seeds are drawn at random, `seeds_at_once` together,
    until each point was a seed or is covered so; a seed that comes near such a mode ends there. A
    covered point could have led to a further mode, so the result is not the same by proof; tests
    and benchmarks/mean_shift.py say how near it is.

    Cost: seeds × steps × `sample` × D for the modes, then n × k × D for the labels. The number of
    seeds is about that of the instances plus that of the points between them and in small groups.

    Args:
        points: float (n, D), n ≥ 0; half precision is raised to float32.
        bandwidth: radius of the kernel, in units of the embedding.
        min_size: modes with fewer points are left out; their points go to the nearest other mode
            within `bandwidth`, or get -1.
        sample: beyond so many points the modes are sought among as many drawn at random (always
            the same ones), in which a group of n / `sample` pixels is one point; None: never.
        max_steps: of a seed.
        seeds_at_once: fewer waste less where there are few groups, more fill a machine better.

    Returns:
        Labels int64 (n,) from 0 to k − 1, or -1, and the modes (k, D), most points within
        `bandwidth` first; float32, or float64 as the points.

    Raises:
        PixelkinError: wrong shape, not finite, or a number out of range.
    """
    least = min(min_size, max_steps, seeds_at_once, 1 if sample is None else sample)
    points = _checked(points, "bandwidth", bandwidth, least)
    if len(points) == 0:
        return points.new_zeros(0, dtype=torch.int64), points
    with torch.autocast(points.device.type, enabled=False):
        # Small norms keep the product form of a squared distance exact.
        origin = points.mean(0)
        points = points - origin
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
        drawn = points[order[:sample].to(points.device)]
        modes, counts = _modes(drawn, bandwidth, max_steps, seeds_at_once)
        # Rows come out in lexicographic order, by which scikit-learn breaks ties of the count.
        modes, same = torch.unique(modes, dim=0, return_inverse=True)
        counts = torch.zeros_like(counts[: len(modes)]).index_copy(0, same, counts)
        rank = counts.double() * len(modes) + torch.arange(len(modes), device=modes.device)
        _, centres = one_pass(modes, radius=bandwidth, priority=rank)
        labels, centres = _assign(points, centres, bandwidth, min_size)
        return labels, centres + origin


@torch.no_grad()
def one_pass(
    points: Float[Tensor, "n d"],
    *,
    radius: float,
    priority: Float[Tensor, " n"] | None = None,
    refine_steps: int = 0,
    min_size: int = 1,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "k d"]]:
    """Take the first unlabelled point, label all unlabelled ones within `radius` of it, repeat.

    A seed with fewer than `min_size` unlabelled points within `radius`, itself included, makes no
    group; it may still join a later one. With `refine_steps` the centre moves from the seed to the
    mean of the unlabelled points within `radius`, so many times, before it labels; the seed belongs
    to its group even where the centre left it behind.

    Cost: one pass over the unlabelled points for every group, several in one matrix product, so
    linear in points where groups hold a share of them; quadratic in those that stay alone.

    Args:
        points: float (n, D), n ≥ 0; half precision is raised to float32.
        radius: of a group, in units of the embedding.
        priority: (n,), highest first, such as seediness; None: in the order given. Equal ones in
            the order given.
        refine_steps: mean steps of each centre.
        min_size: smallest group.

    Returns:
        Labels int64 (n,) from 0 to k − 1 in order of the groups' making, or -1, and the groups'
        centres (k, D), the places thresholded around; float32, or float64 as the points.

    Raises:
        PixelkinError: wrong shape, not finite, or a number out of range.
    """
    points = _checked(points, "radius", radius, min(min_size, refine_steps + 1))
    if priority is not None and priority.shape != points.shape[:1]:
        raise PixelkinError(
            f"priority {tuple(priority.shape)} for {len(points)} points; give one number for each"
        )
    if len(points) == 0:
        return points.new_zeros(0, dtype=torch.int64), points
    with torch.autocast(points.device.type, enabled=False):
        origin = points.mean(0)
        order = None if priority is None else priority.argsort(descending=True, stable=True)
        ordered = (points if order is None else points[order]) - origin
        labels, centres = _take_turns(ordered, radius, refine_steps, min_size)
        if order is not None:
            labels = torch.empty_like(labels).index_copy(0, order, labels)
        return labels, centres + origin


def _checked(
    points: Float[Tensor, "n d"], name: str, radius: float, least: int
) -> Float[Tensor, "n d"]:
    if points.ndim != 2 or not points.dtype.is_floating_point:
        raise PixelkinError(
            f"points {tuple(points.shape)} of {points.dtype}: expected floats (n, D)"
        )
    if not 0 < radius < float("inf") or least < 1:
        raise PixelkinError(
            f"{name} {radius}: expected above 0, and sizes, steps and counts of 1 or more"
        )
    if not points.isfinite().all():
        raise PixelkinError("points hold NaN or infinity; check the network's output")
    return points if points.dtype == torch.float64 else points.float()


def _block(device: torch.device) -> int:
    return _BLOCK if device.type == "cpu" else _BLOCK * _GPU_BLOCKS


def _within(
    centres: Float[Tensor, "s d"],
    points: Float[Tensor, "n d"],
    squares: Float[Tensor, " n"],
    radius: float,
) -> Float[Tensor, "s n"]:
    """1 where a point lies within `radius` of a centre, else 0, as floats ready for a product."""
    limits = radius * radius - centres.square().sum(1, keepdim=True)
    return torch.addmm(squares, centres, points.T, alpha=-2).le_(limits)


def _modes(
    points: Float[Tensor, "n d"], bandwidth: float, max_steps: int, at_once: int
) -> tuple[Float[Tensor, "m d"], Float[Tensor, " m"]]:
    """Modes, near ones not yet merged, and how many points are within `bandwidth` of each."""
    rest = points
    modes, counts, steady = [], [], points[:0]
    squares = points.square().sum(1)
    while len(rest):
        ends, sizes = _shift(rest[:at_once], points, squares, steady, bandwidth, max_steps)
        modes.append(ends)
        counts.append(sizes)
        rest = rest[at_once:]
        # Of equal modes one covers as much as all.
        fresh = one_pass(ends[sizes >= _STEADY], radius=_STOP * bandwidth)[1]
        if len(rest) and len(fresh):
            steady = torch.cat([steady, fresh])
            rows = max(1, _block(points.device) // len(fresh))
            parts = torch.split(rest, rows)
            rest = torch.cat([part[~_reached(part, fresh, bandwidth)] for part in parts])
    return torch.cat(modes), torch.cat(counts)


def _reached(
    places: Float[Tensor, "s d"], modes: Float[Tensor, "m d"], radius: float
) -> Bool[Tensor, " s"]:
    """Which places lie within `radius` of a mode."""
    if len(modes) == 0:
        return torch.zeros(len(places), dtype=torch.bool, device=places.device)
    return _within(modes, places, places.square().sum(1), radius).amax(0) > 0


def _shift(
    seeds: Float[Tensor, "s d"],
    points: Float[Tensor, "n d"],
    squares: Float[Tensor, " n"],
    steady: Float[Tensor, "m d"],
    bandwidth: float,
    max_steps: int,
) -> tuple[Float[Tensor, "e d"], Float[Tensor, " e"]]:
    """Last means of the seeds, and how many points each is the mean of.

    Seeds that come near a steady mode are dropped on the way: they would end there.
    """
    places = seeds
    ends, counts = [], []
    for step in range(max_steps + 1):
        sums, sizes = torch.zeros_like(places), places.new_zeros(len(places))
        rows = max(1, _block(points.device) // len(places))
        for part, part_squares in zip(
            torch.split(points, rows), torch.split(squares, rows), strict=True
        ):
            member = _within(places, part, part_squares, bandwidth)
            sums += member @ part
            sizes += member.sum(1)
        # Rounding may deny a seed its own point where the bandwidth is tiny beside the norms.
        means = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], places)
        ended = (means - places).norm(dim=1) <= _STOP * bandwidth
        ended |= step == max_steps
        ends.append(means[ended])
        counts.append(sizes[ended].clamp_min(1))
        places = means[~ended & ~_reached(means, steady, _CAUGHT * bandwidth)]
        if len(places) == 0:
            break
    return torch.cat(ends), torch.cat(counts)


def _assign(
    points: Float[Tensor, "n d"], centres: Float[Tensor, "k d"], bandwidth: float, min_size: int
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "k d"]]:
    """Each point's nearest centre; with `min_size`, of those that have enough points."""
    labels = nearest(points, centres, k=1)[1][:, 0]
    large = torch.bincount(labels, minlength=len(centres)) >= min_size
    if large.all():
        return labels, centres
    kept = centres[large]
    renamed = torch.where(large, large.cumsum(0) - 1, -1)[labels]
    orphans = (renamed < 0).nonzero()[:, 0]
    if len(kept):
        squared, place = nearest(points[orphans], kept, k=1)
        close = squared[:, 0] <= bandwidth * bandwidth
        renamed[orphans[close]] = place[close, 0]
    return renamed, kept


def _take_turns(
    points: Float[Tensor, "n d"], radius: float, refine_steps: int, min_size: int
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "k d"]]:
    """`one_pass` in the order of the rows.

    Seeds are compared with the unlabelled points a block at a time. That changes nothing: points
    near a seed only grow fewer while others take theirs.
    """
    labels = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
    free = torch.arange(len(points), device=points.device)
    seeding = torch.ones_like(free, dtype=torch.bool)
    centres: list[Tensor] = []
    while True:
        at_once = max(1, min(256, _block(points.device) * 8 // max(1, len(free))))
        places = seeding.nonzero()[:at_once, 0]
        if len(places) == 0:
            break
        rows = points[free]
        squares = rows.square().sum(1)
        near = _within(rows[places], rows, squares, radius)
        # A seed is within its own radius, whatever rounding says.
        near[torch.arange(len(places), device=near.device), places] = 1
        enough = (near.sum(1) >= min_size).tolist()
        open_ = torch.ones_like(seeding)
        seeding[places] = False
        for turn, place in enumerate(places.tolist()):
            if not enough[turn] or not open_[place]:
                continue
            group = near[turn].bool() & open_
            centre = rows[place]
            for _ in range(refine_steps if int(group.sum()) >= min_size else 0):
                weights = group.to(rows.dtype)
                centre = weights @ rows / weights.sum()
                group = _within(centre[None], rows, squares, radius)[0].bool() & open_
                group[place] = True
            if int(group.sum()) >= min_size:
                labels[free[group]] = len(centres)
                centres.append(centre)
                open_ &= ~group
        free, seeding = free[open_], seeding[open_]
    return labels, torch.stack(centres) if centres else points[:0]
