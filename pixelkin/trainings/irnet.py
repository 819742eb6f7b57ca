"""The training of IRNet on confident regions.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019, section 4.2. The backbone stays as it came, as in the authors' code; a small
one and AdamW take the place of ResNet-50 and SGD, whose rate is ten times higher for displacements:
AdamW's steps do not depend on the scale of the loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.checkpoint import load_into, load_state, read_config, save_checkpoint
from pixelkin.engine import Training
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.grouping.boundary_affinity import TRAINING_RADIUS_CELLS
from pixelkin.losses.affinity import affinity_labels
from pixelkin.losses.irnet import IRNET_WEIGHTS, irnet_losses
from pixelkin.models.backbone import TimmBackbone, freeze_batch_norm
from pixelkin.models.channels import IMAGENET_MEAN, IMAGENET_STD
from pixelkin.models.irnet import IRNet, measure_displacement_mean
from pixelkin.structures import Batch, Sample
from pixelkin.trainings.backbones import backbone_of
from pixelkin.trainings.instance_losses import cell_labels
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.regions import region_training

ARCHITECTURE = "irnet"

OPTIMISATION = Optimisation(
    steps=300, learning_rate=2e-3, backbone_rate=0.0, weights="imagenet", ema_decay=0.0
)
"""For some hundred photos on two CPU cores."""

DISPLACEMENT_WIDTH = 128
"""Half of the authors', for two CPU cores."""

DISPLACEMENT_RATE = 10.0
"""How many times faster than the boundary head the displacement head learns; the authors' too."""

MEAN_IMAGES = 32
"""Images on which the mean displacement is measured, at every saving."""


def irnet_training(
    samples: Sequence[Sample],
    *,
    window_hw: tuple[int, int],
    radius: int = TRAINING_RADIUS_CELLS,
    optimisation: Optimisation = OPTIMISATION,
) -> Training:
    """Everything of one training.

    The saved model carries what the displacements of `MEAN_IMAGES` of the samples, evenly spread,
    have in common (`models.irnet.measure_displacement_mean`), and takes it away. The first process
    measures alone.

    Args:
        samples: labels are confident regions: 0 background, classes from 1, `IGNORE` neutral;
            sides divisible by 32.
        window_hw: height and width of the windows in pixels, divisible by 32.
        radius: pairs of cells, 4 px each, nearer than this are compared.
        optimisation: see there; at the backbone rate 0 the backbone is frozen. Nothing is held out
            to validate on.
    """
    optimisation = optimisation.at_rate(OPTIMISATION.learning_rate)
    torch.manual_seed(optimisation.seed)
    config = {
        "architecture": ARCHITECTURE,
        # The weights inside pixelkin end there.
        "network": {"last_stride": 16 if optimisation.weights == "shipped" else 32},
    }
    model = build_irnet(config, freeze_backbone=optimisation.backbone_rate == 0)
    offsets = half_plane_offsets(radius)

    def save(trained: nn.Module, folder: Path) -> None:
        assert isinstance(trained, IRNet)
        measure_displacement_mean(trained, spread_images(samples, device=trained.mean.device))
        save_checkpoint(folder, trained.state_dict(), config, CARD)

    return region_training(
        model,
        samples,
        loss=lambda m, batch: irnet_loss(m, batch, offsets=offsets),
        loss_weights=IRNET_WEIGHTS,
        optimisation=optimisation,
        window_hw=window_hw,
        save=save,
        config={**config, "radius": radius},
        boosts={model.displacement: DISPLACEMENT_RATE},
    )


def irnet_loss(
    model: nn.Module, batch: Batch, *, offsets: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """The five parts of IRNet's loss of a batch."""
    assert isinstance(model, IRNet)
    freeze_batch_norm(backbone_of(model))
    kinds = affinity_labels(cell_labels(batch.labels, model.stride), offsets)
    found = model(batch.images)
    return irnet_losses(found.logits, found.displacement, kinds, offsets)


def spread_images(
    samples: Sequence[Sample], *, device: torch.device | str, count: int = MEAN_IMAGES
) -> Iterator[Float[Tensor, "1 3 h w"]]:
    """Up to `count` images, evenly spread over the samples, one by one and not padded."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    for place in places.tolist():
        image = np.ascontiguousarray(samples[place].image)
        yield torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255


def build_irnet(config: dict[str, Any], *, freeze_backbone: bool = True) -> IRNet:
    """The untrained network that a configuration describes: on EfficientNet-Lite0, at stride 4."""
    last = int(config["network"]["last_stride"])
    strides = tuple(stride for stride in (2, 4, 8, 16, 32) if stride <= last)
    return IRNet(
        TimmBackbone("tf_efficientnet_lite0", strides=strides),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        displacement_width=DISPLACEMENT_WIDTH,
        freeze_backbone=freeze_backbone,
    )


def load_irnet(folder: Path) -> IRNet:
    """A trained network in evaluation mode."""
    model = build_irnet(read_config(folder))
    load_into(model, load_state(folder), source=folder)
    return model.eval()


CARD = """# An IRNet of pixelkin

Ahn, Cho & Kwak, CVPR 2019: where classes meet, and where every pixel's object has its centre.
`pixelkin label --instances` trains and uses it; options and losses stand beside this folder.
"""
