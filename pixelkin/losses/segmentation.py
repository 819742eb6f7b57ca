"""Losses on mask logits."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def masked_bce(
    logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy against soft targets in [0, 1], mean over valid pixels."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = valid.to(loss.dtype)
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def soft_jaccard_loss(
    logits: Float[Tensor, "n h w"], target: Float[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    """1 − soft intersection over union, mean over the masks that are not empty.

    An empty target has a union made of false positives alone, of which cross-entropy takes care.
    """
    weight = valid.to(logits.dtype)
    probability = logits.sigmoid() * weight
    target = target * weight
    both = (probability * target).sum(dim=(1, 2))
    either = (probability + target - probability * target).sum(dim=(1, 2))
    present = target.sum(dim=(1, 2)) > 0
    jaccard = both / either.clamp(min=1e-6)
    loss = torch.where(present, 1.0 - jaccard, torch.zeros_like(jaccard))
    return loss.sum() / present.sum().clamp(min=1)
