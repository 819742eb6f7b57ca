"""Targets and losses of networks that tell background, interior and boundary apart.

The classes keep touching objects apart: their interiors never meet (Ronneberger, Fischer, Brox,
"U-Net", MICCAI 2015, weighs the gaps for the same end; Caicedo et al., Cytometry A 2019, has these
three classes for nuclei).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

BACKGROUND, INTERIOR, BOUNDARY = 0, 1, 2

CLASS_WEIGHTS = (1.0, 1.0, 2.0)
"""Of background, interior and boundary in the cross-entropy: boundaries are few pixels, and one
that is missed joins two objects."""


def boundary_targets(
    labels: Int64[Tensor, "n H W"], *, stride: int = 1, boundary_px: int = 1
) -> Int64[Tensor, "n h w"]:
    """Background, interior or boundary of every cell, `IGNORE` where unknown.

    A pixel of an instance is a boundary pixel where the square of `boundary_px` around it holds
    background or another instance; neither `IGNORE` nor what lies beyond the image counts. Of the
    cells of stride × stride pixels, those are

    - `IGNORE` that are unknown for more than half;
    - foreground that belong to instances for half or more of their known pixels;
    - boundary, of the foreground, where half or more of the instances' pixels are boundary
      pixels, or where two instances lie within the cell and `boundary_px` around it. So between
      the interiors of two instances that touch there is always a boundary.

    Args:
        labels: 0 background, instance labels, `IGNORE`; H and W divisible by `stride`.
        stride: pixels per cell.
        boundary_px: width of the boundary on each side, 1 or more.

    Raises:
        PixelkinError: the size is not divisible, or the boundary has no width.
    """
    h, w = labels.shape[-2:]
    if h % stride or w % stride or boundary_px < 1:
        raise PixelkinError(
            f"labels are {w}×{h} with boundaries of {boundary_px} px: expected sides divisible by "
            f"{stride} and 1 px or more; pad or crop them to {w - w % stride}×{h - h % stride}"
        )
    known = labels != IGNORE
    instance = known & (labels > 0)
    ids = torch.where(instance, labels, 0).float()
    # Labels of the extremes of an instance's surroundings: equal to its own where it is alone.
    highest, lowest = _id_range(ids, boundary_px, 1)
    background = _any_within((labels == 0).float(), boundary_px)
    edge = instance & (background | (highest != ids) | (lowest != ids))
    share_known, share_instance, share_edge = (
        F.avg_pool2d(m.float()[:, None], stride)[:, 0] for m in (known, instance, edge)
    )
    highest, lowest = _id_range(ids, boundary_px, stride)
    boundary = (2 * share_edge >= share_instance) | (highest > lowest)
    foreground = (2 * share_instance >= share_known) & (share_instance > 0)
    targets = torch.where(boundary, BOUNDARY, INTERIOR)
    targets = torch.where(foreground, targets, BACKGROUND)
    return torch.where(2 * share_known < 1, IGNORE, targets)


def _id_range(ids: Tensor, margin: int, stride: int) -> tuple[Tensor, Tensor]:
    """Highest and lowest instance id of every cell and `margin` pixels around; lowest inf: none."""
    size = stride + 2 * margin
    present = torch.where(ids > 0, ids, torch.inf)
    # Pooling by windows that pad more than half of themselves is refused, so padded by hand.
    highest = F.max_pool2d(F.pad(ids, (margin,) * 4), size, stride)
    lowest = -F.max_pool2d(F.pad(-present, (margin,) * 4, value=-torch.inf), size, stride)
    return highest, lowest


def _any_within(mask: Tensor, margin: int) -> Tensor:
    return F.max_pool2d(mask, 2 * margin + 1, stride=1, padding=margin) > 0


def boundary_losses(
    logits: Float[Tensor, "n 3 h w"],
    labels: Int64[Tensor, "n H W"],
    *,
    stride: int,
    boundary_px: int = 1,
    class_weights: Sequence[float] = CLASS_WEIGHTS,
) -> dict[str, Float[Tensor, ""]]:
    """Cross-entropy and soft Dice against `boundary_targets`.

    Returns:
        Scalars: cross_entropy, the mean over known cells weighted by their class; dice, see
        `soft_dice_loss`.

    Raises:
        PixelkinError: see `boundary_targets`; or the logits are of another size.
    """
    targets = boundary_targets(labels, stride=stride, boundary_px=boundary_px)
    if logits.shape != (len(labels), 3, *targets.shape[1:]):
        raise PixelkinError(
            f"logits have shape {tuple(logits.shape)}: expected {(len(labels), 3)} and "
            f"{tuple(targets.shape[1:])} cells; give those of these labels at stride {stride}"
        )
    weights = torch.tensor(class_weights, dtype=logits.dtype, device=logits.device)
    costs = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE, reduction="sum")
    total = weights[targets[targets != IGNORE]].sum()
    return {
        # The mean of torch would be not a number where every cell is unknown.
        "cross_entropy": costs / total.clamp(min=1e-6),
        "dice": soft_dice_loss(logits, targets),
    }


def soft_dice_loss(
    logits: Float[Tensor, "n 3 h w"], targets: Int64[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    """1 − 2 Σ p t / (Σ p + Σ t), mean over interior and boundary, over all known cells at once.

    Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, without their squares. A class that does not occur
    in the batch is left out: its ratio is 0 whatever the network says.
    """
    known = (targets != IGNORE).to(logits.dtype)
    probabilities = logits.softmax(1) * known[:, None]
    losses, present = [], []
    for index in (INTERIOR, BOUNDARY):
        truth = (targets == index).to(logits.dtype)
        both = (probabilities[:, index] * truth).sum()
        mass = probabilities[:, index].sum() + truth.sum()
        losses.append(1 - 2 * both / mass.clamp(min=1e-6))
        present.append(truth.sum() > 0)
    counts = torch.stack(present).to(logits.dtype)
    return (torch.stack(losses) * counts).sum() / counts.sum().clamp(min=1)
