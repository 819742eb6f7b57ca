"""Small parts that turn features into embeddings."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


class EmbeddingHead(nn.Module):
    """Two convolutions to D dimensions, as in Chen et al. 2018, section 3.2.

    Args:
        in_channels: channels of the features, joined positions included.
        hidden: channels between the two convolutions. The paper does not state it; ours.
        dimensions: D.
    """

    def __init__(self, in_channels: int, *, hidden: int, dimensions: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, dimensions, 1),
        )

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h w"]:
        """Embeddings, not normalised."""
        embeddings: Tensor = self.layers(features)
        return embeddings


def join_positions(
    features: Float[Tensor, "n c h w"], times: Float[Tensor, " n"]
) -> Float[Tensor, "n c3 h w"]:
    """Append (x, y, t) to each cell: x and y in [-1, 1] over the frame, t as given.

    Chen et al. 2018, section 3.2 (space and time as features). The range is ours.
    """
    n, _, h, w = features.shape
    y = torch.linspace(-1, 1, h, device=features.device, dtype=features.dtype)
    x = torch.linspace(-1, 1, w, device=features.device, dtype=features.dtype)
    return torch.cat(
        [
            features,
            x.view(1, 1, 1, w).expand(n, 1, h, w),
            y.view(1, 1, h, 1).expand(n, 1, h, w),
            times.to(features.dtype).view(n, 1, 1, 1).expand(n, 1, h, w),
        ],
        dim=1,
    )
