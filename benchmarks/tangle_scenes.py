"""Rendered scenes of thin objects that cross, enclose and interlock, so that their boxes coincide.

Every scene holds one to three clusters of one kind: concentric rings, linked rings, crossing bars,
crossing curves, nested frames, interleaved combs or spirals. What lies over what is drawn at each
crossing anew, so an object may show in several parts; label maps show visible pixels only. A scene
has two or three colours for all of its objects, so that colour tells objects from the background
but hardly ever one from another; a dark rim tells what lies over what.

Scenes depend on seed and index alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from pixelkin.errors import PixelkinError
from pixelkin.masks import encode_rle
from pixelkin.structures import Instance, InstanceSample

MIN_VISIBLE_PX = 80
"""Objects of which less shows are not asked for: the scene is drawn anew."""

_FINE = 4
"""Positions per pixel, along each axis, at which coverage is counted."""

_CLUSTERS = ((0.5, 0.5), (0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72))
"""Where clusters lie, as shares of width and height: one in the middle, or some of four."""

Random = np.random.Generator
Line = Float[np.ndarray, "n 2"]


@dataclass(frozen=True)
class Stroke:
    """One object: lines of x, y in pixels, drawn `width_px` wide."""

    lines: tuple[Line, ...]
    width_px: float


class TangleScenes:
    """An instance source of rendered scenes; scene i is of kind `kinds[i]`, all kinds in turn.

    Args:
        length: number of scenes.
        seed: other seeds give other scenes.
        size_px: side of the square stills.

    Attributes:
        names: "rings-3-00000", of kind, seed and index.
        class_names: ("thing",).
        kinds: of `KINDS`, one per scene.

    Raises:
        PixelkinError: no scene is asked for, or stills too small for a cluster.
    """

    class_names = ("thing",)

    def __init__(self, length: int, seed: int, *, size_px: int = 256) -> None:
        if length < 1 or size_px < 192 or seed < 0:
            raise PixelkinError(
                f"{length} scenes of {size_px}×{size_px} from seed {seed}: expected one or more, "
                "at least 192 px wide, and a seed of 0 or more; give larger numbers"
            )
        self.seed = seed
        self.size_px = size_px
        self.kinds = [tuple(KINDS)[i % len(KINDS)] for i in range(length)]
        self.names = [f"{kind}-{seed}-{i:05d}" for i, kind in enumerate(self.kinds)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        random = np.random.default_rng([self.seed, index])
        while True:
            strokes = draw_strokes(random, self.kinds[index], self.size_px)
            image, labels = render(random, strokes, self.size_px)
            masks = [labels == i + 1 for i in range(len(strokes))]
            if min(int(mask.sum()) for mask in masks) >= MIN_VISIBLE_PX:
                break
        instances = tuple(Instance(encode_rle(mask), key=str(i)) for i, mask in enumerate(masks))
        return InstanceSample(image, instances, self.names[index])


# Shapes, around the origin


def _rings(random: Random, radius_px: float) -> list[Stroke]:
    """Concentric rings or ellipses, the inner ones not far inside the outer."""
    width, gap = random.uniform(4.5, 7), random.uniform(4.5, 7)
    squash, turn = random.uniform(0.75, 1), random.uniform(0, np.pi)
    count = int(np.clip((radius_px - 12) * squash // (width + gap), 2, random.integers(2, 6)))
    step = (width + gap) / squash
    return [
        Stroke((_turned(_ellipse(radius_px - i * step, squash), turn),), width)
        for i in range(count)
    ]


def _links(random: Random, radius_px: float) -> list[Stroke]:
    """Rings of one size whose centres lie around a common one: each passes through the others."""
    count, apart = int(random.integers(2, 5)), random.uniform(0.12, 0.3) * radius_px
    start, width = random.uniform(0, 2 * np.pi), random.uniform(4.5, 7)
    strokes = []
    for i in range(count):
        angle = start + 2 * np.pi * i / count
        ring = _ellipse(radius_px - apart, random.uniform(0.85, 1))
        ring = _turned(ring, random.uniform(0, np.pi))
        strokes.append(Stroke((ring + apart * np.array([np.cos(angle), np.sin(angle)]),), width))
    return strokes


def _bars(random: Random, radius_px: float) -> list[Stroke]:
    """Straight bars near both diagonals."""
    strokes, width = [], random.uniform(4.5, 8)
    for side in (-1, 1):
        count = int(random.integers(1, 4))
        tilt = np.radians(side * 45 + random.uniform(-8, 8))
        along = np.array([np.cos(tilt), np.sin(tilt)])
        across = np.array([-along[1], along[0]])
        step = width + random.uniform(6, 12)
        for i in range(count):
            middle = (i - (count - 1) / 2) * step * across + random.uniform(-5, 5) * along
            ends = np.array([[-1.0], [1.0]]) * random.uniform(0.88, 1) * radius_px * along
            strokes.append(Stroke((middle + ends,), width))
    return strokes


def _curves(random: Random, radius_px: float) -> list[Stroke]:
    """Waves along one axis, of different phases."""
    count, turn = int(random.integers(2, 5)), random.uniform(0, np.pi)
    width, periods = random.uniform(4.5, 7), random.uniform(0.6, 1.5)
    t = np.linspace(-1, 1, 120)
    strokes = []
    for i in range(count):
        phase = 2 * np.pi * (i + random.uniform(-0.15, 0.15)) / count
        wave = random.uniform(0.4, 0.6) * np.sin(np.pi * periods * t + phase)
        line = radius_px * np.stack([random.uniform(0.92, 1) * t, wave], 1)
        strokes.append(Stroke((_turned(line, turn),), width))
    return strokes


def _frames(random: Random, radius_px: float) -> list[Stroke]:
    """Nested outlines of a rectangle, all turned alike."""
    width, gap = random.uniform(4.5, 7), random.uniform(4.5, 7)
    half = radius_px * np.array([0.95, random.uniform(0.65, 0.95)])
    count = int(np.clip((half[1] - 8) // (width + gap), 2, random.integers(2, 6)))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], float)
    turn = random.choice([0, random.uniform(-0.3, 0.3)])
    return [
        Stroke((_turned(corners * (half - i * (width + gap)), turn),), width) for i in range(count)
    ]


def _combs(random: Random, radius_px: float) -> list[Stroke]:
    """Two combs, the teeth of each between the other's."""
    width = random.uniform(4.5, 6.5)
    pitch = width + random.uniform(4.5, 7)
    half = radius_px * np.array([0.95, random.uniform(0.6, 0.9)])
    teeth = max(2, int(2 * half[0] // pitch) // 2)
    reach = 2 * half[1] - pitch
    strokes, turn = [], random.uniform(0, 2 * np.pi)
    for side in (-1, 1):
        x = (2 * np.arange(teeth) - teeth + 0.5 + 0.5 * side) * pitch
        spine = np.array([[x[0], side * half[1]], [x[-1], side * half[1]]])
        lines = [np.array([[v, side * half[1]], [v, side * (half[1] - reach)]]) for v in x]
        strokes.append(Stroke(tuple(_turned(line, turn) for line in (spine, *lines)), width))
    return strokes


def _spirals(random: Random, radius_px: float) -> list[Stroke]:
    """Arms of one spiral, each between the others."""
    arms, width = int(random.integers(2, 4)), random.uniform(4.5, 6.5)
    turns = min(random.uniform(0.9, 1.6), (radius_px - 8) / (arms * (width + 5)))
    t, start = np.linspace(0, 1, 160), random.uniform(0, 2 * np.pi)
    way = random.choice([-1, 1])
    strokes = []
    for arm in range(arms):
        angle = start + way * 2 * np.pi * (turns * t + arm / arms)
        radius = 8 + (radius_px - 8) * t
        strokes.append(
            Stroke((np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None],), width)
        )
    return strokes


def _ellipse(radius_px: float, squash: float) -> Line:
    angle = np.linspace(0, 2 * np.pi, 100)
    return radius_px * np.stack([np.cos(angle), squash * np.sin(angle)], 1)


def _turned(line: Line, angle: float) -> Line:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(line @ np.array([[cos, sin], [-sin, cos]]))


KINDS: dict[str, Callable[[Random, float], list[Stroke]]] = {
    "rings": _rings,
    "links": _links,
    "bars": _bars,
    "curves": _curves,
    "frames": _frames,
    "combs": _combs,
    "spirals": _spirals,
}
"""Name → a cluster of about the given radius."""


def draw_strokes(random: Random, kind: str, size_px: int) -> list[Stroke]:
    """The objects of a scene, from the lowest to the highest."""
    count = int(random.integers(1, 4))
    places = [0] if count == 1 else 1 + random.permutation(4)[:count]
    strokes = []
    for place in places:
        radius = random.uniform(0.28, 0.4) if count == 1 else random.uniform(0.17, 0.21)
        shift = 0.08 if count == 1 else 0.02
        centre = (np.array(_CLUSTERS[place]) + random.uniform(-shift, shift, 2)) * size_px
        strokes += [
            Stroke(tuple(line + centre for line in one.lines), one.width_px)
            for one in KINDS[kind](random, radius * size_px)
        ]
    return [strokes[i] for i in random.permutation(len(strokes))]


# Rendering


def render(
    random: Random, strokes: list[Stroke], size_px: int
) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray]:
    """Image and label map (int64; object i has label i + 1) of strokes, in a random look."""
    ground, colours = _colours(random, int(random.integers(2, 4)))
    image = ground + random.uniform(12, 30) * _texture(random, size_px)[..., None]
    labels = np.zeros((size_px, size_px), np.int64)
    covers = [coverage(stroke, size_px) for stroke in strokes]
    looks = []
    for cover, stroke in zip(covers, strokes, strict=True):
        colour = colours[random.integers(len(colours))]
        grain = random.uniform(6, 18) * _texture(random, size_px)
        looks.append((colour + grain[..., None]) * _shade(cover, stroke.width_px)[..., None])
    for i, (cover, look) in enumerate(zip(covers, looks, strict=True)):
        _lay(image, labels, cover, look, i + 1)
    for i, region in _turned_over(random, covers):
        _lay(image, labels, covers[i] * region, looks[i], i + 1)
    image += random.normal(0, random.uniform(1, 5), image.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def coverage(stroke: Stroke, size_px: int) -> Float[np.ndarray, "h w"]:
    """Share of each pixel that a stroke covers."""
    fine = np.zeros((size_px * _FINE, size_px * _FINE), np.uint8)
    # 0, 0 is the centre of the first pixel; four more bits for positions between fine pixels.
    lines = [np.rint((((line + 0.5) * _FINE) - 0.5) * 16).astype(np.int32) for line in stroke.lines]
    width = max(1, round(stroke.width_px * _FINE))
    cv2.polylines(fine, lines, False, 255, width, cv2.LINE_8, 4)
    small = cv2.resize(fine, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _lay(
    image: np.ndarray, labels: np.ndarray, cover: np.ndarray, look: np.ndarray, label: int
) -> None:
    image += cover[..., None] * (look - image)
    labels[cover > 0.5] = label


def _turned_over(
    random: Random, covers: list[np.ndarray]
) -> list[tuple[int, Bool[np.ndarray, "h w"]]]:
    """Crossings at which the lower object shall lie on top: about half of them.

    Where two objects cross several times, one crossing after the other, so that they interlock.
    """
    found = []
    for lower in range(len(covers)):
        for upper in range(lower + 1, len(covers)):
            both = ((covers[lower] > 0) & (covers[upper] > 0)).astype(np.uint8)
            count, crossings = cv2.connectedComponents(both)
            first = int(random.integers(2))
            found += [(lower, crossings == n) for n in range(1 + first, count, 2)]
    return found


def _shade(cover: np.ndarray, width_px: float) -> Float[np.ndarray, "h w"]:
    """Lighter along the middle, a dark rim."""
    depth = cv2.distanceTransform((cover > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    return 0.45 + 0.6 * np.minimum(depth / (0.5 * width_px), 1) ** 0.7


def _texture(random: Random, size_px: int) -> Float[np.ndarray, "h w"]:
    """Noise of several scales, sometimes stripes, about −1 to 1."""
    total = np.zeros((size_px, size_px), np.float32)
    for cells, weight in ((6, 0.5), (24, 0.3), (96, 0.3)):
        coarse = random.normal(0, weight, (cells, cells)).astype(np.float32)
        total += cv2.resize(coarse, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    if random.random() < 0.4:
        along = np.radians(random.uniform(0, 180))
        y, x = np.mgrid[:size_px, :size_px]
        wave = (x * np.cos(along) + y * np.sin(along)) * 2 * np.pi / random.uniform(8, 24)
        total += 0.5 * np.sin(wave).astype(np.float32)
    return total


def _colours(random: Random, count: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A background colour, and colours of objects that stand out from it."""
    ground = random.uniform(40, 200, 3)
    colours: list[np.ndarray] = []
    while len(colours) < count:
        colour = random.uniform(60, 250, 3)
        if np.abs(colour - ground).max() > 80:
            colours.append(colour)
    return ground, colours
