"""Instances by Mask R-CNN: boxes, and in each box a mask."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import nn

from pixelkin.instances.segmenter import shrunk
from pixelkin.masks import encode_window
from pixelkin.structures import Instances


class MaskRcnnSegmenter:
    """Finds objects with a network of `models.mask_rcnn.mask_rcnn`.

    Args:
        model: put into evaluation mode on `device`; its lowest score is set.
        class_names: of the model's categories.
        min_score: objects below are left out. .05 as in the paper, which measures AP.
        min_probability: a pixel belongs to a mask from here on; .5 in the paper.
        device: where to compute.
        shrink: images are shrunk by this whole number before the network; masks come back at the
            image's own size.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        class_names: tuple[str, ...],
        min_score: float = 0.05,
        min_probability: float = 0.5,
        device: torch.device | str = "cpu",
        shrink: int = 1,
    ) -> None:
        self.model = model.to(device).eval()
        self.model.roi_heads.score_thresh = min_score  # type: ignore[union-attr]
        self.class_names = class_names
        self.shrink = shrink
        self.min_probability = min_probability
        self.device = torch.device(device)

    @torch.inference_mode()
    def segment(self, image: UInt8[np.ndarray, "h w 3"]) -> Instances:
        """Objects of an RGB image, best first; they may overlap."""
        size_hw = (image.shape[0], image.shape[1])
        seen = np.ascontiguousarray(shrunk(image, self.shrink))
        pixels = torch.from_numpy(seen).to(self.device)
        (found,) = self.model([pixels.permute(2, 0, 1).float() / 255])
        masks = found["masks"][:, 0].cpu().numpy()
        # The centre of the first pixel is 0 before and after, so the corner at -½ is what scales.
        boxes = (found["boxes"].cpu().numpy() + 0.5) * self.shrink - 0.5
        rles, kept = [], []
        for i, box in enumerate(boxes):
            window, corner_xy = paste_window(masks[i], box, size_hw, self.min_probability)
            if window.any():
                rles.append(encode_window(window, corner_xy=corner_xy, size_hw=size_hw))
                kept.append(i)
        labels, scores = found["labels"].tolist(), found["scores"].tolist()
        return Instances(
            size_hw,
            rles=tuple(rles),
            categories=tuple(labels[i] - 1 for i in kept),
            scores=tuple(scores[i] for i in kept),
        )


def paste_window(
    mask: Float[np.ndarray, "m m"],
    box_xyxy: Float[np.ndarray, " 4"],
    size_hw: tuple[int, int],
    min_probability: float,
) -> tuple[Bool[np.ndarray, "h w"], tuple[int, int]]:
    """The part of the image that a box covers, and which of its pixels are inside the mask.

    Bilinear between the centres of the mask's cells, which divide the box evenly; beyond the
    outermost centres the mask goes on as it is there. Pixels whose centre the box does not hold
    are outside.

    Args:
        mask: probabilities.
        box_xyxy: in pixels, where the centre of the first pixel is 0, 0.
        size_hw: height and width of the image.
        min_probability: of pixels inside.

    Returns:
        The window, empty where the box lies outside, and x and y of its left upper pixel.
    """
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    rows = np.arange(max(math.ceil(y1), 0), min(math.floor(y2), size_hw[0] - 1) + 1)
    columns = np.arange(max(math.ceil(x1), 0), min(math.floor(x2), size_hw[1] - 1) + 1)
    if not len(rows) or not len(columns) or x2 <= x1 or y2 <= y1:
        return np.zeros((0, 0), bool), (0, 0)
    down = _bilinear((rows - y1) / (y2 - y1), len(mask))
    across = _bilinear((columns - x1) / (x2 - x1), len(mask))
    return down @ mask @ across.T >= min_probability, (int(columns[0]), int(rows[0]))


def _bilinear(positions: Float[np.ndarray, " n"], cells: int) -> Float[np.ndarray, "n m"]:
    """Weights of the cells at positions from 0 to 1 along them."""
    centres = (positions * cells - 0.5).clip(0, cells - 1)
    weights: np.ndarray = np.maximum(1 - np.abs(centres[:, None] - np.arange(cells)), 0)
    return weights.astype(np.float32)
