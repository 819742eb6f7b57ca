"""Dense fields of images of any size, in bounded memory.

A convolution's output depends on the pixels within its receptive field and on nothing else. A tile
that is cut with that much around it, on the network's own grid, therefore gives the very values
that the whole image would have given, and tiles are joined as fields, before any object is looked
for. So there are no seams to mend: what makes two halves of an object one is what makes any two of
its pixels one, their embedding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelkin.models.instance_embedding import InstanceNet
from pixelkin.models.pixel_embedding import pad_to_multiple
from pixelkin.structures import InstanceFields


def dense_fields(
    model: InstanceNet,
    image: UInt8[np.ndarray, "h w 3"],
    *,
    device: torch.device | str = "cpu",
    tile_px: int = 1024,
    margin_px: int | None = None,
) -> InstanceFields:
    """The fields of one image, of the image padded right and bottom to the network's multiple.

    Args:
        model: in evaluation mode.
        image: RGB.
        device: where the model is; the fields stay there.
        tile_px: an image with a longer side is taken in tiles of this, plus the margin around; 0
            takes every image whole.
        margin_px: None measures the network's receptive field.
    """
    multiple = model.multiple
    if not tile_px or max(image.shape[:2]) <= tile_px:
        whole: InstanceFields = model(pad_to_multiple(_to_tensor(image, device), multiple))
        return whole
    if margin_px is None:
        margin_px = receptive_radius_px(model)
    tile_px, margin_px = (-(-value // multiple) * multiple for value in (tile_px, margin_px))
    h, w = (size + -size % multiple for size in image.shape[:2])
    stride = model.stride
    joined: InstanceFields | None = None
    for top, bottom in _spans(h, tile_px):
        for left, right in _spans(w, tile_px):
            y0, x0 = max(top - margin_px, 0), max(left - margin_px, 0)
            y1, x1 = min(bottom + margin_px, h), min(right + margin_px, w)
            part = _to_tensor(_padded(image, y0, y1, x0, x1), device)
            fields = model(part, corner_xy=(x0, y0))
            if joined is None:
                joined = _empty_like(fields, (h // stride, w // stride))
            place = np.s_[..., top // stride : bottom // stride, left // stride : right // stride]
            inner = np.s_[
                ...,
                (top - y0) // stride : (bottom - y0) // stride,
                (left - x0) // stride : (right - x0) // stride,
            ]
            joined.embeddings[place] = fields.embeddings[inner]
            joined.logits[place] = fields.logits[inner]
    assert joined is not None
    return joined


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, length, step):
        yield start, min(start + step, length)


def _padded(
    image: UInt8[np.ndarray, "h w 3"], y0: int, y1: int, x0: int, x1: int
) -> UInt8[np.ndarray, "H W 3"]:
    """A window that may reach beyond the image's right and bottom border, which is repeated."""
    part = image[y0 : min(y1, image.shape[0]), x0 : min(x1, image.shape[1])]
    beyond = ((0, y1 - y0 - part.shape[0]), (0, x1 - x0 - part.shape[1]), (0, 0))
    return np.pad(part, beyond, mode="edge")


def _to_tensor(
    image: UInt8[np.ndarray, "h w 3"], device: torch.device | str
) -> Float[Tensor, "1 3 h w"]:
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    return pixels.permute(2, 0, 1)[None].float() / 255


def _empty_like(fields: InstanceFields, size_hw: tuple[int, int]) -> InstanceFields:
    return InstanceFields(
        fields.embeddings.new_empty(*fields.embeddings.shape[:2], *size_hw),
        fields.logits.new_empty(*fields.logits.shape[:2], *size_hw),
        fields.stride,
    )


@torch.inference_mode()
def receptive_radius_px(model: InstanceNet) -> int:
    """How far away a pixel can change a cell, measured.

    A not-a-number pixel makes everything that depends on it not a number, whatever the weights
    are: the farthest such cell is the answer. The network is run on one strip, in which a whole
    block of the coarsest grid is set, so that the position on the grid does not matter.
    """
    block = model.multiple
    half = 512 // block * block
    device = model.mean.device
    while True:
        strip = torch.zeros(1, 3, 2 * half + block, 2 * block, device=device)
        strip[:, :, half : half + block] = torch.nan
        fields = model(strip)
        told = torch.cat([fields.embeddings, fields.logits], dim=1)
        rows = told.isnan().any(dim=3).any(dim=1)[0].nonzero().flatten()
        first, last = int(rows.min()) * fields.stride, (int(rows.max()) + 1) * fields.stride
        if first > 0 and last < strip.shape[2]:
            return int(max(half - first, last - half - block))
        half *= 2
