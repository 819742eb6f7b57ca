"""MaskTrack: the previous mask is a fourth input channel, and the network refines it.

F. Perazzi, A. Khoreva, R. Benenson, B. Schiele, A. Sorkine-Hornung: "Learning Video Object
Segmentation from Static Images", CVPR 2017. Trained offline on stills with deformed masks
(recipes/masktrack_small.py). Ours: the backbone with side outputs (theirs is DeepLab-v2 VGG), no
second stream for optical flow, no CRF.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy.interpolate import RBFInterpolator

from pixelkin.baselines.contract import (
    Frame,
    LabelMap,
    device_of,
    split_first,
    to_label_map,
    to_tensor,
)
from pixelkin.baselines.finetune import Mask, finetuned, object_mask
from pixelkin.errors import PixelkinError
from pixelkin.models.side_output_net import SideOutputNet

COARSENING_PX = 5
"""Radius of the dilation that takes the detail from a previous mask, in training and in use."""


@dataclass(frozen=True)
class MaskTrack:
    """The network turns each object's previous mask into its mask; the highest logit is the label.

    A method as `pixelkin.baselines` describes it.

    Attributes:
        network: with `mask_input`, offline weights loaded. Never changed.
        finetune_steps: per object, on the first frame (the paper's online training, 200
            iterations); 0 uses the offline network alone.
        learning_rate: of fine-tuning; the backbone's is a tenth.
        seed: of fine-tuning.
    """

    network: SideOutputNet
    finetune_steps: int = 0
    learning_rate: float = 3e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.network.mask_input:
            raise PixelkinError(
                "MaskTrack got a network without mask_input; "
                "build it with SideOutputNet(backbone, mask_input=True)"
            )

    def __call__(self, frames: Iterable[Frame], first_labels: LabelMap) -> Iterator[LabelMap]:
        """Yield a label map per frame."""
        first, rest, ids = split_first(frames, first_labels)
        yield first_labels
        networks = [self._network_for(first, first_labels, object_id) for object_id in ids]
        labels = first_labels
        for frame in rest:
            image = to_tensor(frame, device_of(self.network))
            logits = []
            for network, object_id in zip(networks, ids, strict=True):
                rough = coarsen((labels == object_id).astype(np.uint8))
                before = torch.from_numpy(rough).to(image.device)[None, None].float()
                with torch.inference_mode():
                    logits.append(network(image, before)[0, 0].float().cpu().numpy())
            labels = to_label_map(np.stack([np.zeros_like(logits[0]), *logits]), ids)
            yield labels

    def _network_for(self, first: Frame, labels: LabelMap, object_id: int) -> SideOutputNet:
        if self.finetune_steps == 0:
            return copy.deepcopy(self.network).eval()
        return finetuned(
            self.network,
            first,
            object_mask(labels, object_id),
            steps=self.finetune_steps,
            learning_rate=self.learning_rate,
            seed=self.seed,
            deform=deform_mask,
        )


def coarsen(mask: Mask) -> Mask:
    """The mask dilated by a disk; the paper's way to keep the network from trusting its outline."""
    side = 2 * COARSENING_PX + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    grown: Mask = cv2.dilate(mask, disk)
    return grown


def deform_mask(mask: Mask, rng: np.random.Generator) -> Mask:
    """What the mask might have been one frame before.

    Perazzi et al., section 3: scaled by up to ±5 %, moved by up to ±10 % of the object's size,
    bent by a thin-plate spline of 5 control points that move by up to ±10 %, then dilated. That
    the points are the corners and the centre of the object's box is ours.

    Args:
        mask: 1 object, 0 background, uint8 (H, W).
        rng: draws the deformation.

    Returns:
        The same size; empty where the mask is.
    """
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return mask.copy()
    low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()]) + 1
    size, centre = (high - low).astype(float), (low + high) / 2
    zoom = rng.uniform(0.95, 1.05)
    shift = rng.uniform(-0.1, 0.1, 2) * size
    knots = np.array([[0.0, 0.0], [1, 0], [0, 1], [1, 1], [0.5, 0.5]])
    bend = rng.uniform(-0.1, 0.1, (5, 2)) * size
    spline = RBFInterpolator(knots, bend, kernel="thin_plate_spline")
    # Solved on a coarse grid over twice the box; the deformed object cannot lie outside it.
    steps = np.linspace(-0.5, 1.5, 17)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1)
    coarse = spline(grid.reshape(-1, 2)).reshape(17, 17, 2).astype(np.float32)
    corner, extent = low - size / 2, size * 2
    height, width = mask.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    place_x = (x - np.float32(corner[0])) * np.float32(16 / extent[0])
    place_y = (y - np.float32(corner[1])) * np.float32(16 / extent[1])
    move = cv2.remap(coarse, place_x, place_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    from_x = ((x - centre[0] - shift[0]) / zoom + centre[0] + move[..., 0]).astype(np.float32)
    from_y = ((y - centre[1] - shift[1]) / zoom + centre[1] + move[..., 1]).astype(np.float32)
    return coarsen(cv2.remap(mask, from_x, from_y, cv2.INTER_NEAREST, borderValue=0))
