"""The truth of tangled scenes through the last step of either family of methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from tangle_scenes import KINDS
from torchvision.ops import box_iou, nms, roi_align

from pixelkin.evaluation.instance import StillPair
from pixelkin.grouping.cells import CellMask, instances_of, suppress
from pixelkin.instances.mask_rcnn import paste_window
from pixelkin.masks import decode_rle, encode_window, paint_instances, rle_box_xywh
from pixelkin.structures import Instances, InstanceSample

MATCH_IOU = 0.5
"""An object is found where a mask overlaps it by so much."""

MASK_CELLS = 28
"""Cells per side of Mask R-CNN's masks."""

ORDERS = 20
"""Perfect scores are equal: suppression is averaged over so many orders of the boxes."""


def oracle(scenes: Sequence[InstanceSample], kinds: Sequence[str]) -> dict[str, Any]:
    """Share of true objects that each rule loses, per kind and over all objects."""
    rules: dict[str, Callable[[InstanceSample], Float[np.ndarray, " n"]]] = {}
    for iou in (0.3, 0.5, 0.7):
        rules[f"true boxes, NMS {iou}"] = lambda s, iou=iou: lost_by_boxes(s, iou)
        rules[f"true boxes, NMS {iou}, luckiest order"] = lambda s, iou=iou: lost_at_least(s, iou)
    for stride in (1, 2):
        rules[f"true masks, our rule, stride {stride}"] = lambda s, t=stride: lost_by_masks(s, t)
    rules[f"true masks in {MASK_CELLS}×{MASK_CELLS} cells of true boxes"] = lost_by_box_cells
    lost = {name: by_kind([rule(scene) for scene in scenes], kinds) for name, rule in rules.items()}
    crowding = by_kind([nearest_box(scene) for scene in scenes], kinds)
    return {"lost": lost, "box_iou_with_the_nearest_other": crowding}


def by_kind(values: Sequence[np.ndarray], kinds: Sequence[str]) -> dict[str, float]:
    """Mean over the objects of each kind, and of all, from one array per scene."""
    result = {}
    for kind in (*KINDS, "all"):
        own = [v for v, k in zip(values, kinds, strict=True) if kind in (k, "all")]
        if own:
            result[kind] = round(float(np.concatenate(own).mean()), 4)
    return result


def true_boxes(scene: InstanceSample) -> torch.Tensor:
    """float (N, 4), x1, y1, x2, y2; the centre of the first pixel is 0, 0."""
    boxes = [rle_box_xywh(one.rle, scene.size_hw) for one in scene.instances]
    x, y, w, h = torch.tensor(boxes, dtype=torch.float32).T
    return torch.stack([x, y, x + w, y + h], 1) - 0.5


def nearest_box(scene: InstanceSample) -> Float[np.ndarray, " n"]:
    """Of each object, the overlap of its box with the other box that it overlaps most."""
    overlaps = box_iou(true_boxes(scene), true_boxes(scene)).fill_diagonal_(0)
    return np.asarray(overlaps.amax(1).numpy())


def lost_by_boxes(scene: InstanceSample, iou: float) -> Float[np.ndarray, " n"]:
    """How often suppression drops each object, over `ORDERS` orders of equal scores."""
    boxes = true_boxes(scene)
    generator = torch.Generator().manual_seed(0)
    lost = torch.ones(ORDERS, len(boxes))
    for turn in range(ORDERS):
        # Whole numbers: scores that differ by nothing but their order.
        scores = torch.randperm(len(boxes), generator=generator).float()
        lost[turn, nms(boxes, scores, iou)] = 0
    return np.asarray(lost.mean(0).numpy())


def lost_at_least(scene: InstanceSample, iou: float) -> Float[np.ndarray, " n"]:
    """1 for every object dropped under the luckiest order of scores.

    What suppression keeps has no two boxes that overlap more than `iou`; the largest such set is
    the most that any order can keep.
    """
    near = (box_iou(true_boxes(scene), true_boxes(scene)) > iou).fill_diagonal_(False).numpy()

    def largest(left: frozenset[int]) -> frozenset[int]:
        if not left:
            return left
        others = {i: left & set(np.flatnonzero(near[i]).tolist()) for i in left}
        # One of the freest box and its neighbours is in some largest set; if it has at most one
        # neighbour, it is itself.
        first = min(left, key=lambda i: (len(others[i]), i))
        choices = [first] if len(others[first]) < 2 else [first, *sorted(others[first])]
        found = [frozenset({i}) | largest(left - {i} - others[i]) for i in choices]
        return max(found, key=len)

    kept = largest(frozenset(range(len(near))))
    return np.array([float(i not in kept) for i in range(len(near))])


def lost_by_masks(scene: InstanceSample, stride: int) -> Float[np.ndarray, " n"]:
    """1 for every object that suppression by masks does not give back, from true cells."""
    labels = paint_instances(scene).labels
    cells = labels[stride // 2 :: stride, stride // 2 :: stride]
    candidates = [
        CellMask(np.flatnonzero(cells.ravel() == i + 1), 0, 1.0)
        for i in range(len(scene.instances))
    ]
    kept = suppress(candidates, cells=cells.size)
    found = instances_of(kept, field_hw=cells.shape, stride=stride, size_hw=scene.size_hw)
    return 1.0 - recalled(scene, found)


def lost_by_box_cells(scene: InstanceSample) -> Float[np.ndarray, " n"]:
    """1 for every object that its own mask, seen through 28×28 cells of its box, does not match."""
    boxes = true_boxes(scene)
    rles = []
    for box, one in zip(boxes, scene.instances, strict=True):
        mask = torch.from_numpy(np.ascontiguousarray(decode_rle(one.rle, scene.size_hw))).float()
        cells = roi_align(mask[None, None], [box[None]], (MASK_CELLS, MASK_CELLS))[0, 0]
        window, corner_xy = paste_window(cells.numpy(), box.numpy(), scene.size_hw, 0.5)
        rles.append(encode_window(window, corner_xy=corner_xy, size_hw=scene.size_hw))
    n = len(rles)
    return 1.0 - recalled(scene, Instances(scene.size_hw, tuple(rles), (0,) * n, (1.0,) * n))


def recalled(
    scene: InstanceSample, found: Instances, *, best: int | None = None
) -> Float[np.ndarray, " n"]:
    """1 for every true object that some found one (of the `best` first) matches.

    True objects are disjoint, so that no mask matches two.
    """
    iou = StillPair(scene, found).as_given.iou()
    order = np.argsort(-np.array(found.scores), kind="stable")[:best]
    hits: Bool[np.ndarray, " n"] = (iou[order] >= MATCH_IOU).any(axis=0)
    return hits.astype(np.float64)
