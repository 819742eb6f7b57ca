"""Class maps in the encodings that benchmarks take: Cityscapes, KITTI, and BDD100K's lane marks."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer
from PIL import Image

from pixelkin.data.class_maps.bdd100k import LANE_CLASSES, LaneTarget, lane_bytes
from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES, write_label_ids
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path

__all__ = [
    "cityscapes_order",
    "lane_order",
    "write_label_ids",
    "write_lane_bytes",
]


def cityscapes_order(class_names: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """The train id of each class of a model; `write_label_ids` takes those.

    Raises:
        PixelkinError: the classes are not the 19 of Cityscapes, which KITTI and BDD100K share.
    """
    return _order(class_names, CITYSCAPES_CLASSES, "Cityscapes, KITTI and BDD100K")


def lane_order(class_names: Sequence[str], target: LaneTarget) -> Int64[np.ndarray, " n"]:
    """The class of BDD100K's lane marks, for one of their targets, of each class of a model.

    Raises:
        PixelkinError: the classes are not those of the target.
    """
    return _order(class_names, LANE_CLASSES[target], f"the {target} of BDD100K's lane marks")


def write_lane_bytes(
    path: str | os.PathLike[str],
    category: Integer[np.ndarray, "h w"],
    style: Integer[np.ndarray, "h w"] | None = None,
    direction: Integer[np.ndarray, "h w"] | None = None,
) -> None:
    """Write classes of lane marks as a grey PNG of BDD100K's lane bytes, atomically.

    Args:
        path: `.png`.
        category: of 9 classes, the last background, as `LANE_CLASSES` has them.
        style: of 3; None is solid everywhere.
        direction: of 3; None is parallel everywhere.
    """
    nothing = np.zeros(category.shape, np.int64)
    packed = lane_bytes(
        category.astype(np.int64),
        nothing if style is None else style.astype(np.int64),
        nothing if direction is None else direction.astype(np.int64),
    )
    with atomic_path(path) as temporary:
        Image.fromarray(packed).save(temporary, format="PNG")


def _order(
    class_names: Sequence[str], expected: Sequence[str], whose: str
) -> Int64[np.ndarray, " n"]:
    strange = next((name for name in class_names if name not in expected), None)
    missing = next((name for name in expected if name not in class_names), None)
    if strange is not None or missing is not None or len(class_names) != len(expected):
        what = f"knows no {missing!r}" if strange is None else f"has a class {strange!r}"
        raise PixelkinError(
            f"the model {what}: expected the {len(expected)} classes of {whose} "
            f"({', '.join(expected[:3])} …); choose a model that was trained on them, or another "
            "format"
        )
    return np.array([expected.index(name) for name in class_names], np.int64)
