"""Short synthetic clips from stills with instance masks.

A clip is a small scene: a background still and a few objects cut from stills, each with a smooth
motion of its own (affine and thin-plate), drawn over one another, so that objects occlude each
other, leave the frame, and resemble what is drawn beside them. Real stills as a whole are used too:
their contours are true ones. Training video networks on warped stills is the practice of MaskTrack
(Perazzi et al., CVPR 2017) and STM (Oh et al., ICCV 2019); the scenes here are ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy.interpolate import RBFInterpolator
from torch.utils.data import Dataset

from pixelkin.data.clips.prompts import simulate_prompt
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, ClipBatch, Sample

Array = np.ndarray

MIN_OBJECT_PX = 500
"""Smaller cut-outs carry no shape."""


@dataclass(frozen=True)
class Cutout:
    """An object that may be moved: RGB and its soft mask, cropped to the object.

    Attributes:
        image: uint8 (h, w, 3).
        alpha: uint8 (h, w), 255 inside.
        source: index of the still it comes from.
    """

    image: UInt8[Array, "h w 3"]
    alpha: UInt8[Array, "h w"]
    source: int


@dataclass(frozen=True)
class SceneSettings:
    """How wild the scenes are. Lengths are shares of the object's or the frame's size.

    Attributes:
        whole_still: share of clips made from one still as a whole.
        shift, turn_rad, zoom, bend: standard deviations of motion over a whole clip for objects:
            translation, rotation, log scale, thin-plate displacement.
        camera: the same motions of the background, as a share of an object's.
        twin: share of scenes in which a second copy of the object stands beside it.
        occluder: share of scenes in which something passes before the object.
    """

    whole_still: float = 0.35
    shift: float = 0.35
    turn_rad: float = 0.35
    zoom: float = 0.25
    bend: float = 0.10
    camera: float = 0.35
    twin: float = 0.25
    occluder: float = 0.35


def shrink(sample: Sample, *, longest_px: int) -> Sample:
    """The sample scaled down so that its longer side is at most `longest_px`."""
    h, w = sample.labels.shape
    scale = longest_px / max(h, w)
    if scale >= 1:
        return sample
    size = (round(w * scale), round(h * scale))
    labels = cv2.resize(sample.labels.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
    return Sample(
        cv2.resize(sample.image, size, interpolation=cv2.INTER_AREA),
        labels.astype(np.int64),
        sample.name,
        sample.categories,
    )


def find_cutouts(
    sample: Sample, source: int, *, min_share: float = 0.008, max_share: float = 0.6
) -> list[Cutout]:
    """Instances of a still that may be cut out: big enough, and not cut off by its border."""
    h, w = sample.labels.shape
    found = []
    for instance in np.unique(sample.labels):
        if instance in (0, IGNORE):
            continue
        mask = sample.labels == instance
        area = int(mask.sum())
        if area < MIN_OBJECT_PX or not min_share <= area / (h * w) <= max_share:
            continue
        at_border = int(mask[0].sum() + mask[-1].sum() + mask[:, 0].sum() + mask[:, -1].sum())
        if at_border > 0.35 * np.sqrt(area):
            continue
        ys, xs = np.nonzero(mask)
        box = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        # A one-pixel rim of the old background would give every pasted object away.
        inner = cv2.erode(mask[box].astype(np.uint8) * 255, np.ones((3, 3), np.uint8))
        found.append(Cutout(sample.image[box].copy(), inner, source))
    return found


ClipItem = tuple[Array, Array, Array]
"""(images uint8 (T, H, W, 3), labels uint8 (T, H, W), prompt uint8 (H, W)), as in `ClipBatch`."""


class SyntheticClips(Dataset[ClipItem]):
    """Clips made on the fly; item i depends on (seed, i) alone.

    Args:
        samples: stills with instance labels; shrink them first, they are kept in memory.
        frames: T.
        size_hw: of the clips, pixels.
        length: number of items.
        seed: another seed, other clips.

    Labels of items: 1 the object to follow, 2 and up others, 0 background, `IGNORE` unknown.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        *,
        frames: int = 4,
        size_hw: tuple[int, int] = (288, 384),
        length: int = 1_000_000,
        seed: int = 0,
        settings: SceneSettings | None = None,
    ) -> None:
        self.samples = list(samples)
        self.frames = frames
        self.size_hw = size_hw
        self.length = length
        self.seed = seed
        self.settings = settings or SceneSettings()
        self.cutouts = [
            cutout
            for source, sample in enumerate(self.samples)
            for cutout in find_cutouts(sample, source)
        ]

        if not self.samples or (self.settings.whole_still < 1 and not self.cutouts):
            raise PixelkinError(
                f"{len(self.samples)} stills hold no object to cut out: expected instances of "
                f"{MIN_OBJECT_PX} pixels or more, off the border; add stills, or use whole ones"
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ClipItem:
        rng = np.random.default_rng((self.seed, index))
        for _ in range(20):
            if rng.random() < self.settings.whole_still:
                images, labels = self._whole_still(rng)
            else:
                images, labels = self._scene(rng)
            if (labels[0] == 1).mean() >= 0.004 and (labels[0] == 1).mean() <= 0.7:
                break
        return photometric(images, rng), labels, simulate_prompt(labels[0], rng)

    def _times(self, rng: np.random.Generator) -> Array:
        # Frames near each other and frames far apart: what a previous frame and a first frame are.
        gaps = rng.choice([0.08, 0.2, 0.45], size=self.frames - 1, p=[0.4, 0.35, 0.25])
        times = np.concatenate([[0.0], np.cumsum(gaps)])
        return times * (-1 if rng.random() < 0.5 else 1)

    def _whole_still(self, rng: np.random.Generator) -> tuple[Array, Array]:
        sample = self.samples[rng.integers(len(self.samples))]
        ids = [i for i in np.unique(sample.labels) if i not in (0, IGNORE)]
        ids = [i for i in ids if (sample.labels == i).sum() >= MIN_OBJECT_PX] or ids
        target = ids[rng.integers(len(ids))] if ids else -1
        labels = np.zeros(sample.labels.shape, np.uint8)
        for rank, other in enumerate(i for i in ids[:200] if i != target):
            labels[sample.labels == other] = rank + 2
        labels[sample.labels == target] = 1
        labels[sample.labels == IGNORE] = IGNORE
        motion = Motion(rng, self.settings, scale=0.7)
        base = cover_transform(sample.labels.shape, self.size_hw, rng, around=labels == 1)
        images, maps = [], []
        for time in self._times(rng):
            grid = motion.grid(time, base, sample.labels.shape, self.size_hw)
            images.append(
                cv2.remap(sample.image, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
            )
            maps.append(
                cv2.remap(labels, *grid, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
            )
        return np.stack(images), np.stack(maps)

    def _scene(self, rng: np.random.Generator) -> tuple[Array, Array]:
        settings = self.settings
        target = self.cutouts[rng.integers(len(self.cutouts))]
        cast: list[tuple[Cutout, int, float]] = [(target, 1, 1.0)]
        if rng.random() < settings.twin:
            cast.insert(0, (target, 2, 1.0))
        for _ in range(int(rng.integers(0, 3))):
            cast.insert(0, (self.cutouts[rng.integers(len(self.cutouts))], len(cast) + 1, 1.0))
        if rng.random() < settings.occluder:
            cast.append((self.cutouts[rng.integers(len(self.cutouts))], len(cast) + 1, 0.5))
        still = target.source if rng.random() < 0.25 else int(rng.integers(len(self.samples)))
        background = self.samples[still]
        camera = Motion(rng, settings, scale=settings.camera)
        camera_base = cover_transform(background.labels.shape, self.size_hw, rng)
        actors = []
        for cutout, label, share in cast:
            base = place_transform(cutout.alpha.shape, self.size_hw, rng, share=share)
            actors.append((cutout, label, base, Motion(rng, settings, scale=1.0)))
        images, maps = [], []
        for time in self._times(rng):
            grid = camera.grid(time, camera_base, background.labels.shape, self.size_hw)
            frame = cv2.remap(
                background.image, *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
            labels = np.zeros(self.size_hw, np.uint8)
            for cutout, label, base, motion in actors:
                grid = motion.grid(time, base, cutout.alpha.shape, self.size_hw)
                draw(frame, labels, cutout, label, grid)
            images.append(frame)
            maps.append(labels)
        return np.stack(images), np.stack(maps)


class Motion:
    """A smooth random motion: affine and thin-plate, both growing with time from the identity."""

    def __init__(self, rng: np.random.Generator, settings: SceneSettings, *, scale: float) -> None:
        self.shift = rng.normal(0, settings.shift * scale, 2)
        self.turn = rng.normal(0, settings.turn_rad * scale)
        self.zoom = rng.normal(0, settings.zoom * scale, 2) * [1.0, 0.3]
        knots = np.stack(np.meshgrid([0, 0.5, 1], [0, 0.5, 1]), axis=-1).reshape(-1, 2)
        bend = rng.normal(0, settings.bend * scale, (len(knots), 2))
        coarse = np.stack(np.meshgrid(np.linspace(0, 1, 12), np.linspace(0, 1, 12)), axis=-1)
        spline = RBFInterpolator(knots, bend, kernel="thin_plate_spline")
        self.bend: Array = spline(coarse.reshape(-1, 2)).reshape(12, 12, 2).astype(np.float32)
        self.rhythm = rng.uniform(2.0, 6.0)

    def grid(
        self, time: float, base: Array, source_hw: tuple[int, ...], size_hw: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Where each pixel of the frame looks in the source, as two float32 maps for cv2.remap.

        `base` (3, 3) maps source pixels to frame pixels at time 0.
        """
        h, w = source_hw[:2]
        centre = np.array([w / 2, h / 2])
        size = np.sqrt(h * w)
        turn, zoom, stretch = self.turn * time, np.exp(self.zoom[0] * time), self.zoom[1] * time
        cos, sin = np.cos(turn) * zoom, np.sin(turn) * zoom
        linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([np.exp(stretch), np.exp(-stretch)])
        move = np.eye(3)
        move[:2, :2] = linear
        move[:2, 2] = centre - linear @ centre + self.shift * time * size
        inverse = np.linalg.inv(base @ move)
        ys, xs = np.mgrid[0 : size_hw[0], 0 : size_hw[1]].astype(np.float32)
        map_x = (inverse[0, 0] * xs + inverse[0, 1] * ys + inverse[0, 2]).astype(np.float32)
        map_y = (inverse[1, 0] * xs + inverse[1, 1] * ys + inverse[1, 2]).astype(np.float32)
        # The bend swings, so that limbs come back; a steady drift would only shear the object.
        amount = size * np.sin(self.rhythm * time)
        bend = cv2.remap(
            self.bend * np.float32(amount),
            map_x * np.float32(11 / w),
            map_y * np.float32(11 / h),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return map_x + bend[..., 0], map_y + bend[..., 1]


def draw(
    frame: UInt8[Array, "h w 3"],
    labels: UInt8[Array, "h w"],
    cutout: Cutout,
    label: int,
    grid: tuple[Array, Array],
) -> None:
    """Draw one object over `frame` and `labels`, in place."""
    alpha = cv2.remap(cutout.alpha, *grid, cv2.INTER_LINEAR, borderValue=0)
    rows = np.flatnonzero(alpha.any(axis=1))
    cols = np.flatnonzero(alpha.any(axis=0))
    if len(rows) == 0:
        return
    box = np.s_[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    image = cv2.remap(
        cutout.image,
        grid[0][box],
        grid[1][box],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    soft = cv2.GaussianBlur(alpha[box], (3, 3), 0)[..., None].astype(np.float32) / 255
    frame[box] = (image * soft + frame[box] * (1 - soft)).astype(np.uint8)
    labels[box][alpha[box] > 127] = label


def cover_transform(
    source_hw: tuple[int, ...],
    size_hw: tuple[int, int],
    rng: np.random.Generator,
    *,
    around: Array | None = None,
) -> Array:
    """Source → frame: scaled to cover the frame, cut at a random place (near `around`'s centre)."""
    h, w = source_hw[:2]
    scale = max(size_hw[0] / h, size_hw[1] / w) * np.exp(rng.uniform(0, 0.5))
    room = np.array([w * scale - size_hw[1], h * scale - size_hw[0]])
    offset = rng.uniform(0, 1, 2) * room
    if around is not None and around.any():
        ys, xs = np.nonzero(around)
        target = np.array([xs.mean(), ys.mean()]) * scale - np.array(size_hw[::-1]) / 2
        jitter = rng.normal(0, 0.12, 2) * np.array(size_hw[::-1])
        offset = np.clip(target + jitter, 0, np.maximum(room, 0))
    flip = -1.0 if rng.random() < 0.5 else 1.0
    base = np.array([[scale, 0, -offset[0]], [0, scale, -offset[1]], [0, 0, 1.0]])
    mirror = np.array([[flip, 0, size_hw[1] if flip < 0 else 0], [0, 1, 0], [0, 0, 1.0]])
    return np.asarray(mirror @ base)


def place_transform(
    source_hw: tuple[int, ...], size_hw: tuple[int, int], rng: np.random.Generator, *, share: float
) -> Array:
    """Cut-out → frame: a random size (a fifth to nearly all of the frame's height), and place."""
    h, w = source_hw[:2]
    length = np.exp(rng.uniform(np.log(0.18), np.log(0.85))) * size_hw[0] * np.sqrt(share)
    scale = min(length / np.sqrt(h * w), 1.6 * size_hw[0] / max(h, w))
    turn = rng.normal(0, 0.15)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = linear @ np.diag([flip, 1.0])
    centre = rng.uniform(0.2, 0.8, 2) * np.array(size_hw[::-1])
    base = np.eye(3)
    base[:2, :2] = linear
    base[:2, 2] = centre - linear @ np.array([w / 2, h / 2])
    return base


def photometric(
    images: UInt8[Array, "t h w 3"], rng: np.random.Generator
) -> UInt8[Array, "t h w 3"]:
    """Colour, light, blur and noise: one look per clip, drifting a little from frame to frame."""
    gain = np.exp(rng.normal(0, 0.15, 3) * 0.6 + rng.normal(0, 0.15))
    gamma = np.exp(rng.normal(0, 0.15))
    drift = rng.normal(0, 0.06, (len(images), 4))
    ramp = np.arange(256, dtype=np.float32) / 255
    out = []
    for t, frame in enumerate(images):
        gains = gain * np.exp(drift[t, :3] + drift[t, 3])
        table = np.stack([255 * np.clip(g * ramp**gamma, 0, 1) for g in gains], axis=-1)
        frame = cv2.LUT(frame, table.astype(np.uint8)[None])
        if rng.random() < 0.2:
            frame = motion_blur(
                frame, length_px=int(rng.integers(3, 10)), angle=rng.uniform(0, np.pi)
            )
        out.append(frame)
    if rng.random() < 0.15:
        out = [cv2.cvtColor(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB) for f in out]
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 80))]
        out = [cv2.imdecode(cv2.imencode(".jpg", f, quality)[1], cv2.IMREAD_COLOR) for f in out]
    return np.stack(out)


def motion_blur(image: UInt8[Array, "h w 3"], *, length_px: int, angle: float) -> Array:
    """Blur along a line, as a moving camera or object does."""
    kernel = np.zeros((length_px, length_px), np.float32)
    middle = (length_px - 1) / 2
    for step in np.linspace(-middle, middle, 4 * length_px):
        kernel[round(middle + step * np.sin(angle)), round(middle + step * np.cos(angle))] = 1
    blurred: Array = cv2.filter2D(image, -1, kernel / kernel.sum())
    return blurred


def collate_clips(items: Sequence[ClipItem]) -> ClipBatch:
    """Items of `SyntheticClips` as one `ClipBatch`."""
    images = torch.from_numpy(np.stack([item[0] for item in items]))
    labels = torch.from_numpy(np.stack([item[1] for item in items]))
    prompts = torch.from_numpy(np.stack([item[2] for item in items]))
    return ClipBatch(_to_float(images), labels.long(), prompts)


def _to_float(images: torch.Tensor) -> Float[torch.Tensor, "n t 3 h w"]:
    return images.permute(0, 1, 4, 2, 3).contiguous().float().div_(255)
