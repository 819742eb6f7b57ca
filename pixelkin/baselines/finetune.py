"""Fine-tuning a network on the first frame of a clip: OSVOS lives by it, MaskTrack may use it."""

import copy
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from pixelkin.baselines.class_balanced import class_balanced_bce
from pixelkin.baselines.contract import Frame, LabelMap, device_of, to_tensor
from pixelkin.models.backbone import freeze_batch_norm, trainable
from pixelkin.models.side_output_net import SideOutputNet
from pixelkin.structures import IGNORE

BACKBONE_RATE = 0.1
"""Learning rate of the backbone as a share of the head's."""

Mask = UInt8[np.ndarray, "h w"]
Deform = Callable[[Mask, np.random.Generator], Mask]


def object_mask(labels: LabelMap, object_id: int) -> Mask:
    """1 object, 0 background and other objects, `IGNORE` unknown."""
    return np.where(labels == IGNORE, IGNORE, labels == object_id).astype(np.uint8)


def finetuned(
    network: SideOutputNet,
    frame: Frame,
    mask: Mask,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    deform: Deform | None = None,
) -> SideOutputNet:
    """A copy of `network` trained for `steps` on augmented copies of one frame, ready to use.

    AdamW, one copy of the frame per step, class-balanced cross-entropy on the fused output; batch
    statistics stay as they are. The optimiser and the rates are ours, for few steps on a CPU.

    Args:
        network: stays as it is.
        mask: as `object_mask` gives it.
        learning_rate: of the head; the backbone's is a tenth.
        seed: of the augmentation.
        deform: makes the previous mask of networks with `mask_input` from the true one.
    """
    tuned = copy.deepcopy(network).requires_grad_(True)
    tuned.train()
    freeze_batch_norm(tuned)
    slow = trainable(tuned.backbone)
    head = [*tuned.branches.parameters(), *tuned.fuse.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": slow, "lr": BACKBONE_RATE * learning_rate},
        {"params": head, "lr": learning_rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=2e-4)
    rng = np.random.default_rng(seed)
    device = device_of(tuned)
    with torch.enable_grad():
        for _ in range(steps):
            image, target = augment(frame, mask, rng)
            before = None
            if deform is not None:
                rough = deform((target == 1).astype(np.uint8), rng)
                before = torch.from_numpy(rough).to(device)[None, None].float()
            truth = torch.from_numpy(target).to(device)[None]
            logits = tuned(to_tensor(image, device), before)[:, 0]
            loss = class_balanced_bce(logits, truth == 1, truth != IGNORE)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return tuned.eval()


def augment(frame: Frame, mask: Mask, rng: np.random.Generator) -> tuple[Frame, Mask]:
    """Mirrored half the time, turned by up to 30°, zoomed by .75 to 1.25; the border reflected.

    Caelles et al., CVPR 2017: mirroring and zooming; the amounts are ours.
    """
    height, width = mask.shape
    turn, zoom = rng.uniform(-30, 30), rng.uniform(0.75, 1.25)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, zoom)
    if rng.random() < 0.5:
        frame, mask = frame[:, ::-1], mask[:, ::-1]
    size_wh, border = (width, height), cv2.BORDER_REFLECT_101
    image = np.ascontiguousarray(frame)
    turned = cv2.warpAffine(image, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=border)
    labels = np.ascontiguousarray(mask)
    moved = cv2.warpAffine(labels, matrix, size_wh, flags=cv2.INTER_NEAREST, borderMode=border)
    return turned, moved
