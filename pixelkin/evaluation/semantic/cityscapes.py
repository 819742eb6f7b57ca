"""IoU and iIoU of classes and categories of Cityscapes' pixel-level task.

Source: Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016,
section 4.1, and the evaluation that its authors published.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Self

import numpy as np
from jaxtyping import Float

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.semantic.confusion import Counts
from pixelkin.evaluation.semantic.measure import MapPair
from pixelkin.evaluation.semantic.overlap import CountedMeasure
from pixelkin.evaluation.semantic.scores import iou_by_class, mean

AVERAGE_PX: Mapping[str, float] = MappingProxyType(
    {
        "person": 3462.4756337644,
        "rider": 3930.4788056518,
        "car": 12794.0202738185,
        "truck": 27855.1264367816,
        "bus": 35732.1511111111,
        "train": 67583.7075812274,
        "motorcycle": 6298.7200839748,
        "bicycle": 4672.3249222261,
    }
)
"""Average pixels of one object of each class, as the published evaluation has them."""

CATEGORIES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("road", "sidewalk"), "flat"),
        **dict.fromkeys(("building", "wall", "fence"), "construction"),
        **dict.fromkeys(("pole", "traffic light", "traffic sign"), "object"),
        **dict.fromkeys(("vegetation", "terrain"), "nature"),
        "sky": "sky",
        **dict.fromkeys(("person", "rider"), "human"),
        **dict.fromkeys(("car", "truck", "bus", "train", "motorcycle", "bicycle"), "vehicle"),
    }
)
"""Category of each class."""


class CityscapesIoU(CountedMeasure):
    """IoU and iIoU of classes, category_IoU and category_iIoU of categories; and by name.

    iIoU weighs the pixels of each true object by the average size of its class over its own size,
    so that small ones count as much; false positives weigh 1, since they belong to no object. It
    exists for classes that `average_px` names, and for categories of which it names all classes.
    Without maps of instances there is no iIoU. Crowds have id 0 in them and count in IoU only: of
    `…_instanceIds.png` give values from 1000 on, and 0 for all below.

    Means are over classes and categories that are not NaN.

    Args:
        class_names: in the order of their indices.
        average_px: class → pixels of its average object.
        categories: class → category; classes that are not in it have none.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        average_px: Mapping[str, float] = AVERAGE_PX,
        categories: Mapping[str, str] = CATEGORIES,
    ) -> None:
        super().__init__(class_names)
        classes = len(self.class_names)
        self._average_px = np.array([average_px.get(n, math.nan) for n in self.class_names])
        members = [categories.get(name, "") for name in self.class_names]
        self.category_names = tuple(dict.fromkeys(name for name in members if name))
        self._category_of = np.array(
            [self.category_names.index(name) if name else -1 for name in members], np.int64
        )
        # Of each class: its objects' shares that were given their class, and their category.
        self._right, self._near, self._objects = np.zeros((3, classes))
        self._with_instances: bool | None = None

    def add(self, pair: MapPair) -> None:
        """Count one still in, of which other measures may know too.

        Raises:
            PixelkinError: it has a map of instances and one before had none, or the reverse.
        """
        self._agree(pair.instances is not None)
        super().add(pair)
        if pair.instances is None:
            return
        single = pair.known & (pair.instances != 0)
        truth, given = pair.truth[single].astype(np.int64), pair.predicted[single].astype(np.int64)
        ids, objects = np.unique(pair.instances[single], return_inverse=True)
        # An id that lies in two classes is an object of each.
        keys, objects = np.unique(truth * max(len(ids), 1) + objects, return_inverse=True)
        classes = keys // max(len(ids), 1)
        size_px = np.bincount(objects, minlength=len(keys))
        same = truth == given
        category = self._category_of[truth]
        near = same | ((category >= 0) & (category == self._category_of[given]))
        for total, hit in ((self._right, same), (self._near, near)):
            hits = np.bincount(objects, weights=hit, minlength=len(keys))
            np.add.at(total, classes, hits / size_px)
        np.add.at(self._objects, classes, 1)

    def _agree(self, with_instances: bool | None) -> None:
        if with_instances is None:
            return
        if self._with_instances not in (None, with_instances):
            raise PixelkinError(
                "some stills have a map of instances and some have none, so that iIoU would be "
                "wrong; give one with every still, or with none"
            )
        self._with_instances = with_instances

    def _merge(self, other: Self) -> None:
        self._agree(other._with_instances)
        super()._merge(other)
        self._right += other._right
        self._near += other._near
        self._objects += other._objects

    def _values(self, counts: Counts) -> dict[str, float]:
        by_class = {"IoU": iou_by_class(counts), "iIoU": self._instance_iou(counts)}
        by_category = dict(
            zip(("category_IoU", "category_iIoU"), self._category_ious(counts), strict=True)
        )
        if not self._with_instances:
            del by_class["iIoU"], by_category["category_iIoU"]
        if not self.category_names:
            by_category = {}
        values = {name: mean(row) for name, row in (by_class | by_category).items()}
        for name, row in by_class.items():
            values |= self.by_class(name, row)
        for name, row in by_category.items():
            pairs = zip(self.category_names, row, strict=True)
            values |= {f"{name}/{category}": float(value) for category, value in pairs}
        return values

    def _instance_iou(self, counts: Counts) -> Float[np.ndarray, " classes"]:
        wrong = counts.sum(axis=0) - np.diagonal(counts)
        return _ratio(self._right * self._average_px, self._objects * self._average_px + wrong)

    def _category_ious(
        self, counts: Counts
    ) -> tuple[Float[np.ndarray, " categories"], Float[np.ndarray, " categories"]]:
        plain, weighted = np.full((2, len(self.category_names)), math.nan)
        for index in range(len(self.category_names)):
            inside = self._category_of == index
            right = counts[np.ix_(inside, inside)].sum()
            wrong = counts[np.ix_(~inside, inside)].sum()
            plain[index] = _ratio(right, counts[inside].sum() + wrong)
            # NaN where a class of the category has no average size.
            weight = self._average_px[inside]
            hits, objects = self._near[inside] @ weight, self._objects[inside] @ weight
            weighted[index] = _ratio(hits, objects + wrong)
        return plain, weighted


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    values = np.full(np.shape(part), math.nan)
    np.divide(part, whole, out=values, where=np.asarray(whole) > 0)
    return values
