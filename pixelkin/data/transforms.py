"""Augmentation of stills in which image and instance ids stay together, pixel by pixel.

A transform is a call `Sample → Sample`. What it draws comes from NumPy's global generator, which
the engine seeds for every visit of an item. Labels are moved by nearest neighbour on integers, so
no id is ever made up; an instance that leaves the frame keeps its place in `categories` and merely
has no pixel. Pixels that come from beyond the still are `IGNORE`.

Everything geometric of a training is one resampling: `RandomWindow` draws scale, turn, shear,
mirror and place, and reads the window out of the still at once. Chains of resamplings would blur
the image and fray the outlines of small instances. Colour, blur and noise: `data/appearance.py`.
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Int64, Integer, UInt8

from pixelkin.data.appearance import check_range, check_share
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Sample

Transform = Callable[[Sample], Sample]
"""What augments a still."""


@dataclass(frozen=True)
class Compose:
    """Transforms one after the other, the first first."""

    steps: tuple[Transform, ...]

    def __call__(self, sample: Sample) -> Sample:
        """Through all steps."""
        for step in self.steps:
            sample = step(sample)
        return sample


# Geometry without chance


def flip_horizontal(sample: Sample) -> Sample:
    """Left becomes right."""
    return _moved(sample, sample.image[:, ::-1], lambda labels: labels[:, ::-1])


def flip_vertical(sample: Sample) -> Sample:
    """Top becomes bottom."""
    return _moved(sample, sample.image[::-1], lambda labels: labels[::-1])


def rotate_90(sample: Sample, *, turns: int = 1) -> Sample:
    """Turned by `turns` quarter turns counter-clockwise."""
    return _moved(sample, np.rot90(sample.image, turns), lambda labels: np.rot90(labels, turns))


def resize(sample: Sample, size_hw: tuple[int, int]) -> Sample:
    """Scaled to `size_hw`: the image by area where it shrinks, else bilinear."""
    _check_size(size_hw)
    height, width = sample.labels.shape
    shrinks = size_hw[0] < height or size_hw[1] < width
    image = cv2.resize(
        sample.image,
        size_hw[::-1],
        interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
    )
    # Plain INTER_NEAREST reads the corner of a pixel, not its centre: half a pixel off the image.
    return _moved(
        sample,
        image,
        lambda labels: cv2.resize(
            _narrow(labels), size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT
        ),
    )


def warp(
    sample: Sample,
    window_to_still: Float[np.ndarray, "2 3"],
    *,
    size_hw: tuple[int, int],
    reflect: bool = True,
) -> Sample:
    """The window of `size_hw` that an affine map reads out of a still.

    Args:
        sample: any size.
        window_to_still: takes (x, y, 1) of a pixel of the window to x, y in the still; whole
            numbers are the centres of pixels.
        size_hw: of the window, pixels.
        reflect: whether the image goes on mirrored beyond the still; else it is black there. The
            labels are `IGNORE` there either way.
    """
    _check_size(size_hw)
    matrix = np.array(window_to_still, np.float64)
    box = _footprint(matrix, size_hw, sample.labels.shape)
    matrix[:, 2] -= box[1].start, box[0].start
    flags = cv2.WARP_INVERSE_MAP

    def read(labels: Int64[np.ndarray, "h w"]) -> Integer[np.ndarray, "h2 w2"]:
        return cv2.warpAffine(
            _narrow(labels[box]),
            matrix,
            size_hw[::-1],
            flags=flags | cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=IGNORE,
        )

    source, to_source = _shrink_first(sample.image[box], matrix)
    image = cv2.warpAffine(
        source,
        to_source,
        size_hw[::-1],
        flags=flags | cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101 if reflect else cv2.BORDER_CONSTANT,
    )
    return _moved(sample, image, read)


def _footprint(
    matrix: Float[np.ndarray, "2 3"], size_hw: tuple[int, int], still_hw: tuple[int, ...]
) -> tuple[slice, slice]:
    """What a window sees of the still, and a rim; never empty."""
    right, bottom = size_hw[1] - 1, size_hw[0] - 1
    corners = matrix @ np.array([[0, right, 0, right], [0, 0, bottom, bottom], [1, 1, 1, 1]])
    low = np.floor(corners.min(1)) - 2
    high = np.ceil(corners.max(1)) + 3
    x0, y0 = (int(np.clip(low[i], 0, still_hw[1 - i] - 1)) for i in range(2))
    x1, y1 = (int(np.clip(high[i], 1, still_hw[1 - i])) for i in range(2))
    return slice(y0, max(y1, y0 + 1)), slice(x0, max(x1, x0 + 1))


def _shrink_first(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"]
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float[np.ndarray, "2 3"]]:
    """Averaged down to about the window's resolution: bilinear reading alone would alias."""
    step = float(np.linalg.norm(matrix[:, :2], axis=0).min())
    if step < 1.25:
        return image, matrix
    old = np.array([image.shape[1], image.shape[0]])
    new = np.maximum(1, np.rint(old / step)).astype(int)
    ratio = new / old
    matrix = matrix * ratio[:, None]
    matrix[:, 2] += 0.5 * ratio - 0.5
    return cv2.resize(image, (int(new[0]), int(new[1])), interpolation=cv2.INTER_AREA), matrix


