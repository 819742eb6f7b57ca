"""The folder of a run: what lies where, and what is done.

    OUT/
      run.json             options, classes, photos; written first
      problems.txt         faults of the tags and the photos
      1_photos/            working copies NAME.png, index.json
      2_classifier/        a training
      3_activations/       NAME.npz: activation maps of the tagged classes
      4_regions/           NAME.png: confident regions
      5_affinity/          a training
      6_walk/              NAME.npz: the maps after the walk
      labels/              NAME.png and labels.json: masks, at the photos' own sizes
      7_network/           a training; its model runs alone
      predictions/         NAME.png: of the network, for every photo; in tagged ones, their classes
      8_irnet/, 9_instances/, instances/    where instances are asked for; see instances.py
      report.html, report/

A file is there whole or not at all, so a stage goes on behind the last file that is there. A stage
that is complete leaves an empty file DONE in its folder.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from pixelkin.engine.state import recover
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_write, remove_unfinished, write_error
from pixelkin.masks import read_indexed_png

STAGES = {
    "photos": ("1_photos",),
    "classifier": ("2_classifier",),
    "activations": ("3_activations",),
    "regions": ("4_regions",),
    "affinity": ("5_affinity",),
    "walk": ("6_walk", "labels"),
    "network": ("7_network",),
    "predictions": ("predictions",),
}
"""Stage → its folders, in the order in which stages are done."""

INSTANCE_STAGES = {"irnet": ("8_irnet",), "instances": ("9_instances", "instances")}
"""The same of those that are done after them where instances are asked for."""

ALL_STAGES = STAGES | INSTANCE_STAGES

NEEDS = {later: stage for stage, later in pairwise(STAGES)} | {
    "irnet": "regions",
    "instances": "irnet",
}
"""Stage → the one that must be complete before it; the first needs none."""

PHOTO_FILES = {
    "photos": (("1_photos", ".png"),),
    "activations": (("3_activations", ".npz"),),
    "regions": (("4_regions", ".png"),),
    "walk": (("6_walk", ".npz"), ("labels", ".png")),
    "predictions": (("predictions", ".png"),),
    "instances": (("9_instances", ".json"), ("instances", ".png")),
}
"""Stage → folder and suffix of what it makes of a photo. What lies before it and the photo say what
these files are, so one that is lost is made anew alone; trainings learn from all photos at once."""

SUMMARIES = {"walk": "labels/labels.json", "instances": "instances/labels.json"}
"""Stage → the file in which it tells of all photos together."""

REPORT = "report"
"""The folder of the report's pictures."""

DONE = "DONE"

GO_ON = "run the same command again (without --again)"
"""How a run goes on; --again would remove once more what has been made since."""

MADE_ALONE = f"delete this file and {GO_ON}, which makes it anew"
"""What to do about one of `PHOTO_FILES` that cannot be read."""


def stages_from(stage: str) -> list[str]:
    """A stage and all that need what it makes, at once or in the end."""
    found = [stage]
    for name in ALL_STAGES:
        if NEEDS.get(name) in found:
            found.append(name)
    return found


@contextmanager
def made_by(stage: str) -> Iterator[None]:
    """Let an error in reading a model, or what else is one for all photos, name its stage."""
    with _remedy(f"give --again {stage} to make it anew"):
        yield


@contextmanager
def made_alone() -> Iterator[None]:
    """Let an error in reading one of `PHOTO_FILES` say that this file is made anew alone."""
    with _remedy(MADE_ALONE):
        yield


@contextmanager
def _remedy(text: str) -> Iterator[None]:
    try:
        yield
    except PixelkinError as error:
        what, _, remedy = str(error).rpartition("; ")
        raise PixelkinError(f"{what or remedy}; {text}") from error


@contextmanager
def _as_write_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


