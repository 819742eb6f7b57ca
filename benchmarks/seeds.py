"""Seeds and their masks: cost on a 480×640 field, and how it grows with pixels and seeds.

    python benchmarks/seeds.py [--threads 2] [--rounds 20] [--device cpu]

The field: 60 ellipses and a background, each a cluster of embeddings about 10 (squared) from the
others, with noise, slow drift inside objects, and borders that blend; scores are high inside
objects. Timed are the balls around runs of pixels that both parts share, the choice of seeds, the
masks at each seed's cut as run lengths, and the whole from field to run lengths; beside them the
membership of every pixel by matrix products, which the masks do without. The naive peer computes
every pixel's distance to every seed as one would write it first, and encodes each dense mask; both
give the same seeds and the same masks. Contestants take turns; medians and least times go to
benchmarks/results/seeds.json, the growth also to seeds.png.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from pixelkin.assess.files import provenance
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.blocks import PixelBlocks
from pixelkin.grouping.seeds import choose_seeds
from pixelkin.grouping.similarity import distance_at, similar, similar_rles
from pixelkin.masks import decode_rle, encode_rle

RESULTS = Path(__file__).parent / "results"
CUTS = torch.tensor([distance_at(cut) for cut in (0.25, 0.5, 0.75, 0.9)])
SIZES = [(240, 320), (480, 640), (960, 1280), (2000, 2000)]
COUNTS = [10, 25, 50, 100, 200, 400]


def field(
    size_hw: tuple[int, int], dimensions: int, *, objects: int = 60
) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (H·W, D), scores (H·W,) and cut distances (H·W,), pixels column by column."""
    height, width = size_hw
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels, depth = torch.zeros(size_hw, dtype=torch.int64), torch.zeros(size_hw)
    for label in range(1, objects + 1):
        centre_y, centre_x, a, b, turn = torch.rand(5, generator=generator).tolist()
        across, down = x - centre_x * width, y - centre_y * height
        axes = [(0.25 + 0.35 * v) * math.sqrt(height * width / objects) for v in (a, b)]
        c, s = math.cos(math.pi * turn), math.sin(math.pi * turn)
        radius = ((across * c + down * s) / axes[0]) ** 2
        radius += ((down * c - across * s) / axes[1]) ** 2
        labels[radius < 1] = label
        depth = torch.where(radius < 1, 1 - radius, depth)
    centres = noise(objects + 1, dimensions) * math.sqrt(5 / dimensions)
    maps = functional.pad(centres[labels].permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")
    maps = functional.avg_pool2d(maps, 3, 1)
    drift = noise(1, dimensions, height // 32 + 2, width // 32 + 2)
    maps += functional.interpolate(drift, size_hw, mode="bilinear") * math.sqrt(0.1 / dimensions)
    maps += noise(*maps.shape) * math.sqrt(0.1 / dimensions)
    scores = torch.where(labels > 0, 0.6 + 0.35 * depth.sqrt(), 0.03) + 0.03 * noise(*size_hw)
    scores = functional.avg_pool2d(scores[None], 3, 1, 1, count_include_pad=False)[0]
    cuts = CUTS[torch.randint(0, len(CUTS), (height * width,), generator=generator)]
    rows = maps[0].permute(2, 1, 0).reshape(-1, dimensions).contiguous()
    return rows, scores.clamp(0.001, 0.999).T.reshape(-1).contiguous(), cuts


def naive_choice(rows: Tensor, scores: Tensor, count: int) -> Tensor:
    logs, apart = scores.log(), torch.full_like(scores, torch.inf)
    chosen = [int(scores.argmax())]
    while len(chosen) < count:
        apart = torch.minimum(apart, (rows - rows[chosen[-1]]).square().sum(1))
        chosen.append(int((logs + 0.3 * apart.log()).argmax()))
    return torch.tensor(chosen, device=rows.device)


def naive_masks(rows: Tensor, seeds: Tensor, distances: Tensor) -> list[Tensor]:
    return [
        (rows - seed).square().sum(1) <= distance
        for seed, distance in zip(seeds, distances, strict=True)
    ]


def naive_rles(masks: list[Tensor], size_hw: tuple[int, int]) -> list[bytes]:
    return [encode_rle(mask.view(size_hw[::-1]).T.cpu().numpy()) for mask in masks]


def timed(
    table: dict[str, Callable[[], object]], rounds: int, device: str, naive_rounds: int = 1
) -> dict[str, list[float]]:
    """Milliseconds of each, in turns; the naive ones, many times slower, once."""
    times: dict[str, list[float]] = {name: [] for name in table}
    for turn in range(rounds + 1):
        for name, run in table.items():
            if name.startswith("naive") and turn not in range(1, naive_rounds + 1):
                continue
            start = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            if turn:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def summary(times: dict[str, list[float]]) -> dict[str, object]:
    return {
        "median_ms": {name: round(statistics.median(v), 2) for name, v in times.items() if v},
        "least_ms": {name: round(min(v), 2) for name, v in times.items() if v},
    }


def split(dimensions: int, *, count: int, rounds: int, device: str) -> dict[str, object]:
    """The parts of 100 seeds on 480×640, ours and naive."""
    size_hw = (480, 640)
    rows, scores, cuts = (part.to(device) for part in field(size_hw, dimensions))
    chosen = choose_seeds(rows, scores, count=count).indices
    seeds, distances = rows[chosen], cuts[chosen]

    def shared() -> PixelBlocks | None:
        return PixelBlocks(rows) if device == "cpu" else None

    def whole() -> list[bytes]:
        made = shared()
        found = choose_seeds(rows, scores, count=count, blocks=made).indices
        return similar_rles(rows, rows[found], cuts[found], size_hw=size_hw, blocks=made)

    blocks = shared()

    # The naive ones take seconds: what they find is kept.
    naive: dict[str, list[Tensor]] = {}
    times = timed(
        {
            "blocks": shared,
            "choice": lambda: choose_seeds(rows, scores, count=count, blocks=blocks),
            "membership of every pixel": lambda: [None for _ in similar(rows, seeds, distances)],
            "membership and run lengths": lambda: similar_rles(
                rows, seeds, distances, size_hw=size_hw, blocks=blocks
            ),
            "whole": whole,
            "naive choice": lambda: naive.update(seeds=[naive_choice(rows, scores, count)]),
            "naive membership": lambda: naive.update(masks=naive_masks(rows, seeds, distances)),
            "naive run lengths": lambda: naive_rles(naive["masks"], size_hw),
        },
        rounds,
        device,
    )
    found = [decode_rle(rle, size_hw) for rle in whole()]
    expected = [mask.view(size_hw[::-1]).T.cpu().numpy() for mask in naive["masks"]]
    other = sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))
    return {
        "size_hw": size_hw,
        "dimensions": dimensions,
        "seeds": count,
        "same_seeds": int((naive["seeds"][0] == chosen).sum()),
        "pixels_in_masks": int(sum(mask.sum() for mask in expected)),
        "pixels_that_differ": other,
        **summary(times),
    }


