"""Instances of nuclei and of pedestrians by five methods: one table from one harness.

    python benchmarks/instances.py --nuclei DSB2018 --pedestrians PENN_FUDAN --runs RUNS [--train]

Judges RUNS/{nuclei,ped}_{method}_{seed}/model on the stills that the recipe of the set held out,
through `instances.scoring.evaluate_segmenter`, beside Otsu's threshold with watershed, which needs
no training. A set that is not given stays as it was judged before. `--train` trains what is
missing, by recipes/nuclei.py and recipes/pedestrians.py in bf16-mixed; without it, missing
checkpoints are left out and named.

Writes benchmarks/results/instances.json and a picture per set, and prints the table; with
`--write-docs` also into docs/model_zoo.md. Spreads are standard deviations over seeds (n − 1).
Times of training are wall-clock on whatever else the machine did.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from instance_pages import (
    Gallery,
    cell,
    choose_stills,
    table,
    write_report,
    write_section,
    write_sheet,
)

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.data.source import InstanceSource, split_source
from pixelkin.engine import can_resume, load_recipe, parse_recipe_options, train
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import load_segmenter
from pixelkin.instances.otsu import OtsuWatershed
from pixelkin.instances.scoring import MAX_DETS, Stills, evaluate_segmenter
from pixelkin.instances.segmenter import Segmenter
from pixelkin.structures import Instances, InstanceSample

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "instances.json"
DOCUMENT = ROOT / "docs" / "model_zoo.md"
PICTURES = ROOT / "docs" / "images"

COMMAND = "python benchmarks/instances.py --nuclei DSB2018 --pedestrians PENN_FUDAN --runs RUNS"
PRECISION = "bf16-mixed"
SEEDS = (0, 1, 2)
OTSU = "otsu"

METHODS = {
    "seeds": "seeds (Fathi et al. 2017)",
    "discriminative": "discriminative loss (De Brabandere et al. 2017)",
    "boundary": "U-Net style boundaries + watershed",
    "mask_rcnn": "Mask R-CNN",
    OTSU: "Otsu + watershed",
}

COLUMNS = {
    "coco/AP": "AP",
    "coco/AP50": "AP50",
    "coco/AP75": "AP75",
    "microscopy/tp_over_tp_fp_fn": "TP/(TP+FP+FN)",
    "voc/APr50": "AP^r .5",
    "panoptic/PQ": "PQ",
}


@dataclass(frozen=True)
class Contest:
    """One data set of the table.

    Attributes:
        name: of the set in the results and of its picture.
        title: in the table.
        prefix: of its runs' folders.
        recipe: file that trains on it.
        open: folder → its stills.
        measures: of `evaluation.instance.MEASURES`.
        window_px: side of the middle part of larger stills that the picture shows; 0 shows all.
    """

    name: str
    title: str
    prefix: str
    recipe: Path
    open: Callable[[Path], InstanceSource]
    measures: tuple[str, ...]
    window_px: int = 0


CONTESTS = {
    "nuclei": Contest(
        "nuclei", "Nuclei (DSB2018)", "nuclei", ROOT / "recipes" / "nuclei.py", Nuclei,
        ("coco", "microscopy", "voc", "panoptic"), window_px=256,
    ),
    "pedestrians": Contest(
        "pedestrians", "Pedestrians (Penn-Fudan)", "ped", ROOT / "recipes" / "pedestrians.py",
        PennFudan, ("coco", "voc", "panoptic"),
    ),
}  # fmt: skip


class KeptStills:
    """Stills read once, since every model sees them."""

    def __init__(self, stills: InstanceSource) -> None:
        self.names, self.class_names = list(stills.names), stills.class_names
        self.stills = [stills[index] for index in range(len(stills))]

    def __len__(self) -> int:
        return len(self.stills)

    def __getitem__(self, index: int) -> InstanceSample:
        return self.stills[index]


# One run


def judge(
    segmenter: Segmenter,
    stills: Stills,
    measures: Sequence[str],
    seen: Callable[[InstanceSample, Instances], None] | None = None,
) -> dict[str, float]:
    """All values of one model; those by class, which has no second here, are left out."""
    # The first image of a kind pays for what later ones find prepared.
    segmenter.segment(stills[0].image)
    values = evaluate_segmenter(segmenter, stills, measures=measures, max_dets=MAX_DETS, seen=seen)
    return {name: value for name, value in values.items() if name.count("/") < 2}


def judge_run(
    contest: Contest,
    stills: KeptStills,
    run: Path | None,
    *,
    seen: Callable[[InstanceSample, Instances], None] | None = None,
) -> dict[str, Any]:
    """Values of the model of a training and what is known of it; of Otsu's method where None."""
    if run is None:
        segmenter: Segmenter = OtsuWatershed()
        facts: dict[str, Any] = {"parameters": 0}
    else:
        segmenter = load_segmenter(run / "model", device="cpu")
        facts = {**run_facts(run, len(stills)), **sizes(segmenter, run / "model")}
    return {**facts, "values": judge(segmenter, stills, contest.measures, seen)}


