"""Exact nearest neighbours, by faiss or by torch, whichever is faster for the size."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from pixelkin.errors import PixelkinError

Backend = Literal["auto", "faiss", "torch"]

_GROUPS = 16


def nearest(
    queries: Float[Tensor, "q d"],
    references: Float[Tensor, "r d"],
    *,
    k: int = 5,
    chunk: int = 128,
    backend: Backend = "auto",
) -> tuple[Float[Tensor, "q k"], Int64[Tensor, "q k"]]:
    """The k nearest references of every query by squared Euclidean distance, exactly.

    Args:
        queries: float (Q, D).
        references: float (R, D), R ≥ 1; where R < k, all R are returned.
        k: neighbours, at least 1.
        chunk: queries per matrix product of the torch search. 128 rows of 20,000 scores fill
            10 MB, which stays in a usual L3 cache; on a GPU the product takes 64 times as many.
        backend: "faiss" (CPU only) or "torch"; "auto" is torch on a GPU, and on a CPU the winner
            of benchmarks/retrieval.py for the size.

    Returns:
        Squared distances, float32 (Q, k), ascending and never negative, and the references' rows,
        int64 (Q, k). They cannot be differentiated. Equally near references come in any order.

    Raises:
        PixelkinError: no references, k < 1, or unequal dimensions.
    """
    if queries.ndim != 2 or references.ndim != 2 or queries.shape[1] != references.shape[1]:
        raise PixelkinError(
            f"queries {tuple(queries.shape)} and references {tuple(references.shape)}: expected "
            "(Q, D) and (R, D)"
        )
    if len(references) == 0 or k < 1 or chunk < 1:
        raise PixelkinError(
            f"{len(references)} references, k = {k}, chunk = {chunk}: each must be 1 or more"
        )
    k = min(k, len(references))
    queries, references = queries.detach().float(), references.detach().float()
    if backend == "auto":
        on_cpu = queries.device.type == "cpu"
        backend = "faiss" if on_cpu and _faiss_wins(len(queries), len(references)) else "torch"
    if backend == "faiss":
        return _nearest_faiss(queries, references, k)
    return _nearest_torch(
        queries, references, k, chunk if queries.device.type == "cpu" else 64 * chunk
    )


def _faiss_wins(queries: int, references: int) -> bool:
    # Measured by benchmarks/retrieval.py. faiss blocks its products by 4,096 queries, and shares
    # the work badly between cores below that; torch stays in the cache with few references.
    return queries >= 4096 and references >= 4096


def _nearest_faiss(
    queries: Float[Tensor, "q d"], references: Float[Tensor, "r d"], k: int
) -> tuple[Float[Tensor, "q k"], Int64[Tensor, "q k"]]:
    # Imported here: it takes .1 s, and a GPU session never needs it.
    import faiss

    distances, index = faiss.knn(queries.contiguous().numpy(), references.contiguous().numpy(), k)
    # Rounding makes distances of equal vectors slightly negative.
    return torch.from_numpy(distances).clamp_min_(0), torch.from_numpy(index)


def _nearest_torch(
    queries: Float[Tensor, "q d"], references: Float[Tensor, "r d"], k: int, chunk: int
) -> tuple[Float[Tensor, "q k"], Int64[Tensor, "q k"]]:
    rows = len(references)
    half = -0.5 * references.square().sum(1)
    # A wide topk costs as much as the product. The k best lie in the k groups with the best
    # maxima, so only those groups' members are sorted; members lie `groups` apart, which makes
    # the maxima plain elementwise work.
    grouped = k > 1 and rows >= 4 * _GROUPS * k
    groups = -(-rows // _GROUPS) if grouped else rows
    padding = groups * _GROUPS - rows if grouped else 0
    half = functional.pad(half, (0, padding), value=-torch.inf)
    columns = functional.pad(references, (0, 0, 0, padding)).T.contiguous()
    member = torch.arange(_GROUPS, device=queries.device) * groups
    best = queries.new_empty(len(queries), k)
    index = torch.empty(len(queries), k, dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries), chunk):
        scores = torch.addmm(half, queries[start : start + chunk], columns)
        if k == 1:
            value, column = scores.max(1, keepdim=True)
        elif grouped:
            maxima = scores.view(-1, _GROUPS, groups).amax(1)
            group = maxima.topk(k, dim=1).indices
            candidates = (group[:, :, None] + member).flatten(1)
            value, place = scores.gather(1, candidates).topk(k, dim=1)
            column = candidates.gather(1, place)
        else:
            value, column = scores.topk(k, dim=1)
        best[start : start + chunk] = value
        index[start : start + chunk] = column
    # Rounding makes distances of equal vectors slightly negative.
    distances = (queries.square().sum(1, keepdim=True) - 2 * best).clamp_min_(0)
    return distances, index
