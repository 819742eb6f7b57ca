"""`pixelkin evaluate`: measures of methods on clips, and of models on annotated stills.

Both run through what users run: sessions, and segmenters.
"""

from __future__ import annotations

import json as json_text
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from pixelkin.cli.clip_models import check_for_clips
from pixelkin.cli.evaluate_maps import evaluate_class_maps
from pixelkin.cli.evaluate_objects import evaluate_objects
from pixelkin.cli.map_options import Averaging
from pixelkin.cli.options import Flag, Machine, output_folder
from pixelkin.cli.segmenters import gives_class_maps
from pixelkin.cli.stages import Stages
from pixelkin.cli.stills import Stills
from pixelkin.errors import PixelkinError

if TYPE_CHECKING:
    from pixelkin.data.clips.davis import VideoFolder


@Parameter(name="*")
@dataclass(frozen=True)
class Contest:
    """What is judged, on what.

    Attributes:
        year: rules of DAVIS 2016 (one object) or 2017 (several).
        split: list of sequences in ImageSets, such as val; every folder where left out.
        sequences: names separated by commas; all where left out.
        method: pixelkin, copy, flow, untrained, retrieval, retrieval-untrained, osvos, masktrack,
            or NAME:CHECKPOINT.
        masks: folder with results of another program, a folder of PNGs per sequence.
        interactive: run the DAVIS interactive protocol with its scribble robot.
        scribbles: first scribbles, SEQUENCE/001.json each; the robot draws them where left out.
    """

    year: Literal[2016, 2017] = 2016
    split: str | None = None
    sequences: Annotated[str, Parameter(show_default=False)] = ""
    method: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    masks: Path | None = None
    interactive: Flag = False
    scribbles: Path | None = None


def evaluate(
    root: str,
    /,
    *,
    contest: Contest = Contest(),  # frozen
    stills: Stills = Stills(),  # noqa: B008
    averaging: Averaging = Averaging(),  # noqa: B008
    machine: Machine = Machine(),  # noqa: B008
    out: Path | None = None,
    json: Flag = False,
    quiet: Flag = False,
) -> int:
    """Judge methods on clips, or instance and semantic models on annotated stills.

    ```
    pixelkin evaluate DAVIS --method pixelkin --method flow --out result
    pixelkin evaluate coco:ann.json --images img --model run/model --validation .2
    ```

    Clips: a DAVIS folder gives J, F, their recall and decay, and T.

    Stills: FORMAT:PATH (coco:ann.json, nuclei:FOLDER; pixelkin train --help lists all)
    gives COCO AP, AP^r, Cityscapes AP, PQ, and for one class TP/(TP+FP+FN), SBD and |DiC|.
    --model is an instance model, or otsu; several are separated by commas.

    With semantic models FORMAT:PATH names class maps (camvid:FOLDER, voc:FOLDER), or objects
    whose classes are painted over background (nuclei:FOLDER, coco:ann.json), and the measures
    are mIoU, accuracies, F of boundaries, and those that the data set itself ranks by (iIoU,
    ADE's score, F1 of lanes, Dice of volumes), of its own val where it has one.

    Args:
        root: DAVIS folder that holds JPEGImages and Annotations, or FORMAT:PATH.
        out: folder for results: of clips masks, per-frame values and a gallery of the worst frames;
            of stills the measures as JSON, of class maps the confusion of classes too, of volumes
            the measures of each.
        json: print one JSON object with the measures.
        quiet: show no progress.
    """
    if ":" in root and not Path(root).exists():
        if contest != Contest():
            raise PixelkinError(
                "--year, --split, --sequences, --method, --masks, --interactive and --scribbles "
                "are for clips; of stills --data-split chooses a part"
            )
        models = tuple(name.strip() for name in (machine.model or "").split(",") if name.strip())
        return _evaluate_stills(
            root, models, stills, averaging, device=machine.device, out=out, json=json, quiet=quiet
        )
    if averaging != Averaging():
        raise PixelkinError("--scales, --flip and --window are for semantic models and stills")
    if stills != Stills():
        raise PixelkinError(
            "--images, --masks, --classes, --data-split, --validation, --measures and --tile are "
            "for stills, which are given as FORMAT:PATH, such as coco:annotations.json"
        )
    return _evaluate_clips(Path(root), contest, machine, out=out, json=json, quiet=quiet)


def _evaluate_stills(
    data: str,
    models: tuple[str, ...],
    stills: Stills,
    averaging: Averaging,
    *,
    device: str,
    out: Path | None,
    json: bool,
    quiet: bool,
) -> int:
    if not models:
        raise PixelkinError(
            "no model to judge: give --model FOLDER (several separated by commas), or --model otsu"
        )
    kinds = {name: gives_class_maps(name) for name in models}
    if all(kinds.values()):
        with Stages(quiet=quiet) as stages:
            return evaluate_class_maps(
                data, models=models, stills=stills, averaging=averaging, device=device, out=out,
                json=json, stages=stages,
            )  # fmt: skip
    if any(kinds.values()):
        maps = next(name for name, semantic in kinds.items() if semantic)
        raise PixelkinError(
            f"{maps} gives every pixel a class, the other models find objects: no measure is for "
            "both; judge them in two runs"
        )
    if averaging != Averaging():
        raise PixelkinError("--scales, --flip and --window are for semantic models; leave them out")
    return evaluate_objects(
        data, models=models, stills=stills, device=device, out=out, json=json, quiet=quiet
    )


