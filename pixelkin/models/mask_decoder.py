"""From retrieval evidence and a frame's details to a mask.

The retrieval of Chen et al. 2018 labels cells of 16×16 pixels; this small decoder turns what was
retrieved into a mask at a quarter of the frame's resolution. It sees no image, only what the
embedding network left for the frame, so a new click costs one pass of this decoder and none of the
backbone. That match scores joined by a small learned head beat scores alone is FEELVOS's finding
(Voigtlaender et al., CVPR 2019); the shape of this decoder is ours.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

CELL_PARTS = 4
"""Parts per side that a cell's mask is kept in: 16 px cells carry masks at 4 px."""

PART_MAPS = 3
"""Evidence given per part of a cell: retrieved globally, retrieved locally, previous mask."""

CELL_MAPS = 5
"""Evidence given per cell: object and background similarity (global, local), discriminant."""

EVIDENCE_CHANNELS = PART_MAPS * CELL_PARTS**2 + CELL_MAPS


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut; no normalisation, so batch size never matters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        # Starts as the identity: deep stacks without normalisation then train from the first step.
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Same shape out."""
        branch: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + branch


class MaskDecoder(nn.Module):
    """Evidence at stride 16 + details at strides 16, 8, 4 → mask logits at stride 4.

    Args:
        detail_channels: of the embedding network's details, coarse to fine.
        channels: of the decoder at the same strides.
    """

    def __init__(
        self,
        detail_channels: tuple[int, int, int] = (64, 32, 16),
        channels: tuple[int, int, int] = (64, 32, 16),
    ) -> None:
        super().__init__()
        c16, c8, c4 = channels
        self.join16 = nn.Conv2d(detail_channels[0] + EVIDENCE_CHANNELS, c16, 1)
        self.block16 = nn.Sequential(ResidualBlock(c16), ResidualBlock(c16))
        self.narrow16 = nn.Conv2d(c16, c8, 1)
        self.join8 = nn.Conv2d(detail_channels[1] + c8 + PART_MAPS * 4, c8, 3, padding=1)
        self.block8 = ResidualBlock(c8)
        self.narrow8 = nn.Conv2d(c8, c4, 1)
        self.join4 = nn.Conv2d(detail_channels[2] + c4 + PART_MAPS, c4, 3, padding=1)
        self.block4 = ResidualBlock(c4)
        self.logit = nn.Conv2d(c4, 1, 3, padding=1)
        # Starts as plain retrieval: what was found globally and locally, and the mask before,
        # added up. Training then only has to learn where that is wrong.
        self.shortcut = nn.Conv2d(PART_MAPS, 1, 1)
        with torch.no_grad():
            self.logit.weight.mul_(0.1)
            self.shortcut.weight.copy_(torch.tensor([2.0, 2.0, 1.0]).view(1, PART_MAPS, 1, 1))
            self.shortcut.bias.fill_(-2.5)  # type: ignore[union-attr]

    def forward(
        self,
        details16: Float[Tensor, "n a h w"],
        details8: Float[Tensor, "n b h2 w2"],
        details4: Float[Tensor, "n c h4 w4"],
        evidence: Float[Tensor, "n e h w"],
    ) -> Float[Tensor, "n 1 h4 w4"]:
        """Logits of one object per item; several objects of a frame are several items."""
        parts = evidence[:, : PART_MAPS * CELL_PARTS**2]
        parts4 = F.pixel_shuffle(parts, CELL_PARTS)
        parts8 = F.pixel_unshuffle(parts4, 2)
        x = self.block16(self.join16(torch.cat([details16, evidence], dim=1)))
        x = F.interpolate(self.narrow16(F.relu(x)), scale_factor=2.0, mode="bilinear")
        x = self.block8(self.join8(torch.cat([details8, x, parts8], dim=1)))
        x = F.interpolate(self.narrow8(F.relu(x)), scale_factor=2.0, mode="bilinear")
        x = self.block4(self.join4(torch.cat([details4, x, parts4], dim=1)))
        logits: Tensor = self.logit(F.relu(x)) + self.shortcut(parts4)
        return logits
