"""The mask carried from frame to frame by dense optical flow.

The flow is OpenCV's DIS: Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse
Search", ECCV 2016. Nothing is learned, and nothing corrects an error once made.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float

from pixelkin.baselines.contract import Frame, LabelMap, one_hot, split_first, to_label_map
from pixelkin.errors import PixelkinError

Preset = Literal["ultrafast", "fast", "medium"]

_PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


def carry_by_flow(
    frames: Iterable[Frame], first_labels: LabelMap, *, preset: Preset = "medium"
) -> Iterator[LabelMap]:
    """Carry every object's mask by backward flow.

    The flow from frame t to t-1 says where each pixel comes from; there the soft masks of t-1
    (background included) are read bilinearly, beyond the border from its nearest pixel. They stay
    soft from frame to frame, and the highest one is the label. A method as `pixelkin.baselines`
    describes it.

    Args:
        frames: of the clip.
        first_labels: of the first frame.
        preset: of OpenCV's DIS, from fast to good; "medium" is its best.
    """
    if preset not in _PRESETS:
        raise PixelkinError(f"preset {preset!r} is unknown; choose {', '.join(_PRESETS)}")
    first, rest, ids = split_first(frames, first_labels)
    yield first_labels
    dis = cv2.DISOpticalFlow.create(_PRESETS[preset])
    masks = one_hot(first_labels, ids)
    before = cv2.cvtColor(first, cv2.COLOR_RGB2GRAY)
    for frame in rest:
        now = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        flow = np.zeros((*now.shape, 2), np.float32)
        masks = warp(masks, dis.calc(now, before, flow))
        before = now
        yield to_label_map(masks, ids)


def warp(
    masks: Float[np.ndarray, "n h w"], flow_xy: Float[np.ndarray, "h w 2"]
) -> Float[np.ndarray, "n h w"]:
    """Each mask read at (x, y) + flow, in pixels; float32."""
    height, width = flow_xy.shape[:2]
    from_x = flow_xy[..., 0] + np.arange(width, dtype=np.float32)
    from_y = flow_xy[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.stack(
        [
            cv2.remap(m, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for m in masks
        ]
    )
