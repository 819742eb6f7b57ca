"""Video object segmentation measures of DAVIS: region J, boundary F, temporal instability T.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation", CVPR 2016, section 4; protocols of the 2016 (one object) and 2017 (several objects:
Pont-Tuset et al., arXiv 1704.00675) benchmarks. J and F equal the published values frame by frame.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Shaped

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Mask = Shaped[np.ndarray, "h w"]
Scores = Float[np.ndarray, " frames"]
Table = dict[str, float]

DAVIS_2016_UNSTABLE = frozenset(
    {"bmx-trees", "breakdance", "dance-twirl", "dog", "drift-chicane", "goat", "horsejump-high"}
    | {"libby", "motocross-jump", "parkour"}
)
"""Sequences of DAVIS 2016 val that do not count in T: occlusions break their outlines."""

_OUTLINE_STEP_PX = 3.0
_RADIAL_EDGES = np.logspace(math.log10(1 / 8), math.log10(2), 5)
_ANGLE_BINS = 12


def region_similarity(mask: Mask, truth: Mask) -> float:
    """J: intersection over union of two masks (non-zero = object); 1 where both are empty."""
    _check_same_size(mask, truth)
    a, b = mask != 0, truth != 0
    union = np.count_nonzero(a | b)
    return 1.0 if union == 0 else np.count_nonzero(a & b) / union


def boundary_accuracy(mask: Mask, truth: Mask, *, tolerance: float = 0.008) -> float:
    """F: harmonic mean of boundary precision and recall of two binary masks (non-zero = object).

    A boundary pixel is matched where the other boundary has a pixel within a disk. `tolerance` is
    the disk's radius: below 1 as a share of the image diagonal (rounded up to pixels), from 1 on
    in pixels.

    Raises:
        PixelkinError: the masks differ in size, or `tolerance` is negative.
    """
    _check_same_size(mask, truth)
    if tolerance < 0:
        raise PixelkinError(f"tolerance {tolerance} is negative; give 0.008, or a radius in pixels")
    radius_px = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*mask.shape))
    found, wanted = _boundary_map(mask != 0), _boundary_map(truth != 0)
    found_count, wanted_count = cv2.countNonZero(found), cv2.countNonZero(wanted)
    if found_count == 0 or wanted_count == 0:
        # One side empty gives precision or recall 0 by definition, and so F = 0.
        return 1.0 if found_count == wanted_count else 0.0
    precision = cv2.countNonZero(found & _dilate(wanted, int(radius_px))) / found_count
    recall = cv2.countNonZero(wanted & _dilate(found, int(radius_px))) / wanted_count
    total = precision + recall
    return 0.0 if total == 0 else 2 * precision * recall / total


def _check_same_size(mask: Mask, truth: Mask) -> None:
    if mask.ndim != 2 or mask.shape != truth.shape:
        raise PixelkinError(
            f"mask has shape {mask.shape}, truth {truth.shape}; give two H×W masks of one size"
        )


def _boundary_map(mask: Bool[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    # The benchmark's rule: a pixel that differs from its east, south or south-east neighbour. Its
    # last row looks east only, its last column south only; outside the frame nothing differs.
    m = mask.view(np.uint8)
    edge = np.zeros_like(m)
    inner = m[:-1, :-1]
    edge[:-1, :-1] = (inner ^ m[:-1, 1:]) | (inner ^ m[1:, :-1]) | (inner ^ m[1:, 1:])
    edge[-1, :-1] = m[-1, :-1] ^ m[-1, 1:]
    edge[:-1, -1] = m[:-1, -1] ^ m[1:, -1]
    return edge


def _dilate(edge: Shaped[np.ndarray, "h w"], radius_px: int) -> Shaped[np.ndarray, "h w"]:
    y, x = np.ogrid[-radius_px : radius_px + 1, -radius_px : radius_px + 1]
    disk = (x * x + y * y <= radius_px * radius_px).astype(np.uint8)
    # The work goes with the area, and boundaries seldom fill the frame.
    left, top, width, height = cv2.boundingRect(edge)
    box = (
        slice(max(top - radius_px, 0), top + height + radius_px),
        slice(max(left - radius_px, 0), left + width + radius_px),
    )
    grown = np.zeros_like(edge)
    grown[box] = cv2.dilate(edge[box], disk)
    return grown


def statistics(values: Scores) -> Table:
    """Mean, recall (share above 0.5) and decay (first minus last quarter) of per-frame values.

    The quarters overlap by one frame, as in the benchmark's code. NaN values do not count.
    """
    if len(values) == 0:
        raise PixelkinError(
            "no values to average: expected one per frame; evaluate 3 frames or more"
        )
    cuts = (np.round(np.linspace(1, len(values), 5) + 1e-10) - 1).astype(int)
    first, last = values[: cuts[1] + 1], values[cuts[3] :]
    known = values[~np.isnan(values)]
    recall = float((known > 0.5).mean()) if len(known) else math.nan
    return {"mean": _mean(values), "recall": recall, "decay": _mean(first) - _mean(last)}


def _mean(values: Sequence[float] | Scores) -> float:
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else math.nan


def temporal_instability(masks: Sequence[Mask]) -> float:
    """T of one object through consecutive frames: 5 × the mean over frame pairs; lower is steadier.

    Each mask's outline with the most vertices (Douglas-Peucker, 3 px; sampled at ≤ 3 px) is
    described by shape contexts of 5 radii × 12 angles. Dynamic time warping with chi-square costs
    aligns two outlines from a common start, warps them again from just after the cheapest match,
    and keeps one partner per point; a pair's value is the mean cost of those matches. Pairs with an
    empty mask are left out; NaN where none remains. The factor 5 is the benchmark's.

    Ours: outlines run through the centres of border pixels (the benchmark: along their corners),
    are simplified as closed curves, need 3 vertices, and ties in the warp go to the diagonal.
    """
    pairs: list[float] = []
    before: Float[np.ndarray, "n bins"] | None = None
    for index, mask in enumerate(masks):
        outline = _outline(mask)
        now = None if outline is None else _shape_contexts(outline)
        if index and before is not None and now is not None:
            pairs.append(_match_cost(_chi_square(before, now)))
        before = now
    return 5.0 * _mean(pairs)


def _outline(mask: Mask) -> Float[np.ndarray, "n 2"] | None:
    binary = (mask != 0).astype(np.uint8)
    contours, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    polygons = [cv2.approxPolyDP(c, _OUTLINE_STEP_PX, True)[:, 0] for c in contours]
    corners = max(polygons, key=len, default=np.empty((0, 2))).astype(np.float64)
    if len(corners) < 3:
        return None
    edges = np.roll(corners, -1, axis=0) - corners  # the last one closes the outline
    counts = np.ceil(np.hypot(edges[:, 0], edges[:, 1]) / _OUTLINE_STEP_PX).astype(int)
    edge = np.repeat(np.arange(len(corners)), counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    points: Float[np.ndarray, "n 2"] = corners[edge] + edges[edge] * (step / counts[edge])[:, None]
    return points


def _shape_contexts(points_xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n bins"]:
    # Each point counts itself too (distance 0, angle 0), as in the benchmark.
    n, rings = len(points_xy), len(_RADIAL_EDGES)
    x, y = points_xy.T
    dx, dy = x[None] - x[:, None], y[None] - y[:, None]
    distance = np.hypot(dx, dy)
    distance /= distance.mean()
    ring = np.searchsorted(_RADIAL_EDGES, distance.ravel(), side="right").reshape(n, n)
    angle = (np.arctan2(dy, dx) % (2 * np.pi)) * (_ANGLE_BINS / (2 * np.pi))
    sector = angle.astype(int) % _ANGLE_BINS
    cell = (np.arange(n)[:, None] * _ANGLE_BINS + sector) * rings + ring
    counts = np.bincount(cell[ring < rings], minlength=n * rings * _ANGLE_BINS)
    histograms: Float[np.ndarray, "n bins"] = counts.reshape(n, -1).astype(np.float64)
    histograms /= histograms.sum(axis=1, keepdims=True)
    return histograms


def _chi_square(
    a: Float[np.ndarray, "n bins"], b: Float[np.ndarray, "m bins"]
) -> Float[np.ndarray, "n m"]:
    # ½ Σ (a-b)²/(a+b) = 1 - 2 Σ ab/(a+b) for histograms of sum 1; bins are mostly empty on one
    # side, and then add nothing, so only the filled rows and columns of each bin are touched.
    overlap = np.zeros((len(a), len(b)))
    for p, q in zip(a.T, b.T, strict=True):
        rows, columns = np.flatnonzero(p), np.flatnonzero(q)
        if len(rows) and len(columns):
            u, v = p[rows, None], q[None, columns]
            overlap[np.ix_(rows, columns)] += u * v / (u + v)
    return np.maximum(1 - 2 * overlap, 0)


def _match_cost(cost: Float[np.ndarray, "n m"]) -> float:
    path = _warp(cost)
    # Of equally cheap matches the last counts; the start of the path never does.
    walk = path[:0:-1]
    row, column = walk[np.argmin(cost[walk[:, 0], walk[:, 1]])]
    path = _warp(np.roll(cost, (-(row + 1), -(column + 1)), axis=(0, 1)))
    path = (path + np.array([row + 1, column + 1])) % cost.shape
    for side in (0, 1):
        order = np.lexsort((cost[path[:, 0], path[:, 1]], path[:, side]))
        _, first = np.unique(path[order, side], return_index=True)
        path = path[order][first]
    return float(cost[path[:, 0], path[:, 1]].mean())


def _warp(cost: Float[np.ndarray, "n m"]) -> Shaped[np.ndarray, "path 2"]:
    # Cheapest monotone path from corner to corner. Within a row, best[j] = S[j] + min over k ≤ j of
    # (entry[k] - S[k-1]) with S the row's running sum: a running minimum instead of a Python loop.
    n, m = cost.shape
    sums = np.cumsum(cost, axis=1)
    best = np.full((n + 1, m + 1), np.inf)
    best[0, 0] = 0
    for i in range(n):
        entry = np.minimum(best[i, 1:], best[i, :-1])
        entry[1:] -= sums[i, :-1]
        best[i + 1, 1:] = np.minimum.accumulate(entry) + sums[i]
    i, j = n, m
    path = [(n, m)]
    while (i, j) != (1, 1):
        i, j = min((i - 1, j - 1), (i - 1, j), (i, j - 1), key=best.__getitem__)
        path.append((i, j))
    return np.array(path[::-1]) - 1


@dataclass(frozen=True)
class SequenceResult:
    """Measures of one sequence.

    Attributes:
        name: name of the sequence.
        frames: indices of the evaluated frames (the first and the last of the clip are left out).
        region: object id → J of each evaluated frame.
        boundary: object id → F of each evaluated frame.
        instability: object id → T; empty where it was not asked for.
    """

    name: str
    frames: tuple[int, ...]
    region: Mapping[int, Scores]
    boundary: Mapping[int, Scores]
    instability: Mapping[int, float]

    def summary(self) -> Table:
        """J&F, J and F (mean, recall, decay), T, averaged over objects; NaN: not measured."""
        return _summary([self], list(self.instability.values()))

    def to_json(self) -> dict[str, object]:
        """Plain data for `json.dumps`, per-frame values included; NaN becomes None."""
        objects = {
            str(k): {
                "J": [_plain(v) for v in self.region[k]],
                "F": [_plain(v) for v in self.boundary[k]],
                "T": _plain(self.instability.get(k, math.nan)),
            }
            for k in self.region
        }
        summary = {k: _plain(v) for k, v in self.summary().items()}
        return {"frames": list(self.frames), "summary": summary, "objects": objects}


@dataclass(frozen=True)
class FrameScore:
    """J and F of one object in one frame."""

    sequence: str
    object_id: int
    frame: int
    region: float
    boundary: float


@dataclass(frozen=True)
class Report:
    """Measures over sequences; every object of every sequence weighs the same.

    Attributes:
        sequences: one result per sequence.
        unstable: names that do not count in the T of the whole. Published values of T on DAVIS
            2016 val are means over the other ten sequences.
    """

    sequences: tuple[SequenceResult, ...]
    unstable: frozenset[str] = DAVIS_2016_UNSTABLE

    def summary(self) -> Table:
        """J&F, J and F (mean, recall, decay) over all objects; T over the stable ones."""
        stable = (s for s in self.sequences if s.name not in self.unstable)
        return _summary(self.sequences, [t for s in stable for t in s.instability.values()])

    def rows(self) -> list[tuple[str, Table]]:
        """Name and summary of each sequence, then of the whole as "all"."""
        return [(s.name, s.summary()) for s in self.sequences] + [("all", self.summary())]

    def to_json(self) -> dict[str, object]:
        """Plain data for `json.dumps`, per-frame values included; NaN becomes None."""
        return {
            "summary": {k: _plain(v) for k, v in self.summary().items()},
            "sequences": {s.name: s.to_json() for s in self.sequences},
        }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _summary(sequences: Sequence[SequenceResult], instability: Sequence[float]) -> Table:
    j = [statistics(values) for s in sequences for values in s.region.values()]
    f = [statistics(values) for s in sequences for values in s.boundary.values()]
    table = {"J&F": math.nan}
    for letter, rows in (("J", j), ("F", f)):
        for part in ("mean", "recall", "decay"):
            table[f"{letter} {part}"] = _mean([row[part] for row in rows])
    table["J&F"] = (table["J mean"] + table["F mean"]) / 2
    return {**table, "T": _mean(instability)}


def worst_frames(report: Report, n: int) -> list[FrameScore]:
    """The `n` (object, frame) of lowest (J + F) / 2, worst first."""
    scores = [
        FrameScore(s.name, k, frame, float(s.region[k][i]), float(s.boundary[k][i]))
        for s in report.sequences
        for k in s.region
        for i, frame in enumerate(s.frames)
    ]
    return sorted(scores, key=lambda s: s.region + s.boundary)[:n]


def text_table(report: Report) -> str:
    """The report as aligned lines of text: one per sequence, and one for the whole."""
    rows = report.rows()
    width = max(len("sequence"), *(len(name) for name, _ in rows))
    columns = list(rows[0][1])
    lines = [" ".join([f"{'sequence':{width}}", *(f"{c:>8}" for c in columns)])]
    for name, values in rows:
        cells = ["-" if math.isnan(values[c]) else f"{values[c]:.3f}" for c in columns]
        lines.append(" ".join([f"{name:{width}}", *(f"{cell:>8}" for cell in cells)]))
    return "\n".join(lines)


def evaluate_sequence_2016(
    masks: Sequence[Mask], truths: Sequence[Mask], *, name: str = "", stability: bool = True
) -> SequenceResult:
    """J, F and T of one object (any non-zero value), as DAVIS 2016 does it.

    The first frame (given to the method) and the last are left out of J and F. T runs from the
    first true mask through the masks of all frames but the last.

    Raises:
        PixelkinError: lengths or sizes differ, or there are fewer than 3 frames.
    """
    _check_frames(masks, truths, name)
    return _evaluate([(1, masks, truths)], name, stability)


def evaluate_sequence_2017(
    label_maps: Sequence[Mask], truths: Sequence[Mask], *, name: str = "", stability: bool = False
) -> SequenceResult:
    """J and F (and T) of every object of the true label maps, as DAVIS 2017 does it.

    Each id of the truth is one object; ids found only in `label_maps` are not judged. Pixels that
    the truth marks 255 count as background on both sides. First and last frame are left out.

    Raises:
        PixelkinError: lengths or sizes differ, there are fewer than 3 frames, or no object.
    """
    _check_frames(label_maps, truths, name)
    ids = np.unique(np.concatenate([np.unique(t) for t in truths]))
    ids = ids[(ids != 0) & (ids != IGNORE)]
    if ids.size == 0:
        raise PixelkinError(f"{name or 'sequence'}: no object in the truth; check its label maps")
    objects = (
        (int(k), [(m == k) & (t != IGNORE) for m, t in pairs], [t == k for t in truths])
        for pairs in [list(zip(label_maps, truths, strict=True))]
        for k in ids
    )
    return _evaluate(objects, name, stability)


def _check_frames(masks: Sequence[Mask], truths: Sequence[Mask], name: str) -> None:
    if len(masks) != len(truths) or len(masks) < 3:
        raise PixelkinError(
            f"{name or 'sequence'}: {len(masks)} masks for {len(truths)} true masks; expected one "
            "mask for each true one, and 3 or more (the first and the last are not judged)"
        )
    for mask, truth in zip(masks, truths, strict=True):
        _check_same_size(mask, truth)


def _evaluate(
    objects: Iterable[tuple[int, Sequence[Mask], Sequence[Mask]]], name: str, stability: bool
) -> SequenceResult:
    region, boundary, instability, frames = {}, {}, {}, range(0)
    for k, masks, truths in objects:
        frames = range(1, len(masks) - 1)
        region[k] = np.array([region_similarity(masks[i], truths[i]) for i in frames])
        boundary[k] = np.array([boundary_accuracy(masks[i], truths[i]) for i in frames])
        if stability:
            instability[k] = temporal_instability([truths[0], *masks[1:-1]])
    return SequenceResult(name, tuple(frames), region, boundary, instability)
