"""OSVOS: the network is fine-tuned on the first mask, then sees every frame alone.

S. Caelles, K.-K. Maninis, J. Pont-Tuset, L. Leal-Taixé, D. Cremers, L. Van Gool: "One-Shot Video
Object Segmentation", CVPR 2017. Ours: the backbone (theirs is VGG-16), 100 steps of AdamW instead
of 10 minutes of SGD, and no snapping to contours of a second network (section 3.3).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pixelkin.baselines.contract import (
    Frame,
    LabelMap,
    device_of,
    split_first,
    to_label_map,
    to_tensor,
)
from pixelkin.baselines.finetune import finetuned, object_mask
from pixelkin.models.side_output_net import SideOutputNet


@dataclass(frozen=True)
class Osvos:
    """One fine-tuned copy of the network per object; the highest logit above 0 is the label.

    A method as `pixelkin.baselines` describes it. Fine-tuning runs when the second label map is
    asked for. Time and memory grow with the number of objects.

    Attributes:
        network: the base network (ImageNet's backbone) or the parent network
            (recipes/osvos_parent_small.py). Never changed.
        steps: of fine-tuning, per object. More is better and slower.
        learning_rate: of the head; the backbone's is a tenth.
        seed: of the augmentation.
    """

    network: SideOutputNet
    steps: int = 100
    learning_rate: float = 1e-3
    seed: int = 0

    def __call__(self, frames: Iterable[Frame], first_labels: LabelMap) -> Iterator[LabelMap]:
        """Yield a label map per frame."""
        first, rest, ids = split_first(frames, first_labels)
        yield first_labels
        networks = [
            finetuned(
                self.network,
                first,
                object_mask(first_labels, object_id),
                steps=self.steps,
                learning_rate=self.learning_rate,
                seed=self.seed,
            )
            for object_id in ids
        ]
        for frame in rest:
            image = to_tensor(frame, device_of(self.network))
            with torch.inference_mode():
                logits = [network(image)[0, 0].float().cpu().numpy() for network in networks]
            yield to_label_map(np.stack([np.zeros_like(logits[0]), *logits]), ids)
