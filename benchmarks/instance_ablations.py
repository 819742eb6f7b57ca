"""What the choices in the two embedding methods are worth, on nuclei.

    python benchmarks/instance_ablations.py --commands
    python benchmarks/instance_ablations.py --nuclei DSB2018 --runs RUNS

All on the DEVELOPMENT part of recipes/nuclei.py: stills that neither these trainings nor the table
of benchmarks/instances.py touch. Two kinds:

Of the grouping, from one checkpoint: the dense fields of every still are computed once, and
grouped again for every value of an option. Of the training: one short training per value, in
RUNS/abl_*; `--commands` prints how each is made. What is not there is left out and named.

The number of seeds is judged on whole stills, everything else on the middle of each, at most
WINDOW_PX wide and high, which takes a third of the time.

Writes benchmarks/results/instance_ablations.json and prints the tables; with `--write-docs` also
into docs/model_zoo.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import runpy
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import torch
from instance_pages import middle_still, table, write_report, write_section
from instances import DOCUMENT, ROOT, KeptStills

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.source import Subset, split_source
from pixelkin.data.splits import split_by_name
from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance import CocoAP, StillPair
from pixelkin.instances.checkpoints import load_segmenter
from pixelkin.instances.scoring import MAX_DETS
from pixelkin.instances.segmenter import FieldSegmenter, Grouping, shrunk
from pixelkin.instances.tiling import dense_fields
from pixelkin.models.instance_embedding import CUTS
from pixelkin.structures import InstanceFields

RECIPE = ROOT / "recipes" / "nuclei.py"
RESULT = ROOT / "benchmarks" / "results" / "instance_ablations.json"
COMMAND = "python benchmarks/instance_ablations.py --nuclei DSB2018 --runs RUNS"
STEPS = 500
WINDOW_PX = 256
MATCH_IOU = 0.5

BASE, BASE_CLUSTERS = "abl_d16", "abl_discriminative"
"""Runs that the options of the grouping are varied on; the first is the default of trainings."""


@dataclass(frozen=True)
class Trained:
    """A training of the ablation.

    Attributes:
        sweep: what is varied.
        value: to what.
        options: of recipes/nuclei.py.
    """

    sweep: str
    value: str
    options: dict[str, str] = field(default_factory=dict)


TRAININGS = {
    **{f"abl_d{d}": Trained("dimensions d", str(d), {"dimensions": str(d)})
       for d in (2, 4, 8, 16, 32, 64, 128)},
    "abl_k5": Trained("pixels K", "5", {"pixels-per-instance": "5"}),
    "abl_k20": Trained("pixels K", "20", {"pixels-per-instance": "20"}),
    "abl_cuts50": Trained("cuts τ", ".5 alone", {"cuts": "0.5"}),
    "abl_hard": Trained("scores", "hard (the paper)", {"hard-scores": "true"}),
    "abl_paperpairs": Trained("pairs", "the paper's weights", {"paper-pairs": "true"}),
    "abl_noplace": Trained("place", "none (the paper)", {"px-per-unit": "0"}),
    BASE_CLUSTERS: Trained("loss", "discriminative", {"method": "discriminative"}),
}  # fmt: skip

BASE_VALUES = {
    "pixels K": "10",
    "cuts τ": " ".join(f"{cut:g}".lstrip("0") for cut in CUTS),
    "scores": "overlap",
    "pairs": "by kind",
    "place": "8 px a unit",
    "loss": "pairs and scores",
}
"""What `BASE` has where the others differ from it."""


@dataclass(frozen=True)
class Variant:
    """A grouping to try.

    Attributes:
        sweep: what is varied.
        value: to what.
        options: of the grouping.
        cuts: indices of the cuts that are left; None leaves all.
        window_px: side of the middle part of each still that is judged; 0 judges all of it.
    """

    sweep: str
    value: str
    options: dict[str, Any] = field(default_factory=dict)
    cuts: tuple[int, ...] | None = None
    window_px: int = WINDOW_PX


def seed_variants() -> Iterator[Variant]:
    for count in (10, 25, 50, 100, 200, 500):
        yield Variant("seeds (whole stills)", str(count), {"seeds": count}, window_px=0)
    for option, values in {
        "alpha": (0.0, 0.1, 0.2, 0.3, 0.4, 0.6),
        "keep": (0.3, 0.5, 0.7, 0.8, 0.9),
        "share_out": (0.0, 0.2, 0.3, 0.4, 0.5, 0.6),
        "alike": (0.25, 0.5, 0.75, 1.1),
        "min_score": (0.02, 0.05, 0.1, 0.3, 0.5),
    }.items():
        for value in values:
            yield Variant(option, f"{value:g}", {option: value})
    for count in (1, 2, len(CUTS)):
        for left in itertools.combinations(range(len(CUTS)), count):
            name = " ".join(f"{CUTS[i]:g}".lstrip("0") for i in left)
            yield Variant("cuts", name, cuts=None if count == len(CUTS) else left)


def cluster_variants() -> Iterator[Variant]:
    for method in ("mean_shift", "one_pass"):
        for bandwidth in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
            options = {"bandwidth": bandwidth, "method": method}
            yield Variant(f"bandwidth, {method}", f"{bandwidth:g}", options)
    for cells in (4, 12, 30):
        yield Variant("min_cells", str(cells), {"min_cells": cells})


# In a process


@cache
def development_stills(data: Path, window_px: int = 0) -> KeptStills:
    """Those that recipes/nuclei.py judges by with `--judge development`, or their middles."""
    constants = runpy.run_path(str(RECIPE))
    train, _ = split_source(Nuclei(data), validation=constants["VALIDATION"])
    share = constants["DEVELOPMENT"]
    _, judged = split_by_name(train.names, validation=share, seed_text="development")
    stills = KeptStills(Subset(train, judged))
    if window_px:
        stills.stills = [middle_still(still, window_px) for still in stills.stills]
    return stills


@lru_cache(maxsize=1)
def fields_of(
    model: Path, data: Path, window_px: int
) -> tuple[FieldSegmenter, list[InstanceFields]]:
    """A model, and its dense fields of every still."""
    segmenter = load_segmenter(model, device="cpu")
    if not isinstance(segmenter, FieldSegmenter):
        raise PixelkinError(f"{model} has no dense fields to group; give a model by embedding")
    fields = []
    with torch.inference_mode():
        for still in development_stills(data, window_px).stills:
            seen = shrunk(still.image, segmenter.shrink)
            one = dense_fields(segmenter.model, seen, tile_px=segmenter.tile_px)
            fields.append(replace(one, stride=one.stride * segmenter.shrink))
    return segmenter, fields


def judge_variant(model: Path, data: Path, variant: Variant) -> dict[str, Any]:
    """A row: AP, AP50 and AP75 of a checkpoint with another grouping; "objects_found", the share
    of true objects that some mask overlaps by half or more; "masks" in all; "seconds" of grouping.
    """
    torch.set_num_threads(1)
    segmenter, _ = fields_of(model, data, variant.window_px)
    options = dict(variant.options)
    if variant.cuts is not None:
        options["cuts"] = tuple(segmenter.grouping.cuts[i] for i in variant.cuts)  # type: ignore[attr-defined]
    grouping = replace(segmenter.grouping, **options)  # type: ignore[type-var]
    values = judge_grouping(model, data, grouping, variant.cuts, variant.window_px)
    return {"sweep": variant.sweep, "value": variant.value, **values}


# Every sweep holds the value that the others leave alone.
@lru_cache(maxsize=64)
def judge_grouping(
    model: Path, data: Path, grouping: Grouping, cuts: tuple[int, ...] | None, window_px: int
) -> dict[str, Any]:
    _, fields = fields_of(model, data, window_px)
    stills = development_stills(data, window_px)
    coco = CocoAP(stills.class_names, max_dets=MAX_DETS)
    seconds, masks, hits, objects = 0.0, 0, 0, 0
    for still, one in zip(stills.stills, fields, strict=True):
        chosen = one if cuts is None else with_cuts(one, cuts, len(CUTS))
        start = time.perf_counter()
        with torch.inference_mode():
            found = grouping(chosen, still.size_hw)
        seconds += time.perf_counter() - start
        pair = StillPair(still, found)
        coco.add(pair)
        hit = (pair.as_given.iou() >= MATCH_IOU).any(axis=0)
        masks, objects, hits = masks + len(found), objects + len(hit), hits + int(hit.sum())
    values = coco.compute()
    return {
        **{name: values[name] for name in ("AP", "AP50", "AP75")},
        "objects_found": hits / max(objects, 1),
        "masks": masks,
        "seconds": seconds / max(len(stills), 1),
    }


def with_cuts(fields: InstanceFields, left: tuple[int, ...], count: int) -> InstanceFields:
    """The fields with the logits of some of `count` cuts."""
    by_cut = fields.logits.unflatten(1, (count, -1))
    return replace(fields, logits=by_cut[:, list(left)].flatten(1, 2))


# Everything


def judge_all(
    jobs: list[tuple[Path, Variant]], data: Path, *, processes: int
) -> list[dict[str, Any]]:
    """In the order of `jobs`; a process keeps the fields of one checkpoint."""
    models, variants = [model for model, _ in jobs], [variant for _, variant in jobs]
    # Forked processes would wait for threads that only their parent has.
    context = multiprocessing.get_context("spawn")
    rows = []
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for row in pool.map(judge_variant, models, itertools.repeat(data), variants):
            rows.append(row)
            print(row["sweep"], row["value"], f"AP {row['AP']:.3f}", flush=True)
    return rows


def saw_the_stills(run: Path) -> bool:
    """Whether a run was trained on the stills that it is judged by here."""
    if not (path := run / "run.json").is_file():
        return True
    judge: str = json.loads(path.read_text("utf-8"))["config"].get("judge", "validation")
    return judge != "development"


def group_jobs(run: Path) -> list[tuple[Path, Variant]]:
    """Every grouping of one run's checkpoint."""
    config = json.loads((run / "model" / "config.json").read_text("utf-8"))
    clusters = config["architecture"] == "instance_discriminative"
    return [(run / "model", one) for one in (cluster_variants if clusters else seed_variants)()]


