"""Instances from tags alone, on photos of people who touch: Penn-Fudan.

    python benchmarks/tag_instances.py photos --data PENN_FUDAN --out WORK
    pixelkin label WORK/photos --tags WORK/tags.csv --out WORK/run --classes pedestrian \
        --instances --classifier-steps 250 --affinity-steps 150 --irnet-steps 500 --network-steps 1
    python benchmarks/tag_instances.py judge --data PENN_FUDAN --run WORK/run

The folder holds every photo, tagged `pedestrian`, and cuts of the same photos, of like sizes: some
without a person, tagged `street`, some with, tagged `pedestrian`. From these two words, and nothing
else, everything is learnt; of `street`, which is no thing, only what a pedestrian is not. As in the
paper, the photos that were learnt from are judged (the whole ones): it is their truth that the run
never saw.

Three ways from the same activations to objects are judged:

- IRNet's displacements and boundaries (`pixelkin label --instances`);
- the same without displacements: all of a class in a photo is one object, its edges IRNet's;
- connected regions of the walked masks: what there is without IRNet.

Values: COCO's AP and AP50; the share of true people whom an object overlaps by half (IoU), of all
and of those who touch another; objects per photo. Writes benchmarks/results/tag_instances.json.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from scipy import ndimage

from pixelkin.assess.files import provenance
from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.evaluation.instance.coco import CocoAP
from pixelkin.evaluation.instance.stills import Truth
from pixelkin.files import atomic_write
from pixelkin.masks import decode_rle, encode_rle, read_indexed_png
from pixelkin.models.irnet import relations_of_image
from pixelkin.pipelines.weak_labels.instances import GROUPING, read_objects, resized_instances
from pixelkin.pipelines.weak_labels.maps import to_tensor
from pixelkin.pipelines.weak_labels.photos import working_copy
from pixelkin.pipelines.weak_labels.workspace import Workspace
from pixelkin.structures import Instances, InstanceSample
from pixelkin.trainings import irnet

RESULT = Path(__file__).parent / "results" / "tag_instances.json"


LONG_SIDE_PX = 448
"""Of `pixelkin label`, by default."""
CUTS_PER_PHOTO = 1
CUT_SIDE_PX = 140
"""The least height of a cut."""
PERSON_SHARE = 0.1
"""Of a cut that shows people."""
TRIALS = 100
TOUCHING_PX = 3
"""People nearer than this touch."""

Finder = Callable[[InstanceSample], Instances]


def make_photos(source: PennFudan, out: Path) -> None:
    """The photos, cuts of them without people, and what the command line is told of both."""
    generator = np.random.default_rng(0)
    rows = [("image", "tags")]
    for index in range(len(source)):
        sample = source[index]
        rows.append((f"{sample.name}.png", "pedestrian"))
        write_photo(out / "photos" / rows[-1][0], sample.image)
        people = np.any(true_masks(sample), axis=0)
        for tag, cuts in cut_photo(people, generator).items():
            for number, cut in enumerate(cuts):
                rows.append((f"{sample.name}-{tag}{number}.png", tag))
                write_photo(out / "photos" / rows[-1][0], sample.image[cut])
    with (out / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    print(f"{len(rows) - 1} photos in {out / 'photos'}, their tags in {out / 'tags.csv'}")


def write_photo(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[:, :, ::-1])


def cut_photo(
    people: Bool[np.ndarray, "h w"], generator: np.random.Generator
) -> dict[str, list[tuple[slice, slice]]]:
    """Up to `CUTS_PER_PHOTO` windows of each tag; those with a little of a person are of neither.

    A pair has one size, so that the size tells nothing.
    """
    h, w = people.shape
    cuts: dict[str, list[tuple[slice, slice]]] = {"street": [], "pedestrian": []}
    for _ in range(TRIALS):
        height = int(generator.integers(CUT_SIDE_PX, h))
        width = int(height * generator.uniform(0.7, 1.4))
        if width > w or len(cuts["street"]) == CUTS_PER_PHOTO:
            continue
        pair: dict[str, tuple[slice, slice]] = {}
        for _ in range(TRIALS):
            y, x = generator.integers(0, h - height + 1), generator.integers(0, w - width + 1)
            cut = np.s_[y : y + height, x : x + width]
            share = people[cut].mean()
            if share == 0 or share > PERSON_SHARE:
                pair["street" if share == 0 else "pedestrian"] = cut
        if len(pair) == 2:
            for tag, cut in pair.items():
                cuts[tag].append(cut)
    return cuts


def true_masks(sample: InstanceSample) -> Bool[np.ndarray, "n h w"]:
    return np.stack([decode_rle(one.rle, sample.image.shape[:2]) for one in sample.instances])


def touching(masks: Bool[np.ndarray, "n h w"]) -> Bool[np.ndarray, " n"]:
    """Which people are nearer than `TOUCHING_PX` to another."""
    wide = [ndimage.binary_dilation(mask, iterations=TOUCHING_PX) for mask in masks]
    return np.array([
        any(bool((one & other).any()) for number, other in enumerate(masks) if number != place)
        for place, one in enumerate(wide)
    ])  # fmt: skip


def best_overlaps(masks: Bool[np.ndarray, "n h w"], found: Instances) -> np.ndarray:
    """Of each true person, the largest IoU with an object."""
    best = np.zeros(len(masks))
    for rle in found.rles:
        other = decode_rle(rle, found.size_hw)
        common = (masks & other).sum(axis=(1, 2))
        best = np.maximum(best, common / (masks | other).sum(axis=(1, 2)))
    return best


def connected(mask: Bool[np.ndarray, "h w"]) -> Instances:
    """Connected regions, largest first, by the share of the photo; those under .1 % are left."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = ndimage.sum_labels(mask, labels, np.arange(1, count + 1)) / mask.size
    order = [int(n) for n in np.argsort(-areas, kind="stable") if areas[n] >= 0.001]
    rles = tuple(encode_rle(labels == n + 1) for n in order)
    return Instances(mask.shape, rles, (0,) * len(rles), tuple(float(areas[n]) for n in order))


