"""Instances from tags alone: IRNet learns from the confident regions, and parts the activations.

J. Ahn, S. Cho, S. Kwak: "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019. Two more stages of the same run:

    OUT/
      8_irnet/             a training
      9_instances/         NAME.json: objects of a photo, at the photo's own size
      instances/           NAME.png and labels.json: the same as index maps and as COCO

The regions are those that AffinityNet learns from. The paper makes its own, with constants for
the background (above .3 is foreground, below .05 background); so the dense CRF, which takes most of
the time, runs once, and one folder of regions shows what both networks learn from.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from scipy import ndimage
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.instance_centroids import CentroidGrouping
from pixelkin.masks import encode_window, overlay
from pixelkin.models.irnet import IRNet, relations_of_image
from pixelkin.pipelines.weak_labels.maps import to_tensor
from pixelkin.pipelines.weak_labels.photos import LabelledCopies
from pixelkin.pipelines.weak_labels.stages import Run, train_stage
from pixelkin.pipelines.weak_labels.workspace import MADE_ALONE, Workspace, made_by
from pixelkin.results.instances import CocoWriter, labels_from_instances
from pixelkin.structures import MAX_OBJECT_ID, Instances, nth_instance_id
from pixelkin.trainings import irnet
from pixelkin.trainings.optimisation import Optimisation

GROUPING = CentroidGrouping(iterations=100, most=64)
"""The authors' but for two numbers: 300 iterations find the same centroids, and an IRNet that has
learnt little would part a photo into thousands of maps, all of which would walk."""


@dataclass(frozen=True)
class InstanceOptions:
    """Of the two stages.

    Attributes:
        irnet: the training; the seed is the run's.
        grouping: of its fields and the activations to objects.
    """

    irnet: Optimisation = irnet.OPTIMISATION
    grouping: CentroidGrouping = field(default=GROUPING)


def train_irnet(run: Run, optimisation: Optimisation) -> None:
    """Stage "irnet": confident regions → where classes meet, and the ways to objects' centres."""
    names = [run.photos.names[index] for index in run.photos.with_tags()]
    samples = LabelledCopies(
        run.copies, [run.workspace.file("regions", name, ".png") for name in names]
    )
    training = irnet.irnet_training(
        samples, window_hw=run.window_hw, optimisation=run.on_machine(optimisation)
    )
    train_stage(run, "irnet", training)


def find_instances(run: Run, grouping: CentroidGrouping) -> None:
    """Stage "instances": the activations of each photo, parted into objects."""
    workspace, device = run.workspace, run.device()
    with made_by("irnet"):
        network = irnet.load_irnet(workspace.folder("irnet") / "model").to(device)
    for place, index, name in run.each("instances"):
        maps, classes = workspace.read_maps("activations", name)
        found = instances_of_photo(
            network,
            run.copies[place],
            maps,
            classes,
            size_hw=run.photos.sizes_hw[index],
            grouping=grouping,
            device=device,
        )
        write_objects(workspace, name, found)
        write_index_png(instance_file(workspace, name), labels_from_instances(found))
    with CocoWriter(
        workspace.root / "instances" / "labels.json", class_names=run.photos.class_names
    ) as coco:
        for index in run.photos.with_tags():
            coco.write(run.photos.files[index], read_objects(workspace, run.photos.names[index]))
    workspace.finish("instances")


def instance_file(workspace: Workspace, name: str) -> Path:
    """The index map of a photo's objects, at the photo's own size."""
    return workspace.root / "instances" / f"{name}.png"


def instances_of_photo(
    network: IRNet,
    image: UInt8[np.ndarray, "h w 3"],
    maps: Float[Tensor, "k _h _w"],
    classes: Sequence[int],
    *,
    size_hw: tuple[int, int],
    grouping: CentroidGrouping = GROUPING,
    device: torch.device | str = "cpu",
) -> Instances:
    """Objects of the tagged classes.

    Args:
        network: in evaluation mode.
        image: a working copy, RGB.
        maps: from `maps.activations`.
        classes: what each map is of.
        size_hw: of the result: the photo's own.
        grouping: at the network's stride.
        device: where the network is; the walk runs there.

    Returns:
        Best first, without overlap; categories are of `classes`.
    """
    if not len(maps):
        return Instances(size_hw)
    found = relations_of_image(network, to_tensor(image, device)[0])
    boundaries = found.logits[0].float().sigmoid()
    cells = F.interpolate(
        maps[None].to(device), tuple(boundaries.shape), mode="bilinear", align_corners=False
    )
    objects = grouping(
        cells[0], boundaries, found.displacement[0].float(), (image.shape[0], image.shape[1])
    )
    return resized_instances(objects, size_hw, classes=classes)


def resized_instances(
    found: Instances, size_hw: tuple[int, int], *, classes: Sequence[int]
) -> Instances:
    """Objects without overlap at another size, by nearest neighbour; those that vanish are gone.

    Args:
        found: their categories are places in `classes`.
        size_hw: of the result.
        classes: those of the result.
    """
    labels = cv2.resize(
        labels_from_instances(found), size_hw[::-1], interpolation=cv2.INTER_NEAREST_EXACT
    )
    windows = ndimage.find_objects(labels)
    kept = []
    for place in range(len(found)):
        label = nth_instance_id(place)
        if label <= len(windows) and (window := windows[label - 1]) is not None:
            rows, columns = window
            rle = encode_window(
                labels[window] == label, corner_xy=(columns.start, rows.start), size_hw=size_hw
            )
            kept.append((rle, classes[found.categories[place]], found.scores[place]))
    return Instances(
        size_hw,
        tuple(rle for rle, _, _ in kept),
        tuple(category for _, category, _ in kept),
        tuple(score for _, _, score in kept),
    )


# Files


def write_objects(workspace: Workspace, name: str, found: Instances) -> None:
    """Keep the objects of a photo."""
    kept = {
        "size_hw": found.size_hw,
        "categories": found.categories,
        "scores": found.scores,
        "counts": [rle.decode("ascii") for rle in found.rles],
    }
    atomic_write(workspace.file("instances", name, ".json"), json.dumps(kept) + "\n")


def read_objects(workspace: Workspace, name: str) -> Instances:
    """What `write_objects` kept."""
    path = workspace.file("instances", name, ".json")
    try:
        kept = json.loads(path.read_text("utf-8"))
        h, w = kept["size_hw"]
        return Instances(
            (int(h), int(w)),
            tuple(text.encode("ascii") for text in kept["counts"]),
            tuple(kept["categories"]),
            tuple(kept["scores"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, PixelkinError) as error:
        raise PixelkinError(f"{path} cannot be read ({error}); {MADE_ALONE}") from error


def write_index_png(path: Path, labels: UInt16[np.ndarray, "h w"]) -> None:
    """Write labels as a grey PNG of 16 bits, however few there are: one kind for all photos."""
    with atomic_path(path) as temporary:
        Image.fromarray(labels).save(temporary, format="PNG", compress_level=3)


def objects_picture(
    image: UInt8[np.ndarray, "h w 3"], found: Instances
) -> UInt8[np.ndarray, "h w 3"]:
    """A working copy with each object of the photo in a colour of its own."""
    labels = cv2.resize(
        labels_from_instances(found), image.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT
    ).astype(np.int64)
    return overlay(image, np.where(labels, (labels - 1) % MAX_OBJECT_ID + 1, 0), opacity=0.6)
