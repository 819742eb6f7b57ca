"""The random walk against squaring a dense matrix: time, error, memory, and growth with cells.

    python benchmarks/random_walk.py [--threads 1] [--rounds 5] [--part compare|growth|largest]

A 500×375 image at stride 8 is a grid of 47×63 cells; 21 maps, radius 5, power 8, 256 steps, as in
AffinityNet's paper. Affinities are exp(−mean |difference|) of smooth features with hard borders.
The peer makes the dense 2961² transition, squares it eight times and multiplies the maps by it,
in place wherever it can, with two matrices and never more; ours is timed from affinities to walked
maps, the peer's matrix is made beforehand. Contestants take turns, the peer once; times are of
the processor, summed over threads, so that what else runs on the machine does not count. Errors
are largest differences to a walk in float64, over the largest value. Memory is the peak of the
bytes that torch's allocator has given out and not got back since the start, from affinities to
walked maps, inputs not counted; what a library allocates for itself is not in it, of the peer's
as of ours.
Growth: 21 maps of photos up to 2000×2000 pixels at stride 8, and 1 map at stride 1, the
largest of which (a part of its own) should take half a minute and 2.5 GB.
Results go to benchmarks/results/random_walk.json, the growth also to random_walk.png.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from pixelkin.assess.files import provenance
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.grouping.random_walk import chebyshev_series, transition, walk

RESULTS = Path(__file__).parent / "results"
OFFSETS = half_plane_offsets(5)
STEPS, POWER, MAPS = 256, 8, 21
STRIDE_8 = [(375, 500), (750, 1000), (1500, 1500), (2000, 2000)]
STRIDE_1, LARGEST = [(250, 250), (500, 500), (1000, 1000)], (2000, 2000)


def affinities(size_hw: tuple[int, int], dimensions: int = 4) -> Tensor:
    """(34, h, w) of smooth features with hard borders; 0 where a pair ends outside."""
    generator = torch.Generator().manual_seed(0)
    height, width = size_hw
    coarse = torch.randn(1, dimensions, height // 8 + 2, width // 8 + 2, generator=generator)
    features = functional.interpolate(coarse, size_hw, mode="bilinear")[0]
    features += (features[:1] > 0).float() + 0.03 * torch.randn(features.shape, generator=generator)
    weights = torch.zeros(len(OFFSETS), height, width)
    for weight, (dy, dx) in zip(weights, OFFSETS, strict=True):
        here = (slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0)))
        there = features[:, dy:, max(dx, 0) : width + min(dx, 0)]
        weight[here] = (features[:, here[0], here[1]] - there).abs().mean(0).neg().exp()
    return weights


def maps_of(count: int, size_hw: tuple[int, int]) -> Tensor:
    return torch.rand(count, *size_hw, generator=torch.Generator().manual_seed(1)) ** 4


def dense_transition(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """T as a matrix, without a second one."""
    _, height, width = weights.shape
    cells = torch.arange(height * width).view(height, width)
    matrix = torch.eye(height * width, dtype=dtype)
    for weight, (dy, dx) in zip(weights, OFFSETS, strict=True):
        here = (slice(0, height - dy), slice(max(-dx, 0), width - max(dx, 0)))
        a, b = cells[here].flatten(), cells[here].flatten() + dy * width + dx
        matrix[a, b] = matrix[b, a] = weight[here].flatten().to(dtype) ** POWER
    return matrix.div_(matrix.sum(1, keepdim=True))


def squared(matrix: Tensor, maps: Tensor) -> Tensor:
    """T^256 M by eight squarings; `matrix` is used up."""
    other = torch.empty_like(matrix)
    for _ in range(int(math.log2(STEPS))):
        torch.mm(matrix, matrix, out=other)
        matrix, other = other, matrix
    return (maps.flatten(1).to(matrix.dtype) @ matrix.T).view(maps.shape)


def least_ms(table: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times = dict.fromkeys(table, math.inf)
    for turn in range(rounds + 1):
        for name, run in table.items():
            if name.startswith("dense") and turn != 1:
                continue
            start = time.process_time()
            run()
            if turn or rounds == 0:
                times[name] = min(times[name], (time.process_time() - start) * 1e3)
    return {name: round(value, 3) for name, value in times.items()}


def peak_bytes(run: Callable[[], Tensor]) -> tuple[int, Tensor]:
    """Most bytes that torch's CPU allocator had given out at once during `run`, and its result."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        found = run()
    events = profiler.profiler.kineto_results.events()
    changes = [event for event in events if event.name() == "[memory]"]
    held, peak = 0, 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, found


