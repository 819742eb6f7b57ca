"""Mean shift: ours against scikit-learn's on the same embeddings, and our cost against pixels.

    python benchmarks/mean_shift.py [--threads 1] [--rounds 5] [--device cpu]

Made-up embeddings of the discriminative loss's kind: means at least 2δ_d = 3 apart, pixels .35±.14
from their mean, so that some lie outside δ_v = .5; instances of unequal size; and 5 % of the
pixels somewhere between two means, as at the borders of objects. Bandwidth δ_v.

scikit-learn runs once, from every point (its default); ours takes the median of the rounds. Seconds
of the processor stand beside seconds of the clock, since other jobs may run on the machine: the
speedup is of processor seconds. Written to benchmarks/results/mean_shift.json and .png.
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
import sklearn
import torch
from PIL import Image, ImageDraw
from sklearn.cluster import MeanShift
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn import functional

from pixelkin.assess.files import provenance
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.mean_shift import mean_shift, one_pass

BANDWIDTH = 0.5
CASES = [(8, 20), (8, 100), (16, 20), (16, 100)]
PIXELS = [10_000, 30_000, 100_000, 300_000, 1_000_000]
NOISE = 0.05
RESULT = Path(__file__).parent / "results" / "mean_shift.json"


def embeddings(pixels: int, dimensions: int, clusters: int) -> tuple[Tensor, Tensor]:
    """Embeddings (n, d) and true instances (n,), -1 for the pixels between two means."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    candidates = normal(20 * clusters, dimensions) * 3.5
    means = candidates[:1]
    for row in candidates[1:]:
        if len(means) < clusters and (means - row).norm(dim=1).min() >= 3:
            means = torch.cat([means, row[None]])
    shares = (0.7 * normal(len(means))).exp()
    labels = torch.multinomial(shares, pixels, replacement=True, generator=generator)
    away = functional.normalize(normal(pixels, dimensions), dim=1)
    points = means[labels] + away * (0.35 + 0.14 * normal(pixels, 1)).abs()
    noisy = int(NOISE * pixels)
    other = means[torch.randint(len(means), (noisy,), generator=generator)]
    points[:noisy] = torch.lerp(points[:noisy], other, torch.rand(noisy, 1, generator=generator))
    labels[:noisy] = -1
    order = torch.randperm(pixels, generator=generator)
    return points[order], labels[order]


def contestants(points: Tensor, *, exact: bool) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    table = {
        "mean_shift": lambda: mean_shift(points, bandwidth=BANDWIDTH),
        "one_pass": lambda: one_pass(points, radius=2 * BANDWIDTH),
        "one_pass refined": lambda: one_pass(
            points, radius=2 * BANDWIDTH, refine_steps=3, min_size=20
        ),
    }
    if exact:
        table["mean_shift sample=None"] = lambda: mean_shift(
            points, bandwidth=BANDWIDTH, sample=None
        )
    return table


def time_ours(points: Tensor, truth: Tensor, *, rounds: int, exact: bool) -> dict[str, dict]:
    """Seconds, groups and agreement with the truth, pixels between two means left out."""
    found = {}
    for name, run in contestants(points, exact=exact).items():
        taken, worked = [], []
        while len(taken) < rounds and sum(worked) < 4:
            start, work = time.perf_counter(), time.process_time()
            labels, centres = run()
            if points.device.type != "cpu":
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
            worked.append(time.process_time() - work)
        labels = labels.cpu()
        known = truth >= 0
        found[name] = {
            "median_s": round(statistics.median(taken), 4),
            "least_s": round(min(taken), 4),
            "median_processor_s": round(statistics.median(worked), 4),
            "rounds": len(taken),
            "groups": len(centres),
            "ari_truth": round(adjusted_rand_score(truth[known], labels[known]), 4),
            "labels": labels,
        }
    return found