def _evaluate_clips(
    root: Path, contest: Contest, machine: Machine, *, out: Path | None, json: bool, quiet: bool
) -> int:
    if contest.masks and (contest.method or contest.interactive):
        raise PixelkinError(
            "--masks judges masks that are there; leave out --method, --interactive"
        )
    if contest.masks and machine != Machine():
        raise PixelkinError(
            "--masks judges masks that are there; leave out --model, --device, --engine"
        )
    if contest.scribbles and not contest.interactive:
        raise PixelkinError("--scribbles belongs to the interactive protocol; add --interactive")
    if contest.interactive and contest.method:
        raise PixelkinError("--interactive judges pixelkin only; leave out --method")
    check_for_clips(
        machine.model, f"{root} holds clips, which need a model for clips; leave --model out"
    )
    from pixelkin.data.clips.davis import VideoFolder

    _check_split(root, contest)
    data = VideoFolder(root, year=contest.year, split=contest.split)
    names = [name.strip() for name in contest.sequences.split(",") if name.strip()]
    for name in names:
        data.frame_paths(name)  # raises where there is no such sequence
    run = _interactive if contest.interactive else _methods
    with Stages(quiet=quiet) as stages:
        if out is None:
            done, text = run(data, names or data.sequences, contest, machine, None, stages)
        else:
            with output_folder(out):
                done, text = run(data, names or data.sequences, contest, machine, out, stages)
    print(json_text.dumps(done) if json else text)
    return 0


def _check_split(root: Path, contest: Contest) -> None:
    """Raise `PixelkinError` where a list of sequences is asked for, and there are none."""
    # Clips of one's own seldom come with ImageSets.
    if contest.split and (root / "JPEGImages").is_dir() and not any(root.glob("ImageSets/*/*.txt")):
        raise PixelkinError(
            f"{root} has no lists of sequences (ImageSets/{contest.year}/{contest.split}.txt); "
            "leave --split out to judge every folder"
        )


def _methods(
    data: VideoFolder,
    names: list[str],
    contest: Contest,
    machine: Machine,
    out: Path | None,
    stages: Stages,
) -> tuple[dict[str, Any], str]:
    from pixelkin.assess import assess, build_method, masks_in, summarise
    from pixelkin.evaluation.video import text_table

    if contest.masks is not None:
        methods = {contest.masks.name: masks_in(contest.masks)}
    else:
        folders: dict[str, str] = {}
        for spec in contest.method:
            name = _folder_name(spec)
            if name in folders:
                raise PixelkinError(
                    f"--method {folders[name]} and --method {spec} would both be called {name} in "
                    "the results; leave one out, or rename its checkpoint"
                )
            folders[name] = spec
        # All are built first: a missing checkpoint must not show after hours of another method.
        methods = {
            _folder_name(spec): build_method(
                spec, model=machine.model, device=machine.device, engine=machine.engine
            )
            for spec in contest.method or ("pixelkin",)
        }
    done, texts = {}, []
    for name, method in methods.items():
        room = out if out is None or len(methods) == 1 else out / name
        assessment = assess(
            data, method, name=name, year=contest.year, sequences=names, out=room,
            progress=stages.bar(name),
        )  # fmt: skip
        done[name] = summarise(assessment)
        every, fps = done[name]["T_all_sequences"], done[name]["fps"]
        told = [f"T over all sequences {'-' if every is None else format(every, '.3f')}"]
        # Masks of another program took no time here.
        told += [] if fps is None else [f"{fps:.1f} frames per second"]
        texts.append(f"{name}\n{text_table(assessment.report)}\n{'; '.join(told)}")
    return done, "\n\n".join(texts)


def _folder_name(spec: str) -> str:
    return spec.replace(":", "_").replace("/", "_")


def _interactive(
    data: VideoFolder,
    names: list[str],
    contest: Contest,
    machine: Machine,
    out: Path | None,
    stages: Stages,
) -> tuple[dict[str, Any], str]:
    from pixelkin.assess import assess_interactive

    done = assess_interactive(
        data, machine.load(), sequences=names, scribbles=contest.scribbles, out=out,
        progress=stages.bar("interactive"),
    )  # fmt: skip
    width = max(len(name) for name in (*names, "sequence"))
    lines = [f"{'sequence':{width}} {'AUC':>8} {'J&F@60s':>8}"]
    rows = [*done["sequences"].items(), ("all", done)]
    lines += [f"{name:{width}} {row['AUC']:8.3f} {row['J&F@60s']:8.3f}" for name, row in rows]
    return done, "\n".join(lines)