def growth(
    cases: list[tuple[tuple[int, int], int]], *, rounds: int, device: str
) -> list[dict[str, object]]:
    """Least time of each part with d = 16 for every (size, number of seeds)."""
    found = []
    for size_hw, count in cases:
        found.append(grown(size_hw, count, rounds=rounds, device=device))
        print(found[-1], flush=True)
    return found


def grown(size_hw: tuple[int, int], count: int, *, rounds: int, device: str) -> dict[str, object]:
    rows, scores, cuts = (part.to(device) for part in field(size_hw, 16))
    index = choose_seeds(rows, scores, count=count).indices
    table = {
        "choice": lambda: choose_seeds(rows, scores, count=count),
        "masks": lambda: similar_rles(rows, rows[index], cuts[index], size_hw=size_hw),
    }
    return {"pixels": len(rows), "seeds": count, **summary(timed(table, rounds, device))}


def slope(points: list[dict[str, object]], by: str, part: str) -> float:
    """Exponent of the cost: the slope of a line through the logarithms."""
    x = np.log([float(point[by]) for point in points])
    y = np.log([float(point["least_ms"][part]) for point in points])
    return round(float(np.polyfit(x, y, 1)[0]), 3)


def plot(path: Path, panels: list[tuple[str, list[dict[str, object]], dict[str, float]]]) -> None:
    """Log-log panels side by side."""
    image = Image.new("RGB", (420 * len(panels), 340), "white")
    draw = ImageDraw.Draw(image)
    for number, (by, points, slopes) in enumerate(panels):
        left, top, width, height = 420 * number + 60, 40, 330, 240
        x = np.log10([float(point[by]) for point in points])
        y = {part: np.log10([float(p["least_ms"][part]) for p in points]) for part in slopes}
        low = math.floor(min(v.min() for v in y.values()))
        high = math.ceil(max(v.max() for v in y.values()))
        draw.rectangle((left, top, left + width, top + height), outline="black")
        for power in range(low, high + 1):
            level = top + height * (high - power) / (high - low)
            draw.line((left, level, left + width, level), fill="lightgrey")
            draw.text((left - 45, level - 5), f"{10.0**power:g} ms", fill="black")
        for color, (part, values) in zip(("steelblue", "darkorange"), y.items(), strict=True):
            dots = [
                (
                    left + 15 + (width - 30) * (a - x[0]) / (x[-1] - x[0]),
                    top + height * (high - b) / (high - low),
                )
                for a, b in zip(x, values, strict=True)
            ]
            draw.line(dots, fill=color, width=2)
            for px, py in dots:
                draw.ellipse((px - 3, py - 3, px + 3, py + 3), fill=color)
            row = top + 5 + 14 * list(y).index(part)
            draw.text((left + 8, row), f"{part}: slope {slopes[part]}", fill=color)
        for a, point in zip(x, points, strict=True):
            across = left + 15 + (width - 30) * (a - x[0]) / (x[-1] - x[0])
            draw.text((across - 12, top + height + 6), f"{point[by]:,}", fill="black")
        draw.text((left + width / 2 - 20, top + height + 26), by, fill="black")
    with atomic_path(path) as temporary:
        image.quantize(32).save(temporary, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--part", choices=["split", "growth", "all"], default="all")
    parser.add_argument("--out", type=Path, default=RESULTS / "seeds.json")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    # Parts can be measured one by one: what was not measured now stays as it was.
    report: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    load = [round(v, 2) for v in os.getloadavg()]
    if given.part != "growth":
        report["split"] = []
        for dimensions in (16, 32, 64):
            row = split(dimensions, count=100, rounds=given.rounds, device=given.device)
            report["split"].append(row)
            print(json.dumps(row), flush=True)
    if given.part != "split":
        rounds = max(1, given.rounds // 4)
        by_pixels = growth([(s, 100) for s in SIZES], rounds=rounds, device=given.device)
        by_seeds = growth([((480, 640), n) for n in COUNTS], rounds=rounds, device=given.device)
        panels = []
        for by, points in (("pixels", by_pixels), ("seeds", by_seeds)):
            slopes = {part: slope(points, by, part) for part in ("choice", "masks")}
            panels.append((by, points, slopes))
            report[f"by_{by}"] = {"points": points, "log_log_slope_of_least": slopes}
        plot(given.out.with_suffix(".png"), panels)
    made = {"device": given.device, "threads": given.threads, "rounds": given.rounds}
    made |= {"load_average": load, **provenance()}
    for part in ("split", "growth") if given.part == "all" else (given.part,):
        report.setdefault("made", {})[part] = made
    atomic_write(given.out, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
