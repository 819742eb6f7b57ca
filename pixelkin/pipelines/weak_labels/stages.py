"""The stages of a run: each goes on where it was stopped, and leaves files to be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from pixelkin.engine import Training, can_resume
from pixelkin.engine import train as run_training
from pixelkin.engine.state import LAST, load_tree
from pixelkin.errors import PixelkinError
from pixelkin.masks import segments_from_labels, write_indexed_png
from pixelkin.pipelines.weak_labels import maps
from pixelkin.pipelines.weak_labels.photos import (
    LabelledCopies,
    Photos,
    Report,
    WorkingCopies,
    typical_size,
)
from pixelkin.pipelines.weak_labels.workspace import GO_ON, Workspace, made_by
from pixelkin.results.instances import CocoWriter
from pixelkin.runtime import pick_device
from pixelkin.semantic.checkpoints import load_semantic_segmenter
from pixelkin.structures import Instances
from pixelkin.trainings.affinity import affinity_training, load_affinity_net
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.backbones import backbone_of
from pixelkin.trainings.optimisation import Optimisation
from pixelkin.trainings.semantic import Balance, semantic_training
from pixelkin.trainings.semantic_networks import NetworkOptions
from pixelkin.trainings.tags import load_classifier, tag_training

Architecture = Literal["light", "timm-fcn", "deeplab-v3-plus", "deeplab-v2"]
"""Of the segmentation network: those that can have the classifier's backbone, to start from it."""

BACKBONE = "tf_efficientnet_lite0"
"""Of the classifier."""

NETWORK = Optimisation(steps=1200, weights="imagenet")
"""Of the segmentation network, for some hundred photos on two CPU cores."""

WINDOWS = Windows(crop_px=256, scale=(0.5, 1.1))
"""Of the segmentation network. Most of a photo is in them: tags say what is somewhere in the whole,
and labels made of them are told apart by what lies around."""

BALANCE = Balance(class_balance=0.75)
"""Of the segmentation network. Background is most of nearly every photo, and swallows the rest of
labels that are uncertain anyway; ADR 0009 has the numbers."""

SAVE_EVERY = 50
"""Steps between checkpoints of a training: a minute or two of work on two CPU cores."""


@dataclass(frozen=True)
class Machine:
    """Where a run computes.

    Attributes:
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        precision: of the trainings; weights are always float32.
        workers: processes that make training windows.
    """

    device: str = "auto"
    precision: str = "32-true"
    workers: int = 0


@dataclass(frozen=True)
class Run:
    """What every stage is given.

    Attributes:
        workspace: where files are.
        photos: all of them.
        copies: of the tagged ones, in the order of `photos.with_tags()`.
        long_side_px: of the copies.
        seed: of the trainings.
        radius: pairs of cells nearer than this are neighbours, in training and in the walk.
        machine: where it computes.
        report: told how far a stage is.
    """

    workspace: Workspace
    photos: Photos
    copies: WorkingCopies
    long_side_px: int
    seed: int
    radius: int
    machine: Machine
    report: Report

    @property
    def window_hw(self) -> tuple[int, int]:
        """Of the training windows."""
        return typical_size(self.photos, long_side_px=self.long_side_px)

    def on_machine(self, optimisation: Optimisation) -> Optimisation:
        """The same with this run's seed and data processes."""
        return replace(optimisation, seed=self.seed, workers=self.machine.workers)

    def device(self) -> torch.device:
        """Where networks are asked."""
        return pick_device(self.machine.device)

    def asked(self, stage: str) -> list[int]:
        """Indices of the photos that a stage is about."""
        everyone = stage in ("photos", "predictions")
        return list(range(len(self.photos.names))) if everyone else self.photos.with_tags()

    def missing(self, stage: str) -> list[Path]:
        """Files of single photos that a stage has not made, or that are lost."""
        names = [self.photos.names[index] for index in self.asked(stage)]
        return self.workspace.missing(stage, names)

    def each(self, stage: str) -> Iterator[tuple[int, int, str]]:
        """(place among those asked, index, name) of each photo of which a file is not there."""
        indices = self.asked(stage)
        for place, index in enumerate(indices):
            self.report(stage, place, len(indices))
            name = self.photos.names[index]
            if not all(path.is_file() for path in self.workspace.photo_files(stage, name)):
                yield place, index, name
        self.report(stage, len(indices), len(indices))


