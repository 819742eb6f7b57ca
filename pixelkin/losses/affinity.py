"""The loss of AffinityNet.

J. Ahn, S. Kwak: "Learning Pixel-level Semantic Affinity with Image-level Supervision for Weakly
Supervised Semantic Segmentation", CVPR 2018, sections 3.2 and 3.3:

    L = ¼ (L⁺fg + L⁺bg + 2 L⁻)

L⁺ is the mean of −log W over the pairs of one class, once for objects and once for the background;
L⁻ is the mean of −log(1 − W) over the pairs of two classes. Each mean is over the pairs of the
WHOLE batch, of all processes together. An image more or less covered by confident regions has more
or fewer pairs, so the mean of the processes' means would be another number, and its gradient
another one: there the authors' script goes astray with several GPUs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import Offsets, pair_windows
from pixelkin.structures import IGNORE

AFFINITY_WEIGHTS = {"same_foreground": 0.25, "same_background": 0.25, "different": 0.5}
"""What the three parts weigh in the sum; a recipe's `loss_weights`."""

FLOOR = 1e-5
"""Added to 1 − W before its logarithm (the authors' code), so that equal features cost 11.5 and not
infinity."""

SumOverProcesses = Callable[[Int64[Tensor, " m"]], Int64[Tensor, " m"]]


class PairKinds(NamedTuple):
    """Which pairs of cells are of which kind; those of a neutral cell are of none.

    Attributes:
        same_foreground: both cells are of one class.
        same_background: both are background.
        different: of two classes, one of which may be the background.
    """

    same_foreground: Bool[Tensor, "n k h w"]
    same_background: Bool[Tensor, "n k h w"]
    different: Bool[Tensor, "n k h w"]


def affinity_labels(labels: Int64[Tensor, "n h w"], offsets: Offsets) -> PairKinds:
    """Sort the pairs of neighbouring cells by what is known of them.

    Args:
        labels: int64 (N, h, w) of the cells: 0 background, classes from 1, `IGNORE` neutral.
        offsets: (dy, dx) in cells, K of them.

    Returns:
        Masks (N, K, h, w), False where the neighbour lies outside the field.
    """
    if labels.ndim != 3 or labels.is_floating_point():
        raise PixelkinError(
            f"labels are {labels.dtype} {tuple(labels.shape)}: expected integers (N, h, w); "
            "give one label map per image"
        )
    n, h, w = labels.shape
    kinds = PairKinds(
        *(labels.new_zeros(n, len(offsets), h, w, dtype=torch.bool) for _ in range(3))
    )
    for k, offset in enumerate(offsets):
        (rows, columns), far = pair_windows((h, w), offset)
        first, second = labels[:, rows, columns], labels[:, far[0], far[1]]
        known = (first != IGNORE) & (second != IGNORE)
        same = known & (first == second)
        kinds.same_foreground[:, k, rows, columns] = same & (first != 0)
        kinds.same_background[:, k, rows, columns] = same & (first == 0)
        kinds.different[:, k, rows, columns] = known & (first != second)
    return kinds


def affinity_losses(
    distances: Float[Tensor, "n k h w"],
    kinds: PairKinds,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """The three parts of AffinityNet's loss; `AFFINITY_WEIGHTS` make them one.

    Args:
        distances: −log W, from `grouping.affinity.pair_distances`.
        kinds: from `affinity_labels`.
        sum_over_processes: see `mean_costs`.
    """
    # expm1 keeps the digits of 1 − exp(−d) where d is small.
    apart = -torch.log(FLOOR - torch.expm1(-distances))
    return mean_costs(distances, apart, kinds, sum_over_processes=sum_over_processes)


def mean_costs(
    together: Float[Tensor, "n k h w"],
    apart: Float[Tensor, "n k h w"],
    kinds: PairKinds,
    *,
    sum_over_processes: SumOverProcesses | None = None,
) -> dict[str, Float[Tensor, ""]]:
    """Mean cost of each kind of pairs over the batch of all processes.

    The processes share how many pairs there are, nothing else. Each returns its own sum, divided
    by the number of all pairs and multiplied by the number of processes: so the MEAN over the
    processes, which distributed training takes of losses and gradients, is the mean over all pairs,
    exactly. Taken alone, the number of one process means little.

    Args:
        together: what a pair of one class costs.
        apart: what a pair of two classes costs.
        kinds: from `affinity_labels`. Costs of pairs of no kind may be anything, infinite too.
        sum_over_processes: adds up int64 tensors of the processes. By default
            `sum_over_running_processes`; all processes must then call this function alike, so a
            validation that runs in the first one alone passes `lambda counts: counts`.

    Returns:
        "same_foreground", "same_background" and "different"; 0 (with zero gradients) for a kind
        that no process has.
    """
    shapes = [tuple(part.shape) for part in (together, apart, kinds.different)]
    if shapes != shapes[:1] * 3:
        raise PixelkinError(
            f"costs {shapes[0]} and {shapes[1]} for pairs {shapes[2]}: expected one shape; "
            "take the labels at the size of the features, and the same offsets for both"
        )
    costs = {"same_foreground": together, "same_background": together, "different": apart}
    chosen = kinds._asdict()
    one = torch.ones((), dtype=torch.int64, device=together.device)
    counts = torch.stack([*(mask.sum() for mask in chosen.values()), one])
    totals = (sum_over_processes or sum_over_running_processes)(counts)
    processes = totals[-1]
    return {
        name: torch.where(chosen[name], cost, 0).sum() * processes / total.clamp_min(1)
        for (name, cost), total in zip(costs.items(), totals[:-1], strict=True)
    }


def sum_over_running_processes(counts: Int64[Tensor, " m"]) -> Int64[Tensor, " m"]:
    """The sum over the processes of a distributed training; without one, `counts`."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return counts
    totals = counts.clone()
    distributed.all_reduce(totals)
    return totals
