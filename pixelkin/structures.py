"""The data that flows through pixelkin: Sample → Batch → Fields → Segments."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from pixelkin.errors import PixelkinError

IGNORE = 255
"""Label of pixels that neither train nor count."""

MAX_OBJECT_ID = 254
"""Largest object id: 0 is background, 255 is `IGNORE`, and indexed PNG has 8 bits."""


def check_object_id(object_id: int) -> int:
    """Return `object_id`, or raise `PixelkinError` where it is not in 1 … 254."""
    if not 1 <= object_id <= MAX_OBJECT_ID:
        raise PixelkinError(
            f"object id {object_id} is out of range: expected 1 to {MAX_OBJECT_ID} "
            f"(0 is background, {IGNORE} marks ignored pixels); choose a smaller id"
        )
    return object_id


@dataclass(frozen=True)
class Sample:
    """One annotated still.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: int64 (H, W): 0 background, 1 … n instances, `IGNORE` unknown.
        name: unique within its data set; used for splits and messages.
    """

    image: UInt8[np.ndarray, "h w 3"]
    labels: Int64[np.ndarray, "h w"]
    name: str = ""

    def __post_init__(self) -> None:
        if self.image.shape[:2] != self.labels.shape:
            raise PixelkinError(
                f"{self.name or 'sample'}: image is {self.image.shape[1]}×{self.image.shape[0]}, "
                f"labels are {self.labels.shape[1]}×{self.labels.shape[0]}; make them the same size"
            )


@dataclass(frozen=True)
class ClipBatch:
    """N clips of T frames.

    Attributes:
        images: float32 (N, T, 3, H, W) in [0, 1], RGB.
        labels: int64 (N, T, H, W): 0 background, object ids, `IGNORE`.
        prompts: uint8 (N, H, W), what is given of object 1 in the first frame: 1 object,
            0 background, `IGNORE` unmarked.
    """

    images: Float[Tensor, "n t 3 h w"]
    labels: Int64[Tensor, "n t h w"]
    prompts: UInt8[Tensor, "n h w"]

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same batch on `device`."""
        return ClipBatch(self.images.to(device), self.labels.to(device), self.prompts.to(device))


@dataclass(frozen=True)
class Fields:
    """Dense outputs of an embedding network for N frames.

    Attributes:
        embeddings: float (N, D, h, w), unit norm along D, at `stride`.
        details: finer features for a mask decoder, coarse to fine, each float (N, C_i, h_i, w_i).
            Empty for networks that have none.
        stride: pixels of the (padded) image per cell of `embeddings`.
    """

    embeddings: Float[Tensor, "n d h w"]
    details: tuple[Float[Tensor, "n _c _h _w"], ...] = ()
    stride: int = 8


@dataclass(frozen=True)
class Segments:
    """Objects of one frame, run-length encoded.

    Attributes:
        size_hw: height and width of the frame in pixels.
        rles: object id → COCO compressed run-length counts (column-major), as bytes.
        scores: object id → confidence in [0, 1]; absent where a method gives none.
    """

    size_hw: tuple[int, int]
    rles: dict[int, bytes]
    scores: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for object_id in self.rles:
            check_object_id(object_id)

    @property
    def object_ids(self) -> list[int]:
        """Ids in ascending order."""
        return sorted(self.rles)