def finders(run: Path) -> dict[str, Finder]:
    """The three ways; each gives the pedestrians of a photo."""
    workspace = Workspace(run)
    network = irnet.load_irnet(workspace.folder("irnet") / "model")

    def parted(sample: InstanceSample) -> Instances:
        return pedestrians(read_objects(workspace, sample.name))

    @torch.no_grad()
    def whole(sample: InstanceSample) -> Instances:
        image = working_copy(sample.image, LONG_SIDE_PX)
        maps, classes = workspace.read_maps("activations", sample.name)
        found = relations_of_image(network, to_tensor(image)[0])
        boundaries = found.logits[0].sigmoid()
        cells = F.interpolate(maps[None], tuple(boundaries.shape), mode="bilinear")[0]
        still = torch.zeros_like(found.displacement[0])
        objects = GROUPING(cells, boundaries, still, image.shape[:2])
        return pedestrians(resized_instances(objects, sample.image.shape[:2], classes=classes))

    def regions(sample: InstanceSample) -> Instances:
        return connected(read_indexed_png(run / "labels" / f"{sample.name}.png") == 1)

    return {
        "IRNet": parted,
        "IRNet without displacements": whole,
        "connected regions of walked masks": regions,
    }


def pedestrians(found: Instances) -> Instances:
    keep = [place for place, category in enumerate(found.categories) if category == 0]
    return Instances(
        found.size_hw,
        tuple(found.rles[place] for place in keep),
        (0,) * len(keep),
        tuple(found.scores[place] for place in keep),
    )


def judge(source: PennFudan, find: Finder) -> dict[str, Any]:
    measure = CocoAP(("pedestrian",))
    best, near, objects = [], [], 0
    for index in range(len(source)):
        sample = source[index]
        found = find(sample)
        measure.update(
            Truth(tuple(sample.instances), sample.image.shape[:2]),
            found,
        )
        masks = true_masks(sample)
        best.append(best_overlaps(masks, found))
        near.append(touching(masks))
        objects += len(found)
    overlaps, together = np.concatenate(best), np.concatenate(near)
    values = measure.compute()
    return {
        "AP": round(values["AP"], 3),
        "AP50": round(values["AP50"], 3),
        "found_by_half": round(float((overlaps >= 0.5).mean()), 3),
        "found_by_half_of_those_who_touch": round(float((overlaps[together] >= 0.5).mean()), 3),
        "people": len(overlaps),
        "people_who_touch": int(together.sum()),
        "objects": objects,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("photos", "judge"))
    parser.add_argument("--data", type=Path, required=True, help="folder of Penn-Fudan")
    parser.add_argument("--out", type=Path, help="photos: where to")
    parser.add_argument("--run", type=Path, help="judge: the run of pixelkin label")
    options = parser.parse_args()
    source = PennFudan(options.data)
    if options.step == "photos":
        make_photos(source, options.out)
        return
    rows = {name: judge(source, find) for name, find in finders(options.run).items()}
    told = json.loads((options.run / "run.json").read_text("utf-8"))
    result = {
        "photos": len(source),
        "seed": told["seed"],
        "rows": rows,
        "options": {key: told[key] for key in ("classifier", "regions", "irnet") if key in told},
        "made": datetime.now(UTC).date().isoformat(),
        **provenance(),
    }
    print(json.dumps(rows, indent=1))
    atomic_write(RESULT, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
