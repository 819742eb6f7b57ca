"""Where names stand beside discs that may overlap: near their own, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GAP_PX = 5.0
"""Between a disc and the name beside it."""

_DISTANCES_PX = (GAP_PX, 14.0, 26.0, 42.0, 62.0, 90.0)
# Right, left, above, below, then what lies between: of equal places the first is taken.
_DEGREES = (0, 180, 270, 90, *(a for a in range(15, 360, 15) if a % 90))

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Line = tuple[tuple[float, float], tuple[float, float]]
"""Its two ends."""


@dataclass(frozen=True)
class Disc:
    """A disc with a name of a width and height; all in pixels."""

    x: float
    y: float
    radius: float
    name_wh: tuple[float, float]


@dataclass(frozen=True)
class Place:
    """Where a name stands.

    Attributes:
        box: of the name.
        end_xy: the point of the box where a line from the disc's centre ends.
        line: whether one is needed to tell whose name it is.
    """

    box: Box
    end_xy: tuple[float, float]
    line: bool


def place_names(discs: Sequence[Disc], room: Box, taken: Sequence[Box] = ()) -> list[Place]:
    """A place for each disc's name, those of the most crowded discs chosen first.

    Args:
        discs: in any order.
        room: what names may not leave.
        taken: boxes where something else stands.
    """
    found: dict[int, Place] = {}
    for index in sorted(range(len(discs)), key=lambda i: -_crowd(discs, i)):
        own = discs[index]
        lines = [((discs[i].x, discs[i].y), place.end_xy) for i, place in found.items()]
        boxes = [*taken, *(place.box for place in found.values())]
        candidates = [
            (_candidate(own, angle, distance), distance)
            for distance in _DISTANCES_PX
            for angle in _DEGREES
        ]
        (box, end_xy), distance = min(
            candidates,
            key=lambda c: c[1] + _cost(discs, index, *c[0], room=room, boxes=boxes, lines=lines),
        )
        # A name is told by where it stands if its own disc is seen whole, and by far the nearest.
        others = [disc for i, disc in enumerate(discs) if i != index]
        unclear = any(
            _box_gap(other, box) < 2 * GAP_PX
            or math.dist((own.x, own.y), (other.x, other.y)) < other.radius
            for other in others
        )
        found[index] = Place(box, end_xy, line=unclear or distance > GAP_PX)
    return [found[index] for index in range(len(discs))]


def _crowd(discs: Sequence[Disc], index: int) -> float:
    """How far other discs reach into one, in pixels, all together."""
    own = discs[index]
    return sum(
        max(0.0, own.radius + other.radius - math.hypot(own.x - other.x, own.y - other.y))
        for i, other in enumerate(discs) if i != index
    )  # fmt: skip


def _candidate(disc: Disc, degrees: float, distance: float) -> tuple[Box, tuple[float, float]]:
    """The box that a disc's name has in a direction, and its point nearest to the disc."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = disc.x + (disc.radius + distance) * cos, disc.y + (disc.radius + distance) * sin
    width, height = disc.name_wh
    left = x - width * (0.0 if cos > 0.2 else 1.0 if cos < -0.2 else 0.5)
    top = y - height * (0.0 if sin > 0.6 else 1.0 if sin < -0.6 else 0.5)
    return (left, top, left + width, top + height), (x, y)


def _cost(
    discs: Sequence[Disc],
    index: int,
    box: Box,
    end_xy: tuple[float, float],
    *,
    room: Box,
    boxes: Sequence[Box],
    lines: Sequence[Line],
) -> float:
    """How bad a place is, in pixels that the name could as well be further away."""
    centre = discs[index].x, discs[index].y
    outside = sum(max(0.0, a - b) for a, b in zip(room[:2], box[:2], strict=True))
    outside += sum(max(0.0, b - a) for a, b in zip(room[2:], box[2:], strict=True))
    cost = 100 * outside
    cost += sum(50 * max(0.0, 2 - _box_gap(disc, box)) for disc in discs)
    steps = [step / 24 for step in range(25)]
    points = [(centre[0] + s * (end_xy[0] - centre[0]), centre[1] + s * (end_xy[1] - centre[1]))
              for s in steps]  # fmt: skip
    for other in boxes:
        cost += 10 * _common(box, other)
        cost += 300 * any(_inside(point, other) for point in points)
    cost += sum(300 for line in lines if _cross((centre, end_xy), line))
    for i, disc in enumerate(discs):
        if i != index:
            # A line through the middle of another disc would seem to be that one's.
            away = [math.dist(point, (disc.x, disc.y)) for point in points]
            cost += 200 * (min(away) < min(8.0, 0.7 * away[0]))
            cost += sum(distance < disc.radius for distance in away)
    return cost


def _cross(a: Line, b: Line) -> bool:
    def side(line: Line, point: tuple[float, float]) -> float:
        (x0, y0), (x1, y1) = line
        return (x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0)

    return side(a, b[0]) * side(a, b[1]) < 0 and side(b, a[0]) * side(b, a[1]) < 0


def _box_gap(disc: Disc, box: Box) -> float:
    """Pixels between a disc's rim and a box; negative where the box reaches into the disc."""
    x = min(max(disc.x, box[0]), box[2])
    y = min(max(disc.y, box[1]), box[3])
    return math.hypot(disc.x - x, disc.y - y) - disc.radius


def _common(a: Box, b: Box) -> float:
    """Area that two boxes have in common."""
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(across, 0.0) * max(down, 0.0)


def _inside(point: tuple[float, float], box: Box) -> bool:
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]
