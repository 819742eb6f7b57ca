"""Objects whose boxes coincide: what suppression by boxes loses, and what an embedding keeps.

    python benchmarks/tangle.py --out RUNS --steps 600

Scenes are rendered (`tangle_scenes.py`): seven kinds of thin rings, bars, curves, frames, combs and
spirals that enclose and cross each other. Two levels, both on held-out scenes:

`oracle`: the truth itself goes through the last step of either family. True boxes with perfect
scores go through non-maximum suppression: what it loses, no network in front of it can save. True
masks go through `grouping.cells.suppress` and back to pixels. A third row asks what 28×28 cells per
box, Mask R-CNN's, hold of thin objects.

`trained`: networks on one backbone, with the same scenes, steps and augmentation. Mask R-CNN is
measured at several thresholds of its suppression too, to part what suppression loses from what the
network behind it does not know: two objects in one box are one question with one answer.

Trains into RUNS/<method>; a method whose model is there is not trained again. Writes
benchmarks/results/tangle.json and a picture.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from tangle_oracle import MATCH_IOU, by_kind, oracle, recalled
from tangle_scenes import KINDS, TangleScenes

from pixelkin.assess.files import provenance
from pixelkin.data.memory import InMemory
from pixelkin.engine import can_resume, train
from pixelkin.evaluation.instance import InstanceEvaluation, StillPair
from pixelkin.files import atomic_path, atomic_write
from pixelkin.instances.checkpoints import load_segmenter
from pixelkin.instances.scoring import MAX_DETS, evaluate_segmenter
from pixelkin.instances.segmenter import Segmenter
from pixelkin.masks import decode_rle, palette
from pixelkin.structures import Instances, InstanceSample
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.instance_model import ModelPlan, NetworkShape
from pixelkin.trainings.instances import instance_training
from pixelkin.trainings.optimisation import Optimisation

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "tangle.json"
PICTURE = ROOT / "docs" / "images" / "tangle.png"

TRAIN_SEED, HELD_OUT_SEED = 1, 2

LARGE_ANCHORS = ((16, 24), (32, 48), (64, 96), (128, 192))
"""Side of Mask R-CNN's anchors per level: boxes here reach from 40 to 200 px."""

PLACED, PLACELESS = NetworkShape(px_per_unit=32.0), NetworkShape(px_per_unit=0.0)

METHODS = {
    "seeds": ModelPlan("seeds", network=PLACED),
    "discriminative": ModelPlan("discriminative", network=PLACED),
    "mask_rcnn": ModelPlan("mask_rcnn", boxes={"anchor_sizes_px": LARGE_ANCHORS}),
    "seeds_placeless": ModelPlan("seeds", network=PLACELESS),
    "discriminative_placeless": ModelPlan("discriminative", network=PLACELESS),
}
"""What is trained. The placeless are the papers': the embedding says alone what is one object, also
of two rings that look alike in two corners. With places added, concentric rings, whose middles are
one, are still the other dimensions' to tell apart."""

PICTURED = {"seeds": "seeds", "discriminative": "discriminative", "mask_rcnn": "Mask R-CNN"}
"""Methods in the picture → what stands over their column."""

MISSED = (110, 110, 110)
"""Colour of what matches no object; no object has a grey one."""

SUPPRESSION = {
    "NMS .5": (0.5, 0.7),
    "NMS .9": (0.9, 0.7),
    "no NMS": (1.0, 0.7),
    "no NMS, nor of proposals": (1.0, 1.0),
}
"""IoU above which Mask R-CNN drops boxes, and proposals. The first is how it is published."""

# Trained


@dataclass(frozen=True)
class Trial:
    """What a method found in every scene, and its numbers."""

    found: list[Instances]
    values: dict[str, Any]


def train_method(method: str, scenes: TangleScenes, options: argparse.Namespace) -> Path:
    """The model's folder; trained unless it is there, continued where it was stopped."""
    out = options.out / method
    if finished(out):
        return out / "model"
    training = instance_training(
        InMemory(scenes),
        plan_of(method, options, scenes.class_names),
        optimisation=Optimisation(
            steps=options.steps,
            batch_size=options.batch_size,
            weights="imagenet",
            seed=options.seed,
            workers=options.workers,
        ),
        windows=Windows(crop_px=options.crop_px, scale=(0.6, 1.2), rotate=True),
        config={"scenes": len(scenes), "scenes_seed": scenes.seed},
    )
    train(
        training,
        out=out,
        resume=can_resume(out),
        accelerator=options.device,
        precision=options.precision,
        seed=options.seed,
    )
    return out / "model"


