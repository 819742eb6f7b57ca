"""COCO-Stuff as JSON: regions of stuff, and of things from COCO's own instances, drawn as maps.

Caesar, Uijlings, Ferrari: COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018; the files are
those of COCO's stuff segmentation task, https://cocodataset.org/#format-data, section 3.
"""

import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from pixelkin.data.class_maps.coco_stuff import (
    COCO_STUFF_IDS,
    COCO_STUFF_STUFF,
    COCO_STUFF_THINGS,
    CocoStuff,
)
from pixelkin.data.class_maps.files import REMEDY, one_still
from pixelkin.data.class_maps.place import Place
from pixelkin.data.instances.coco_json import (
    check_size,
    coco_faults,
    image_name,
    is_id,
    locate_images,
    read_coco,
    segmentation_rle,
)
from pixelkin.data.reading import read_image
from pixelkin.data.source import SemanticSource
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle
from pixelkin.structures import IGNORE, Sample

OTHER_ID = 183
"""What is no stuff: things, and what nobody labelled."""

_LAST_THING_ID = 90
_LABEL_OF = {number: index for index, number in enumerate(COCO_STUFF_IDS)}
_STUFF, _INSTANCES = "stuff_", "instances_"

_Table = list[dict[str, Any]]


class CocoStuffJson:
    """The images that a JSON of stuff lists (118,287 of `stuff_train2017`, 5,000 of val2017).

    `category_id` is 92 … 182 of stuff, 183 of all that is other; 1 … 90 of things is read too.
    Segmentations are run lengths or polygons, as of `CocoJson`. Labels and class names are those
    of `CocoStuff`, whose PNGs hold the same maps with things filled in.

    - What no region of stuff covers, or 183 does, belongs to the things; the smaller of two lies on
      top. Without `things` it is `IGNORE`, and no pixel has one of the 80 classes of things.
    - Stuff is never covered by a thing.
    - A crowd is of its class.

    Args:
        annotations: the JSON, such as `stuff_val2017.json`.
        images_dir: folder of the images; where None, they are looked for as by `CocoJson`.
        things: COCO's `instances_val2017.json` of the same images, or None.

    Raises:
        PixelkinError: a file is no COCO JSON or contradicts itself; an id is no COCO-Stuff class;
            an image is missing. On reading: an image is corrupt or of another size than listed, a
            segmentation is faulty, or two kinds of stuff claim a pixel.
    """

    names: list[str]
    class_names: tuple[str, ...] = COCO_STUFF_THINGS + COCO_STUFF_STUFF

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images_dir: str | os.PathLike[str] | None = None,
        *,
        things: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = Path(annotations)
        content = _read(self._path)
        file_names = [record["file_name"] for record in content["images"]]
        if not file_names:
            raise PixelkinError(f"{self._path} lists no image: expected at least one in 'images'")
        self._images: list[tuple[dict[str, Any], Path]] = []
        located = locate_images(self._path, file_names, images_dir)
        for record, file in zip(content["images"], located, strict=True):
            with one_still():
                if not file.is_file():
                    raise PixelkinError(
                        f"no image file {file}: expected it as {self._path} lists image "
                        f"{record['id']}; add it, or remove the image there"
                    )
                self._images.append((record, file))
        self.names = [image_name(record["file_name"]) for record, _ in self._images]
        self._regions: dict[Hashable, list[tuple[Path, dict[str, Any]]]] = {}
        self._add(self._path, content["annotations"])
        if things is not None:
            self._add(Path(things), _read(Path(things), last_id=_LAST_THING_ID)["annotations"])

    def _add(self, path: Path, annotations: _Table) -> None:
        for record in annotations:
            if record["category_id"] != OTHER_ID:
                self._regions.setdefault(record["image_id"], []).append((path, record))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        return Sample(read_image(self._images[index][1]), self.labels(index), self.names[index])

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._images[index][1]

    def map_file(self, index: int) -> Path:
        """The JSON, which holds the maps of all stills."""
        return self._path

    def labels(self, index: int) -> Int64[np.ndarray, "h w"]:
        """The labels of one still without its pixels, as when frequencies are counted."""
        record, file = self._images[index]
        size_hw = check_size(file, record, where=f"{self._path}: image {record['id']}")
        labels = np.full(size_hw, IGNORE, np.int64)
        things: list[tuple[int, Bool[np.ndarray, "h w"]]] = []
        for path, region in self._regions.get(record["id"], ()):
            where = f"{path}: annotation {region['id']}"
            mask = decode_rle(
                segmentation_rle(region.get("segmentation"), size_hw, where=where), size_hw
            )
            label = _LABEL_OF[region["category_id"]]
            if region["category_id"] <= _LAST_THING_ID:
                things.append((label, mask))
                continue
            taken = mask & (labels != IGNORE) & (labels != label)
            if taken.any():
                raise PixelkinError(
                    f"{where} claims {int(taken.sum())} pixels as {self.class_names[label]}, which "
                    f"are {self.class_names[labels[taken][0]]} already: expected one kind of stuff "
                    f"a pixel; {REMEDY}"
                )
            labels[mask] = label
        free = labels == IGNORE
        for label, mask in sorted(things, key=lambda one: -int(one[1].sum())):
            labels[mask & free] = label
        return labels


def _read(path: Path, *, last_id: int = OTHER_ID) -> dict[str, _Table]:
    """The tables of a JSON without contradictions; those are noted one by one, see `one_still`."""
    content = read_coco(path)
    faults = [*coco_faults(content), *_strange_ids(content["annotations"], last_id)]
    for fault in faults[:-1]:
        with one_still():
            raise PixelkinError(f"{path}: {fault}")
    if faults:
        raise PixelkinError(f"{path}: {faults[-1]}")
    return content


def _strange_ids(annotations: _Table, last_id: int) -> Iterator[str]:
    known = {number for number in (*COCO_STUFF_IDS, OTHER_ID) if number <= last_id}
    expected = "1 to 90 (things)" if last_id < OTHER_ID else f"1 to 182 in use, or {OTHER_ID} other"
    for record in annotations:
        number = record.get("category_id")
        if is_id(number) and number not in known:
            yield (
                f"annotation {record.get('id')} has category id {number!r}, which is no class of "
                f"COCO-Stuff: expected {expected}; {REMEDY}"
            )


def open_coco_stuff(place: Place) -> SemanticSource:
    """COCO-Stuff at a place: its PNGs, or its JSON where there are none, or that JSON itself.

    The things of `stuff_<split>.json` are those of `instances_<split>.json` where that lies beside.
    """
    if place.path.is_file():
        place.only("images")
        return CocoStuffJson(place.path, place.images, things=_instances_beside(place.path))
    tables = {
        path.stem.removeprefix(_STUFF): path
        for path in sorted((place.path / "annotations").glob(f"{_STUFF}*.json"))
    }
    split = place.split or "train2017"
    if not tables or any((place.path / one).is_dir() for one in _png_folders(split)):
        place.only("split")
        return place.of_split(CocoStuff)
    place.only("split", "images")
    if split not in tables:
        raise unknown_split(split, tables, where=place.path / "annotations")
    return CocoStuffJson(tables[split], place.images, things=_instances_beside(tables[split]))


def _png_folders(split: str) -> tuple[str, str]:
    return "stuffthingmaps", f"annotations/{split}"


def _instances_beside(path: Path) -> Path | None:
    beside = path.with_name(_INSTANCES + path.name.removeprefix(_STUFF))
    return beside if beside != path and beside.is_file() else None