def compare(rounds: int) -> dict[str, object]:
    size_hw = (47, 63)
    weights, maps = affinities(size_hw), maps_of(MAPS, size_hw)
    matrix, grid = dense_transition(weights, torch.float32), transition(weights, OFFSETS)
    ours = {
        method: lambda method=method: walk(transition(weights, OFFSETS), maps, method=method)
        for method in ("chebyshev", "products")
    }
    times = least_ms(
        {
            "transition": lambda: transition(weights, OFFSETS),
            "walk alone, chebyshev": lambda: walk(grid, maps),
            **ours,
            "dense": lambda: squared(matrix.clone(), maps),
        },
        rounds,
    )
    peer = {"dense": lambda: squared(dense_transition(weights, torch.float32), maps)}
    peaks, found = {}, {}
    for name, run in {**ours, **peer}.items():
        peaks[name], found[name] = peak_bytes(run)
    exact = maps.double().flatten(1).T
    # 256 products in float64: nothing is squared, so no rounding doubles.
    matrix = dense_transition(weights, torch.float64).to_sparse_csr()
    for _ in range(STEPS):
        exact = matrix @ exact
    exact = exact.T.view(maps.shape)
    errors = {
        name: float((value - exact).abs().max() / exact.abs().max())
        for name, value in found.items()
    }
    return {
        "size_hw": size_hw,
        "maps": MAPS,
        "products_of_chebyshev": max(chebyshev_series(STEPS)),
        "least_ms": times,
        "times_faster": round(times["dense"] / times["chebyshev"], 1),
        "relative_error": errors,
        "peak_bytes": peaks,
        "times_less_memory": round(peaks["dense"] / peaks["chebyshev"], 1),
    }


def grown(size_hw: tuple[int, int], count: int, rounds: int) -> dict[str, float]:
    weights, maps = affinities(size_hw), maps_of(count, size_hw)
    start = time.process_time()
    grid = transition(weights, OFFSETS)
    made = time.process_time() - start
    del weights
    times = least_ms({"walk": lambda: walk(grid, maps)}, rounds)
    point = {"cells": math.prod(size_hw), "walk_ms": times["walk"]}
    print(point, flush=True)
    return {**point, "transition_ms": round(made * 1e3, 3)}


def growth(known: dict[str, dict[str, object]], part: str, rounds: int) -> dict[str, object]:
    """Points and slopes; the parts not asked for stay as they are `known`."""
    strides = (f"stride 8, {MAPS} maps", "stride 1, 1 map")
    points = {name: known.get(name, {}).get("points", []) for name in strides}
    if part != "largest":
        points = {
            strides[0]: [grown((-(-h // 8), -(-w // 8)), MAPS, rounds) for h, w in STRIDE_8],
            strides[1]: [grown(size_hw, 1, 0) for size_hw in STRIDE_1],
        }
    if part != "growth":
        below = [p for p in points[strides[1]] if p["cells"] < math.prod(LARGEST)]
        points[strides[1]] = [*below, grown(LARGEST, 1, 0)]
    return {name: {"points": each, "log_log_slope": slope(each)} for name, each in points.items()}


def slope(points: list[dict[str, float]]) -> float:
    """Exponent of the cost: the slope of a line through the logarithms."""
    x = np.log([point["cells"] for point in points])
    return round(float(np.polyfit(x, np.log([point["walk_ms"] for point in points]), 1)[0]), 3)


def plot(path: Path, parts: dict[str, dict[str, object]]) -> None:
    """Log-log panels side by side."""
    image = Image.new("RGB", (420 * len(parts), 340), "white")
    draw = ImageDraw.Draw(image)
    for number, (name, part) in enumerate(parts.items()):
        left, top, width, height = 420 * number + 70, 40, 320, 240
        x = np.log10([point["cells"] for point in part["points"]])
        y = np.log10([point["walk_ms"] for point in part["points"]])
        low, high = math.floor(y.min()), math.ceil(y.max())
        draw.rectangle((left, top, left + width, top + height), outline="black")
        for power in range(low, high + 1):
            level = top + height * (high - power) / (high - low)
            draw.line((left, level, left + width, level), fill="lightgrey")
            draw.text((left - 62, level - 5), f"{10**power:g} ms", fill="black")
        across = left + 20 + (width - 40) * (x - x[0]) / (x[-1] - x[0])
        down = top + height * (high - y) / (high - low)
        draw.line(list(zip(across, down, strict=True)), fill="steelblue", width=2)
        for px, py, point in zip(across, down, part["points"], strict=True):
            draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill="steelblue")
            draw.text((px - 16, top + height + 6), f"{point['cells']:,}", fill="black")
        title = f"walk, {name}: slope {part['log_log_slope']}"
        draw.text((left + 8, top + 5), title, fill="steelblue")
        draw.text((left + width / 2 - 15, top + height + 26), "cells", fill="black")
    with atomic_path(path) as temporary:
        image.quantize(32).save(temporary, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=["compare", "growth", "largest", "all"], default="all")
    parser.add_argument("--out", type=Path, default=RESULTS / "random_walk.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    # Parts can be measured one by one: what was not measured now stays as it was.
    report: dict[str, object] = json.loads(given.out.read_text()) if given.out.exists() else {}
    load = [round(v, 2) for v in os.getloadavg()]
    if given.part in ("compare", "all"):
        report["compare"] = compare(given.rounds)
        print(json.dumps(report["compare"], indent=1), flush=True)
    if given.part != "compare":
        report["growth"] = growth(report.get("growth", {}), given.part, given.rounds)
        plot(given.out.with_suffix(".png"), report["growth"])
    report |= {"threads": given.threads, "rounds": given.rounds, "load_average": load}
    atomic_write(given.out, json.dumps({**report, **provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    main()
