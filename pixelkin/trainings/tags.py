"""The training of a tag classifier, whose activation maps begin the way from tags to masks.

J. Ahn, S. Kwak, CVPR 2018, section 3.1. Of the paper's settings the poly schedule is kept, and that
the head learns faster than the backbone (four times, there ten); AdamW with a weight decay of 1e-4
takes the place of SGD with 5e-4, and photos are seen nearly whole, since a window that leaves a
garment out is still tagged with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor, nn

from pixelkin.checkpoint import load_into, load_state, read_config, save_checkpoint
from pixelkin.data.tag_windows import TaggedWindows, collate_tags
from pixelkin.engine import Training
from pixelkin.models.backbone import freeze_batch_norm
from pixelkin.models.tag_classifier import TagClassifier, small_tag_classifier, tag_loss
from pixelkin.structures import TagBatch
from pixelkin.trainings.backbones import backbone_of
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.regions import photo_training, photo_windows

ARCHITECTURE = "tag_classifier"

WINDOW_SHARE = 0.875
"""Sides of a training window as a share of the typical photo's."""


SCALE = (0.8, 1.3)
"""Range of random magnification; 1 shows the typical photo whole."""

OPTIMISATION = Optimisation(
    steps=700, batch_size=16, learning_rate=2e-3, weights="imagenet", ema_decay=0.0
)
"""For some hundred photos on two CPU cores."""


def tag_training(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    tags: Bool[np.ndarray, "n c"],
    *,
    class_names: tuple[str, ...],
    window_hw: tuple[int, int],
    optimisation: Optimisation = OPTIMISATION,
) -> Training:
    """Everything of one training.

    Args:
        images: RGB, all of about the same size, read anew at every visit.
        tags: which classes each image shows.
        class_names: C names.
        window_hw: height and width of the windows in pixels, divisible by 32.
        optimisation: see there; nothing is held out to validate on.
    """
    optimisation = optimisation.at_rate(OPTIMISATION.learning_rate)
    torch.manual_seed(optimisation.seed)
    config = {
        "architecture": ARCHITECTURE,
        "class_names": list(class_names),
        # The weights inside pixelkin end there.
        "network": {"last_stride": 16 if optimisation.weights == "shipped" else 32},
    }
    model = build_classifier(config)
    windows = photo_windows(window_hw, scale=(SCALE[0] * WINDOW_SHARE, SCALE[1] * WINDOW_SHARE))
    return photo_training(
        model,
        TaggedWindows(images, tags, windows, repeats=optimisation.repeats(len(images))),
        collate=collate_tags,
        loss=classifier_loss,
        loss_weights={"tags": 1.0},
        optimisation=optimisation,
        save=lambda m, folder: save_checkpoint(folder, m.state_dict(), config, CARD),
        config={**config, "images": len(images), "window_hw": list(window_hw)},
    )


def classifier_loss(model: nn.Module, batch: TagBatch) -> dict[str, Tensor]:
    """The multi-label soft-margin loss of a batch."""
    freeze_batch_norm(backbone_of(model))
    return {"tags": tag_loss(model(batch.images).float(), batch.tags)}


def build_classifier(config: dict[str, Any], *, output_stride: int | None = None) -> TagClassifier:
    """The untrained network that a configuration describes."""
    last = int(config["network"]["last_stride"])
    return small_tag_classifier(
        len(config["class_names"]), last_stride=last, output_stride=output_stride
    )


def load_classifier(folder: Path) -> TagClassifier:
    """A trained classifier, to be read at the finest stride that it has; evaluation mode."""
    config = read_config(folder)
    model = build_classifier(config, output_stride=16)
    load_into(model, load_state(folder), source=folder)
    return model.eval()


CARD = """# A tag classifier of pixelkin

It knows from the tags of photos which classes a photo shows, and its activation maps tell where.
`pixelkin label` trains and uses it; options and losses stand beside this folder.
"""
