"""Resident memory while a long clip is followed under an embedding budget.

    python benchmarks/memory.py --out benchmarks/results/memory.json

Follows a mask through 5,000 frames of 854×480 (bikes.mp4 there and back, a real video file) and
notes the resident memory every 250 frames. Everything beyond the budget lies in a temporary file.
"""

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

import pixelkin
from pixelkin.assess.files import provenance
from pixelkin.demo.scenes import clips_folder
from pixelkin.files import atomic_write
from pixelkin.grouping.references import Mask
from pixelkin.media import VideoWriter, open_clip
from pixelkin.video import ClipSession


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--budget-mb", type=float, default=512)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = looped(Path(folder) / "long.mp4", options.frames)
        rows, spilled = follow(path, options.budget_mb)
    late = [row for row in rows if row[0] >= 500]
    slope = float(np.polyfit([r[0] for r in late], [r[1] for r in late], 1)[0]) * 1000
    result = {
        "frames": options.frames,
        "budget_mb": options.budget_mb,
        "frame": "854×480",
        "spilled_mb": spilled,
        "growth_mb_per_1000_frames_after_500": slope,
        "rows_frame_rss_mb": rows,
        **provenance(),
    }
    atomic_write(options.out, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(f"growth after frame 500: {slope:.2f} MB per 1,000 frames (bar: below 1)")


def follow(path: Path, budget_mb: float) -> tuple[list[tuple[int, float]], float]:
    rows = []
    with (
        open_clip(path) as clip,
        ClipSession(pixelkin.load(), clip, budget_mb=budget_mb) as session,
    ):
        mask = np.zeros(clip.size_hw, np.uint8)
        mask[141:459, 160:294] = 1
        session.add(Mask.from_labels(0, mask))
        for frame in range(len(clip)):
            session.segments(frame)
            if frame % 250 == 0:
                rows.append((frame, resident_mb()))
                print(f"frame {frame:5d}  resident {rows[-1][1]:7.1f} MB", flush=True)
        return rows, session.store.file_bytes / 1e6


def resident_mb() -> float:
    """Resident memory of this process, from /proc (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def looped(path: Path, frames: int) -> Path:
    """bikes.mp4 again and again, as one video file."""
    source = clips_folder() / "bikes.mp4"
    with open_clip(source) as clip:
        images = [cv2.resize(frame, (854, 480)) for frame in clip.frames(0, 100)]
    with VideoWriter(path, fps=25, size_hw=(480, 854)) as writer:
        for index in range(frames):
            # There and back again, so that the loop has no jump.
            place = index % (2 * len(images) - 2)
            writer.write(images[min(place, 2 * len(images) - 2 - place)])
    return path


if __name__ == "__main__":
    main()
