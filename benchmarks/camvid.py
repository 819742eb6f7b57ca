"""Semantic networks on CamVid's held-out frames, all trained with one budget.

    for n in light timm-fcn deeplab-v3-plus deeplab-v2 unet segnet fcn8s fcn16s fcn32s patch; do
        pixelkin train recipes/camvid.py --data CamVid --network $n --seed 0 --out RUNS/${n}_0
    done
    python benchmarks/camvid.py --data CamVid --runs RUNS --write-docs
    python benchmarks/camvid.py --redraw      # the figure alone, from the result that is there

Every run in RUNS/NETWORK_SEED is judged on CamVid's val, through the segmenter that users run; the
numbers of several seeds are one row, with mean and standard deviation. Speed is the processor's
time for one frame on one core, to which what else runs on the machine does not add.

Writes benchmarks/results/camvid.json, and with `--write-docs` a table to docs/model_zoo.md and the
figure docs/images/camvid.png.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from instance_pages import cell, table, write_report, write_section
from PIL import Image

from pixelkin.assess.comparison import Judged, seen_size
from pixelkin.assess.comparison_files import as_row, best_first
from pixelkin.assess.comparison_picture import Point, comparison_picture
from pixelkin.assess.network_cost import network_cost, timed
from pixelkin.data.class_maps.camvid import CamVid
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path
from pixelkin.semantic.checkpoints import load_semantic_network, load_semantic_segmenter
from pixelkin.semantic.scoring import evaluate_semantic

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "camvid.json"
DOCUMENT = ROOT / "docs" / "model_zoo.md"
FIGURE = ROOT / "docs" / "images" / "camvid.png"
COMMAND = "python benchmarks/camvid.py --data CamVid --runs RUNS --write-docs"

TURNS = 9
"""How often the time of a frame is taken."""

LACKS = {
    "light": "",
    "timm-fcn": "no decoder: scores of strides 8 to 32 added up",
    "deeplab-v3-plus": "backbone EfficientNet-Lite0 in place of Xception, 128 channels in the ASPP",
    "deeplab-v2": "backbone EfficientNet-Lite0 at stride 16 in place of ResNet-101 at 8, no CRF",
    "unet": "16 channels in place of 64; from nothing",
    "segnet": "a quarter of the channels; from nothing, in place of VGG-16's ImageNet weights",
    "fcn8s": "a quarter of the channels; from nothing, and not by way of FCN-16s",
    "fcn16s": "a quarter of the channels; from nothing, and not by way of FCN-32s",
    "fcn32s": "a quarter of the channels; from nothing, in place of VGG-16's ImageNet weights",
    "patch": "a quarter of the channels; trained on whole windows, not on patches drawn at random",
}
"""What each has not, against its paper; all lack steps and frames."""


def runs_of(folder: Path) -> dict[str, list[Path]]:
    """Network → its runs, by seed."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*_*/model")):
        network, _, seed = path.parent.name.rpartition("_")
        if network in LACKS and seed.isdigit():
            found[network].append(path.parent)
    if not found:
        raise PixelkinError(
            f"{folder} holds no run named NETWORK_SEED, such as light_0; train one with "
            "pixelkin train recipes/camvid.py"
        )
    return dict(found)


def judge(name: str, runs: Sequence[Path], frames: CamVid) -> Judged:
    """A network's numbers; its time is that of the first seed."""
    first = load_semantic_segmenter(runs[0] / "model", device="cpu")
    image = frames[0].image
    timing = timed(lambda: first.segment(image), runs=TURNS)
    measures = []
    for run in runs:
        segmenter = load_semantic_segmenter(run / "model", device="cpu")
        measures.append(evaluate_semantic(segmenter, frames, measures=["overlap"]))
    options = json.loads((runs[0] / "run.json").read_text("utf-8"))["config"]
    return Judged(
        name,
        tuple(measures),
        network_cost(load_semantic_network(runs[0] / "model"), seen_size(first, image.shape[:2])),
        timing,
        steps=options["steps"],
    )


