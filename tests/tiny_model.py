"""A model of a few thousand random weights and a small moving scene: sessions in milliseconds."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelkin.media import MemoryClip
from pixelkin.models.mask_decoder import MaskDecoder
from pixelkin.models.retrieval_model import RetrievalModel
from pixelkin.runtime import EagerRuntime
from pixelkin.structures import Fields


class TinyEmbedding(nn.Module):
    """Mean colours through random waves: other colours come out about orthogonal.

    Strides and channels are those of the small network.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 64, 1)
        self.details = nn.ModuleList(nn.Conv2d(3, c, 1) for c in (64, 32, 16))

    def forward(self, images: Tensor) -> Fields:
        colours = [F.avg_pool2d(images - 0.5, stride) for stride in (16, 8, 4)]
        details = tuple(layer(colour) for layer, colour in zip(self.details, colours, strict=True))
        return Fields(F.normalize(torch.cos(15 * self.head(colours[0])), dim=1), details, 16)


class CountingRuntime(EagerRuntime):
    """Counts how often each frame is embedded; the first pixel of a frame holds its number."""

    def __init__(self, model: RetrievalModel) -> None:
        super().__init__(model)
        self.embedded: list[int] = []

    def embed(self, image: np.ndarray) -> Fields:
        self.embedded.append(int(image[0, 0, 0]))
        return super().embed(image)


def tiny_runtime(seed: int = 0) -> CountingRuntime:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = RetrievalModel(TinyEmbedding(), MaskDecoder())
    return CountingRuntime(model)


def moving_scene(
    frames: int = 10, size_hw: tuple[int, int] = (64, 96)
) -> tuple[MemoryClip, np.ndarray]:
    """A red square that moves right and a blue one that moves left; and their labels."""
    h, w = size_hw
    rng = np.random.default_rng(5)
    images = rng.integers(90, 130, (frames, h, w, 3), dtype=np.uint8)
    labels = np.zeros((frames, h, w), np.uint8)
    for t in range(frames):
        red = np.s_[8:32, 4 + 4 * t : 28 + 4 * t]
        blue = np.s_[36:60, max(w - 30 - 4 * t, 0) : max(w - 6 - 4 * t, 1)]
        images[t][red], labels[t][red] = (220, 30, 20), 1
        images[t][blue], labels[t][blue] = (20, 40, 230), 2
        images[t, 0, 0, 0] = t
    return MemoryClip(images), labels
