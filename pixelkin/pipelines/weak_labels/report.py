"""report.html: sample photos through every stage, loss curves, and what each class covers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from pixelkin.data.reading import read_image
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.affinity import affinity_of_cell
from pixelkin.masks import overlay, palette
from pixelkin.pipelines.weak_labels.instances import (
    instance_file,
    objects_picture,
    read_objects,
)
from pixelkin.pipelines.weak_labels.maps import CELL_PX, resized, to_tensor
from pixelkin.pipelines.weak_labels.photos import classes_text
from pixelkin.pipelines.weak_labels.stages import Run, class_coverage, label_file
from pixelkin.pipelines.weak_labels.workspace import REPORT, made_alone, made_by
from pixelkin.structures import IGNORE
from pixelkin.trainings.affinity import load_affinity_net

SAMPLES = 12
"""Photos that are shown, evenly spread over the tagged ones."""

PICTURES = {
    "photo": "photo",
    "activations": "class activation",
    "regions": "confident regions",
    "affinity": "affinity to the marked cell",
    "walk": "after the walk",
    "labels": "mask",
    "predictions": "network",
    "instances": "instances",
}
"""Columns, in the order of the stages; the last where instances were asked for."""

TRAININGS = {
    "classifier": "tag classifier",
    "affinity": "AffinityNet",
    "network": "network",
    "irnet": "IRNet",
}

COVERED = {"4_regions": "confident", "labels": "masks", "predictions": "network"}
"""Folder of label maps → title; columns of the last table."""

Picture = UInt8[np.ndarray, "h w 3"]


def write_report(run: Run) -> None:
    """Write report.html, and in report/ those of its pictures whose stage is done and that are
    not there yet.
    """
    room = run.workspace.root / REPORT
    indices = samples(run)
    for index in indices:
        _write_pictures(run, index, room)
    template = files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    page = Template(template).substitute(
        title=escape(run.workspace.root.resolve().name),
        summary=escape(
            f"{len(run.photos.names)} photos, {len(run.photos.with_tags())} with tags, "
            f"{classes_text(run.photos.class_names)}, seed {run.seed}"
        ),
        legend=_legend(run.photos.class_names),
        head="".join(f"<th scope='col'>{escape(text)}</th>" for text in columns(run).values()),
        rows="\n".join(_row(run, index, room) for index in indices),
        curves="\n".join(_curves(run)),
        coverage=_coverage(run),
    )
    atomic_write(run.workspace.root / "report.html", page)


def columns(run: Run) -> dict[str, str]:
    """Kind → title of the pictures that this run has."""
    asked = run.workspace.folder("instances").is_dir()
    return {kind: title for kind, title in PICTURES.items() if asked or kind != "instances"}


def samples(run: Run) -> list[int]:
    """Indices of the photos that are shown: those with tags, a few without where there are any."""
    with_classes = [i for i in run.photos.with_tags() if run.photos.tags[i].any()]
    untagged = [i for i in range(len(run.photos.names)) if not run.photos.tagged[i]]
    shown = _spread(with_classes, SAMPLES - min(3, len(untagged)))
    return shown + _spread(untagged, SAMPLES - len(shown))


def _spread(indices: Sequence[int], count: int) -> list[int]:
    if len(indices) <= count:
        return list(indices)
    return [indices[int(place)] for place in np.linspace(0, len(indices) - 1, count)]


def _write_pictures(run: Run, index: int, room: Path) -> None:
    name = run.photos.names[index]
    copy = run.workspace.file("photos", name, ".png")
    makers: dict[str, tuple[bool, Callable[[Picture], Picture]]] = {
        "photo": (True, lambda image: image),
        "activations": (
            _has(run, "activations", name),
            lambda image: _activations(run, name, image),
        ),
        "regions": (_has(run, "regions", name), lambda image: _regions(run, name, image)),
        "affinity": (
            run.workspace.is_done("affinity") and _has(run, "regions", name),
            lambda image: _affinity(run, name, image),
        ),
        "walk": (_has(run, "walk", name), lambda image: _walk(run, name, image)),
        "labels": (
            label_file(run.workspace, name).is_file(),
            lambda image: _tinted(
                image, run.workspace.read_labels(label_file(run.workspace, name))
            ),
        ),
        "predictions": (
            run.workspace.file("predictions", name, ".png").is_file(),
            lambda image: _tinted(
                image,
                run.workspace.read_labels(run.workspace.file("predictions", name, ".png")),
            ),
        ),
        "instances": (
            instance_file(run.workspace, name).is_file(),
            lambda image: objects_picture(image, read_objects(run.workspace, name)),
        ),
    }
    for kind, (ready, make) in makers.items():
        path = _picture(room, index, kind)
        if ready and not path.is_file():
            with made_alone():
                image = read_image(copy)
            with atomic_path(path) as temporary:
                Image.fromarray(make(image)).save(temporary, quality=88)


def _has(run: Run, stage: str, name: str) -> bool:
    suffix = ".png" if stage == "regions" else ".npz"
    return run.workspace.file(stage, name, suffix).is_file()


def _picture(room: Path, index: int, kind: str) -> Path:
    return room / f"{index:05d}_{kind}.jpg"


# Pictures of one photo


def _activations(run: Run, name: str, image: Picture) -> Picture:
    found, classes = run.workspace.read_maps("activations", name)
    return _coloured(image, found, classes)


def _walk(run: Run, name: str, image: Picture) -> Picture:
    """Each class's share against the background."""
    scores, classes = run.workspace.read_maps("walk", name)
    return _coloured(image, scores[1:] / (scores[1:] + scores[:1]).clamp_min(1e-6), classes)


