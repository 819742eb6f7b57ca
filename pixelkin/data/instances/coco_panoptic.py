"""COCO panoptic annotations: a JSON, and one PNG of segment ids per image.

Kirillov et al.: Panoptic Segmentation, CVPR 2019; the format is described at
https://cocodataset.org/#format-data.
"""

import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from pixelkin.data.instances.coco_json import (
    category_faults,
    check_size,
    id_faults,
    image_faults,
    image_name,
    is_id,
    known_ids,
    locate_images,
    read_coco,
)
from pixelkin.data.instances.instance_png import rles_by_id
from pixelkin.data.reading import read_colour_png, read_image, require_folder
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Instance, InstanceSample

_VOID = 0


class CocoPanoptic:
    """The annotated images of a panoptic JSON; its things are the instances.

    A pixel of the PNG holds the id of its segment as R + 256 G + 256² B; 0 is void, which becomes
    `InstanceSample.ignore`. Segments of stuff are left out; `semantic` has them. The category of
    an instance is the rank of its `category_id` among the sorted ids of things, which are
    `class_names`; `semantic_names` are those of things and stuff. Images without a segmentation
    are skipped, since nobody looked at them.

    Args:
        annotations: the JSON file.
        images_dir: folder that the `file_name`s start from; looked for as `CocoJson` does.
        masks_dir: folder of the PNGs; without it the one beside the JSON with the JSON's stem.

    Raises:
        PixelkinError: the file is no panoptic JSON; an id is missing, double, or points nowhere;
            no image is found. On reading: a file is missing, corrupt or of another size; PNG and
            JSON disagree about which segments there are or about their areas. The message names
            the file and the id.
    """

    names: list[str]
    class_names: tuple[str, ...]
    semantic_names: tuple[str, ...]

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images_dir: str | os.PathLike[str] | None = None,
        masks_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = Path(annotations)
        content = read_coco(self._path)
        for fault in panoptic_faults(content):
            raise PixelkinError(f"{self._path}: {fault}")
        categories = sorted(content["categories"], key=lambda record: int(record["id"]))
        things = [record for record in categories if record["isthing"]]
        self.class_names = tuple(record["name"] for record in things)
        self.semantic_names = tuple(record["name"] for record in categories)
        self._thing_rank = {record["id"]: rank for rank, record in enumerate(things)}
        self._semantic_rank = {record["id"]: rank for rank, record in enumerate(categories)}
        self._masks = require_folder(
            self._path.with_suffix("") if masks_dir is None else masks_dir,
            f"the PNGs of {self._path.name}",
        )
        image_of = {record["id"]: record for record in content["images"]}
        self._annotations = content["annotations"]
        self._images = [image_of[record["image_id"]] for record in self._annotations]
        if not self._images:
            raise PixelkinError(f"{self._path} annotates no image: expected at least one")
        file_names = [record["file_name"] for record in self._images]
        self._files = locate_images(self._path, file_names, images_dir)
        self.names = [image_name(file_name) for file_name in file_names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        # Shifted by one, since void is wanted too and 0 is left out.
        rles = rles_by_id(self.segment_ids(index) + 1)
        instances = tuple(
            Instance(
                rles[segment["id"] + 1],
                self._thing_rank[segment["category_id"]],
                bool(segment.get("iscrowd", 0)),
                str(segment["id"]),
            )
            for segment in self._annotations[index]["segments_info"]
            if segment["category_id"] in self._thing_rank
        )
        image = read_image(self._files[index])
        return InstanceSample(image, instances, self.names[index], rles.get(_VOID + 1))

    def image_file(self, index: int) -> Path:
        """The image file of a still; see `Source`."""
        return self._files[index]

    def semantic(self, index: int) -> Int64[np.ndarray, "h w"]:
        """Class of every pixel, int64 (H, W): index into `semantic_names`, `IGNORE` where void.

        Raises:
            PixelkinError: as on reading, or there are more classes than 8 bits can number.
        """
        if len(self.semantic_names) > IGNORE:
            raise PixelkinError(
                f"{self._path} has {len(self.semantic_names)} categories: expected at most "
                f"{IGNORE}, since {IGNORE} marks ignored pixels"
            )
        ids = self.segment_ids(index)
        classes = np.full(ids.shape, IGNORE, np.int64)
        for segment in self._annotations[index]["segments_info"]:
            classes[ids == segment["id"]] = self._semantic_rank[segment["category_id"]]
        return classes

    def segment_ids(self, index: int) -> Int64[np.ndarray, "h w"]:
        """Segment id of every pixel, int64 (H, W), 0 void, proven to agree with the JSON."""
        annotation, image = self._annotations[index], self._images[index]
        size_hw = check_size(self._files[index], image, where=f"{self._path}: image {image['id']}")
        path = self._masks / annotation["file_name"]
        ids = read_segment_ids(path)
        if ids.shape != size_hw:
            raise PixelkinError(
                f"{path} is {ids.shape[1]}×{ids.shape[0]}: expected {size_hw[1]}×{size_hw[0]} "
                "as its image; make them the same size"
            )
        for fault in _disagreements(ids, annotation["segments_info"]):
            raise PixelkinError(f"{path} and {self._path} disagree: {fault}; write both again")
        return ids


def read_segment_ids(path: Path) -> Int64[np.ndarray, "h w"]:
    """The ids R + 256 G + 256² B of a panoptic PNG, int64 (H, W).

    Raises:
        PixelkinError: the file is missing, corrupt, or no 8-bit RGB PNG.
    """
    remedy = "as COCO panoptic writes them; write it again as one"
    rgb = read_colour_png(path, mode="RGB", what="panoptic mask", remedy=remedy)
    ids: Int64[np.ndarray, "h w"] = rgb.astype(np.int64) @ (1, 256, 256**2)
    return ids


def _disagreements(ids: Int64[np.ndarray, "h w"], segments: list[dict[str, Any]]) -> Iterator[str]:
    present, counts = np.unique(ids, return_counts=True)
    area_of = dict(zip(present.tolist(), counts.tolist(), strict=True))
    area_of.pop(_VOID, None)
    for segment in segments:
        key = segment["id"]
        area = area_of.pop(key, None)
        if area is None:
            yield f"segment {key} has no pixel in the PNG"
        elif segment.get("area", area) != area:
            yield f"segment {key} has {area} pixels in the PNG, area {segment['area']} in the JSON"
    for key, area in area_of.items():
        yield f"{area} pixels of the PNG have the id {key}, which the JSON does not list"


def panoptic_faults(content: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Every contradiction between the tables of a panoptic JSON, one line each, with the id."""
    yield from id_faults(content["images"], noun="image")
    yield from id_faults(content["categories"], noun="category")
    yield from category_faults(content["categories"])
    yield from image_faults(content["images"])
    for record in content["categories"]:
        if record.get("isthing") not in (0, 1):
            yield f"category {record.get('id')!r} has no isthing of 0 or 1; add it"
    images, categories = known_ids(content["images"]), known_ids(content["categories"])
    seen: set[Hashable] = set()
    for record in content["annotations"]:
        key = record.get("image_id")
        where = f"the annotation of image {key!r}"
        if not is_id(key) or key not in images:
            yield f"{where} is of no image that 'images' lists; correct or drop it"
            continue
        if key in seen:
            yield f"{where} occurs twice; drop one"
        seen.add(key)
        if not isinstance(record.get("file_name"), str):
            yield f"{where} has no file_name; add the name of its PNG"
        segments = record.get("segments_info")
        if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
            yield f"{where} has no segments_info: expected a list; is this a panoptic JSON?"
            continue
        yield from (f"{where}: {fault}" for fault in _segment_faults(segments, categories))


def _segment_faults(segments: list[dict[str, Any]], categories: set[Hashable]) -> Iterator[str]:
    yield from id_faults(segments, noun="segment")
    for segment in segments:
        key, category = segment.get("id"), segment.get("category_id")
        if isinstance(key, int) and not 0 < key < 256**3:
            yield f"segment id {key} is out of range: expected 1 to {256**3 - 1} (0 is void)"
        if not is_id(category) or category not in categories:
            yield f"segment {key} has category id {category!r}, which has no name; add it"
