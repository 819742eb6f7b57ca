"""The DAVIS Interactive protocol: a robot draws scribbles where a clip's masks are worst.

Source: Caelles et al., "The 2018 DAVIS Challenge on Video Object Segmentation", arXiv 1803.00557,
section 4. A method predicts all frames, timed; the robot scribbles each object's errors in the
worst frame that it has not used yet; quality is the area under J&F over time, and J&F at 60 s.

The predictor is any callable, so that nothing here depends on a network.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.ndimage import label
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.special import gammaln, xlogy
from skimage.morphology import medial_axis

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.video import boundary_accuracy, region_similarity
from pixelkin.files import atomic_write
from pixelkin.structures import IGNORE, MAX_OBJECT_ID

LabelMap = Shaped[np.ndarray, "h w"]

_OPENING_SHARE = 0.15
_MAX_OPENING_PX = 16
_MIN_NODES = 4
_CURVE_POINTS = 1000


@dataclass(frozen=True)
class Scribble:
    """One stroke.

    Attributes:
        path_xy: float (N, 2) in [0, 1]: 0 is the centre of the first column or row, 1 of the last.
        object_id: object under the stroke; 0 is background.
        start_time: when the stroke began, in milliseconds.
        end_time: when it ended, in milliseconds.
    """

    path_xy: Float[np.ndarray, "n 2"]
    object_id: int
    start_time: float = 0.0
    end_time: float = 0.0

    def pixels_xy(self, size_hw: tuple[int, int]) -> Int[np.ndarray, "n 2"]:
        """The points of the path in pixels of a frame of `size_hw`."""
        height, width = size_hw
        last = np.array([width - 1, height - 1])
        pixels: Int[np.ndarray, "n 2"] = np.round(self.path_xy * last).astype(int).clip(0, last)
        return pixels


Scribbles = Mapping[int, Sequence[Scribble]]
"""Frame index → strokes drawn in that frame."""

Predictor = Callable[[Scribbles], Sequence[LabelMap]]
"""All scribbles so far → label maps of all frames."""


def write_scribbles(
    path: str | os.PathLike[str], scribbles: Scribbles, *, frame_count: int, sequence: str
) -> None:
    """Write scribbles in the JSON form of DAVIS Interactive (one list of strokes per frame)."""
    outside = [frame for frame in scribbles if not 0 <= frame < frame_count]
    if outside:
        raise PixelkinError(
            f"scribbles in frame {outside[0]}, but the clip has frames 0 to {frame_count - 1}; "
            "give the clip's frame count"
        )
    frames = [
        [
            {
                "path": np.asarray(stroke.path_xy, float).tolist(),
                "object_id": stroke.object_id,
                "start_time": stroke.start_time,
                "end_time": stroke.end_time,
            }
            for stroke in scribbles.get(frame, ())
        ]
        for frame in range(frame_count)
    ]
    atomic_write(path, json.dumps({"sequence": sequence, "scribbles": frames}))


def read_scribbles(path: str | os.PathLike[str]) -> dict[int, list[Scribble]]:
    """Read scribbles in the JSON form of DAVIS Interactive; frames without strokes are left out.

    Raises:
        PixelkinError: the file cannot be read or does not have that form.
    """
    try:
        frames = json.loads(Path(path).read_text(encoding="utf-8"))["scribbles"]
        return {
            index: [_stroke(stroke) for stroke in strokes]
            for index, strokes in enumerate(frames)
            if strokes
        }
    except OSError as error:
        raise PixelkinError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise PixelkinError(
            f"{path}: no DAVIS scribbles ({error!r}); expected "
            '{"scribbles": [[{"path": [[x, y], …], "object_id": 1}], …]}; check the file'
        ) from error


def _stroke(plain: Mapping[str, object]) -> Scribble:
    path = np.array(plain["path"], dtype=np.float64)
    if path.ndim != 2 or path.shape[1] != 2 or not ((path >= 0) & (path <= 1)).all():
        raise ValueError("a path is not a list of [x, y] in 0 to 1")
    object_id = int(str(plain["object_id"]))
    if not 0 <= object_id <= MAX_OBJECT_ID:
        raise ValueError(f"object id {object_id} is not in 0 to {MAX_OBJECT_ID}")
    start, end = (float(str(plain.get(key, 0))) for key in ("start_time", "end_time"))
    return Scribble(path, object_id, start, end)


def scribble_robot(
    prediction: LabelMap, truth: LabelMap, *, object_ids: Collection[int] | None = None
) -> list[Scribble]:
    """Draw strokes over what `prediction` missed of each object (and of the background, id 0).

    Per id: the region of `truth` that is labelled otherwise is opened with a disk of radius
    ½ · 0.15 · √area, at most 16 px; the longest path in each connected part of its medial axis, if
    of 4 pixels or more, gives the control points of a Bézier curve of 1,000 points. Where the
    opening leaves nothing, the radius shrinks until something stays. Pixels that the truth marks
    255 are never scribbled on.

    Args:
        prediction: integer (H, W).
        truth: integer (H, W).
        object_ids: ids to look at; by default 0 and all ids of `truth`.

    Returns:
        Strokes by ascending id, the longest path of an id first; empty where none can be drawn.
    """
    if prediction.shape != truth.shape:
        raise PixelkinError(
            f"prediction has shape {prediction.shape}, truth {truth.shape}; make them the same size"
        )
    height, width = truth.shape
    if object_ids is None:
        object_ids = {0} | {int(k) for k in np.unique(truth) if k != IGNORE}
    strokes = []
    for object_id in sorted(object_ids):
        error = (truth == object_id) & (prediction != object_id)
        for path in _skeleton_paths(_open(error)):
            # A frame of one row has only row 0, so that any divisor serves.
            span = (max(width - 1, 1), max(height - 1, 1))
            curve = np.clip(_bezier(path[:, ::-1] / span), 0, 1)
            strokes.append(Scribble(curve, object_id))
    return strokes


def _open(region: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    area = np.count_nonzero(region)
    radius_px = int(min(0.5 * _OPENING_SHARE * math.sqrt(area), _MAX_OPENING_PX))
    # Outside the frame counts as no region: a border object is not drawn up to the border.
    padded = np.pad(region, _MAX_OPENING_PX + 1).view(np.uint8)
    for radius in range(radius_px, 0, -1):
        y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
        disk = (x * x + y * y <= radius * radius).astype(np.uint8)
        opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disk)
        if opened.any():
            cut = slice(_MAX_OPENING_PX + 1, -_MAX_OPENING_PX - 1)
            return np.asarray(opened[cut, cut] > 0)
    return region


def _skeleton_paths(region: Bool[np.ndarray, "h w"]) -> list[Int[np.ndarray, "n 2"]]:
    # Paths as (y, x), longest first.
    if not region.any():
        return []
    # The medial axis breaks ties by chance; the robot must draw the same on every run. Padding
    # keeps it from running along the frame's border.
    skeleton = medial_axis(np.pad(region, 1), rng=0)[1:-1, 1:-1]  # type: ignore[no-untyped-call]
    parts, _ = label(skeleton, structure=np.ones((3, 3)))
    large = np.flatnonzero(np.bincount(parts[parts > 0]) >= _MIN_NODES)
    paths = [_longest_path(np.argwhere(parts == part)) for part in large]
    return sorted((p for p in paths if len(p) >= _MIN_NODES), key=len, reverse=True)


def _longest_path(nodes_yx: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "m 2"]:
    # Longest path of the spanning tree of the 8-connected pixels: a ring is opened once, where a
    # shortest path would run through half of it only.
    low = nodes_yx.min(axis=0)
    index = np.full(nodes_yx.max(axis=0) - low + 3, -1)
    y, x = (nodes_yx - low + 1).T
    index[y, x] = np.arange(len(nodes_yx))
    rows, columns, weights = [], [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = index[y + dy, x + dx]
        found = np.flatnonzero(other >= 0)
        rows.append(found)
        columns.append(other[found])
        weights.append(np.full(len(found), math.hypot(dy, dx)))
    n = len(nodes_yx)
    graph = coo_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), shape=(n, n)
    )
    tree = minimum_spanning_tree(graph.tocsr())
    # In a tree the node farthest from any node is an end of the longest path.
    end, _ = _farthest(tree, 0)
    start, before = _farthest(tree, end)
    path = [start]
    while path[-1] != end:
        path.append(int(before[path[-1]]))
    return nodes_yx[path]


def _farthest(tree: coo_matrix, source: int) -> tuple[int, Int[np.ndarray, " n"]]:
    order, before = breadth_first_order(tree, source, directed=False)
    weights = tree + tree.T
    length = np.zeros(tree.shape[0])
    steps = np.asarray(weights[order[1:], before[order[1:]]]).ravel()
    for node, step in zip(order[1:], steps, strict=True):
        length[node] = length[before[node]] + step
    return int(np.argmax(length)), before


def _bezier(points_xy: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "1000 2"]:
    # Bernstein weights in the logarithm: binomials of hundreds of control points overflow.
    degree = len(points_xy) - 1
    k = np.arange(degree + 1)
    t = np.linspace(0, 1, _CURVE_POINTS)[:, None]
    binomial = gammaln(degree + 1) - gammaln(k + 1) - gammaln(degree - k + 1)
    curve: Float[np.ndarray, "1000 2"]
    curve = np.exp(binomial + xlogy(k, t) + xlogy(degree - k, 1 - t)) @ points_xy
    return curve


def frame_scores(
    predictions: Sequence[LabelMap], truths: Sequence[LabelMap]
) -> Float[np.ndarray, " frames"]:
    """J&F of each frame, averaged over all objects of the truth; pixels marked 255 do not count."""
    if len(predictions) != len(truths):
        raise PixelkinError(
            f"{len(predictions)} predicted label maps for {len(truths)} frames; "
            "the predictor has to return one for each frame"
        )
    scores = np.zeros(len(truths))
    objects = _object_ids(truths)
    for i, (found, truth) in enumerate(zip(predictions, truths, strict=True)):
        if found.shape != truth.shape:
            raise PixelkinError(
                f"frame {i}: predicted label map has shape {found.shape}, expected {truth.shape}; "
                "return label maps of the clip's size"
            )
        seen = np.where(truth == IGNORE, 0, found)
        pairs = [(seen == k, truth == k) for k in objects]
        scores[i] = np.mean([region_similarity(*p) + boundary_accuracy(*p) for p in pairs]) / 2
    return scores


def _object_ids(truths: Sequence[LabelMap]) -> list[int]:
    ids = {int(k) for truth in truths for k in np.unique(truth)} - {0, IGNORE}
    if not ids:
        raise PixelkinError("the true label maps hold no object; check them")
    return sorted(ids)


def worst_frame(scores: Float[np.ndarray, " frames"], used: Collection[int]) -> int | None:
    """Index of the lowest score among the frames not in `used`; None where all are used."""
    free = [frame for frame in range(len(scores)) if frame not in used]
    return min(free, key=lambda frame: float(scores[frame]), default=None)


@dataclass(frozen=True)
class InteractiveResult:
    """One session.

    Attributes:
        times: seconds of prediction, summed, at the end of each interaction.
        scores: mean J&F over all frames and objects after each interaction.
        frames: frame that was scribbled on for each interaction.
        limit_s: time limit of the session, in seconds.
        scribbles: all strokes of the session.
    """

    times: tuple[float, ...]
    scores: tuple[float, ...]
    frames: tuple[int, ...]
    limit_s: float
    scribbles: Scribbles

    @property
    def area(self) -> float:
        """Area under the curve of J&F over time, in [0, 1]."""
        return area_under_curve(self.times, self.scores, self.limit_s)

    def to_json(self) -> dict[str, object]:
        """Plain data for `json.dumps`, without the strokes."""
        return {
            "AUC": self.area,
            "J&F@60s": score_at(self.times, self.scores, 60.0),
            "times": list(self.times),
            "scores": list(self.scores),
            "frames": list(self.frames),
            "limit_s": self.limit_s,
        }


def evaluate_interactive(
    predict: Predictor,
    truths: Sequence[LabelMap],
    first_scribbles: Scribbles,
    *,
    max_interactions: int = 8,
    seconds_per_object: float = 30.0,
    clock: Callable[[], float] = time.perf_counter,
) -> InteractiveResult:
    """Let the robot work with a predictor on one clip.

    Only `predict` is timed. The session ends after `max_interactions`, when the robot has nothing
    left to draw, or when the summed time passes max_interactions · seconds_per_object · objects; an
    interaction that ends after that limit does not count.

    Args:
        predict: gets all strokes so far (frame → strokes), returns label maps (H, W) of all frames.
        truths: label maps (H, W) of all frames; 255 is not judged.
        first_scribbles: strokes of the first interaction; their frames count as used.
        max_interactions: calls of `predict` at most.
        seconds_per_object: seconds per interaction and object.
        clock: monotonic seconds.
    """
    limit_s = max_interactions * seconds_per_object * len(_object_ids(truths))
    strokes: dict[int, list[Scribble]] = {k: list(v) for k, v in first_scribbles.items() if v}
    if not strokes or not all(0 <= frame < len(truths) for frame in strokes):
        raise PixelkinError(
            f"first scribbles lie in frames {sorted(strokes)}, the clip has {len(truths)}; "
            "give strokes in one frame of the clip or more"
        )
    frame, used, total_s = min(strokes), set(strokes), 0.0
    times, scores, frames = [], [], []
    for _ in range(max_interactions):
        start = clock()
        # A copy: what the predictor keeps must not grow behind its back.
        predictions = predict({k: list(v) for k, v in strokes.items()})
        total_s += clock() - start
        if total_s > limit_s:
            break
        quality = frame_scores(predictions, truths)
        times.append(total_s)
        scores.append(float(quality.mean()))
        frames.append(frame)
        drawn = False
        while not drawn and (worst := worst_frame(quality, used)) is not None:
            frame = worst
            used.add(frame)
            new = scribble_robot(np.asarray(predictions[frame]), np.asarray(truths[frame]))
            drawn = bool(new)
            if new:
                strokes[frame] = new
        if not drawn:
            break
    return InteractiveResult(tuple(times), tuple(scores), tuple(frames), limit_s, strokes)


def _curve(
    times: Sequence[float], scores: Sequence[float]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    # Nothing is segmented at time 0; the last score holds for ever.
    if len(times) != len(scores) or (np.diff([0.0, *times]) < 0).any():
        raise PixelkinError(
            f"{len(times)} times for {len(scores)} scores; expected as many, and times that ascend"
        )
    return np.array([0.0, *times, math.inf]), np.array([0.0, *scores, scores[-1] if scores else 0])


def area_under_curve(times: Sequence[float], scores: Sequence[float], limit: float) -> float:
    """Mean score over 0 … `limit` seconds, of straight lines from (0, 0) through the points.

    The last score holds until `limit`; points after it are cut off there.
    """
    if not limit > 0:
        raise PixelkinError(f"time limit {limit} s; give more than 0")
    x, y = _curve(times, scores)
    x, y = np.append(x[x < limit], limit), np.append(y[x < limit], score_at(times, scores, limit))
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / (2 * limit))


def score_at(times: Sequence[float], scores: Sequence[float], seconds: float) -> float:
    """Score at `seconds` on straight lines from (0, 0) through the points; the last score holds."""
    x, y = _curve(times, scores)
    return float(np.interp(seconds, x[:-1], y[:-1]))
