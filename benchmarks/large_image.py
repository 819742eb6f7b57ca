"""An image of 20 megapixels, class by class, against one of 2: memory and time.

    python benchmarks/large_image.py [--networks timm-fcn light] [--tile 1024]

Every measurement is a process of its own: it loads a network, segments noise once, smoothed and
upscaled to 1824×1216 or 5472×3648 (the frame of a 20-megapixel camera), and tells its peak resident
memory before and after. timm-fcn sees 508 px far, so tiles are exact; the light network sees 798 px
far and takes overlapping windows. On the small image the tiled result is held against that of the
whole image at once.

Seconds are the processor's, which what else runs on the machine does not add to. Writes
benchmarks/results/large_image.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pixelkin.assess.files import provenance
from pixelkin.files import atomic_write
from pixelkin.semantic.checkpoints import build_network
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.trainings.semantic_networks import described

RESULT = Path(__file__).parent / "results" / "large_image.json"
SIZES_HW = {"2 megapixels": (1216, 1824), "20 megapixels": (3648, 5472)}
NAMES = tuple(f"class {index}" for index in range(11))


def photo(size_hw: tuple[int, int]) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (76, 114, 3), np.uint8)
    return cv2.resize(coarse, size_hw[::-1], interpolation=cv2.INTER_CUBIC)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(network: str, size: str, tile_px: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_network(described(network, NAMES, {})).eval()
    segmenter = SemanticSegmenter(model, class_names=NAMES, tile_px=tile_px)
    image = photo(SIZES_HW[size])
    radius_px = segmenter.radius_px
    before, start = peak_mb(), time.process_time()
    found = segmenter.segment(image)
    took = time.process_time() - start
    row: dict[str, Any] = {
        "radius_px": radius_px,
        "exact_tiles": segmenter.exact_tiles,
        "peak_mb_before": round(before),
        "peak_mb": round(peak_mb()),
        "image_and_result_mb": round((image.nbytes + found.nbytes) / 2**20),
        "processor_seconds": round(took, 2),
    }
    if size == next(iter(SIZES_HW)):
        whole = SemanticSegmenter(model, class_names=NAMES, tile_px=0).segment(image)
        row["same_class_as_untiled"] = float((whole == found).mean())
        row["peak_mb_untiled"] = round(peak_mb())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=["timm-fcn", "light"])
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one, options.tile)))
        return
    rows = []
    for network in options.networks:
        for size in SIZES_HW:
            command = [sys.executable, __file__, "--one", network, size, "--tile"]
            done = subprocess.run(
                [*command, str(options.tile)], check=True, capture_output=True, text=True
            )
            rows.append({"network": network, "size": size, **json.loads(done.stdout)})
            print(json.dumps(rows[-1]), flush=True)
            result = {
                "tile_px": options.tile,
                "threads": 1,
                "sizes_hw": SIZES_HW,
                "rows": rows,
                "load_average": round(os.getloadavg()[0], 2),
                "made": datetime.now(UTC).date().isoformat(),
                **provenance(),
            }
            atomic_write(RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
