"""The loss of OSVOS."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def class_balanced_bce(
    logits: Float[Tensor, "n h w"], target: Bool[Tensor, "n h w"], valid: Bool[Tensor, "n h w"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy in which object and background weigh the same, mean over valid pixels.

    Caelles et al., CVPR 2017, section 3.1, after Xie and Tu, "Holistically-Nested Edge Detection",
    ICCV 2015: −β Σ₊ log p − (1 − β) Σ₋ log(1 − p) with β the share of background pixels. β is
    taken per image, and the sum is divided by the image's pixels (ours): the learning rate then
    does not depend on the image's size.
    """
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    background = (~target & valid).sum(dim=(1, 2)).to(logits.dtype) / count
    weight = target * background[:, None, None] + ~target * (1 - background)[:, None, None]
    loss = F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype), reduction="none")
    return ((loss * weight * valid).sum(dim=(1, 2)) / count).mean()
