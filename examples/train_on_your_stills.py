"""A whole recipe: fine-tune the shipped model on your own annotated photos.

    pixelkin train examples/train_on_your_stills.py --out runs/mine --data FOLDER --steps 500

FOLDER holds images/ beside labels/*.txt (YOLO segmentation) or masks/*.png (index PNGs, value =
instance). Clips are made of the stills; `pixelkin.load("runs/mine/model")` runs the result.
"""

from pathlib import Path

import torch
import torch.nn.functional as F

from pixelkin.checkpoint import save_checkpoint
from pixelkin.data.clips.synthetic_clips import SyntheticClips, collate_clips, shrink
from pixelkin.data.instances.sources import open_source
from pixelkin.engine import Training
from pixelkin.grouping import evidence as ev
from pixelkin.loading import load_model
from pixelkin.losses.segmentation import masked_bce, soft_jaccard_loss
from pixelkin.masks import paint_instances
from pixelkin.models.backbone import freeze_batch_norm
from pixelkin.structures import IGNORE, ClipBatch
from pixelkin.tracking import Question, as_parts, frame_cells, predict, remember


def recipe(*, data: Path, steps: int = 500, batch_size: int = 2, frames: int = 3) -> Training:
    """Data, model, loss, optimiser."""
    stills = open_source(f"yolo:{data}" if (data / "labels").is_dir() else f"pngs:{data}")
    samples = [shrink(paint_instances(stills[i]), longest_px=512) for i in range(len(stills))]
    model = load_model()
    return Training(
        model=model, loss=loss, loss_weights={"bce": 1.0, "jaccard": 1.0}, clip_norm=1.0,
        optimizer=torch.optim.AdamW(model.parameters(), lr=1e-4), schedule=None, steps=steps,
        data=SyntheticClips(samples, frames=frames), collate=collate_clips, batch_size=batch_size,
        save=lambda m, to: save_checkpoint(to, m.state_dict(), {"architecture": "small"}, "# Mine"),
    )  # fmt: skip


def loss(model: torch.nn.Module, batch: ClipBatch) -> dict[str, torch.Tensor]:
    """Follow object 1 from what is marked of it in the first frame, as a session does."""
    freeze_batch_norm(model)
    frames = [frame_cells(model.embedding(images)) for images in batch.images.unbind(1)]
    marked = zip(*(ev.label_parts(prompt, 1) for prompt in batch.prompts), strict=True)
    known, parts, weights = (torch.stack(part)[:, None] for part in marked)
    memory = nearby = remember(frames[0], parts, weights)
    bias, previous, logits = ev.local_bias(frames[0].grid_hw).to(known.device), known, []
    for frame in frames:
        near, direction = (nearby.embeddings, nearby.columns()), ev.discriminant(memory)
        question = Question(memory.embeddings, memory.columns(), *near, bias, previous, direction)
        logits.append(predict(model.decoder, frame, question))
        previous = as_parts(logits[-1])
        if frame is frames[0]:  # what was marked is certain; the rest is the answer
            memory = remember(frame, previous := torch.where(known == 0.5, previous, known))
        nearby = remember(frame, previous)
    truth, void = (F.avg_pool2d(1.0 * (batch.labels == i), 4).flatten(0, 1) for i in (1, IGNORE))
    terms = torch.cat(logits, 1).flatten(0, 1), truth, void < 0.5
    return {"bce": masked_bce(*terms), "jaccard": soft_jaccard_loss(*terms)}
