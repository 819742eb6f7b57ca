"""Semantic networks under one budget on one data set: quality, size and speed of each.

Everything that a training does is the same but the network and what belongs to it; all models are
judged on the same stills through the segmenter that users run. What is done is kept in files, so
that an interrupted comparison goes on where it stopped.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from pixelkin.assess.contestants import Contestant
from pixelkin.assess.network_cost import NetworkCost, Timing, network_cost, timed
from pixelkin.data.source import SemanticSource
from pixelkin.engine import Training, can_resume
from pixelkin.engine import train as run_training
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_write
from pixelkin.models.semantic_network import SemanticNetwork
from pixelkin.semantic.checkpoints import (
    build_network,
    load_semantic_network,
    load_semantic_segmenter,
)
from pixelkin.semantic.scoring import class_order, evaluate_semantic
from pixelkin.semantic.segmenter import SemanticSegmenter
from pixelkin.semantic.tiling import fitting_size
from pixelkin.trainings.semantic_networks import described
from pixelkin.trainings.semantic_user_data import train_on_maps

PLAN, DONE = "plan.json", "measures.json"
"""Beside each training: what was asked for, and what came out."""

PROBE_STEPS = 8
"""Steps by which the pace of a training is measured, where the budget is a time."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Budget:
    """What every training gets.

    Attributes:
        seconds: that each training may take on this machine; the number of steps follows from the
            network's pace, so that schedules end with the time. None: the steps of the settings.
        seeds: each network is trained once with each.
        accelerator: auto, cpu, cuda or mps.
    """

    seconds: float | None = None
    seeds: tuple[int, ...] = (0,)
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        if self.seconds is not None and self.seconds <= 0:
            raise PixelkinError(f"seconds is {self.seconds:g}: expected more than 0; give 60")
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise PixelkinError(
                f"the seeds are {list(self.seeds)}: expected one or more, each 0 or more and given "
                "once; give 0 1 2"
            )