def train_classifier(run: Run, optimisation: Optimisation) -> None:
    """Stage "classifier": photos and tags → a network that shows where it sees each class."""
    tagged = run.photos.with_tags()
    training = tag_training(
        run.copies,
        run.photos.tags[tagged],
        class_names=run.photos.class_names,
        window_hw=run.window_hw,
        optimisation=run.on_machine(optimisation),
    )
    train_stage(run, "classifier", training)


def read_activations(run: Run, options: maps.ActivationOptions) -> None:
    """Stage "activations": where the classifier sees each tagged class."""
    workspace, device = run.workspace, run.device()
    with made_by("classifier"):
        classifier = load_classifier(workspace.folder("classifier") / "model").to(device)
    for place, index, name in run.each("activations"):
        classes = run.photos.classes_of(index)
        found = maps.activations(
            classifier, run.copies[place], classes, options=options, device=device
        )
        workspace.write_maps("activations", name, found, classes)
    workspace.finish("activations")


def find_regions(run: Run, options: maps.RegionOptions, crf: maps.CrfOptions) -> None:
    """Stage "regions": what is surely of a class, and what is surely background."""
    workspace = run.workspace
    for place, _, name in run.each("regions"):
        found, classes = workspace.read_maps("activations", name)
        local = maps.regions(found, run.copies[place], options=options, crf=crf)
        write_indexed_png(workspace.file("regions", name, ".png"), maps.numbered(local, classes))
    workspace.finish("regions")


def train_affinity(run: Run, optimisation: Optimisation) -> None:
    """Stage "affinity": confident regions → features that tell classes apart."""
    names = [run.photos.names[index] for index in run.photos.with_tags()]
    samples = LabelledCopies(
        run.copies, [run.workspace.file("regions", name, ".png") for name in names]
    )
    training = affinity_training(
        samples,
        window_hw=run.window_hw,
        radius=run.radius,
        optimisation=run.on_machine(optimisation),
    )
    train_stage(run, "affinity", training)


def walk_maps(run: Run, options: maps.WalkOptions, crf: maps.CrfOptions) -> None:
    """Stage "walk": activations spread over similar neighbours, and become label maps."""
    workspace, device = run.workspace, run.device()
    with made_by("affinity"):
        network = load_affinity_net(workspace.folder("affinity") / "model").to(device)
    if not options.crf:
        crf = replace(crf, iterations=0)
    for place, index, name in run.each("walk"):
        found, classes = workspace.read_maps("activations", name)
        image = run.copies[place]
        confident = None
        if options.method == "one_step":
            path = workspace.file("regions", name, ".png")
            regions = workspace.read_labels(path)
            confident = maps.unnumbered(regions, classes)
        scores = maps.walked(
            network, image, found, options=options, confident=confident, device=device
        )
        workspace.write_maps("walk", name, scores, classes)
        labels = maps.label_map(scores, classes, image, size_hw=run.photos.sizes_hw[index], crf=crf)
        write_indexed_png(label_file(workspace, name), labels)
    write_coco(run)
    workspace.finish("walk")


def label_file(workspace: Workspace, name: str) -> Path:
    """The label map of a photo that the walk gave, at the photo's own size."""
    return workspace.root / "labels" / f"{name}.png"