def run_facts(run: Path, held_out: int) -> dict[str, Any]:
    """What run.json says of the training; refused where the model was judged by other stills."""
    if not (path := run / "run.json").is_file():
        return {}
    config, launches = itemgetter("config", "launches")(json.loads(path.read_text("utf-8")))
    judged = config.get("judge", "validation"), config.get("held_out", held_out)
    if judged != ("validation", held_out):
        raise PixelkinError(
            f"{run.name} holds out {judged[1]} stills for {judged[0]}, expected {held_out} for "
            "validation: it may have seen those it is judged by; train it by the recipe"
        )
    facts = {name: config.get(name) for name in ("samples", "steps", "batch_size", "crop_px")}
    facts |= {name: launches[-1].get(name) for name in ("precision", "device", "git_commit")}
    return {**facts, "training_seconds": training_seconds(run / "metrics.csv", launches)}


def training_seconds(metrics: Path, launches: Sequence[dict[str, Any]]) -> float | None:
    """From the launch to the last row of metrics.csv; None of a training that was resumed."""
    if len(launches) != 1 or not metrics.is_file():
        return None
    began = datetime.fromisoformat(launches[0]["time"]).timestamp()
    return round(metrics.stat().st_mtime - began, 1)


def train_missing(contest: Contest, data: Path, method: str, seed: int, out: Path) -> None:
    recipe = load_recipe(contest.recipe)
    options = {"data": str(data), "method": method, "seed": str(seed)}
    training = recipe(**parse_recipe_options(recipe, options))
    resume = can_resume(out)
    train(training, out=out, resume=resume, precision=PRECISION, seed=seed)


# One set


def judge_set(
    contest: Contest,
    data: Path,
    runs: Path,
    *,
    train_them: bool = False,
    seeds: Sequence[int] = SEEDS,
    pictures: Path = PICTURES,
) -> dict[str, Any]:
    """Every method and seed on the held-out stills of one set; the missing are named."""
    share = runpy.run_path(str(contest.recipe))["VALIDATION"]
    trained_on, held_out = split_source(contest.open(data), validation=share)
    stills = KeptStills(held_out)
    gallery = Gallery(choose_stills(stills.stills, 4))
    methods: dict[str, Any] = {}
    missing = []
    for method in METHODS:
        rows = []
        for seed in (None,) if method == OTSU else seeds:
            run = runs / f"{contest.prefix}_{method}_{seed}"
            if seed is not None and not (run / "model").is_dir():
                if not train_them:
                    missing.append(run.name)
                    continue
                train_missing(contest, data, method, seed, run)
            # Pictures show the first seed there is.
            seen = None if rows else gallery.seen(method)
            rows.append({"seed": seed, **judge_run(contest, stills, None if seed is None else run,
                                                   seen=seen)})  # fmt: skip
            print(method if seed is None else run.name, one_line(rows[-1]), flush=True)
        if rows:
            methods[method] = summarise(rows)
    shown = {METHODS[m].split(" (")[0]: own for m, own in gallery.found.items() if m != "boundary"}
    write_sheet(
        pictures / f"{contest.name}.png",
        [still for still in stills.stills if still.name in gallery.names],
        shown,
        window_px=contest.window_px,
    )
    split = describe_split(len(trained_on), stills)
    return {"split": split, "methods": methods, "missing": missing}


def describe_split(training: int, stills: KeptStills) -> dict[str, Any]:
    names = "\n".join(sorted(stills.names))
    return {
        "training": training,
        "held_out": len(stills),
        "held_out_objects": sum(len(still.instances) for still in stills.stills),
        "held_out_names_sha256": hashlib.sha256(names.encode()).hexdigest(),
    }


def sizes(segmenter: Segmenter, folder: Path) -> dict[str, Any]:
    """Of a network and of the file of its weights."""
    model: torch.nn.Module = segmenter.model  # type: ignore[attr-defined]
    megabytes = (folder / "model.safetensors").stat().st_size / 1e6
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "megabytes": round(megabytes, 2)}