def markdown(report: dict[str, Any]) -> str:
    """The table, best first."""
    rows = []
    for one in report["networks"]:
        name = one["network"]
        rows.append(
            [
                name,
                str(one["seeds"]),
                cell(one["mIoU"], one["mIoU_spread"]),
                f"{one['pixel_accuracy']:.3f}",
                f"{one['processor_ms_per_image']:.0f}",
                f"{one['parameters'] / 1e6:.2f}",
                f"{one['multiply_adds'] / 1e9:.1f}",
                f"{one['memory_bytes'] / 1e6:.0f}",
                LACKS[name],
            ]
        )
    head = ["network", "seeds", "mIoU", "pixel acc.", "ms/frame", "10⁶ par.", "GMACs", "MB",
            "what it lacks"]  # fmt: skip
    best = report["networks"][0]["network"]
    by_class = report["by_class"][best]
    return "\n".join(
        [
            f"`{COMMAND}`, [result](../benchmarks/results/camvid.json)",
            "",
            f"{report['judged_frames']} frames of val at 480×360, {len(by_class)} classes; trained "
            f"on {report['trained_frames']} frames of train, {report['steps']} steps of "
            f"{report['batch_size']} windows of {report['crop_px']} px, "
            "[recipe](../recipes/camvid.py). mIoU with standard deviation over seeds; milliseconds "
            f"are medians of {TURNS}, of the processor's time on one core. SegNet's authors report "
            "0.601 on the test part, after training on 367 frames from VGG-16's ImageNet weights.",
            "",
            "All lack frames and steps: a training takes ten to twenty-five minutes on one core of "
            "a busy machine. GMACs and MB are of what a network sees at a time, which is a "
            "window of 256 px for the DeepLabs, six a frame.",
            "",
            *table(head, rows),
            "",
            f"IoU by class of {best}: "
            + ", ".join(f"{name} {value:.2f}" for name, value in by_class.items())
            + ".",
            "",
            "![mIoU over milliseconds a frame](images/camvid.png)",
        ]
    )


def class_ious(judged: Judged, names: Sequence[str]) -> dict[str, float]:
    """Mean over the seeds of each class's IoU; those that val does not show are left out."""
    found = {}
    for name in names:
        values = [one.get(f"overlap/IoU/{name}", float("nan")) for one in judged.measures]
        mean = sum(values) / len(values)
        if mean == mean:
            found[name] = mean
    return found


def draw(report: dict[str, Any], path: Path) -> None:
    """The figure of a result."""
    points = [
        Point(
            one["network"],
            ms=one["processor_ms_per_image"],
            quality=one["mIoU"],
            spread=one["mIoU_spread"] or 0.0,
            parameters=one["parameters"],
        )
        for one in report["networks"]
    ]
    with atomic_path(path) as temporary:
        Image.fromarray(comparison_picture(points)).save(temporary, format="PNG", optimize=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder of CamVid")
    parser.add_argument("--part", default="val", help="part that is judged")
    parser.add_argument("--runs", type=Path, help="folder of the trainings")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--write-docs", action="store_true", help="write table and figure to docs/")
    parser.add_argument("--redraw", action="store_true", help="draw the result that is there")
    arguments = parser.parse_args()
    if not arguments.redraw and None in (arguments.data, arguments.runs):
        parser.error("--data and --runs are needed, unless --redraw is given")
    return arguments


def main() -> None:
    arguments = parse()
    if arguments.redraw:
        draw(json.loads(arguments.out.read_text("utf-8")), FIGURE)
        return
    torch.set_num_threads(1)
    frames = CamVid(arguments.data, arguments.part)
    runs = runs_of(arguments.runs)
    judged = best_first([judge(name, folders, frames) for name, folders in runs.items()])
    options = json.loads((next(iter(runs.values()))[0] / "run.json").read_text("utf-8"))["config"]
    report = {
        "part": arguments.part,
        "judged_frames": len(frames),
        "trained_frames": options["samples"],
        "steps": options["steps"],
        "batch_size": options["batch_size"],
        "crop_px": options["crop_px"],
        "networks": [as_row(one) for one in judged],
        "by_class": {one.name: class_ious(one, frames.class_names) for one in judged},
        "measures": {one.name: list(one.measures) for one in judged},
        "lacks": {one.name: LACKS[one.name] for one in judged},
    }
    write_report(arguments.out, report, command=COMMAND)
    print(markdown(report))
    if arguments.write_docs:
        draw(report, FIGURE)
        write_section(DOCUMENT, "camvid", markdown(report), heading="## CamVid")


if __name__ == "__main__":
    main()
