"""Simulated user input on a still: what training shows the network in place of a person."""

import cv2
import numpy as np
from jaxtyping import UInt8

from pixelkin.structures import IGNORE

Array = np.ndarray


def simulate_prompt(
    labels: UInt8[Array, "h w"], rng: np.random.Generator, *, mask_share: float = 0.65
) -> UInt8[Array, "h w"]:
    """What a user might mark to select object 1: its mask, clicks, a scribble or a box.

    Args:
        labels: 1 is the object.
        mask_share: how often the whole mask is given; the rest are clicks, scribbles and boxes,
            6 : 3 : 1.

    Returns:
        1 object, 0 background, `IGNORE` unmarked.
    """
    is_object = labels == 1
    if rng.random() < mask_share or not is_object.any():
        return np.where(labels == IGNORE, IGNORE, is_object).astype(np.uint8)
    prompt = np.full(labels.shape, IGNORE, np.uint8)
    kind = rng.choice(["clicks", "scribble", "box"], p=[0.6, 0.3, 0.1])
    if kind == "box":
        ys, xs = np.nonzero(is_object)
        slack = rng.integers(0, 8, 4)
        prompt[:] = 0
        prompt[
            max(ys.min() - slack[0], 0) : ys.max() + 1 + slack[1],
            max(xs.min() - slack[2], 0) : xs.max() + 1 + slack[3],
        ] = IGNORE
        return prompt
    depth = cv2.distanceTransform(is_object.astype(np.uint8), cv2.DIST_L2, 3)
    inner = np.argwhere(depth >= 0.5 * depth.max() * rng.random())
    outer = np.argwhere((labels != 1) & (labels != IGNORE))
    if len(outer):
        for y, x in _pick(outer, rng, int(rng.integers(0, 4))):
            cv2.circle(prompt, (int(x), int(y)), 3, 0, -1)
    if kind == "clicks":
        for y, x in _pick(inner, rng, int(rng.integers(1, 4))):
            cv2.circle(prompt, (int(x), int(y)), 3, 1, -1)
    else:
        path = _pick(inner, rng, int(rng.integers(2, 6)))[:, ::-1].astype(np.int32)
        stroke = np.zeros(labels.shape, np.uint8)
        cv2.polylines(stroke, [path], False, 1, thickness=5)
        # A person's stroke stays on the object; the straight line between two points may not.
        prompt[(stroke > 0) & is_object] = 1
    return prompt


def _pick(points: Array, rng: np.random.Generator, count: int) -> Array:
    return points[rng.integers(0, len(points), count)]
