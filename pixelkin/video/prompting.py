"""What the references say about ONE object in one frame, as the networks were trained to see it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import UInt8

from pixelkin.grouping.references import (
    Box,
    Click,
    Mask,
    Reference,
    Scribble,
    rasterise,
    reference_object_ids,
)
from pixelkin.structures import IGNORE

CLICK_RADIUS_PX = 3
"""A click stands for the few pixels about it; training draws its clicks alike."""

BOX_STRENGTH = 50
"""A box says as much of where an object is as this many marked pixels: more than clicks, less than
a scribble from end to end."""


@dataclass(frozen=True)
class Prompt:
    """What is marked of one object in one frame.

    Attributes:
        marks: uint8 (h, w), as the network sees it: 1 object, 0 not the object, `IGNORE` unmarked.
        exact: uint8 (H, W), full size, without the discs about clicks and the cores of boxes: what
            the answer must honour.
        boxed: whether a box of this object is among them.
    """

    marks: UInt8[np.ndarray, "h w"]
    exact: UInt8[np.ndarray, "H W"]
    boxed: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether every pixel is marked: then there is nothing to predict."""
        return not bool((self.exact == IGNORE).any())

    @property
    def strength(self) -> int:
        """How much of the object is marked; following begins in the frame with most. 0: nothing."""
        return int((self.exact == 1).sum()) + BOX_STRENGTH * int(self.boxed)


def speaks_of(reference: Reference, object_id: int) -> bool:
    """Whether a reference is about an object: names it, or speaks of background alone."""
    if isinstance(reference, Mask) and not reference.object_ids:
        return bool((reference.labels == 0).any())
    if isinstance(reference, Click | Scribble) and reference.object_id == 0:
        return True
    return object_id in reference_object_ids(reference)


def prompt_for(
    references: Sequence[Reference],
    object_id: int,
    size_hw: tuple[int, int],
    work_hw: tuple[int, int] | None = None,
) -> Prompt:
    """The prompt for one object from all references of one frame.

    Marks of other objects are "not this object". A mask's background is background for the objects
    in that mask alone, so that an object added beside it later is not forbidden there; a mask
    without any object is background for all. The outside of a box is background for its object; its
    inside is left open, but for a small core that is marked as a guess. Strokes lie above
    areas, later above earlier.

    Args:
        references: all of one frame.
        object_id: of the object that is asked about.
        size_hw: of the frame.
        work_hw: size at which the network sees the frame; None is the same.
    """
    areas, strokes, discs = _layers(references, object_id, size_hw)
    exact = np.where(strokes != IGNORE, strokes, areas)
    if work_hw is not None and work_hw != size_hw:
        # Drawn anew, not scaled: a click that covers less than a pixel must not vanish.
        smaller = [scaled(reference, size_hw, work_hw) for reference in references]
        areas, strokes, discs = _layers(smaller, object_id, work_hw)
    marks = np.where(strokes != IGNORE, strokes, np.where(discs != IGNORE, discs, areas))
    boxed = any(isinstance(r, Box) and r.object_id == object_id for r in references)
    return Prompt(marks, exact, boxed)


def scaled(reference: Reference, size_hw: tuple[int, int], work_hw: tuple[int, int]) -> Reference:
    """A reference as it would be given in the frame scaled from `size_hw` to `work_hw`."""
    sy, sx = work_hw[0] / size_hw[0], work_hw[1] / size_hw[1]
    if isinstance(reference, Mask):
        size = (work_hw[1], work_hw[0])
        smaller = cv2.resize(reference.labels, size, interpolation=cv2.INTER_NEAREST)
        return Mask.from_labels(reference.frame, np.asarray(smaller, np.uint8))
    if isinstance(reference, Box):
        x0, y0, x1, y1 = reference.box_xyxy
        return replace(reference, box_xyxy=(x0 * sx, y0 * sy, x1 * sx, y1 * sy))
    if isinstance(reference, Click):
        x, y = reference.point_xy
        return replace(reference, point_xy=(x * sx, y * sy))
    points = tuple((x * sx, y * sy) for x, y in reference.points_xy)
    return replace(reference, points_xy=points, width_px=max(2, round(reference.width_px * sx)))


def _layers(
    references: Sequence[Reference], object_id: int, size_hw: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"], UInt8[np.ndarray, "h w"]]:
    """What is said of one object by areas, by strokes, and by click discs and box cores."""
    areas = np.full(size_hw, IGNORE, np.uint8)
    strokes, discs, cores = areas.copy(), areas.copy(), areas.copy()
    for reference in references:
        if isinstance(reference, Mask):
            labels = reference.labels
            # A mask without any object says that all of them are gone from this frame.
            named = object_id in reference.object_ids or not reference.object_ids
            areas[(labels != IGNORE) & ((labels != 0) | named)] = 0
            areas[labels == object_id] = 1
        elif isinstance(reference, Box):
            if reference.object_id == object_id:
                drawn = rasterise(reference, size_hw)
                areas[drawn == 0] = 0
                cores[drawn == object_id] = 1
        elif isinstance(reference, Click) and not reference.positive:
            if reference.object_id in (0, object_id):
                _stamp(reference, 0, size_hw, strokes, discs)
        elif isinstance(reference, Click):
            label = int(reference.object_id == object_id)
            _stamp(reference, label, size_hw, strokes, discs)
        else:
            drawn = rasterise(reference, size_hw) != IGNORE
            strokes[drawn] = discs[drawn] = int(reference.object_id == object_id)
    # A core is a guess, below all that was said; without it, with nothing to be like, the network
    # would find no object at all.
    return areas, strokes, np.where(discs == IGNORE, np.where(areas == IGNORE, cores, discs), discs)


def _stamp(
    click: Click,
    label: int,
    size_hw: tuple[int, int],
    strokes: UInt8[np.ndarray, "h w"],
    discs: UInt8[np.ndarray, "h w"],
) -> None:
    rasterise(click, size_hw)  # raises where the click is outside the frame
    x, y = int(click.point_xy[0]), int(click.point_xy[1])
    strokes[y, x] = label
    cv2.circle(discs, (x, y), CLICK_RADIUS_PX, label, -1)