def against_sklearn(given: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    for dimensions, clusters in CASES:
        points, truth = embeddings(given.pixels, dimensions, clusters)
        ours = time_ours(points.to(given.device), truth, rounds=given.rounds, exact=False)
        start, work = time.perf_counter(), time.process_time()
        peer = MeanShift(bandwidth=BANDWIDTH).fit(points.numpy())
        seconds, work = time.perf_counter() - start, time.process_time() - work
        known = (truth >= 0).numpy()
        for result in ours.values():
            labels = result.pop("labels")
            result["ari_sklearn"] = round(adjusted_rand_score(peer.labels_, labels), 4)
        rows.append(
            {
                "pixels": given.pixels,
                "dimensions": dimensions,
                "clusters": clusters,
                "sklearn": {
                    "seconds": round(seconds, 2),
                    "processor_s": round(work, 2),
                    "groups": len(peer.cluster_centers_),
                    "ari_truth": round(adjusted_rand_score(truth[known], peer.labels_[known]), 4),
                },
                "ours": ours,
                "speedup": round(work / ours["mean_shift"]["median_processor_s"], 1),
                "speedup_by_clock": round(seconds / ours["mean_shift"]["median_s"], 1),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def against_pixels(given: argparse.Namespace) -> list[dict[str, object]]:
    rows = []
    for dimensions, clusters in CASES[2:3]:
        for pixels in PIXELS:
            points, truth = embeddings(pixels, dimensions, clusters)
            ours = time_ours(
                points.to(given.device), truth, rounds=min(3, given.rounds), exact=pixels <= 10**5
            )
            for result in ours.values():
                del result["labels"]
            rows.append(
                {"pixels": pixels, "dimensions": dimensions, "clusters": clusters, "ours": ours}
            )
            print(json.dumps(rows[-1]), flush=True)
    return rows


def growth(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Slope of log processor time over log pixels from 100,000 pixels on; 1 is linear."""
    slopes: dict[str, dict[str, float]] = {}
    for clusters in sorted({row["clusters"] for row in rows}):
        kept = [row for row in rows if row["clusters"] == clusters and row["pixels"] >= 10**5]
        slopes[f"{clusters} clusters"] = {
            name: round(
                float(
                    np.polyfit(
                        np.log([row["pixels"] for row in kept]),
                        np.log([row["ours"][name]["median_processor_s"] for row in kept]),
                        1,
                    )[0]
                ),
                3,
            )
            for name in kept[-1]["ours"]
        }
    return slopes


def draw(rows: list[dict], peers: list[dict], path: Path) -> None:
    """Processor seconds over pixels, both logarithmic; drawn without a plotting library."""
    width, height, margin = 900, 560, 70
    canvas = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(canvas)
    low_x, high_x, low_y, high_y = 4.0, 6.0, -3.0, 2.0

    def place(pixels: float, seconds: float) -> tuple[float, float]:
        across = (np.log10(pixels) - low_x) / (high_x - low_x)
        up = (np.log10(seconds) - low_y) / (high_y - low_y)
        return margin + across * (width - 330), height - margin - up * (height - 2 * margin)

    for power in range(int(low_x), int(high_x) + 1):
        x, y = place(10**power, 10**low_y)
        pen.line([x, margin, x, y], fill="#dddddd")
        pen.text((x, y + 12), f"{10**power:,}", fill="black", anchor="ma", font_size=14)
    for power in range(int(low_y), int(high_y) + 1):
        x, y = place(10**low_x, 10.0**power)
        pen.line([x, y, place(10**high_x, 1)[0], y], fill="#dddddd")
        pen.text((x - 8, y), f"{10.0**power:g} s", fill="black", anchor="rm", font_size=14)
    pen.text(
        (margin, 24), "Grouping: processor seconds over pixels, d = 16", fill="black", font_size=18
    )
    pen.text((place(10**5, 1)[0], height - 24), "pixels", fill="black", anchor="mm", font_size=14)
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#117733", "black")
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, result in row["ours"].items():
            curve = curves.setdefault(f"{name}, {row['clusters']}", [])
            curve.append(place(row["pixels"], result["median_processor_s"]))
    for row in peers:
        if row["dimensions"] == 16:
            name = f"scikit-learn, {row['clusters']}"
            curves[name] = [place(row["pixels"], row["sklearn"]["processor_s"])]
    for turn, (name, curve) in enumerate(curves.items()):
        colour = colours[turn % len(colours)]
        pen.line(curve, fill=colour, width=2)
        for x, y in curve:
            pen.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
        top = margin + 24 * turn
        pen.rectangle([width - 240, top - 6, width - 228, top + 6], fill=colour)
        pen.text((width - 222, top), f"{name} clusters", fill="black", anchor="lm", font_size=13)
    with atomic_path(path) as temporary:
        canvas.quantize(64).save(temporary, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=10_000, help="for scikit-learn")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    faiss.omp_set_num_threads(given.threads)
    peers = against_sklearn(given)
    rows = against_pixels(given)
    report = {
        "device": given.device,
        "threads": given.threads,
        "bandwidth": BANDWIDTH,
        "noise": NOISE,
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "sklearn": sklearn.__version__,
        "against_sklearn": peers,
        "against_pixels": rows,
        "slope_from_100000_pixels": growth(rows),
        **provenance(),
    }
    atomic_write(given.out, json.dumps(report, indent=1) + "\n")
    draw(rows, peers, given.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
