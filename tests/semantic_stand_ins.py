"""Small networks that give each pixel a class, one of each kind."""

import torch
import torch.nn.functional as F
from torch import nn

from pixelkin.models.semantic_network import check_size, next_multiple


class Padded(nn.Module):
    """Two scales, joined again by the indices of the maxima, as SegNet does; any even size."""

    margin_px = 0

    def __init__(self, classes: int, *, width: int = 8, pools_all: bool = False) -> None:
        super().__init__()
        self.classes = classes
        self.pools_all = pools_all
        self.fine = nn.Conv2d(3, width, 3, padding=1)
        self.coarse = nn.Conv2d(width, width, 5, padding=2)
        self.score = nn.Conv2d(width, classes, 3, padding=1)

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        return next_multiple(size_hw, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_size(self, (images.shape[2], images.shape[3]))
        fine = self.fine(images - 0.5).relu()
        small, places = F.max_pool2d(fine, 4, return_indices=True)
        small = self.coarse(small).relu()
        if self.pools_all:
            small = small + small.mean(dim=(2, 3), keepdim=True)
        return self.score(fine + F.max_unpool2d(small, places, 4))


class Unpadded(nn.Module):
    """No padding anywhere: one pooling, sizes of 4n + 2, 5 pixels lost on each side."""

    margin_px = 5

    def __init__(self, classes: int, *, width: int = 8) -> None:
        super().__init__()
        self.classes = classes
        self.first = nn.Conv2d(3, width, 3)
        self.second = nn.Conv2d(width, width, 5)
        self.score = nn.Conv2d(width, classes, 1)

    def valid_size(self, size_hw: tuple[int, int]) -> tuple[int, int]:
        h, w = (max(-(-(side - 2) // 4), 3) * 4 + 2 for side in size_hw)
        return h, w

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_size(self, (images.shape[2], images.shape[3]))
        small = F.max_pool2d(self.first(images - 0.5).relu(), 2)
        return self.score(F.interpolate(self.second(small).relu(), scale_factor=2.0))
