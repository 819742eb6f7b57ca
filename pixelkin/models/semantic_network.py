"""What every network that gives each pixel a class has in common."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError


class SemanticNetwork(Protocol):
    """A network from images to a score per class and pixel; a `nn.Module`.

    Normalisation is inside: inputs are RGB in [0, 1], mean and std are buffers.

    Attributes:
        classes: C.
        margin_px: pixels that the result lacks on each side; 0 but for unpadded networks.
    """

    classes: int
    margin_px: int

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """The smallest height and width, at least `size_hw`, that `forward` takes."""
        ...

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c H W"]:
        """Scores (logits) for every pixel, (N, C, H − 2 · margin_px, W − 2 · margin_px).

        Raises:
            PixelkinError: height or width is not valid; names the nearest valid size.
        """
        ...


class AnySizeNetwork(nn.Module):
    """What the networks share that take any size and lose no margin.

    Args:
        classes: C.
        mean, std: per RGB channel, for inputs in [0, 1]; buffers, so a checkpoint carries them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: int,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.classes = classes
        self.margin_px = 0
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        """Any size is valid that has a pixel."""
        return max(size_hw[0], 1), max(size_hw[1], 1)


def check_size(network: SemanticNetwork, size_hw: tuple[int, int]) -> None:
    """Raise `PixelkinError`, naming the next larger valid size, where a side does not fit."""
    valid = network.valid_size(size_hw)
    if valid != tuple(size_hw):
        h, w = size_hw
        raise PixelkinError(
            f"the image is {w}×{h}, which {type(network).__name__} does not take; "
            f"pad it to {valid[1]}×{valid[0]}"
        )


def next_multiple(size_hw: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The smallest height and width, at least `size_hw` and 1, divisible by `multiple`."""
    h, w = (max(-(-side // multiple), 1) * multiple for side in size_hw)
    return h, w
