"""Class maps as a batch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32

from pixelkin.errors import PixelkinError
from pixelkin.structures import Batch, Sample

Weigh = Callable[[Sample], Float32[np.ndarray, "h w"]]
"""A window → what the loss of each pixel is multiplied by."""


def collate_semantic(samples: Sequence[Sample], *, weigh: Weigh | None = None) -> Batch:
    """Stills of one size as a batch.

    Args:
        samples: with a class per pixel.
        weigh: makes the weights of the batch; None leaves them out.

    Raises:
        PixelkinError: there is no still, or sizes differ.
    """
    sizes = {sample.labels.shape for sample in samples}
    if len(sizes) != 1:
        raise PixelkinError(
            f"a batch holds stills of sizes {sorted(sizes)} (height, width), expected one; "
            "end the transform with a window of fixed size"
        )
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    weights = None
    if weigh is not None:
        weights = torch.from_numpy(np.stack([weigh(sample) for sample in samples])).float()
    return Batch(
        images=images.permute(0, 3, 1, 2).contiguous().float().div_(255),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        weights=weights,
    )