def train_jobs(runs: Path) -> tuple[list[tuple[Path, Variant]], list[str]]:
    """Every training that is there as it is, and the names of those that are not."""
    jobs, missing = [], []
    for name, trained in TRAININGS.items():
        if not (runs / name / "model").is_dir():
            missing.append(name)
            continue
        if saw_the_stills(runs / name):
            raise PixelkinError(
                f"{name} was trained on stills that it would be judged by; "
                "train it with --judge development"
            )
        jobs.append((runs / name / "model", Variant(trained.sweep, trained.value)))
    return jobs, missing


def with_base(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Trainings grouped by sweep, the default one before the others of each."""
    base = next((r for r in rows if (r["sweep"], r["value"]) == ("dimensions d", "16")), None)
    result = [row for row in rows if row["sweep"] == "dimensions d"]
    for sweep, value in BASE_VALUES.items():
        own = [row for row in rows if row["sweep"] == sweep]
        if own and base is not None:
            result.append({**base, "sweep": sweep, "value": f"{value} (default)"})
        result += own
    return result


def markdown(report: dict[str, Any]) -> str:
    """The block of docs/model_zoo.md."""
    part = report["development"]
    lines = [
        f"`{COMMAND}`, [result](../benchmarks/results/instance_ablations.json)",
        "",
        f"{part['stills']} nuclei images of the development part with {part['objects']} objects,",
        f"the middle {WINDOW_PX} px of each but where it says whole stills;",
        f"trainings of {STEPS} steps of 8 windows, one seed. Objects found: true objects that some",
        "mask overlaps by half or more.",
    ]
    for title, rows in report["tables"].items():
        if rows:
            note = report["notes"].get(title)
            header = ["", "", "AP", "AP50", "objects found", "masks", "grouping, ms"]
            lines += ["", f"{title}:", "", *([note, ""] if note else [])]
            lines += table(header, row_cells(rows))
    return "\n".join(lines)


def row_cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Each sweep's name stands in its first row alone."""
    cells, last = [], ""
    for row in rows:
        cells.append(
            [
                "" if row["sweep"] == last else row["sweep"],
                row["value"],
                *(f"{row[name]:.3f}" for name in ("AP", "AP50", "objects_found")),
                str(row["masks"]),
                f"{row['seconds'] * 1e3:.0f}",
            ]
        )
        last = row["sweep"]
    return cells


def commands() -> Iterator[str]:
    """How the trainings are made."""
    start = "pixelkin train recipes/nuclei.py --data DSB2018 --judge development"
    for name, trained in TRAININGS.items():
        own = " ".join(f"--{key} {value}" for key, value in trained.options.items())
        yield f"{start} --steps {STEPS} {own} --seed 0 --precision bf16-mixed --out RUNS/{name}"


def sweep_all(options: argparse.Namespace) -> dict[str, Any]:
    """Tables of rows, notes to them, and the names of runs that are not there."""
    jobs, missing = train_jobs(options.runs)
    counts, notes = {"Trainings": len(jobs)}, {}
    for kind, name in (("seeds", options.seeds_run), ("clusters", options.clusters_run)):
        run = options.runs / name
        if not (run / "model").is_dir():
            missing += [run.name] * (run.name not in missing)
            continue
        title = f"Grouping by {kind}, one option varied at a time on one checkpoint ({run.name})"
        counts[title] = len(more := group_jobs(run))
        jobs += more
        if saw_the_stills(run):
            notes[title] = "This checkpoint was trained on these stills too."
    rows = iter(judge_all(jobs, options.nuclei, processes=options.processes))
    tables = {title: list(itertools.islice(rows, count)) for title, count in counts.items()}
    tables["Trainings"] = with_base(tables["Trainings"])
    return {"tables": tables, "notes": notes, "missing": missing}


def main() -> None:
    options = parse()
    if options.commands:
        print("\n".join(commands()))
        return
    if options.nuclei is None or options.runs is None:
        raise SystemExit("give --nuclei DSB2018 and --runs RUNS, or --commands")
    found = sweep_all(options)
    stills = development_stills(options.nuclei)
    objects = sum(len(still.instances) for still in stills.stills)
    report = {
        "window_px": WINDOW_PX,
        "development": {"stills": len(stills), "objects": objects},
        "trainings": {name: asdict(trained) for name, trained in TRAININGS.items()},
        **found,
    }
    text = markdown(report)
    write_report(options.out, report, command=COMMAND)
    print(text)
    if found["missing"]:
        print(f"missing: {', '.join(found['missing'])}")
    if options.write_docs:
        write_section(options.document, "instance-ablations", text, heading="### Ablations")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nuclei", type=Path, help="folder of DSB2018, stage 1, training part")
    parser.add_argument("--runs", type=Path, help="folder of the trainings")
    parser.add_argument("--seeds-run", default=BASE, help="whose grouping by seeds is varied")
    parser.add_argument("--clusters-run", default=BASE_CLUSTERS, help="likewise, by clusters")
    parser.add_argument("--commands", action="store_true", help="print how the runs are made")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--write-docs", action="store_true", help="write the tables there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
