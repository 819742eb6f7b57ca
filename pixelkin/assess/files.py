"""What is kept of an assessment: tables, per-frame values, and a picture of the worst frames."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from pixelkin.data.clips.davis import VideoFolder
from pixelkin.evaluation.video import FrameScore, Report, text_table, worst_frames
from pixelkin.files import atomic_path, atomic_write
from pixelkin.masks import boundary, overlay, read_indexed_png
from pixelkin.results import contact_sheet

_PANELS, _PER_SEQUENCE, _APART = 12, 3, 8
_COLUMNS, _PANEL_PX = 3, 512
_CAPTION_PX = 18
_LIBRARIES = ("pixelkin", "torch", "timm", "onnxruntime", "numpy", "opencv-python-headless", "av")


@dataclass(frozen=True)
class Assessment:
    """How a method did.

    Attributes:
        name: of the method.
        year: whose rules: 2016 or 2017.
        report: measures per sequence and frame.
        frames: how many were predicted.
        seconds: spent in the method, decoding included; None where masks were only read.
    """

    name: str
    year: int
    report: Report
    frames: int
    seconds: float | None


def summarise(assessment: Assessment) -> dict[str, Any]:
    """The measures of the whole as plain data, with two values of T.

    `T` is the benchmark's, over the sequences without heavy occlusion; `T_all_sequences` leaves
    none out. NaN becomes None.
    """
    report = assessment.report
    every = replace(report, unstable=frozenset()).summary()["T"]
    measures = {**report.summary(), "T_all_sequences": every}
    seconds = assessment.seconds
    return {
        "method": assessment.name,
        "year": assessment.year,
        **{name: None if math.isnan(v) else round(v, 5) for name, v in measures.items()},
        "sequences": {s.name: _rounded(s.summary()) for s in report.sequences},
        "frames": assessment.frames,
        "seconds": None if seconds is None else round(seconds, 3),
        "fps": None if seconds is None else round(assessment.frames / max(seconds, 1e-9), 2),
    }


def _rounded(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(v) else round(v, 5) for name, v in values.items()}


def write_assessment(out: Path, assessment: Assessment, data: VideoFolder) -> None:
    """Write `table.txt`, `per_frame.json`, `summary.json` and `worst.png` to `out`.

    The masks lie in `out/masks/<sequence>/<frame>.png` already.
    """
    atomic_write(out / "table.txt", text_table(assessment.report) + "\n")
    write_json(out / "per_frame.json", assessment.report.to_json())
    write_json(out / "summary.json", {**summarise(assessment), **provenance()})
    panels = [
        draw_panel(data, out / "masks", score) for score in choose_worst(assessment.report, _PANELS)
    ]
    columns = max(1, min(_COLUMNS, len(panels)))
    sheet = contact_sheet(panels, columns=columns, width_px=columns * _PANEL_PX)
    with atomic_path(out / "worst.png") as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write `data` as indented JSON, atomically."""
    atomic_write(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def provenance() -> dict[str, Any]:
    """Command, versions, commit (None where git is not there), machine."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": {"python": platform.python_version(), **versions},
        "commit": _commit(),
        "hardware": f"{os.cpu_count()} CPU cores, {platform.machine()}, {platform.system()}",
    }


def _commit() -> str | None:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def choose_worst(report: Report, count: int) -> list[FrameScore]:
    """The worst frames, worst first: few per sequence, and apart in time, so that they differ."""
    chosen: list[FrameScore] = []
    total = sum(len(s.frames) * len(s.region) for s in report.sequences)
    for score in worst_frames(report, total):
        same = [c.frame for c in chosen if c.sequence == score.sequence]
        near = any(abs(frame - score.frame) < _APART for frame in same)
        if len(same) < _PER_SEQUENCE and not near:
            chosen.append(score)
        if len(chosen) == count:
            break
    return chosen


def draw_panel(data: VideoFolder, masks: Path, score: FrameScore) -> UInt8[np.ndarray, "h w 3"]:
    """A frame with the result tinted, the truth outlined in white, and a caption below."""
    frame = data.frame_at(score.sequence, score.frame)
    truth = data.labels_at(score.sequence, score.frame)
    name = data.frame_paths(score.sequence)[score.frame].stem
    found = read_indexed_png(masks / score.sequence / f"{name}.png", size_hw=truth.shape)
    picture = overlay(frame, found)
    outline = boundary(truth == score.object_id).astype(np.uint8)
    # Two pixels wide: one is lost when the sheet is scaled down.
    picture[cv2.dilate(outline, np.ones((2, 2), np.uint8)) > 0] = 255
    height = max(1, round(picture.shape[0] * _PANEL_PX / picture.shape[1]))
    small = cv2.resize(picture, (_PANEL_PX, height), interpolation=cv2.INTER_AREA)
    strip = Image.new("RGB", (_PANEL_PX, _CAPTION_PX), "white")
    text = (
        f"{score.sequence} {name}, object {score.object_id}: "
        f"J {score.region:.3f}, F {score.boundary:.3f} (white: truth)"
    )
    ImageDraw.Draw(strip).text((4, 2), text, fill="black", font=ImageFont.load_default())
    return np.vstack([small, np.asarray(strip)])