# Geometry by chance


@dataclass(frozen=True)
class RandomWindow:
    """A window at a random place, scale and turn, read in one resampling.

    The window lies within the still where it fits; where it does not, the still lies within the
    window. Windows whose map neither scales nor turns by an odd angle are exact copies.

    Attributes:
        size_hw: of the window, pixels.
        scale: smallest and largest magnification, drawn log-uniformly; 2 shows things twice as
            large.
        rotate_degrees: turns by up to this to either side.
        shear_degrees: leans by up to this to either side.
        flip: mirrors half of the windows left to right.
        rot90: turns by 0 to 3 quarters; with `flip` all 8 symmetries of a square.
        near_instance: share of windows that are made to hold a pixel of an instance, every
            instance of the still with the same chance, whatever its size; 0 looks anywhere.
        reflect: as in `warp`.
    """

    size_hw: tuple[int, int]
    _: KW_ONLY
    scale: tuple[float, float] = (1.0, 1.0)
    rotate_degrees: float = 0.0
    shear_degrees: float = 0.0
    flip: bool = False
    rot90: bool = False
    near_instance: float = 0.0
    reflect: bool = True

    def __post_init__(self) -> None:
        _check_size(self.size_hw)
        check_range("scale", self.scale, low=1e-3)
        check_share("near_instance", self.near_instance)
        if not 0 <= self.shear_degrees < 90:
            raise PixelkinError(
                f"shear_degrees is {self.shear_degrees}, expected 0 or more and below 90; "
                "give a smaller angle"
            )

    def __call__(self, sample: Sample) -> Sample:
        """One window of the still."""
        linear = self._draw_linear()
        middle = np.array([self.size_hw[1] - 1, self.size_hw[0] - 1]) / 2
        centre = self._draw_centre(sample.labels, linear, middle)
        # Whole pixels: then a window that neither scales nor turns is a copy, not an average.
        offset = np.rint(centre - linear @ middle)
        return warp(
            sample,
            np.concatenate([linear, offset[:, None]], axis=1),
            size_hw=self.size_hw,
            reflect=self.reflect,
        )

    def _draw_linear(self) -> Float[np.ndarray, "2 2"]:
        """From pixels of the window to pixels of the still, without the shift."""
        zoom = np.exp(np.random.uniform(*np.log(self.scale)))
        turn = np.radians(np.random.uniform(-1, 1) * self.rotate_degrees)
        lean = np.tan(np.radians(np.random.uniform(-1, 1) * self.shear_degrees))
        mirror = -1.0 if np.random.random() < 0.5 and self.flip else 1.0
        quarter = np.linalg.matrix_power(
            np.array([[0.0, -1.0], [1.0, 0.0]]), np.random.randint(4) if self.rot90 else 0
        )
        cos, sin = np.cos(turn), np.sin(turn)
        turned = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, lean], [0, 1]])
        return np.asarray(turned @ quarter @ np.diag([mirror, 1.0]) / zoom)

    def _draw_centre(
        self,
        labels: Int64[np.ndarray, "h w"],
        linear: Float[np.ndarray, "2 2"],
        middle: Float[np.ndarray, "2"],
    ) -> Float[np.ndarray, "2"]:
        """x, y in the still of the window's middle."""
        last = np.array([labels.shape[1] - 1, labels.shape[0] - 1])
        reach = np.abs(linear) @ middle
        low, high = np.minimum(reach, last - reach), np.maximum(reach, last - reach)
        anywhere: np.ndarray = np.random.uniform(low, high)
        if np.random.random() >= self.near_instance:
            return anywhere
        pixel = _instance_pixel(labels)
        if pixel is None:
            return anywhere
        aside = np.random.uniform(-0.8, 0.8, 2) * middle
        centre = np.clip(pixel + linear @ aside, low, high)
        seen = np.abs(np.linalg.solve(linear, pixel - centre)) <= middle - 0.5
        # Pushed back into the still, a turned window may lose the pixel: then it sticks out.
        return centre if seen.all() else pixel


