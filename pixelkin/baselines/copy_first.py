"""The first mask, copied: what a method gets for doing nothing."""

from collections.abc import Iterable, Iterator

import numpy as np

from pixelkin.baselines.contract import Frame, LabelMap, split_first
from pixelkin.structures import IGNORE


def copy_first(frames: Iterable[Frame], first_labels: LabelMap) -> Iterator[LabelMap]:
    """Yield the first label map for every frame; its `IGNORE` pixels become background after it.

    A method as `pixelkin.baselines` describes it.
    """
    _, rest, _ = split_first(frames, first_labels)
    yield first_labels
    copied = np.where(first_labels == IGNORE, 0, first_labels).astype(np.uint8)
    for _ in rest:
        yield copied.copy()
