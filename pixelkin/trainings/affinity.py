"""The training of AffinityNet on confident regions.

J. Ahn, S. Kwak, CVPR 2018, section 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pixelkin.checkpoint import load_into, load_state, read_config, save_checkpoint
from pixelkin.engine import Training
from pixelkin.grouping.affinity import RADIUS_CELLS, half_plane_offsets, pair_distances
from pixelkin.losses.affinity import AFFINITY_WEIGHTS, affinity_labels, affinity_losses
from pixelkin.models.affinity_net import AffinityNet, small_affinity_net
from pixelkin.models.backbone import freeze_batch_norm
from pixelkin.structures import Batch, Sample
from pixelkin.trainings.backbones import backbone_of
from pixelkin.trainings.instance_losses import cell_labels
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.regions import region_training

ARCHITECTURE = "affinity_net"


OPTIMISATION = Optimisation(
    steps=400, learning_rate=1e-3, backbone_rate=0.1, weights="imagenet", ema_decay=0.0
)
"""For some hundred photos on two CPU cores."""


def affinity_training(
    samples: Sequence[Sample],
    *,
    window_hw: tuple[int, int],
    radius: int = RADIUS_CELLS,
    optimisation: Optimisation = OPTIMISATION,
) -> Training:
    """Everything of one training.

    Several processes give the network that one gives of the same global batch: what is normalised
    (batch statistics are frozen) and averaged (see `losses.affinity.mean_costs`) is the same.

    Args:
        samples: labels are confident regions: 0 background, classes from 1, `IGNORE` neutral.
        window_hw: height and width of the windows in pixels, divisible by 32.
        radius: pairs of cells nearer than this are compared.
        optimisation: see there; nothing is held out to validate on.
    """
    optimisation = optimisation.at_rate(OPTIMISATION.learning_rate)
    torch.manual_seed(optimisation.seed)
    config = {
        "architecture": ARCHITECTURE,
        "network": {"last_stride": 16 if optimisation.weights == "shipped" else 32},
    }
    model = build_affinity_net(config)
    offsets = half_plane_offsets(radius)
    return region_training(
        model,
        samples,
        loss=lambda m, batch: affinity_loss(m, batch, offsets=offsets),
        loss_weights=AFFINITY_WEIGHTS,
        optimisation=optimisation,
        window_hw=window_hw,
        save=lambda m, folder: save_checkpoint(folder, m.state_dict(), config, CARD),
        config={**config, "radius": radius},
    )


def affinity_loss(
    model: nn.Module, batch: Batch, *, offsets: Sequence[tuple[int, int]]
) -> dict[str, Tensor]:
    """The three parts of AffinityNet's loss of a batch."""
    assert isinstance(model, AffinityNet)
    freeze_batch_norm(backbone_of(model))
    kinds = affinity_labels(cell_labels(batch.labels, model.stride), offsets)
    return affinity_losses(pair_distances(model(batch.images), offsets), kinds)


def build_affinity_net(config: dict[str, Any]) -> AffinityNet:
    """The untrained network that a configuration describes."""
    return small_affinity_net(last_stride=int(config["network"]["last_stride"]))


def load_affinity_net(folder: Path) -> AffinityNet:
    """A trained network in evaluation mode."""
    model = build_affinity_net(read_config(folder))
    load_into(model, load_state(folder), source=folder)
    return model.eval()


CARD = """# An AffinityNet of pixelkin

Ahn & Kwak, CVPR 2018: features whose distance tells whether neighbouring pixels are of one class.
`pixelkin label` trains and uses it; options and losses stand beside this folder.
"""
