"""The streaming confusion matrix against torchmetrics' mIoU: the same maps, the same numbers.

    python benchmarks/confusion_matrix.py [--rounds 15]

A pair of 1024×2048 maps with 19 classes of which a tenth of the truth is ignored: regions as
scenes have them (smooth, the prediction shifted by 3 pixels), and noise. As int64, what argmax
gives, and as uint8, what label files hold. A round counts the pair in and computes mIoU, from a
new metric each time; contestants take turns, on 1 and on 2 threads. torchmetrics' is timed with
its checks of the input, its default, and without; ours always checks.

Times are medians: of the wall clock, and of the processor summed over threads, which what else
runs on the machine does not touch. `times_faster` is against the faster of the two peers.
Writes benchmarks/results/confusion_matrix.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from pixelkin.assess.files import provenance
from pixelkin.evaluation.semantic import ConfusionMatrix, mean_iou
from pixelkin.files import atomic_write
from pixelkin.structures import IGNORE

RESULT = Path(__file__).parent / "results" / "confusion_matrix.json"
CLASSES, SIZE_HW = 19, (1024, 2048)
OURS = "pixelkin"
PEERS = {"torchmetrics": True, "torchmetrics, input not checked": False}

Maps = tuple[np.ndarray, np.ndarray]


def regions() -> Maps:
    generator = np.random.default_rng(0)
    height, width = SIZE_HW
    coarse = generator.normal(size=(CLASSES, height // 32, width // 32)).astype(np.float32)
    scores = [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse]
    truth = np.argmax(scores, axis=0)
    predicted = np.roll(truth, 3, axis=1)
    blocks = generator.random((height // 32, width // 32)) < 0.1
    return np.where(np.kron(blocks, np.ones((32, 32), bool)), IGNORE, truth), predicted


def noise() -> Maps:
    generator = np.random.default_rng(1)
    truth, predicted = generator.integers(0, CLASSES, (2, *SIZE_HW))
    return np.where(generator.random(SIZE_HW) < 0.1, IGNORE, truth), predicted


def contestants(maps: Maps, dtype: type) -> dict[str, Callable[[], float]]:
    truth, predicted = (torch.from_numpy(one.astype(dtype)) for one in maps)

    def ours() -> float:
        matrix = ConfusionMatrix(CLASSES)
        matrix.update(truth, predicted)
        return mean_iou(matrix.compute())

    def peer(checked: bool) -> float:
        metric = MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE, validate_args=checked)
        metric.update(predicted, truth)
        return float(metric.compute())

    peers = {name: lambda checked=checked: peer(checked) for name, checked in PEERS.items()}
    return {OURS: ours, **peers}


def same_counts(maps: Maps) -> bool:
    truth, predicted = map(torch.from_numpy, maps)
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(truth, predicted)
    peer = MulticlassConfusionMatrix(CLASSES, ignore_index=IGNORE)
    return bool((peer(predicted, truth).numpy() == matrix.compute()).all())


def measure(table: dict[str, Callable[[], float]], rounds: int) -> dict[str, Any]:
    wall: dict[str, list[float]] = {name: [] for name in table}
    processor: dict[str, list[float]] = {name: [] for name in table}
    values = {name: run() for name, run in table.items()}
    for _ in range(rounds):
        for name, run in table.items():
            start, busy = time.perf_counter(), time.process_time()
            run()
            processor[name].append((time.process_time() - busy) * 1e3)
            wall[name].append((time.perf_counter() - start) * 1e3)
    result: dict[str, Any] = {}
    for clock, times in (("wall_ms", wall), ("processor_ms", processor)):
        result[clock] = {name: round(statistics.median(ms), 3) for name, ms in times.items()}
        best = min(result[clock][name] for name in PEERS)
        result[clock]["times_faster"] = round(best / result[clock][OURS], 2)
    result["mIoU"] = values[OURS]
    result["mIoU_difference"] = max(abs(values[name] - values[OURS]) for name in PEERS)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    rows = []
    for kind, maps in (("regions", regions()), ("noise", noise())):
        same = same_counts(maps)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            for dtype in (np.int64, np.uint8):
                row = {"maps": kind, "threads": threads, "labels": dtype.__name__}
                row |= measure(contestants(maps, dtype), options.rounds)
                rows.append({**row, "same_counts": same})
                print(json.dumps(rows[-1]), flush=True)
    result = {
        "size_hw": SIZE_HW,
        "classes": CLASSES,
        "rounds": options.rounds,
        "least_times_faster": {
            clock: min(row[clock]["times_faster"] for row in rows)
            for clock in ("wall_ms", "processor_ms")
        },
        "rows": rows,
        "load_average": round(os.getloadavg()[0], 2),
        "made": datetime.now(UTC).date().isoformat(),
        "torchmetrics": version("torchmetrics"),
        **provenance(),
    }
    atomic_write(RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
