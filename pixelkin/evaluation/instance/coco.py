"""Average precision and recall of COCO, for masks.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and the evaluation that
its authors published (pycocotools), whose numbers these equal; faster-coco-eval computes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from jaxtyping import Float

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance.measure import Measure
from pixelkin.evaluation.instance.stills import StillPair, areas_px

_AREAS = {"s": 1, "m": 2, "l": 3}


class CocoAP(Measure):
    """AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl; AP and AP50 by class.

    AP is the mean over IoU .50 … .95 (reached or passed) of precision at 101 recalls, then over
    the classes that have truth. s, m, l are true objects under 32², up to 96² and above, by the
    pixels of their mask (a COCO file may state another area; the official scores use that). NaN
    stands where the official tool prints −1: no true object of that kind.

    - Only the `max_dets` best objects of each class and still count: 100 in COCO; raise it where
      stills hold more. Recall at that limit has it in its name, as AR400.
    - Of equal scores the object that was given first goes first, in the still and in the whole.
    - Crowds of the class absorb any number of found objects, at the share of the object inside.
    - `ignore` is not looked at: COCO knows no unlabelled pixels.
    - A still without truth counts by its false positives. An empty mask matches nothing.
    """

    def __init__(self, class_names: Sequence[str], *, max_dets: int = 100) -> None:
        super().__init__(class_names)
        if max_dets < 1:
            raise PixelkinError(f"max_dets is {max_dets}, expected 1 or more; COCO's is 100")
        self.max_dets = [n for n in (1, 10) if n < max_dets] + [max_dets]
        self._images: list[dict[str, int]] = []
        self._truth: list[dict[str, object]] = []
        self._found: list[dict[str, object]] = []

    def _add(self, pair: StillPair) -> None:
        height, width = pair.size_hw
        image = len(self._images) + 1
        self._images.append({"id": image, "height": height, "width": width})
        truth, found = pair.truth.instances, pair.found
        crowd: list[dict[str, float]] = [{"iscrowd": int(one.crowd)} for one in truth]
        score: list[dict[str, float]] = [
            {"iscrowd": 0, "score": float(score)} for score in found.scores
        ]
        for rows, rles, categories, more in (
            (self._truth, [one.rle for one in truth], [one.category for one in truth], crowd),
            (self._found, found.rles, found.categories, score),
        ):
            areas = areas_px(rles, pair.size_hw).tolist()
            for rle, category, area, rest in zip(rles, categories, areas, more, strict=True):
                rows.append(
                    {
                        # 0 means "unmatched" to the evaluator, so that ids begin at 1.
                        "id": len(rows) + 1,
                        "image_id": image,
                        "category_id": category + 1,
                        "segmentation": {"size": [height, width], "counts": rle},
                        "area": area,
                        **rest,
                    }
                )

    def compute(self) -> dict[str, float]:
        """Values of all stills so far, in [0, 1]."""
        precision, recall = self._evaluate()
        values = {
            "AP": _known_mean(precision[:, :, :, 0, -1]),
            "AP50": _known_mean(precision[0, :, :, 0, -1]),
            "AP75": _known_mean(precision[5, :, :, 0, -1]),
        }
        values |= {f"AP{k}": _known_mean(precision[:, :, :, a, -1]) for k, a in _AREAS.items()}
        for index, count in enumerate(self.max_dets):
            values[f"AR{count}"] = _known_mean(recall[:, :, 0, index])
        values |= {f"AR{k}": _known_mean(recall[:, :, a, -1]) for k, a in _AREAS.items()}
        for index, name in enumerate(self.class_names):
            values[f"AP/{name}"] = _known_mean(precision[:, :, index, 0, -1])
            values[f"AP50/{name}"] = _known_mean(precision[0, :, index, 0, -1])
        return values

    def _evaluate(
        self,
    ) -> tuple[
        Float[np.ndarray, "iou recall class area dets"], Float[np.ndarray, "iou class area dets"]
    ]:
        classes = len(self.class_names)
        if not self._images:
            return (
                np.full((10, 101, classes, 4, len(self.max_dets)), -1.0),
                np.full((10, classes, 4, len(self.max_dets)), -1.0),
            )
        # The evaluator writes into the rows it is given; ours stay as they are.
        evaluator = COCOeval_faster(self._coco(self._truth), self._coco(self._found), "segm")
        evaluator.params.maxDets = self.max_dets
        evaluator.evaluate()
        evaluator.accumulate()
        return np.asarray(evaluator.eval["precision"]), np.asarray(evaluator.eval["recall"])

    def _coco(self, rows: list[dict[str, object]]) -> COCO:
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(self.class_names)]
        return COCO(
            {
                "images": [dict(image) for image in self._images],
                "categories": categories,
                "annotations": [dict(row) for row in rows],
            }
        )


def _known_mean(values: np.ndarray) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else math.nan