def _coloured(image: Picture, maps: Float[Tensor, "k h w"], classes: Sequence[int]) -> Picture:
    """Every pixel in the colour of its strongest class, as much as that is there."""
    if not len(maps):
        return _dimmed(image)
    strength, which = maps.max(0)
    colours = palette()[np.array(classes)[which.numpy()] + 1].astype(np.float32)
    size = image.shape[1::-1]
    # Squared, so that what is weak everywhere does not tint the whole photo.
    strong = strength.clamp(0, 1).square().numpy()
    share = cv2.resize(strong, size, interpolation=cv2.INTER_LINEAR)[..., None]
    colours = cv2.resize(colours, size, interpolation=cv2.INTER_NEAREST_EXACT)
    mixed = _dimmed(image) * (1 - 0.85 * share) + colours * 0.85 * share
    return np.asarray(mixed.round(), np.uint8)


def _dimmed(image: Picture) -> Picture:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.asarray(np.repeat((grey // 2 + 60)[..., None], 3, axis=2), np.uint8)


def _regions(run: Run, name: str, image: Picture) -> Picture:
    """Neutral pixels are white, background is dark."""
    labels = run.workspace.read_labels(run.workspace.file("regions", name, ".png"))
    picture = overlay(image, np.where(labels == IGNORE, 0, labels), opacity=0.75)
    picture[labels == 0] //= 3
    neutral = labels == IGNORE
    picture[neutral] = picture[neutral] // 4 + 190
    return picture


def _affinity(run: Run, name: str, image: Picture) -> Picture:
    """Affinity of every cell to one in the middle of the largest confident region."""
    with made_by("affinity"):
        network = load_affinity_net(run.workspace.folder("affinity") / "model")
    labels = run.workspace.read_labels(run.workspace.file("regions", name, ".png"))
    x, y = middle_of_largest(labels[CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX])
    with torch.inference_mode():
        features = network(to_tensor(image))[0]
    found = affinity_of_cell(features, (x, y)).pow(4).numpy()
    heat = cv2.applyColorMap((found * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    heat = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT)[..., ::-1]
    picture = np.ascontiguousarray(image // 3 + (heat // 3) * 2)
    middle = (x * CELL_PX + CELL_PX // 2, y * CELL_PX + CELL_PX // 2)
    cv2.circle(picture, middle, 7, (255, 255, 255), 2, cv2.LINE_AA)
    return picture


def middle_of_largest(labels: UInt8[np.ndarray, "h w"]) -> tuple[int, int]:
    """x, y of the innermost cell of the largest region of a class; of the field where none is."""
    counts = np.bincount(labels.ravel(), minlength=256)
    counts[[0, IGNORE]] = 0
    if not counts.any():
        return labels.shape[1] // 2, labels.shape[0] // 2
    inside = np.pad((labels == counts.argmax()).astype(np.uint8), 1)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def _tinted(image: Picture, labels: UInt8[np.ndarray, "h w"]) -> Picture:
    return overlay(image, resized(labels, (image.shape[0], image.shape[1])), opacity=0.6)


# Parts of the page


def _legend(class_names: Sequence[str]) -> str:
    return "".join(
        f'<span><i style="background:rgb{tuple(int(v) for v in palette()[number])}"></i>'
        f"{escape(name)}</span>"
        for number, name in enumerate(class_names, start=1)
    )


def _row(run: Run, index: int, room: Path) -> str:
    names = [run.photos.class_names[one] for one in run.photos.classes_of(index)]
    told = ", ".join(names) or "none"
    tags = f"tags: {told}" if run.photos.tagged[index] else "no tags: only the network was asked"
    cells = "".join(
        f'<td><img src="{REPORT}/{_picture(room, index, kind).name}" alt="{escape(text)} of '
        f'{escape(run.photos.names[index])}" loading="lazy"></td>'
        if _picture(room, index, kind).is_file()
        else '<td class="none">–</td>'
        for kind, text in columns(run).items()
    )
    return (
        f'<tr class="name"><th colspan="{len(columns(run))}" scope="rowgroup">'
        f"{escape(run.photos.names[index])} <small>{escape(tags)}</small></th></tr>\n"
        f"<tr>{cells}</tr>"
    )


def _curves(run: Run) -> list[str]:
    """A figure per training: its losses over the steps."""
    figures = []
    for stage, title in TRAININGS.items():
        path = run.workspace.folder(stage) / "metrics.csv"
        if not path.is_file():
            continue
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
        points = [
            (float(row["step"]), float(row["loss"]))
            for row in rows
            if row.get("loss") not in (None, "")
        ]
        if len(points) > 1:
            figures.append(f"<figure>{curve(points)}<figcaption>{title}</figcaption></figure>")
        elif points:
            step, loss = points[0]
            figures.append(f"<p>{title}: {loss:.3g} after {step:.0f} steps</p>")
    return figures or ["<p>No training has told a loss yet.</p>"]


def curve(points: Sequence[tuple[float, float]]) -> str:
    """Loss over steps as an SVG picture."""
    width, height, left, bottom = 320, 160, 44, 22
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    most, last = max(losses) or 1.0, max(steps)
    line = " ".join(
        f"{left + (width - left - 6) * step / last:.1f},"
        f"{6 + (height - bottom - 6) * (1 - loss / most):.1f}"
        for step, loss in points
    )
    base = height - bottom
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss from {losses[0]:.3g} to '
        f'{losses[-1]:.3g} in {last:.0f} steps">'
        f'<path d="M{left} 6V{base}H{width - 6}" class="axis"/>'
        f'<polyline points="{line}" class="line"/>'
        f'<text x="{left - 4}" y="14" text-anchor="end">{most:.3g}</text>'
        f'<text x="{left - 4}" y="{base}" text-anchor="end">0</text>'
        f'<text x="{width - 6}" y="{height - 6}" text-anchor="end">{last:.0f} steps, '
        f"now {losses[-1]:.3g}</text></svg>"
    )


def _coverage(run: Run) -> str:
    """A row per class: photos tagged with it, and its share of the pixels of masks."""
    found = {
        folder: class_coverage(run, folder)
        for folder in COVERED
        if (run.workspace.root / folder).is_dir()
    }
    counts = run.photos.tags.sum(axis=0)
    total = max(len(run.photos.with_tags()), 1)
    rows = []
    for number, name in enumerate(("background", *run.photos.class_names)):
        count = f"{counts[number - 1]} ({counts[number - 1] / total:.0%})" if number else "–"
        shares = "".join(f"<td>{found[folder][name]:.1%}</td>" for folder in found)
        rows.append(f'<tr><th scope="row">{escape(name)}</th><td>{count}</td>{shares}</tr>')
    head = "".join(f'<th scope="col">{COVERED[folder]}</th>' for folder in found)
    return (
        f'<table class="figures"><thead><tr><th scope="col">class</th><th scope="col">photos</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )
