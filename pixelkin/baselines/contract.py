"""What every method has in common: its type, its checks, its way to label maps."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Frame = UInt8[np.ndarray, "h w 3"]
LabelMap = UInt8[np.ndarray, "h w"]
Method = Callable[[Iterable[Frame], LabelMap], Iterator[LabelMap]]
"""See `pixelkin.baselines`."""


def split_first(
    frames: Iterable[Frame], first_labels: LabelMap
) -> tuple[Frame, Iterator[Frame], list[int]]:
    """The first frame, an iterator over the rest that checks their size, and the object ids.

    Raises:
        PixelkinError: no frame, the first mask is of another size or type or holds no object;
            and on iterating, a frame of another size.
    """
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise PixelkinError("the clip has no frames, expected at least one; choose another clip")
    if first_labels.dtype != np.uint8 or first_labels.shape != first.shape[:2]:
        raise PixelkinError(
            f"first mask is {first_labels.dtype} {first_labels.shape}, expected uint8 "
            f"{first.shape[:2]} as the frame; give a label map of the frame's size"
        )
    ids = [int(i) for i in np.unique(first_labels) if i not in (0, IGNORE)]
    if not ids:
        raise PixelkinError(
            "first mask holds no object, expected ids 1 to 254; mark what is to be followed"
        )
    return first, _same_size(rest, first.shape), ids


def _same_size(frames: Iterator[Frame], shape: tuple[int, ...]) -> Iterator[Frame]:
    for index, frame in enumerate(frames, start=1):
        if frame.shape != shape:
            raise PixelkinError(
                f"frame {index} has shape {frame.shape}, expected {shape} as the first; "
                "make all frames one size"
            )
        yield frame


def one_hot(first_labels: LabelMap, object_ids: list[int]) -> Float[np.ndarray, "objects_1 h w"]:
    """Float32 masks of background and each object; 0 everywhere in pixels that are `IGNORE`."""
    return np.stack([first_labels == i for i in (0, *object_ids)]).astype(np.float32)


def to_label_map(scores: Float[np.ndarray, "objects_1 h w"], object_ids: list[int]) -> LabelMap:
    """The id of the highest score in each pixel; row 0 is the background, which wins a tie."""
    labels: LabelMap = np.array([0, *object_ids], np.uint8)[scores.argmax(axis=0)]
    return labels


def to_tensor(frame: Frame, device: torch.device) -> Float[Tensor, "1 3 h w"]:
    """A frame as networks take it: RGB in [0, 1]."""
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(device)
    return pixels.permute(2, 0, 1)[None].float().div(255)


def device_of(module: nn.Module) -> torch.device:
    """The device of a network's weights."""
    return next(module.parameters()).device