def _instance_pixel(labels: Int64[np.ndarray, "h w"]) -> Float[np.ndarray, "2"] | None:
    """x, y of a random pixel of a random instance; None where there is no instance."""
    # Listing the ids of a large map costs more than a few blind draws, and most ids are in use.
    largest = largest_label(labels)
    for instance in np.random.randint(1, largest + 1, size=8) if largest else ():
        found = np.flatnonzero(labels == instance) if instance != IGNORE else np.empty(0, int)
        if len(found):
            break
    else:
        found = np.flatnonzero((labels != 0) & (labels != IGNORE))
        if not len(found):
            return None
    row, column = divmod(int(found[np.random.randint(len(found))]), labels.shape[1])
    return np.array([column, row], np.float64)


# Instances of a label map


def boxes_xyxy(
    labels: Integer[np.ndarray, "h w"],
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, "n 4"]]:
    """Instance ids that have pixels, ascending, and their boxes: left, top, right, bottom.

    Edges of pixels: right and bottom are exclusive, so that a box of one pixel is 1×1. Background
    and `IGNORE` have none.
    """
    inside = np.flatnonzero((labels != 0) & (labels != IGNORE))
    ids, which = np.unique(labels.ravel()[inside], return_inverse=True)
    rows, columns = np.divmod(inside, labels.shape[1])
    boxes = np.empty((len(ids), 4), np.int64)
    for side, values in enumerate((columns, rows)):
        boxes[:, side] = labels.size
        boxes[:, side + 2] = 0
        np.minimum.at(boxes[:, side], which, values)
        np.maximum.at(boxes[:, side + 2], which, values + 1)
    return ids.astype(np.int64), boxes


def largest_label(labels: Integer[np.ndarray, "h w"]) -> int:
    """Largest instance id that has a pixel, 0 where there is none; `IGNORE` is no id."""
    largest = int(labels.max(initial=0))
    return int(labels[labels != IGNORE].max(initial=0)) if largest == IGNORE else largest


def ignore_small(sample: Sample, *, min_pixels: int) -> Sample:
    """Instances of fewer than `min_pixels` pixels become `IGNORE`: scraps at a window's edge."""
    labels = sample.labels.copy()
    inside = np.flatnonzero((labels != 0) & (labels != IGNORE))
    _, which, counts = np.unique(labels.flat[inside], return_inverse=True, return_counts=True)
    labels.flat[inside[counts[which] < min_pixels]] = IGNORE
    return replace(sample, labels=labels)


def _moved(
    sample: Sample,
    image: UInt8[np.ndarray, "h2 w2 3"],
    move: Callable[[Int64[np.ndarray, "h w"]], Integer[np.ndarray, "h2 w2"]],
) -> Sample:
    """The sample with another image, and with all that it has per pixel moved as `move` does."""

    def whole(labels: Int64[np.ndarray, "h w"]) -> Int64[np.ndarray, "h2 w2"]:
        return np.ascontiguousarray(move(labels), dtype=np.int64)

    # Views with negative strides are no food for torch or OpenCV.
    return replace(
        sample,
        image=np.ascontiguousarray(image),
        labels=whole(sample.labels),
        objects=None if sample.objects is None else whole(sample.objects),
    )


def _narrow(labels: Int64[np.ndarray, "h w"]) -> Integer[np.ndarray, "h w"]:
    """OpenCV has no int64."""
    if labels.size and not 0 <= labels.min() <= labels.max() < 2**31:
        raise PixelkinError(
            f"labels run from {labels.min()} to {labels.max()}, expected 0 to {2**31 - 1}; "
            "renumber the instances from 1"
        )
    return labels.astype(np.int32)


def _check_size(size_hw: tuple[int, int]) -> None:
    if min(size_hw) < 1:
        raise PixelkinError(
            f"size_hw is {size_hw}, expected height and width of 1 or more; give larger numbers"
        )