def write_coco(run: Run) -> None:
    """All label maps as one COCO file, labels/labels.json: a region per class and photo.

    Its file names are the photos', below their folder.
    """
    photos, workspace = run.photos, run.workspace
    path = workspace.root / "labels" / "labels.json"
    with CocoWriter(path, class_names=photos.class_names) as coco:
        for index in photos.with_tags():
            name = photos.names[index]
            labels = workspace.read_labels(label_file(workspace, name))
            found = segments_from_labels(labels)
            numbers = found.object_ids
            coco.write(
                photos.files[index],
                Instances(
                    found.size_hw,
                    tuple(found.rles[number] for number in numbers),
                    tuple(number - 1 for number in numbers),
                    (1.0,) * len(numbers),
                ),
            )


def train_network(
    run: Run,
    optimisation: Optimisation,
    *,
    architecture: Architecture,
    windows: Windows,
    balance: Balance,
) -> None:
    """Stage "network": label maps → a segmentation network, trained as on any others.

    Its backbone starts from the classifier's, which tells the classes already.
    """
    names = [run.photos.names[index] for index in run.photos.with_tags()]
    samples = LabelledCopies(run.copies, [label_file(run.workspace, name) for name in names])
    training = semantic_training(
        samples,
        architecture,
        options=NetworkOptions(backbone=BACKBONE),
        class_names=("background", *run.photos.class_names),
        optimisation=run.on_machine(optimisation),
        windows=windows,
        balance=balance,
    )
    with made_by("classifier"):
        classifier = load_classifier(run.workspace.folder("classifier") / "model")
    known = classifier.backbone.net.state_dict()
    # A classifier that started from the shipped weights ends at stride 16; what lies above stays.
    backbone_of(training.model).net.load_state_dict(known, strict=False)
    train_stage(run, "network", training)


def predict_all(run: Run) -> None:
    """Stage "predictions": what the trained network sees in every photo.

    Of a tagged photo the best of its own classes: what it shows need not be guessed.
    """
    workspace = run.workspace
    with made_by("network"):
        segmenter = load_semantic_segmenter(
            workspace.folder("network") / "model", device=run.machine.device
        )
    copies = WorkingCopies(workspace, run.photos.names)
    for _, index, name in run.each("predictions"):
        shown = [0, *(one + 1 for one in run.photos.classes_of(index))]
        labels = segmenter.segment(copies[index], among=shown if run.photos.tagged[index] else None)
        path = workspace.file("predictions", name, ".png")
        write_indexed_png(path, maps.resized(labels, run.photos.sizes_hw[index]))
    workspace.finish("predictions")


def train_stage(run: Run, stage: str, training: Training) -> None:
    """Train in the stage's folder, going on from its last checkpoint, and finish the stage."""
    folder = run.workspace.folder(stage)
    accelerator, _, number = run.machine.device.partition(":")
    devices: Any = [int(number)] if number else 1
    resume = can_resume(folder)
    if resume:
        # Read for its errors alone: all others of a training have remedies of their own.
        with made_by(stage):
            load_tree(folder / LAST)
    result = run_training(
        training,
        out=folder,
        resume=resume,
        accelerator=accelerator,
        devices=devices,
        precision=run.machine.precision,  # type: ignore[arg-type]
        seed=run.seed,
        save_every=SAVE_EVERY,
    )
    if result.stopped != "steps":
        raise PixelkinError(
            f"{run.workspace.root}: stopped in the stage {stage} at step {result.step}; {GO_ON} "
            "to go on"
        )
    run.workspace.finish(stage)


def class_coverage(run: Run, folder: str) -> dict[str, float]:
    """Share of all pixels of the label maps in a folder, by class, background included."""
    counts = np.zeros(256, np.int64)
    for index in run.photos.with_tags():
        path = run.workspace.root / folder / f"{run.photos.names[index]}.png"
        if path.is_file():
            labels = run.workspace.read_labels(path)
            counts += np.bincount(labels.ravel(), minlength=256)
    total = max(int(counts.sum()), 1)
    names = ("background", *run.photos.class_names)
    return {name: float(counts[i]) / total for i, name in enumerate(names)}