def finished(run: Path) -> bool:
    """Whether a run has done all steps that it was started for."""
    if not (run / "model").is_dir():
        return False
    with open(run / "metrics.csv", newline="") as handle:
        done = max((int(row["step"]) for row in csv.DictReader(handle)), default=0)
    return done >= json.loads((run / "run.json").read_text())["config"]["steps"]


def plan_of(method: str, options: argparse.Namespace, class_names: tuple[str, ...]) -> ModelPlan:
    """What is trained, with what the command line changes."""
    plan = METHODS[method]
    network = plan.network
    if network.px_per_unit and options.px_per_unit is not None:
        network = replace(network, px_per_unit=options.px_per_unit)
    if options.dimensions is not None:
        network = replace(network, dimensions=options.dimensions)
    return replace(plan, class_names=class_names, network=network)


def run_options(folder: Path) -> dict[str, Any]:
    """What `run.json` beside a model says of its training, without places on this machine."""
    run = json.loads((folder.parent / "run.json").read_text())
    last = run["launches"][-1]
    return {**run["config"], **{key: last[key] for key in ("device", "precision", "git_commit")}}


def judge(segmenter: Segmenter, scenes: InMemoryScenes) -> Trial:
    """COCO's measures, and the share of objects found, per kind."""
    found: list[Instances] = []
    values = evaluate_segmenter(
        segmenter, scenes, measures=["coco"], seen=lambda _, result: found.append(result)
    )
    return Trial(
        found, {**numbers(scenes, found), "seconds_per_image": values["seconds_per_image"]}
    )


def numbers(scenes: InMemoryScenes, found: Sequence[Instances]) -> dict[str, Any]:
    """AP, AP50 and AP75 of all scenes; AP50 and recall per kind."""
    groups = {name: InstanceEvaluation(scenes.class_names, measures=["coco"], max_dets=MAX_DETS)
              for name in (*KINDS, "all")}  # fmt: skip
    every, best = [], []
    for scene, kind, result in zip(scenes.scenes, scenes.kinds, found, strict=True):
        for name in (kind, "all"):
            groups[name].update(scene, result)
        every.append(recalled(scene, result))
        best.append(recalled(scene, result, best=len(scene.instances)))
    coco = {
        name: group.compute() for name, group in groups.items() if name in {*scenes.kinds, "all"}
    }
    return {
        **{name: round(coco["all"][f"coco/{name}"], 4) for name in ("AP", "AP50", "AP75")},
        "AP50_by_kind": {name: round(value["coco/AP50"], 4) for name, value in coco.items()},
        "recall": by_kind(every, scenes.kinds),
        # As many masks as there are objects, the best ones: what is found without a flood.
        "recall_of_n_best": by_kind(best, scenes.kinds),
    }


class InMemoryScenes:
    """Scenes rendered once, since every method sees them."""

    def __init__(self, scenes: TangleScenes) -> None:
        self.scenes = [scenes[i] for i in range(len(scenes))]
        self.kinds, self.names, self.class_names = scenes.kinds, scenes.names, scenes.class_names

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> InstanceSample:
        return self.scenes[index]


def judge_suppression(segmenter: Any, scenes: InMemoryScenes) -> tuple[Trial, dict[str, Any]]:
    """Mask R-CNN as it is published, and its recall under other thresholds."""
    model, trials = segmenter.model, {}
    for name, (boxes, proposals) in SUPPRESSION.items():
        model.roi_heads.nms_thresh, model.rpn.nms_thresh = boxes, proposals
        trials[name] = judge(segmenter, scenes)
        print("  ", name, trials[name].values["recall"], flush=True)
    return trials["NMS .5"], {name: trial.values for name, trial in trials.items()}


# Picture


def picture(
    scenes: InMemoryScenes, trials: dict[str, list[Instances]], *, tile_px: int
) -> UInt8[np.ndarray, "h w 3"]:
    """A row per kind: the scene, the truth, and the n best objects of each method.

    A found object has the colour of the true one that it matches, and is grey where it matches
    none.

    Args:
        scenes: judged.
        trials: title of a method → what it found in each scene.
        tile_px: side of a picture.
    """
    rows = [_captions(["scene", "truth", *trials], tile_px)]
    for kind in dict.fromkeys(scenes.kinds):
        own = [i for i, k in enumerate(scenes.kinds) if k == kind]
        # The scene that holds most objects among the first ten of its kind.
        index = max(own[:10], key=lambda i: len(scenes[i].instances))
        scene = scenes[index]
        n = len(scene.instances)
        tiles = [scene.image, _paint(scene, _truth(scene))]
        captions = [kind, f"{n} objects"]
        for found in trials.values():
            tiles.append(_paint(scene, found[index]))
            hits = int(recalled(scene, found[index], best=n).sum())
            captions.append(f"{hits} of {n}")
        small = [cv2.resize(t, (tile_px, tile_px), interpolation=cv2.INTER_AREA) for t in tiles]
        rows += [np.hstack(small), _captions(captions, tile_px)]
    return np.vstack(rows)