def one_line(row: dict[str, Any]) -> str:
    values = row["values"]
    return "  ".join(
        f"{title} {values[key]:.3f}" for key, title in COLUMNS.items() if key in values
    )


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation of every value, and what all runs of a method share."""
    names = rows[0]["values"]
    columns = {name: [row["values"][name] for row in rows] for name in names}
    shared = {name: rows[0].get(name) for name in ("parameters", "megabytes")}
    seconds = [row["training_seconds"] for row in rows if row.get("training_seconds") is not None]
    return {
        **shared,
        "training_seconds": round(statistics.mean(seconds), 1) if seconds else None,
        "mean": {name: statistics.mean(values) for name, values in columns.items()},
        "standard_deviation": {
            name: float(np.std(values, ddof=1)) if len(values) > 1 else None
            for name, values in columns.items()
        },
        "runs": list(rows),
    }


# Words


def markdown(report: dict[str, Any]) -> str:
    """The block of docs/model_zoo.md."""
    lines = [
        f"`{COMMAND}`, [result](../benchmarks/results/instances.json)",
        "",
        "The four networks share backbone, data, augmentation, optimiser and number of windows;",
        "stills held out by the hash of their names were never trained on. Mean ± standard",
        "deviation over seeds, whose number stands behind the name. COCO's measures count up to",
        f"{report['max_dets']} objects a still. TP/(TP+FP+FN) and PQ count every mask of whatever",
        "score: they fall where a method, as Mask R-CNN, gives unsure ones for AP's sake. Pictures",
        "show the best masks of each method but the boundaries, as many as there are objects.",
    ]
    for name, contest in CONTESTS.items():
        if name in report["sets"]:
            lines += ["", *set_lines(contest, report["sets"][name])]
    return "\n".join(lines)


def set_lines(contest: Contest, part: dict[str, Any]) -> list[str]:
    split, methods = part["split"], part["methods"]
    some = next(iter(methods.values()))["mean"]
    columns = {key: title for key, title in COLUMNS.items() if key in some}
    titles = ("objects found", "parameters", "s/image", "training, min")
    rows = []
    for method, one in methods.items():
        mean, spread = one["mean"], one["standard_deviation"]
        runs = "" if method == OTSU else f" × {len(one['runs'])}"
        minutes = one["training_seconds"]
        rows.append(
            [
                f"{METHODS[method]}{runs}",
                *(cell(mean[key], spread[key]) for key in columns),
                f"{mean['objects_found']:.0f}",
                f"{one['parameters'] / 1e6:.2f} M" if one["parameters"] else "",
                f"{mean['seconds_per_image']:.2f}",
                "" if minutes is None else f"{minutes / 60:.1f}",
            ]
        )
    return [
        f"### {contest.title}",
        "",
        f"{split['training']} stills to train on, {split['held_out']} held out with "
        f"{split['held_out_objects']} objects.",
        "",
        *table(["Method", *columns.values(), *titles], rows),
        "",
        *verdict(methods),
        "",
        f"![{contest.title}](images/{contest.name}.png)",
    ]


def verdict(methods: dict[str, Any]) -> list[str]:
    """Where the embedding by seeds stands against the two that it is to be ahead of."""
    if "seeds" not in methods:
        return []
    own, said = methods["seeds"]["mean"], []
    for rival in ("mask_rcnn", OTSU):
        if rival in methods:
            other = methods[rival]["mean"]
            apart = " and ".join(
                f"{own[key] - other[key]:+.3f} {COLUMNS[key]}" for key in ("coco/AP", "coco/AP50")
            )
            said.append(f"{apart} against {METHODS[rival]}")
    return [f"Seeds: {'; '.join(said)}."] if said else []


# Everything


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    # A set that is not given stays as it was judged before.
    before = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
    sets = dict(before.get("sets", {}))
    for name, contest in CONTESTS.items():
        folder = getattr(options, name)
        if folder is not None:
            sets[name] = judge_set(
                contest, folder, options.runs, train_them=options.train, pictures=options.pictures
            )
    report = {
        "max_dets": MAX_DETS,
        "threads": options.threads,
        "sets": sets,
    }
    text = markdown(report)
    write_report(options.out, report, command=COMMAND)
    print(text)
    for name, part in sets.items():
        if part["missing"]:
            print(f"missing of {name}: {', '.join(part['missing'])}")
    if options.write_docs:
        write_section(options.document, "instances", text, heading="## Instances")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nuclei", type=Path, help="folder of DSB2018, stage 1, training part")
    parser.add_argument("--pedestrians", type=Path, help="folder of Penn-Fudan")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--train", action="store_true", help="train what is missing")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--pictures", type=Path, default=PICTURES)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--write-docs", action="store_true", help="write the table there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