@dataclass(frozen=True)
class Judged:
    """One contestant's numbers.

    Attributes:
        name: as asked for.
        measures: per seed, "overlap/mIoU" and so on → number; of a trained model one entry.
        cost: of one image.
        timing: of one image through the segmenter.
        steps: of each training; None where nothing was trained.
        training_seconds: mean over the seeds; None as above.
    """

    name: str
    measures: tuple[dict[str, float], ...]
    cost: NetworkCost
    timing: Timing
    steps: int | None = None
    training_seconds: float | None = None

    def mean(self, measure: str) -> float:
        """Mean of a measure over the seeds."""
        return statistics.fmean(one[f"overlap/{measure}"] for one in self.measures)

    def spread(self, measure: str) -> float | None:
        """Standard deviation over the seeds; None of one seed."""
        values = [one[f"overlap/{measure}"] for one in self.measures]
        return statistics.stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Contest:
    """The stills, the budget, and where files go.

    Attributes:
        train: stills that networks are trained on; None where none is.
        judged: stills that all are judged on.
        budget: of every training.
        out: folder for the trainings.
        data: how the data was named; a comparison goes on only with the same.
        device: where models run.
        runs: how often the time of an image is taken.
    """

    train: SemanticSource | None
    judged: SemanticSource
    budget: Budget
    out: Path
    data: str = ""
    device: str = "auto"
    runs: int = 5

    def run(self, contestants: Sequence[Contestant], progress: Progress | None = None) -> list[
        Judged
    ]:  # fmt: skip
        """Train what is to be trained, judge all, and take their times one after another."""
        for one in contestants:
            self._check(one)
        folders: list[list[Path]] = []
        measures: list[list[dict[str, Any]]] = []
        for one in contestants:
            rooms = [self.out / one.folder_name / f"seed{seed}" for seed in self.budget.seeds]
            if one.network is None:
                folders.append([Path(one.name)])
                measures.append([{"measures": self._judge(one.name, one.name, progress)}])
                continue
            done = [
                self._trained(one, seed, room, progress)
                for seed, room in zip(self.budget.seeds, rooms, strict=True)
            ]
            folders.append([room / "model" for room in rooms])
            measures.append(done)
        # At the end, so that trainings do not warm the machine for some and not for others.
        image = self.judged[0].image
        return [
            self._row(one, folder[0], image, done)
            for one, folder, done in zip(contestants, folders, measures, strict=True)
        ]

    def _check(self, one: Contestant) -> None:
        """Raise `PixelkinError` for what would otherwise show after hours of another training."""
        names = self.judged.class_names
        if one.network is None:
            names = load_semantic_segmenter(one.name, device="cpu").class_names
        else:
            try:
                with torch.device("meta"):
                    build_network(described(one.network, names, one.settings.options.chosen()))
            except PixelkinError as error:
                raise PixelkinError(f"{one.name}: {error}") from error
        class_order(names, self.judged.class_names)

    def _row(
        self,
        one: Contestant,
        folder: Path,
        image: UInt8[np.ndarray, "h w 3"],
        done: list[dict[str, Any]],
    ) -> Judged:
        source = one.name if one.network is None else folder
        segmenter = load_semantic_segmenter(source, device=self.device)
        seconds = [entry["seconds"] for entry in done if "seconds" in entry]
        return Judged(
            one.name,
            tuple(entry["measures"] for entry in done),
            network_cost(load_semantic_network(source), seen_size(segmenter, image.shape[:2])),
            timed(lambda: segmenter.segment(image), runs=self.runs, device=segmenter.device),
            steps=done[0].get("steps"),
            training_seconds=statistics.fmean(seconds) if seconds else None,
        )

    def _judge(self, name: str, source: str | Path, progress: Progress | None) -> dict[str, float]:
        segmenter = load_semantic_segmenter(source, device=self.device)
        tell = None if progress is None else lambda done, total: progress(name, done, total)
        values = evaluate_semantic(segmenter, self.judged, measures=["overlap"], progress=tell)
        return {key: value for key, value in values.items() if value == value}

    def _trained(
        self, one: Contestant, seed: int, room: Path, progress: Progress | None
    ) -> dict[str, Any]:
        """Train and judge a network with one seed, or go on with that, or read what came out."""
        plan = self._plan(one, seed, room)
        if (room / DONE).is_file():
            return cast(dict[str, Any], json.loads((room / DONE).read_text()))
        training = self._training(one, seed, steps=plan["steps"])
        title = f"{one.name}, seed {seed}"
        start = time.perf_counter()
        try:
            result = run_training(
                training,
                out=room,
                resume=can_resume(room),
                accelerator=self.budget.accelerator,
                seed=seed,
                title=title,
            )
        finally:
            plan["seconds"] += time.perf_counter() - start
            _write(room / PLAN, plan)
        if result.stopped == "interrupted":
            raise KeyboardInterrupt
        values = self._judge(title, room / "model", progress)
        done = {"steps": plan["steps"], "seconds": plan["seconds"], "measures": values}
        _write(room / DONE, done)
        return done

    def _plan(self, one: Contestant, seed: int, room: Path) -> dict[str, Any]:
        asked = {
            "data": self.data,
            "seconds": self.budget.seconds,
            "seed": seed,
            **asdict(one.settings),
        }
        # Plans that were written once are read for ever.
        asked["learning"] = asked.pop("optimisation")
        asked = json.loads(json.dumps(asked, default=str))
        if (room / PLAN).is_file():
            plan = cast(dict[str, Any], json.loads((room / PLAN).read_text()))
            if plan["asked"] == asked:
                return plan
            raise PixelkinError(
                f"{room} was trained with {difference(plan['asked'], asked)}; compare with the "
                "same options, or choose a new folder"
            )
        steps = one.settings.optimisation.steps
        if self.budget.seconds is not None:
            steps = max(int(self.budget.seconds / self._pace(one, seed)), 1)
        plan = {"asked": asked, "steps": steps, "seconds": 0.0}
        _write(room / PLAN, plan)
        return plan

    def _pace(self, one: Contestant, seed: int) -> float:
        """Seconds that a step takes here, once a training is under way."""
        training = self._training(one, seed, steps=PROBE_STEPS)
        begun: list[float] = []
        loss = training.loss

        def noted(model: nn.Module, batch: Any) -> Any:
            begun.append(time.perf_counter())
            return loss(model, batch)

        with tempfile.TemporaryDirectory() as folder:
            run_training(
                replace(training, loss=noted, save=None),
                out=Path(folder) / "probe",
                accelerator=self.budget.accelerator,
                seed=seed,
            )
        return float(np.median(np.diff(begun[2:])))

    def _training(self, one: Contestant, seed: int, *, steps: int) -> Training:
        assert self.train is not None
        assert one.network is not None
        settings = one.settings
        return train_on_maps(
            self.train,
            None,  # judged once, afterwards, by all measures
            one.network,
            options=settings.options,
            optimisation=replace(settings.optimisation, steps=steps, seed=seed),
            windows=settings.windows,
            balance=settings.balance,
            config={"data": self.data},
        )


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The options that changed between two plans: `steps 2, now it is 3`."""
    old, new = _flat(before), _flat(now)
    changed = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    were = [f"{name.replace('_', '-')} {_as_option(old.get(name))}" for name in changed]
    are = [_as_option(new.get(name)) for name in changed]
    return f"{_and(were)}, now {'it is' if len(are) == 1 else 'they are'} {_and(are)}"


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name, without the groups in which they stand."""
    found: dict[str, Any] = {}
    for name, value in plan.items():
        # The seed of a group is never asked for: that of the plan itself holds.
        inner = _flat(value) if isinstance(value, Mapping) else {name: value}
        found |= {key: inner[key] for key in inner if key not in found}
    return found


def _as_option(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list):
        return ",".join(map(_as_option, value)) or "none"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _and(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def seen_size(segmenter: SemanticSegmenter, size_hw: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of what the network is given of an image, or of its first tile."""
    network = cast(SemanticNetwork, segmenter.model)
    most = segmenter.tile_px or max(size_hw)
    h, w = (min(side, most) + 2 * network.margin_px for side in size_hw)
    return fitting_size(network, (h, w))


def _write(path: Path, content: dict[str, Any]) -> None:
    atomic_write(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
