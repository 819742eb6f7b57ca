"""The data that flows through pixelkin: Sample → Batch → Fields → result.

The result is `Segments` for a frame of a clip, `Instances` for a still.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
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


def nth_instance_id(index: int) -> int:
    """Label of the instance at `index` (from 0): 1 … 254, then 256 …; 255 is never given."""
    return index + 1 if index + 1 < IGNORE else index + 2


@dataclass(frozen=True)
class Sample:
    """One annotated still.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        labels: int64 (H, W). Of instances: 0 background, 1 … n, `IGNORE` unknown. Of a class map:
            indices into the data set's `class_names`, `IGNORE` unknown.
        name: unique within its data set; used for splits and messages.
        categories: of instances in the order of their labels, each an index into the data
            set's `class_names`; empty where a data set has no classes, and for class maps.
        objects: of a class map whose data set tells objects apart, int64 (H, W): 0 where there is
            none, 1 … n, `IGNORE` unknown; else None.
    """

    image: UInt8[np.ndarray, "h w 3"]
    labels: Int64[np.ndarray, "h w"]
    name: str = ""
    categories: tuple[int, ...] = ()
    objects: Int64[np.ndarray, "h w"] | None = None

    def __post_init__(self) -> None:
        if self.objects is not None and self.objects.shape != self.labels.shape:
            raise PixelkinError(
                f"{self.name or 'sample'}: labels have shape {self.labels.shape} and objects "
                f"{self.objects.shape}; make them the same size"
            )
        if self.image.shape[:2] != self.labels.shape:
            raise PixelkinError(
                f"{self.name or 'sample'}: image is {self.image.shape[1]}×{self.image.shape[0]}, "
                f"labels are {self.labels.shape[1]}×{self.labels.shape[0]}; make them the same size"
            )


@dataclass(frozen=True)
class Instance:
    """One annotated object of a still.

    Attributes:
        rle: COCO compressed run-length counts (column-major), as bytes.
        category: index into the data set's `class_names`.
        crowd: a region of many objects that nobody told apart: neither trains nor counts.
        key: what the annotation file calls it, for messages.
    """

    rle: bytes
    category: int = 0
    crowd: bool = False
    key: str = ""


@dataclass(frozen=True)
class InstanceSample:
    """One still with its annotated objects, which may overlap.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        instances: in the order of the annotation; their masks have the image's size.
        name: unique within its data set; used for splits and messages.
        ignore: COCO counts of pixels that belong to nobody knows what, such as VOC's outlines;
            None where there are none.
    """

    image: UInt8[np.ndarray, "h w 3"]
    instances: tuple[Instance, ...]
    name: str = ""
    ignore: bytes | None = None

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class InstanceBatch:
    """N stills of one size.

    Attributes:
        images: float32 (N, 3, H, W) in [0, 1], RGB.
        labels: int64 (N, H, W): 0 background, instance labels, `IGNORE`.
        categories: int64 (N, M): category of the instance with the n-th label
            (`nth_instance_id`), -1 beyond the last.
    """

    images: Float[Tensor, "n 3 h w"]
    labels: Int64[Tensor, "n h w"]
    categories: Int64[Tensor, "n m"]

    def to(self, device: torch.device | str) -> InstanceBatch:
        """The same batch on `device`."""
        return InstanceBatch(
            self.images.to(device), self.labels.to(device), self.categories.to(device)
        )


@dataclass(frozen=True)
class Batch:
    """N stills of one size with a class per pixel.

    Attributes:
        images: float32 (N, 3, H, W) in [0, 1], RGB.
        labels: int64 (N, H, W): indices into `class_names`, or `IGNORE`.
        weights: float32 (N, H, W), what each pixel's loss is multiplied by; None for 1 everywhere.
    """

    images: Float[Tensor, "n 3 h w"]
    labels: Int64[Tensor, "n h w"]
    weights: Float[Tensor, "n h w"] | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        weights = None if self.weights is None else self.weights.to(device)
        return Batch(self.images.to(device), self.labels.to(device), weights)


@dataclass(frozen=True)
class TagBatch:
    """N stills of one size with the classes that each shows somewhere.

    Attributes:
        images: float32 (N, 3, H, W) in [0, 1], RGB.
        tags: bool (N, C).
    """

    images: Float[Tensor, "n 3 h w"]
    tags: Bool[Tensor, "n c"]

    def to(self, device: torch.device | str) -> TagBatch:
        """The same batch on `device`."""
        return TagBatch(self.images.to(device), self.tags.to(device))


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
class InstanceFields:
    """Dense outputs of an instance network for N images.

    Attributes:
        embeddings: float (N, D, h, w), NOT normalised: distances are Euclidean.
        logits: float (N, L, h, w), of the classes; what L holds is the network's to say.
        stride: pixels of the (padded) image per cell.
    """

    embeddings: Float[Tensor, "n d h w"]
    logits: Float[Tensor, "n l h w"]
    stride: int


@dataclass(frozen=True)
class Instances:
    """Objects found in one still, best first; there may be thousands, and they may overlap.

    Attributes:
        size_hw: height and width of the still in pixels.
        rles: COCO compressed run-length counts (column-major) of each object.
        categories: of each object, an index into the model's `class_names`.
        scores: confidence of each object in [0, 1].
    """

    size_hw: tuple[int, int]
    rles: tuple[bytes, ...] = ()
    categories: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.rles) == len(self.categories) == len(self.scores):
            raise PixelkinError(
                f"{len(self.rles)} masks, {len(self.categories)} categories and "
                f"{len(self.scores)} scores: expected one of each per object; give all three"
            )

    def __len__(self) -> int:
        return len(self.rles)


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
