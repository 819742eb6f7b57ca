"""The one interface of all that finds objects in a still, and the segmenter by dense fields."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from pixelkin.instances.tiling import dense_fields
from pixelkin.models.instance_embedding import InstanceNet
from pixelkin.structures import InstanceFields, Instances


class Segmenter(Protocol):
    """Finds the objects of a still.

    Attributes:
        class_names: of the categories in its results.
    """

    class_names: tuple[str, ...]

    def segment(self, image: UInt8[np.ndarray, "h w 3"]) -> Instances:
        """Objects of an RGB image, best first."""
        ...


class Grouping(Protocol):
    """From the dense outputs for one image to its objects."""

    def __call__(self, fields: InstanceFields, size_hw: tuple[int, int]) -> Instances:
        """Objects of the image of `size_hw` whose fields these are (N = 1)."""
        ...


def shrunk(image: UInt8[np.ndarray, "h w 3"], factor: int) -> UInt8[np.ndarray, "H W 3"]:
    """The image averaged over squares of `factor` pixels, its border repeated to fill the last."""
    if factor == 1:
        return image
    h, w = image.shape[:2]
    whole = np.pad(image, ((0, -h % factor), (0, -w % factor), (0, 0)), mode="edge")
    size = (whole.shape[1] // factor, whole.shape[0] // factor)
    small: UInt8[np.ndarray, "H W 3"] = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
    return small


class FieldSegmenter:
    """A network, then a grouping of what it says of every cell.

    Args:
        model: set to evaluation mode, moved to `device`.
        grouping: fields → objects.
        class_names: of the model's categories.
        device: where the network and the grouping run.
        tile_px: images with a longer side are embedded in tiles of this; 0 never tiles.
        shrink: images are shrunk by this whole number before the network; masks come back at the
            image's own size. For objects that are large against what the network sees.
    """

    def __init__(
        self,
        model: InstanceNet,
        grouping: Grouping,
        *,
        class_names: tuple[str, ...],
        device: torch.device | str = "cpu",
        shrink: int = 1,
        tile_px: int = 1024,
    ) -> None:
        self.model = model.eval().to(device)
        self.grouping = grouping
        self.class_names = class_names
        self.device = torch.device(device)
        self.shrink = shrink
        self.tile_px = tile_px

    @torch.inference_mode()
    def segment(self, image: UInt8[np.ndarray, "h w 3"]) -> Instances:
        """Objects of an RGB image, best first. Tiled or not, the result is the same."""
        seen = shrunk(image, self.shrink)
        fields = dense_fields(self.model, seen, device=self.device, tile_px=self.tile_px)
        fields = replace(fields, stride=fields.stride * self.shrink)
        return self.grouping(fields, (image.shape[0], image.shape[1]))
