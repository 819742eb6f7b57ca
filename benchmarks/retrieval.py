"""Exact nearest neighbours: ours against faiss, torch and usearch in one run.

    python benchmarks/retrieval.py [--threads 2] [--rounds 9] [--device cpu]

Random unit vectors at the sizes of the main job: 6,420 queries are a frame of 480×854 at stride 8,
1,620 one at stride 16. Contestants take turns, so that a busy machine slows all of them alike;
medians are reported, and written to benchmarks/results/retrieval.json. `pixelkin.grouping.nearest`
chooses its backend by this table. usearch is a peer for this file only (pip install usearch), and
is left out where it is missing.

This is the exact k-NN vote of the paper (`--method retrieval`); the shipped model's soft vote is a
matrix product inside its graph, and part of benchmarks/video.py.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pixelkin.assess.files import provenance
from pixelkin.files import atomic_write
from pixelkin.grouping.nearest import nearest

SIZES = [
    (6420, 20000, 64),
    (1620, 20000, 64),
    (6420, 6420, 64),
    (1620, 6420, 64),
    (6420, 500, 64),
    (1620, 500, 64),
]
RESULT = Path(__file__).parent / "results" / "retrieval.json"


def plain_torch(queries: Tensor, references: Tensor, k: int) -> Tensor:
    """What one would write first: products in chunks, then max or topk."""
    half = -0.5 * references.square().sum(1)
    found = []
    for part in queries.split(128):
        scores = torch.addmm(half, part, references.T)
        found.append(scores.max(1, keepdim=True) if k == 1 else scores.topk(k, dim=1))
    return torch.cat([indices for _, indices in found])


def contestants(
    queries: Tensor, references: Tensor, k: int, threads: int
) -> dict[str, Callable[[], object]]:
    def ours(backend: str) -> Callable[[], object]:
        return lambda: nearest(queries, references, k=k, backend=backend)[1]

    if queries.device.type != "cpu":
        return {"ours auto": ours("auto"), "torch": lambda: plain_torch(queries, references, k)}
    table = {
        "ours auto": ours("auto"),
        "ours faiss": ours("faiss"),
        "ours torch": ours("torch"),
        "faiss": lambda: torch.from_numpy(faiss.knn(queries.numpy(), references.numpy(), k)[1]),
        "torch": lambda: plain_torch(queries, references, k),
    }
    try:
        from usearch.index import MetricKind, search
    except ImportError:
        return table

    def usearch() -> object:
        found = search(
            references.numpy(), queries.numpy(), k, MetricKind.L2sq, exact=True, threads=threads
        )
        return torch.from_numpy(found.keys.astype(np.int64).reshape(len(queries), k))

    return {**table, "usearch": usearch}


def measure(
    size: tuple[int, int, int], k: int, *, threads: int, rounds: int, device: str
) -> dict[str, object]:
    rows, columns, dimensions = size
    generator = torch.Generator().manual_seed(0)
    queries, references = (
        functional.normalize(torch.randn(n, dimensions, generator=generator), dim=1).to(device)
        for n in (rows, columns)
    )
    table = contestants(queries, references, k, threads)
    expected = plain_torch(queries, references, k).cpu()
    times: dict[str, list[float]] = {name: [] for name in table}
    same: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name, run in table.items():
            # Thirty times slower than the others: one turn says enough.
            if name == "usearch" and turn > 1:
                continue
            start = time.perf_counter()
            found = run()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                times[name].append(time.perf_counter() - start)
            else:
                same[name] = float((found.cpu() == expected).float().mean())
    medians = {name: statistics.median(taken) * 1e3 for name, taken in times.items()}
    peers = {name: value for name, value in medians.items() if not name.startswith("ours")}
    best = min(peers, key=peers.__getitem__)
    return {
        "queries": rows,
        "references": columns,
        "dimensions": dimensions,
        "k": k,
        "median_ms": {name: round(value, 2) for name, value in medians.items()},
        "least_ms": {name: round(min(taken) * 1e3, 2) for name, taken in times.items()},
        "same_indices": {name: round(value, 6) for name, value in same.items()},
        "fastest_peer": best,
        "ratio": round(medians["ours auto"] / peers[best], 3),
        # The least time is the better estimate where other jobs run on the machine.
        "ratio_of_least": round(
            min(times["ours auto"]) / min(min(times[name]) for name in peers), 3
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--references", type=int, help="only sizes with so many references")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    results = []
    for size in SIZES:
        if given.references not in (None, size[1]):
            continue
        for k in (1, 5):
            row = measure(size, k, threads=given.threads, rounds=given.rounds, device=given.device)
            results.append(row)
            print(size, f"k={k}", row["median_ms"], f"ratio {row['ratio']}", flush=True)
    report = {
        "device": given.device,
        "threads": given.threads,
        "rounds": given.rounds,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "faiss": faiss.__version__,
        "results": results,
        **provenance(),
    }
    atomic_write(given.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
