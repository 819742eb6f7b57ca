"""Data sets of instances written: COCO, COCO panoptic, YOLO-seg, LabelMe, index PNGs.

A writer takes one still at a time, and says what becomes of what its format cannot hold. `origins`
tells which annotated object each object is that its reader finds.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from PIL import Image

from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.data.instances.coco_panoptic import CocoPanoptic
from pixelkin.data.instances.instance_png import InstancePng, rles_by_id
from pixelkin.data.instances.labelme import IGNORE_LABEL, LabelMe
from pixelkin.data.instances.yolo_seg import YoloSeg
from pixelkin.data.source import InstanceSource
from pixelkin.files import atomic_write
from pixelkin.masks import rle_area, rle_box_xywh, write_indexed_png
from pixelkin.results.conversion.masks import (
    UNKNOWN,
    drawn,
    singles,
    stacked,
    unknown_with_crowds,
)
from pixelkin.results.conversion.pictures import PictureLayout
from pixelkin.results.instances import write_yolo_labels, write_yolo_names
from pixelkin.results.outlines import decode_window, edge_outlines
from pixelkin.structures import (
    IGNORE,
    MAX_OBJECT_ID,
    Instance,
    Instances,
    InstanceSample,
    nth_instance_id,
)

Fate = Literal["kept", "unknown", "crowd", "lost"]
"""What becomes of a crowd, or of unknown pixels: unknown pixels, a crowd, or nothing."""

_NO_OVERLAP = "overlaps: of two objects the smaller lies on top"
_NO_EMPTY = "objects without a pixel"
_NO_CROWD = "crowds: they become unknown pixels of no class"


class InstanceWriter(ABC):
    """A data set of instances, written still by still.

    Args:
        folder: of the data set; made by this.
        class_names: of the categories.

    Attributes:
        layout: where the images are.
        lacks: what the format cannot hold, for people.
        crowds: what becomes of crowds.
        unknown: what becomes of unknown pixels.
    """

    layout: ClassVar[PictureLayout]
    lacks: ClassVar[tuple[str, ...]]
    crowds: ClassVar[Fate] = "kept"
    unknown: ClassVar[Fate] = "kept"

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.folder = folder
        self.class_names = tuple(class_names)
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def write(self, sample: InstanceSample, *, stem: str, image: str) -> None:
        """Append one still.

        Args:
            sample: the still.
            stem: what its files are called.
            image: what annotations call its image.
        """

    def finish(self) -> None:  # noqa: B027 (most have nothing left to write)
        """Write what stands once for all stills."""

    @staticmethod
    @abstractmethod
    def read(path: Path) -> InstanceSource:
        """What lies at `path`, by the reader of the format."""

    @staticmethod
    @abstractmethod
    def origins(before: InstanceSample, after: InstanceSample) -> list[int | None]:
        """For each instance that was read back the index of that which was written; None for
        unknown pixels that became one."""


class CocoFolder(InstanceWriter):
    """`instances.json`, or a .json itself: run lengths, `iscrowd`, the images beside or elsewhere.

    COCO has no pixels of nobody: they become a crowd of the first class, the last of its still.
    """

    layout = PictureLayout("images", refers=True, nested=True)
    lacks = ("unknown pixels of no class: they become a crowd of the first class",)
    unknown = "crowd"

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        if folder.suffix.lower() == ".json":
            super().__init__(folder.parent, class_names)
            self._path = folder
        else:
            super().__init__(folder, class_names)
            self._path = folder / "instances.json"
        self._images: list[dict[str, Any]] = []
        self._count = 0
        self._path.write_text('{"annotations": [', encoding="utf-8")

    def write(self, sample: InstanceSample, *, stem: str, image: str) -> None:
        """Append one still."""
        height, width = sample.size_hw
        number = len(self._images) + 1
        self._images.append({"id": number, "file_name": image, "height": height, "width": width})
        instances = list(sample.instances)
        if sample.ignore is not None:
            instances.append(Instance(sample.ignore, crowd=True))
        with open(self._path, "a", encoding="utf-8") as file:
            for one in instances:
                self._count += 1
                entry = {
                    "id": self._count,
                    "image_id": number,
                    "category_id": one.category + 1,
                    "iscrowd": int(one.crowd),
                    "area": rle_area(one.rle, sample.size_hw),
                    "bbox": list(rle_box_xywh(one.rle, sample.size_hw)),
                    "segmentation": {"size": [height, width], "counts": one.rle.decode("ascii")},
                }
                file.write((",\n" if self._count > 1 else "\n") + json.dumps(entry))

    def finish(self) -> None:
        """Write images and categories."""
        rest = {"images": self._images, "categories": categories(self.class_names)}
        with open(self._path, "a", encoding="utf-8") as file:
            file.write("\n],\n" + json.dumps(rest, ensure_ascii=False)[1:] + "\n")

    @staticmethod
    def read(path: Path) -> InstanceSource:
        """What was written."""
        return CocoJson(path if path.is_file() else path / "instances.json")

    @staticmethod
    def origins(before: InstanceSample, after: InstanceSample) -> list[int | None]:
        """In their order."""
        extra: list[int | None] = [None] * (before.ignore is not None)
        return [*range(len(before.instances)), *extra]


class PanopticFolder(InstanceWriter):
    """`panoptic.json` and a PNG of ids for each still; void is what nobody knows.

    What belongs to no instance is a segment of stuff, `background`: void would be unknown.
    """

    layout = PictureLayout("images", refers=True, nested=True)
    lacks = (_NO_OVERLAP, _NO_EMPTY)
    things: ClassVar[bool] = True

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, class_names)
        (folder / "panoptic").mkdir()
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def write(self, sample: InstanceSample, *, stem: str, image: str) -> None:
        """Append one still."""
        (height, width), number = sample.size_hw, len(self._images) + 1
        self._images.append({"id": number, "file_name": image, "height": height, "width": width})
        ids, nobody = stacked(sample), len(sample.instances) + 1
        ids[ids == 0] = nobody
        ids[ids == UNKNOWN] = 0
        segments = []
        for segment, mask in rles_by_id(ids).items():
            one = sample.instances[segment - 1] if segment != nobody else None
            category = len(self.class_names) if one is None else one.category
            segments.append(
                {
                    "id": segment,
                    "category_id": category + 1,
                    "iscrowd": int(one is not None and one.crowd),
                    "area": rle_area(mask, sample.size_hw),
                    "bbox": list(rle_box_xywh(mask, sample.size_hw)),
                }
            )
        png = f"{stem}.png"
        rgb = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(self.folder / "panoptic" / png, compress_level=3)
        self._annotations.append({"image_id": number, "file_name": png, "segments_info": segments})

    def finish(self) -> None:
        """Write the JSON."""
        listed = categories(self.class_names, isthing=int(self.things))
        if self.things:
            listed.append({"id": len(listed) + 1, "name": "background", "isthing": 0})
        content = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": listed,
        }
        text = json.dumps(content, ensure_ascii=False)
        (self.folder / "panoptic.json").write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> InstanceSource:
        """The things of what was written."""
        return CocoPanoptic(path / "panoptic.json")

    @staticmethod
    def origins(before: InstanceSample, after: InstanceSample) -> list[int | None]:
        """By the ids of segments."""
        return [int(one.key) - 1 for one in after.instances]


class PngFolder(InstanceWriter):
    """`images/` and `masks/`: an index PNG of 8 bits, of 16 where there are over 254 objects."""

    layout = PictureLayout("images")
    lacks = (
        _NO_OVERLAP,
        "classes: all objects are of one, called object",
        _NO_CROWD,
        _NO_EMPTY,
        f"unknown pixels in a still without objects, or with more than {MAX_OBJECT_ID}",
    )
    crowds = "unknown"

    def write(self, sample: InstanceSample, *, stem: str, image: str) -> None:
        """Append one still."""
        masks = self.folder / "masks"
        masks.mkdir(exist_ok=True)
        single = singles(sample)
        table = np.zeros(len(sample.instances) + 2, np.int64)
        table[UNKNOWN] = IGNORE
        table[np.array(single, int) + 1] = [nth_instance_id(n) for n in range(len(single))]
        labels = table[stacked(sample, crowds=False)]
        objects = labels[labels != IGNORE]
        largest = int(objects.max(initial=0))
        if not 0 < largest <= IGNORE:
            # Readers cannot tell 255 from an object there.
            labels[labels == IGNORE] = 0
        if largest <= MAX_OBJECT_ID:
            write_indexed_png(masks / f"{stem}.png", labels)
        else:
            wide = Image.fromarray(labels.astype(np.uint16))
            wide.save(masks / f"{stem}.png", compress_level=3)

    @staticmethod
    def read(path: Path) -> InstanceSource:
        """What was written."""
        return InstancePng(path / "images", path / "masks")

    @staticmethod
    def origins(before: InstanceSample, after: InstanceSample) -> list[int | None]:
        """By the ids in the PNG."""
        single = singles(before)
        numbers = [int(one.key) for one in after.instances]
        return [single[number - 1 - (number > IGNORE)] for number in numbers]


class YoloFolder(InstanceWriter):
    """`images/`, `labels/` with a .txt for each still, and the names of classes in `data.yaml`."""

    layout = PictureLayout("images")
    lacks = (
        "crowds: they are left out",
        "unknown pixels",
        "parts: a line of a pixel joins them",
        _NO_EMPTY,
    )
    crowds = "lost"
    unknown = "lost"

    def write(self, sample: InstanceSample, *, stem: str, image: str) -> None:
        """Append one still."""
        shown = [sample.instances[index] for index in drawn(sample)]
        found = Instances(
            sample.size_hw,
            tuple(one.rle for one in shown),
            tuple(one.category for one in shown),
            (1.0,) * len(shown),
        )
        write_yolo_labels(self.folder / "labels" / f"{stem}.txt", found)

    def finish(self) -> None:
        """Write the names."""
        write_yolo_names(self.folder / "data.yaml", self.class_names)

    @staticmethod
    def read(path: Path) -> InstanceSource:
        """What was written."""
        return YoloSeg(path / "images", path / "labels")

    @staticmethod
    def origins(before: InstanceSample, after: InstanceSample) -> list[int | None]:
        """In their order, crowds and what has no pixel left out."""
        return [*drawn(before)]


class LabelMeFolder(InstanceWriter):
    """A JSON of polygons for each still, the images beside or elsewhere."""

    layout = PictureLayout("", refers=True)
    lacks = (_NO_CROWD, "classes that no object has, and the order of classes", _NO_EMPTY)
    crowds = "unknown"

    def write(self, sample: InstanceSample, *, stem: str, image: str) -> None:
        """Append one still."""
        shapes: list[dict[str, Any]] = []
        shown = drawn(sample)
        objects = [(self.class_names[sample.instances[n].category], n) for n in shown]
        masks = [sample.instances[n].rle for n in shown]
        hidden = unknown_with_crowds(sample)
        if hidden is not None:
            objects.append((IGNORE_LABEL, len(sample.instances)))
            masks.append(hidden)
        for (label, number), rle in zip(objects, masks, strict=True):
            outlines = edge_outlines(*decode_window(rle, sample.size_hw))
            shapes += [
                {
                    "label": label,
                    "points": outline.tolist(),
                    "group_id": number + 1 if len(outlines) > 1 else None,
                    "description": "",
                    "shape_type": "polygon",
                    "flags": {},
                }
                for outline in outlines
            ]
        content: dict[str, Any] = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": image,
            "imageData": None,
            "imageHeight": sample.size_hw[0],
            "imageWidth": sample.size_hw[1],
        }
        atomic_write(self.folder / f"{stem}.json", json.dumps(content, ensure_ascii=False) + "\n")

    @staticmethod
    def read(path: Path) -> InstanceSource:
        """What was written."""
        return LabelMe(path)

    @staticmethod
    def origins(before: InstanceSample, after: InstanceSample) -> list[int | None]:
        """In their order, crowds and what has no pixel left out."""
        return [*drawn(before)]


INSTANCE_WRITERS: dict[str, type[InstanceWriter]] = {
    "coco": CocoFolder,
    "panoptic": PanopticFolder,
    "yolo": YoloFolder,
    "labelme": LabelMeFolder,
    "pngs": PngFolder,
}
"""By the name in `FORMAT:PATH`."""


def categories(class_names: Sequence[str], **fields: int) -> list[dict[str, Any]]:
    """COCO's records of classes; the id is the index plus 1."""
    return [{"id": n, "name": name, **fields} for n, name in enumerate(class_names, start=1)]
