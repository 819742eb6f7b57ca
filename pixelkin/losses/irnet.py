"""The losses of IRNet: class boundaries and displacements from pairs of cells.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019, section 4.2. Pairs are of one class, of the background or of two classes, as
in AffinityNet (`losses.affinity.affinity_labels`, here with offsets of radius 10):

    L_boundary = ¼ (L⁺fg + L⁺bg + 2 L⁻),  a_ij = 1 − max of the boundary map from i to j
    L_displacement = ½ (mean |D_i − D_j − (j − i)| over pairs of one class
                        + mean |D_i − D_j| over pairs of background)

L⁺ is the mean of −log a, L⁻ of −log(1 − a). The first displacement term makes i + D_i = j + D_j:
cells of one object point at one place, and which place is left to the network; the second keeps the
background from pointing anywhere in particular. Each mean is over the pairs of all processes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import Offsets, pair_windows
from pixelkin.grouping.boundary_affinity import path_maxima
from pixelkin.losses.affinity import AFFINITY_WEIGHTS, PairKinds, SumOverProcesses, mean_costs

IRNET_WEIGHTS = {
    **AFFINITY_WEIGHTS,
    "displacement_foreground": 0.5,
    "displacement_background": 0.5,
}
"""What the parts weigh in the sum; a recipe's `loss_weights`."""


def irnet_losses(
    logits: Float[Tensor, "n h w"],
    displacement: Float[Tensor, "n 2 h w"],
    kinds: PairKinds,
    offsets: Offsets,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """All five parts; `IRNET_WEIGHTS` make them one.

    Args:
        logits: float (N, h, w), of a class boundary, before the sigmoid.
        displacement: float (N, 2, h, w), (dy, dx) in cells.
        kinds: from `affinity_labels(cell_labels, offsets)`.
        offsets: the same, (dy, dx) in cells: `half_plane_offsets(TRAINING_RADIUS_CELLS)`.
        sum_over_processes: see `losses.affinity.mean_costs`.

    Returns:
        `boundary_losses` and `displacement_losses`.
    """
    return {
        **boundary_losses(logits, kinds, offsets, sum_over_processes=sum_over_processes),
        **displacement_losses(displacement, kinds, offsets, sum_over_processes=sum_over_processes),
    }


def boundary_losses(
    logits: Float[Tensor, "n h w"],
    kinds: PairKinds,
    offsets: Offsets,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Cross entropies of the affinities a_ij.

    With z the largest logit on the path, a = σ(−z): −log a = softplus(z) and −log(1 − a) =
    softplus(−z) are finite as they are. The authors' code adds 1e-5 before each logarithm instead,
    which lets the gradient of a pair vanish where it is most wrong.

    Returns:
        "same_foreground", "same_background" and "different"; 0 for a kind without pairs.
    """
    largest = path_maxima(logits, offsets)
    return mean_costs(
        functional.softplus(largest),
        functional.softplus(-largest),
        kinds,
        sum_over_processes=sum_over_processes,
    )


def displacement_losses(
    displacement: Float[Tensor, "n 2 h w"],
    kinds: PairKinds,
    offsets: Offsets,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """L1 from the displacements' differences to what they should be, mean over dy and dx.

    Returns:
        "displacement_foreground" and "displacement_background"; 0 for a kind without pairs.
    """
    n, k, h, w = kinds.different.shape
    if tuple(displacement.shape) != (n, 2, h, w) or k != len(offsets):
        raise PixelkinError(
            f"displacements {tuple(displacement.shape)} and {len(offsets)} offsets for pairs "
            f"{(n, k, h, w)}: expected ({n}, 2, {h}, {w}) and {k}; take the labels at the size of "
            "the field, and the same offsets for both"
        )
    if displacement.dtype in (torch.float16, torch.bfloat16):
        displacement = displacement.float()
    costs: Tensor = _PairCosts.apply(displacement, kinds.same_foreground, tuple(offsets))
    found = mean_costs(costs, costs, kinds, sum_over_processes=sum_over_processes)
    return {
        "displacement_foreground": found["same_foreground"],
        "displacement_background": found["same_background"],
    }


class _PairCosts(torch.autograd.Function):
    """½ ‖D_i − D_j − m_ij (j − i)‖₁, m the mask of pairs that should point at one place."""

    @staticmethod
    def forward(
        ctx: Any, field: Tensor, together: Tensor, offsets: tuple[tuple[int, int], ...]
    ) -> Tensor:
        costs = field.new_zeros(together.shape)
        for k, offset in enumerate(offsets):
            (rows, columns), _ = pair_windows((field.shape[2], field.shape[3]), offset)
            costs[:, k, rows, columns] = _residual(field, together, k, offset).abs_().mean(1)
        ctx.save_for_backward(field, together)
        ctx.offsets = offsets
        return costs

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        field, together = ctx.saved_tensors
        result = torch.zeros_like(field)
        for k, offset in enumerate(ctx.offsets):
            (rows, columns), far = pair_windows((field.shape[2], field.shape[3]), offset)
            sign = _residual(field, together, k, offset).sign_()
            sign *= gradient[:, k, None, rows, columns] / 2
            result[:, :, rows, columns] += sign
            result[:, :, far[0], far[1]] -= sign
        return result, None, None


def _residual(
    field: Float[Tensor, "n 2 h w"],
    together: Bool[Tensor, "n k h w"],
    k: int,
    offset: tuple[int, int],
) -> Float[Tensor, "n 2 _h _w"]:
    (rows, columns), far = pair_windows((field.shape[2], field.shape[3]), offset)
    wanted = field.new_tensor(offset).view(1, 2, 1, 1) * together[:, k, None, rows, columns]
    return field[:, :, rows, columns] - field[:, :, far[0], far[1]] - wanted