def _truth(scene: InstanceSample) -> Instances:
    n = len(scene.instances)
    rles = tuple(one.rle for one in scene.instances)
    return Instances(scene.size_hw, rles, (0,) * n, (1.0,) * n)


def _paint(scene: InstanceSample, found: Instances) -> UInt8[np.ndarray, "h w 3"]:
    iou = StillPair(scene, found).as_given.iou()
    best = np.argsort(-np.array(found.scores), kind="stable")[: len(scene.instances)]
    canvas = np.full((*scene.size_hw, 3), 24, np.uint8)
    colours = palette()[1:]
    colours = colours[np.ptp(colours, axis=1) > 0]
    for index in best[::-1]:
        hit = int(iou[index].argmax())
        colour = colours[hit] if iou[index, hit] >= MATCH_IOU else MISSED
        canvas[decode_rle(found.rles[index], scene.size_hw)] = colour
    return canvas


def _captions(texts: Sequence[str], tile_px: int) -> UInt8[np.ndarray, "h w 3"]:
    strip = Image.new("RGB", (len(texts) * tile_px, 16), "white")
    for i, text in enumerate(texts):
        position = (i * tile_px + 4, 2)
        ImageDraw.Draw(strip).text(position, text, fill="black", font=ImageFont.load_default())
    return np.asarray(strip)


def write_picture(
    path: Path, scenes: InMemoryScenes, trials: dict[str, list[Instances]], *, most_bytes: int
) -> None:
    """As a PNG of 128 colours, smaller tiles where it would be too large."""
    for tile_px in (208, 176, 144, 112):
        sheet = Image.fromarray(picture(scenes, trials, tile_px=tile_px))
        with atomic_path(path) as temporary:
            sheet.quantize(128, dither=Image.Dither.NONE).save(temporary, "PNG", optimize=True)
        if path.stat().st_size <= most_bytes:
            return


# Everything


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    scenes = InMemoryScenes(TangleScenes(options.held_out, HELD_OUT_SEED))
    report: dict[str, Any] = {
        "training_seed": options.seed,
        "scenes": {
            "training": {"length": options.scenes, "seed": TRAIN_SEED},
            "held_out": {"length": len(scenes), "seed": HELD_OUT_SEED},
            "objects": by_count(scenes),
        },
        "oracle": oracle(scenes.scenes, scenes.kinds),
        "trained": {},
    }
    for name, lost in report["oracle"]["lost"].items():
        print(f"{name:48} lost {lost}", flush=True)
    found: dict[str, list[Instances]] = {}
    for method in options.methods:
        folder = train_method(method, TangleScenes(options.scenes, TRAIN_SEED), options)
        segmenter = load_segmenter(folder, device=options.device)
        entry: dict[str, Any] = {"training": run_options(folder)}
        if method == "mask_rcnn":
            trial, entry["suppression"] = judge_suppression(segmenter, scenes)
        else:
            trial = judge(segmenter, scenes)
        found[method] = trial.found
        report["trained"][method] = {**trial.values, **entry}
        print(method, {k: v for k, v in trial.values.items() if k != "AP50_by_kind"}, flush=True)
        write_report(options.result, report)
    write_report(options.result, report)
    pictured = {title: found[name] for name, title in PICTURED.items() if name in found}
    if pictured:
        write_picture(options.picture, scenes, pictured, most_bytes=300_000)


def by_count(scenes: InMemoryScenes) -> dict[str, int]:
    """Objects per kind and in all."""
    counts = [len(scene.instances) for scene in scenes.scenes]
    own = {k: sum(n for n, kind in zip(counts, scenes.kinds, strict=True) if kind == k)
           for k in dict.fromkeys(scenes.kinds)}  # fmt: skip
    return {**own, "all": sum(counts)}


def write_report(path: Path, report: dict[str, Any]) -> None:
    """As JSON; NaN, which JSON lacks, becomes null."""
    load = [round(value, 2) for value in os.getloadavg()]
    plain = _plain({**report, "load_average": load, **provenance()})
    atomic_write(path, json.dumps(plain, indent=1, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/tangle"), help="of the models")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--methods", nargs="*", choices=tuple(METHODS), default=list(METHODS))
    parser.add_argument("--scenes", type=int, default=700, help="to train on")
    parser.add_argument("--held-out", type=int, default=105, help="to judge on")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--crop-px", type=int, default=192)
    parser.add_argument("--px-per-unit", type=float, help="of embeddings with places")
    parser.add_argument("--dimensions", type=int, help="of embeddings")
    parser.add_argument("--seed", type=int, default=0, help="of weights and augmentation")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="bf16-mixed")
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
