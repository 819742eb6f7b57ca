"""From a folder of photos and their tags to masks and a trained network, stage by stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pixelkin import __version__
from pixelkin.data.tags.image_tags import Tags
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_write, write_error
from pixelkin.pipelines.weak_labels import stages
from pixelkin.pipelines.weak_labels.instances import (
    InstanceOptions,
    find_instances,
    train_irnet,
)
from pixelkin.pipelines.weak_labels.maps import (
    ActivationOptions,
    CrfOptions,
    RegionOptions,
    WalkOptions,
)
from pixelkin.pipelines.weak_labels.photos import (
    Report,
    WorkingCopies,
    classes_text,
    find_photos,
    match_tags,
    prepare_photos,
)
from pixelkin.pipelines.weak_labels.report import write_report
from pixelkin.pipelines.weak_labels.stages import Machine, Run
from pixelkin.pipelines.weak_labels.workspace import (
    ALL_STAGES,
    INSTANCE_STAGES,
    NEEDS,
    STAGES,
    Workspace,
)
from pixelkin.runtime import pick_device
from pixelkin.trainings import affinity, tags
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.semantic import Balance


@dataclass(frozen=True)
class Options:
    """Of all stages. The defaults are the small setting, for two CPU cores.

    Attributes:
        long_side_px: of the working copies.
        classifier, affinity, network: of the three trainings; the seed is the run's.
        architecture: of the network.
        windows, balance: of the network's training too.
        activations, regions, crf, walk: of the stages between.
        instances: of the two stages that find them; None leaves these out.
    """

    long_side_px: int = 448
    classifier: Optimisation = tags.OPTIMISATION
    activations: ActivationOptions = field(default_factory=ActivationOptions)
    regions: RegionOptions = field(default_factory=RegionOptions)
    crf: CrfOptions = field(default_factory=CrfOptions)
    affinity: Optimisation = affinity.OPTIMISATION
    walk: WalkOptions = field(default_factory=WalkOptions)
    network: Optimisation = stages.NETWORK
    architecture: stages.Architecture = "light"
    windows: Windows = stages.WINDOWS
    balance: Balance = stages.BALANCE
    instances: InstanceOptions | None = None

    def stages(self) -> tuple[str, ...]:
        """Names of all that there are, in order."""
        return tuple(STAGES if self.instances is None else ALL_STAGES)


@dataclass(frozen=True)
class Extent:
    """Which stages are run.

    Attributes:
        only: this one alone; those before it must be complete.
        until: the last one.
        again: this one and all that need it are made anew.
    """

    only: str | None = None
    until: str | None = None
    again: str | None = None

    def stages(self, known: Sequence[str] = tuple(STAGES)) -> list[str]:
        """Names out of all, in order.

        Raises:
            PixelkinError: one is unknown, or two of the three contradict each other.
        """
        if self.only and self.until:
            raise PixelkinError(
                f"--only {self.only} and --until {self.until} are two answers to which stages "
                "run; give one"
            )
        for name in (self.only, self.until, self.again):
            if name is not None and name not in known:
                hint = "; give --instances for it" if name in INSTANCE_STAGES else ""
                raise PixelkinError(
                    f"there is no stage {name!r}: expected {', '.join(known)}{hint}"
                )
        end = known.index(self.until) + 1 if self.until else len(known)
        wanted = [self.only] if self.only else list(known[:end])
        if self.again is not None and self.again not in wanted:
            # It would be removed, and not be made.
            given = f"--only {self.only}" if self.only else f"--until {self.until}"
            raise PixelkinError(
                f"--again {self.again} asks for a stage that {given} does not run: expected "
                f"{', '.join(wanted)}; leave one of the two out, or give them another stage"
            )
        return wanted


def label_photos(
    images: Path,
    tags_from: Path,
    out: Path,
    *,
    classes: Sequence[str] = (),
    options: Options = Options(),
    extent: Extent = Extent(),
    seed: int = 0,
    machine: Machine = Machine(),  # noqa: B008
    report: Report = lambda stage, done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> Run:
    """Run the stages that are not done yet.

    Args:
        images: folder of photos.
        tags_from: any encoding that `data.tags.sources.read_tags` knows.
        out: folder of the run; one that was stopped goes on.
        classes: those to learn; none takes all that some photo carries.
        options, extent, machine: see there.
        seed: of all trainings.
        report: told how far each stage is.
        say: told what the user should know, line by line.

    Raises:
        PixelkinError: the device is not there, another run lives in `out`, a stage before is
            missing, a file cannot be written or read; what is done stays, and the same call without
            `again` goes on.
    """
    known = options.stages()
    wanted = extent.stages(known)
    pick_device(machine.device)
    workspace = Workspace(out)
    paths = find_photos(images, tags_from, out=out)
    found, problems = match_tags(tags_from, list(paths), classes=classes)
    workspace.start(
        describe(list(paths), found, options, seed),
        first_stage=FIRST_STAGE,
        unnamed=ONCE_FIXED,
        again=extent.again,
    )
    workspace.remove_unfinished()
    if not workspace.is_done("photos"):
        say(headline("photos", known))
    photos, faults, readable = prepare_photos(
        workspace, images, paths, found, long_side_px=options.long_side_px, progress=report
    )
    late = [f"warning: {path}: was left out, and can be read now; {TAKE_IN}" for path in readable]
    write_problems(out / "problems.txt", [*map(str, problems), *faults, *late], say=say)
    if readable:
        say(f"photos that were left out, and can be read now: {len(readable)}, the first "
            f"{readable[0]}; {TAKE_IN}")  # fmt: skip
    tagged = photos.with_tags()
    say(f"{len(photos.names)} photos, {len(tagged)} with tags, {classes_text(photos.class_names)}")
    run = Run(
        workspace=workspace,
        photos=photos,
        copies=WorkingCopies(workspace, [photos.names[index] for index in tagged]),
        long_side_px=options.long_side_px,
        seed=seed,
        radius=options.walk.radius,
        machine=machine,
        report=report,
    )
    run_stages(run, wanted, options, say=say)
    write_report(run)
    return run


TAKE_IN = "give --again photos to take in what can be read, which makes all stages anew"


def headline(stage: str, known: Sequence[str]) -> str:
    """What is said when a stage begins."""
    return f"stage {known.index(stage) + 1} of {len(known)}: {stage}"


def write_problems(path: Path, lines: Sequence[str], *, say: Callable[[str], None]) -> None:
    """Write the faults of tags and photos, errors first; no file where there are none."""
    if not lines:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        return
    ordered = sorted(lines, key=lambda line: not line.startswith("error: "))
    atomic_write(path, "\n".join(ordered) + "\n")
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    say(f"{count} of tags and photos, the first: {ordered[0]}; all in {path}")


def run_stages(
    run: Run, wanted: Sequence[str], options: Options, *, say: Callable[[str], None]
) -> None:
    """Do those that are wanted and not done, and make anew what others before them have lost."""
    workspace, known = run.workspace, options.stages()
    for name in known[: known.index(wanted[-1]) + 1]:
        done = workspace.is_done(name)
        lost = len(run.missing(name)) if done else 0
        due = lost > 0 if done else name in wanted
        if not due:
            continue
        if name in NEEDS:
            workspace.require(NEEDS[name], needed_by=name)
        again = f", of which files are missing ({lost}): they are made anew" if lost else ""
        say(headline(name, known) + again)
        run_stage(run, name, options)
        write_report(run)


def run_stage(run: Run, name: str, options: Options) -> None:
    """Do one stage, from where it was left."""
    objects = options.instances or InstanceOptions()
    todo: dict[str, Callable[[], None]] = {
        "photos": lambda: None,
        "classifier": lambda: stages.train_classifier(run, options.classifier),
        "activations": lambda: stages.read_activations(run, options.activations),
        "regions": lambda: stages.find_regions(run, options.regions, options.crf),
        "affinity": lambda: stages.train_affinity(run, options.affinity),
        "walk": lambda: stages.walk_maps(run, options.walk, options.crf),
        "network": lambda: stages.train_network(
            run,
            options.network,
            architecture=options.architecture,
            windows=options.windows,
            balance=options.balance,
        ),
        "predictions": lambda: stages.predict_all(run),
        "irnet": lambda: train_irnet(run, objects.irnet),
        "instances": lambda: find_instances(run, objects.grouping),
    }
    todo[name]()


FIRST_STAGE = {
    "tags": "classifier",
    "class_names": "classifier",
    "seed": "classifier",
    "crf": "regions",
    "walk.radius": "affinity",
    **{name: name for name in ALL_STAGES},
}
"""Key of run.json → the first stage that it has a say in; all others have one in the very first."""


ONCE_FIXED: dict[str, Any] = {
    **{
        f"{training}.{name}": value
        for training in ("classifier", "affinity", "irnet")
        for name, value in (("weight_decay", 1e-4), ("ema_decay", 0.0), ("validate_every", 0))
    },
    "network.architecture": "light",
    "network.crop_px": 256,
    "network.scale": [0.5, 1.1],
    "network.rotate": False,
    "network.class_balance": 0.75,
    "network.near_class": 0.0,
    "network.border_weight": 0.0,
    "network.border_sigma_px": 5.0,
    "network.border_ground": "background",
}
"""What the run.json of older runs does not name, and what it was in them. Numbers of then, not the
defaults of now: these may change, and then such a run must not go on as if nothing had."""


def describe(names: Sequence[str], tags: Tags, options: Options, seed: int) -> dict[str, Any]:
    """What must stay the same for a run to go on; run.json."""
    described = asdict(options)
    described["network"] |= described.pop("windows") | described.pop("balance")
    described["network"]["architecture"] = described.pop("architecture")
    objects = described.pop("instances")
    if objects is not None:
        described |= {"irnet": objects["irnet"], "instances": objects["grouping"]}
    for training in ("classifier", "affinity", "network", "irnet"):
        if training in described:
            # The run's own, and the machine's.
            del described[training]["seed"], described[training]["workers"]
    return {
        "pixelkin": __version__,
        "photos": f"{len(names)} ({_digest(sorted(names))})",
        "class_names": list(tags.class_names),
        "tags": f"of {len(tags.by_name)} photos ({_digest(sorted(tags.by_name.items()))})",
        "seed": seed,
        **described,
    }


def _digest(value: Any) -> str:
    """Eight characters that are others for another JSON value."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]