class Workspace:
    """The folder of a run.

    Args:
        root: made when the first file is written.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    def folder(self, stage: str) -> Path:
        """The first folder of a stage."""
        return self.root / ALL_STAGES[stage][0]

    def file(self, stage: str, name: str, suffix: str) -> Path:
        """One photo's file in a stage's first folder; a name may hold folders."""
        return self.folder(stage) / f"{name}{suffix}"

    def photo_files(self, stage: str, name: str) -> list[Path]:
        """All that a stage makes of one photo."""
        return [self.root / folder / f"{name}{suffix}" for folder, suffix in PHOTO_FILES[stage]]

    def missing(self, stage: str, names: Sequence[str]) -> list[Path]:
        """Files that a stage makes of some photos, and of all together, and that are not there."""
        if stage not in PHOTO_FILES:
            return []
        files = [path for name in names for path in self.photo_files(stage, name)]
        files += [self.root / SUMMARIES[stage]] if stage in SUMMARIES else []
        return [path for path in files if not path.is_file()]

    def is_done(self, stage: str) -> bool:
        """Whether a stage is complete."""
        return (self.folder(stage) / DONE).is_file()

    def finish(self, stage: str) -> None:
        """Mark a stage complete."""
        atomic_write(self.folder(stage) / DONE, b"")

    def clear_from(self, stage: str) -> None:
        """Remove what a stage and all that need it have made; raises `PixelkinError` on failure."""
        # The last first: wherever this is stopped, nothing is left of what is gone, and no stage
        # passes for done that is half there.
        remade = stages_from(stage)[::-1]
        for path in (self.folder(later) / DONE for later in remade):
            with _as_write_error(path):
                path.unlink(missing_ok=True)
        # Pictures are not made anew where they are there.
        for folder in (REPORT, *(one for later in remade for one in ALL_STAGES[later])):
            path = self.root / folder
            with _as_write_error(path):
                if path.is_dir():
                    shutil.rmtree(path)

    def remove_unfinished(self) -> None:
        """Remove what killed runs have left half-written; before anything else writes."""
        for stage, folders in ALL_STAGES.items():
            if stage not in PHOTO_FILES:
                recover(self.folder(stage))
            for folder in folders:
                remove_unfinished(self.root / folder)
        remove_unfinished(self.root / REPORT)
        remove_unfinished(self.root, of=("run.json", "problems.txt", "report.html"))

    def require(self, stage: str, *, needed_by: str) -> None:
        """Raise `PixelkinError` unless `stage` is complete."""
        if not self.is_done(stage):
            raise PixelkinError(
                f"{self.root}: the stage {needed_by} needs the stage {stage}, which is not "
                f"complete; run it first, or all stages"
            )

    # What stages hand on

    def write_maps(
        self, stage: str, name: str, maps: Float[Tensor, "k h w"], classes: Sequence[int]
    ) -> None:
        """Keep the maps of some classes of one photo, as float16."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            maps=maps.to(torch.float16).cpu().numpy(),
            classes=np.asarray(classes, np.int64),
        )
        atomic_write(self.file(stage, name, ".npz"), buffer.getvalue())

    def read_maps(self, stage: str, name: str) -> tuple[Float[Tensor, "k h w"], tuple[int, ...]]:
        """What `write_maps` kept: maps, float32, and the classes that they are of."""
        path = self.file(stage, name, ".npz")
        try:
            with np.load(path, allow_pickle=False) as kept:
                maps, classes = kept["maps"], kept["classes"]
        # zip, zlib and NumPy's parser of headers each fail in ways of their own.
        except Exception as error:
            raise PixelkinError(f"{path} cannot be read ({error}); {MADE_ALONE}") from error
        return torch.from_numpy(maps).float(), tuple(int(one) for one in classes)

    def read_labels(self, path: Path) -> UInt8[np.ndarray, "H W"]:
        """The label map of a photo that some stage has made."""
        with made_alone():
            return read_indexed_png(path)

    def read_json(self, stage: str, file_name: str) -> Any:
        """What a stage has kept in a JSON file."""
        path = self.folder(stage) / file_name
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise PixelkinError(
                f"{path} cannot be read ({error}); give --again {stage} to make it anew"
            ) from error

    # What the run is

    def start(
        self,
        description: dict[str, Any],
        *,
        first_stage: Mapping[str, str],
        unnamed: Mapping[str, Any] = MappingProxyType({}),
        again: str | None = None,
    ) -> None:
        """Write run.json, or raise `PixelkinError` where another run lives here.

        Nor does a run begin in a folder that holds files where it would keep its own: they would
        pass for what a stage has made, and `again` would remove them.

        Args:
            description: key → JSON value; all must be equal for a run to go on. A key that the
                run.json there does not have is not compared.
            first_stage: key, or key.part → the first stage that it has a say in; of others it is
                the very first.
            unnamed: key.part → what it was in a run whose run.json has the key but not the part.
            again: remove what this stage and all that need it have made; what has a say in these
                alone may be another than it was.
        """
        first = next(iter(STAGES))
        remade = stages_from(again) if again else []
        kept = [name for name in ALL_STAGES if name not in remade]
        if not (self.root / "run.json").is_file():
            self._check_nobodys()
        elif again != first:
            for key, was, now in self._differences(description, unnamed):
                stage = first_stage.get(key, first_stage.get(key.split(".")[0], first))
                if stage in kept:
                    raise PixelkinError(
                        f"{self.root} holds a run with {key} {was}, now it is {now}; give the "
                        f"same, another folder, or --again {stage} to make that stage and all "
                        "after it anew"
                    )
            # What was not asked for this time is there still.
            others = {k: v for k, v in self.description().items() if k in INSTANCE_STAGES}
            description = {k: v for k, v in others.items() if k in kept} | description
        if again:
            self.clear_from(again)
        self.describe(description)

    def describe(self, description: dict[str, Any]) -> None:
        """Write run.json, whatever was there."""
        text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
        atomic_write(self.root / "run.json", text)

    def description(self) -> dict[str, Any]:
        """What run.json says."""
        path = self.root / "run.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise PixelkinError(
                f"{path} cannot be read ({error}); give --again {next(iter(STAGES))} to start the "
                "run anew"
            ) from error
        return found

    def _check_nobodys(self) -> None:
        for folder in (*(one for folders in ALL_STAGES.values() for one in folders), REPORT):
            if (self.root / folder).is_dir() and any((self.root / folder).iterdir()):
                raise PixelkinError(
                    f"{self.root} holds the folder {folder}, but no run.json: expected a new "
                    "folder or that of a run; choose another"
                )

    def _differences(
        self, description: dict[str, Any], unnamed: Mapping[str, Any]
    ) -> Iterator[tuple[str, Any, Any]]:
        old = self.description()
        # As JSON gives it back: tuples are lists there.
        new = json.loads(json.dumps(description))
        for key in new:
            if key in old and old[key] != new[key]:
                yield from _first_difference(key, old[key], new[key], unnamed)


def _first_difference(
    key: str, old: Any, new: Any, unnamed: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for part in new:
            name = f"{key}.{part}"
            was = old.get(part, unnamed.get(name))
            if was != new[part]:
                yield from _first_difference(name, was, new[part], unnamed)
        return
    yield key, _short(old), _short(new)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
