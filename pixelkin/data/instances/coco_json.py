"""COCO instance annotations: one JSON for all images.

Lin et al.: Microsoft COCO: Common Objects in Context, ECCV 2014; the format is described at
https://cocodataset.org/#format-data. Masks are made as pycocotools makes them, to the pixel.
"""

import json
import os
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import faster_coco_eval.core.mask as coco_mask
import numpy as np

from pixelkin.data.reading import decoded, image_size_hw, read_image, require_folder
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle
from pixelkin.structures import Instance, InstanceSample

_TABLES = {"images": "image", "annotations": "annotation", "categories": "category"}


@dataclass(frozen=True, slots=True)
class _Annotation:
    key: str
    category: int
    crowd: bool
    segmentation: Any


class CocoJson:
    """The images that a COCO JSON lists, those without annotations too: nothing is on them.

    The rules:

    - The category of an instance is the rank of its `category_id` among the sorted ids, which may
      have gaps; `class_names` are in that order.
    - A polygon segmentation is the union of its parts, cut off at the image's border; it cannot
      hold a hole. Run lengths, as list or string, can. `iscrowd` may stand with either.
    - A mask without a pixel, as tiny polygons give, stays an instance.
    - `bbox` and `area` are not read: an annotation with a box alone is an error.
    - Where an image lists no height and width, the file's own size holds.
    - `names` are the file names without suffix, folders included.

    Args:
        annotations: the JSON file.
        images_dir: folder that the `file_name`s start from. Without it they are looked for beside
            the JSON and one level up, there also in `images` and in the folder that the JSON is
            named after (`train2017` for `instances_train2017.json`).

    Raises:
        PixelkinError: the file is no COCO JSON; an id is missing, double, or points nowhere; a
            category has no name; two images share a name; no image is found. On reading: an image
            is missing, corrupt or of another size than listed; a segmentation is missing, a
            polygon has under three points, or run lengths describe another size. The message
            names the file and the id.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(
        self,
        annotations: str | os.PathLike[str],
        images_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = Path(annotations)
        content = read_coco(self._path)
        for fault in coco_faults(content):
            raise PixelkinError(f"{self._path}: {fault}")
        if not content["images"]:
            raise PixelkinError(f"{self._path} lists no image: expected at least one in 'images'")
        categories = sorted(content["categories"], key=lambda record: int(record["id"]))
        rank_of = {record["id"]: rank for rank, record in enumerate(categories)}
        self.class_names = tuple(record["name"] for record in categories)
        self._images: list[dict[str, Any]] = content["images"]
        self._annotations: dict[Hashable, list[_Annotation]] = {}
        for record in content["annotations"]:
            self._annotations.setdefault(record["image_id"], []).append(
                _Annotation(
                    key=str(record["id"]),
                    category=rank_of[record["category_id"]],
                    crowd=bool(record.get("iscrowd", 0)),
                    segmentation=record.get("segmentation"),
                )
            )
        file_names = [record["file_name"] for record in self._images]
        self._files = locate_images(self._path, file_names, images_dir)
        self.names = [image_name(file_name) for file_name in file_names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        record = self._images[index]
        where = f"{self._path}: image {record['id']}"
        size_hw = check_size(self._files[index], record, where=where)
        instances = tuple(
            Instance(
                segmentation_rle(
                    one.segmentation, size_hw, where=f"{self._path}: annotation {one.key}"
                ),
                one.category,
                one.crowd,
                one.key,
            )
            for one in self._annotations.get(record["id"], ())
        )
        return InstanceSample(read_image(self._files[index]), instances, self.names[index])

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._files[index]


# The JSON


def read_coco(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The tables `images`, `annotations` and `categories` of a COCO JSON, lists of objects.

    Raises:
        PixelkinError: the file is missing or no JSON, or a table is missing or no such list.
    """
    content = decoded(path, lambda: json.loads(path.read_bytes()), kind="annotation file")
    if not isinstance(content, dict):
        raise PixelkinError(
            f"{path} holds a {type(content).__name__}: expected a COCO data set, an object with "
            f"{', '.join(_TABLES)}; results of a model, a list, are no annotations"
        )
    for name in _TABLES:
        table = content.get(name)
        if not isinstance(table, list) or not all(isinstance(record, dict) for record in table):
            raise PixelkinError(f"{path} has no list of objects {name!r}: expected a COCO data set")
    return {name: content[name] for name in _TABLES}


def coco_faults(content: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """Every contradiction between the tables of `read_coco`, one line each, with id and remedy.

    Segmentations are not looked at: `segmentation_rle` raises on a faulty one.
    """
    for name, noun in _TABLES.items():
        yield from id_faults(content[name], noun=noun)
    yield from category_faults(content["categories"])
    yield from image_faults(content["images"])
    images, categories = known_ids(content["images"]), known_ids(content["categories"])
    for record in content["annotations"]:
        where = f"annotation {record.get('id')}"
        image, category = record.get("image_id"), record.get("category_id")
        if not is_id(image) or image not in images:
            yield f"{where} is of image {image!r}, which 'images' does not list; correct or drop it"
        if not is_id(category) or category not in categories:
            yield (
                f"{where} has category id {category!r}, which has no name: expected one that "
                "'categories' lists; add it there"
            )
        if record.get("iscrowd", 0) not in (0, 1):
            yield f"{where} has iscrowd {record['iscrowd']!r}: expected 0 or 1"


def id_faults(table: Sequence[dict[str, Any]], *, noun: str) -> Iterator[str]:
    """Ids that are missing or double."""
    seen: set[Hashable] = set()
    for position, record in enumerate(table):
        key = record.get("id")
        if not is_id(key):
            yield (
                f"the {noun} at position {position} has id {key!r}: expected an integer; number it"
            )
            continue
        if key in seen:
            yield f"{noun} id {key!r} occurs twice: expected unique ids; renumber one"
        seen.add(key)


def is_id(key: Any) -> bool:
    """Whether `key` can be an id; some tools write names where COCO has integers."""
    return isinstance(key, int | str)


def known_ids(table: Sequence[dict[str, Any]]) -> set[Hashable]:
    """The ids of a table."""
    return {record["id"] for record in table if is_id(record.get("id"))}


def category_faults(categories: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Categories without a name, or whose ids have no order."""
    for record in categories:
        key = record.get("id")
        if isinstance(key, str):
            yield f"category id {key!r} is no integer; number the categories"
        if not isinstance(record.get("name"), str) or not record["name"]:
            yield f"category {key!r} has no name; give it one"


def image_faults(images: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Images without a file name, of the name of another, or of an impossible size."""
    owner: dict[str, Hashable] = {}
    for record in images:
        where = f"image {record.get('id')!r}"
        file_name = record.get("file_name")
        if not isinstance(file_name, str) or not image_name(file_name):
            yield f"{where} has file_name {file_name!r}: expected a path; add it"
            continue
        name = image_name(file_name)
        if name in owner:
            yield (
                f"image {owner[name]!r} and {where} are both named {name}: expected one image "
                "per name; rename one"
            )
        owner.setdefault(name, record.get("id"))
        for side in ("height", "width"):
            value = record.get(side)
            if value is not None and (not isinstance(value, int) or value < 1):
                yield f"{where} has {side} {value!r}: expected pixels; correct it"


# Image files


def image_name(file_name: str) -> str:
    """A listed path without suffix, and without what leads out of its folder."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    kept = [part for part in path.parts if part not in ("/", "..") and not part.endswith(":")]
    return str(PurePosixPath(*kept).with_suffix("")) if kept else ""


def locate_images(
    annotations: Path, file_names: Sequence[str], images_dir: str | os.PathLike[str] | None
) -> list[Path]:
    """The path of each listed image, below the first folder that holds any of them.

    Where no folder holds one, their bare file names are tried, if those are unique: many tools
    write the folders of another machine. Single images may still be missing.
    """
    if images_dir is not None:
        roots = [require_folder(images_dir, "the images of the annotations")]
    else:
        beside = annotations.absolute().parent
        split = annotations.stem.split("_")[-1]
        roots = [
            folder / inner
            for folder in (beside, beside.parent)
            for inner in ("", "images", split, f"images/{split}")
        ]
    relative = [name.replace("\\", "/") for name in file_names]
    bare = [PurePosixPath(name).name for name in relative]
    for listed in [relative, bare] if len(set(bare)) == len(bare) else [relative]:
        for root in roots:
            if any((root / name).is_file() for name in listed):
                return [root / name for name in listed]
    raise PixelkinError(
        f"none of the {len(relative)} images of {annotations}, such as {relative[0]}, is in "
        f"{_listed(roots)}: expected the folder of the images; give it as images_dir"
    )


def _listed(roots: Iterable[Path]) -> str:
    return " or ".join(dict.fromkeys(str(root) for root in roots))


def check_size(path: Path, record: dict[str, Any], *, where: str) -> tuple[int, int]:
    """Height and width of an image; an error where it is missing or not what `record` lists."""
    if not path.is_file():
        raise PixelkinError(f"{where} is missing: no file {path}; add it or drop the image")
    height, width = image_size_hw(path)
    listed_hw = (record.get("height") or height, record.get("width") or width)
    if listed_hw != (height, width):
        raise PixelkinError(
            f"{where} is listed as {listed_hw[1]}×{listed_hw[0]}, but {path} is {width}×{height} "
            "(upright by its EXIF orientation); correct the list or replace the file"
        )
    return height, width


# Masks


def segmentation_rle(segmentation: Any, size_hw: tuple[int, int], *, where: str) -> bytes:
    """COCO compressed counts of a `segmentation`: polygons, or run lengths as list or string.

    Args:
        segmentation: `[[x, y, x, y, …], …]`, or `{"size": [h, w], "counts": list or str}`.
        size_hw: height and width of the image in pixels.
        where: begins the message of an error.

    Raises:
        PixelkinError: it is none of these, or describes another size.
    """
    if not segmentation:
        raise PixelkinError(
            f"{where} has no segmentation: expected polygons or run lengths; a box alone is no "
            "mask, add one or drop the annotation"
        )
    if isinstance(segmentation, dict):
        return _counts_rle(segmentation, size_hw, where=where)
    if not isinstance(segmentation, list):
        raise PixelkinError(
            f"{where} has a segmentation of type {type(segmentation).__name__}: expected a list "
            "of polygons, or an object with size and counts"
        )
    # One bare polygon is written by some tools where the format wants a list of them.
    parts = segmentation if isinstance(segmentation[0], list) else [segmentation]
    return polygons_rle(parts, size_hw, where=where)


def polygons_rle(
    parts: Sequence[Sequence[float]], size_hw: tuple[int, int], *, where: str
) -> bytes:
    """COCO compressed counts of the union of polygons, exactly as pycocotools fills them.

    Args:
        parts: each x, y, x, y, … in pixels; (0, 0) is the corner of the first pixel.
        size_hw: height and width of the image in pixels; what lies beyond is cut off.
        where: begins the message of an error.

    Raises:
        PixelkinError: a part has under three points or an odd number of values, holds something
            else than numbers, lies outside the image, or reaches a whole image beyond it.
    """
    height, width = size_hw
    points = [_points(part, size_hw, where=f"{where}, polygon {n}") for n, part in enumerate(parts)]
    rles = coco_mask.frPyObjects([one.ravel().tolist() for one in points], height, width)
    counts: bytes = coco_mask.merge(rles)["counts"]
    return counts


def _points(part: Any, size_hw: tuple[int, int], *, where: str) -> np.ndarray[Any, Any]:
    try:
        values = np.array(part, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise PixelkinError(f"{where} holds no plain list of numbers; correct it") from error
    if values.ndim != 1 or len(values) < 6 or len(values) % 2:
        raise PixelkinError(
            f"{where} has {values.size} values: expected x and y of at least 3 points; "
            "correct or drop it"
        )
    points = values.reshape(-1, 2)
    limit_xy = np.array(size_hw[::-1], np.float64)
    # What rasterises a polygon walks along its outline: a point far away would fill the memory.
    near = (points >= -limit_xy) & (points <= 2 * limit_xy)
    meets = (points.max(axis=0) >= 0) & (points.min(axis=0) <= limit_xy)
    if not (near.all() and meets.all()):
        x, y = points[np.argmin(near.all(axis=1))]
        raise PixelkinError(
            f"{where} lies outside the image of {size_hw[1]}×{size_hw[0]}, with a point at "
            f"{x:g}, {y:g}: expected pixels; correct or drop it"
        )
    return points


def _counts_rle(segmentation: dict[str, Any], size_hw: tuple[int, int], *, where: str) -> bytes:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or size != list(size_hw):
        raise PixelkinError(
            f"{where} has run lengths of size {size!r}: expected {list(size_hw)} (height, width) "
            "as its image; write them again"
        )
    try:
        if isinstance(counts, str):
            compressed = counts.encode("ascii")
        else:
            if not isinstance(counts, list):
                raise TypeError(f"counts are {counts!r}")
            lengths = [int(count) for count in counts if count == int(count) >= 0]
            if len(lengths) != len(counts):
                raise ValueError("not all are whole numbers from 0")
            rle = {"size": list(size_hw), "counts": lengths}
            compressed = bytes(coco_mask.frPyObjects(rle, *size_hw)["counts"])
        # Only decoding finds counts that cover too little.
        decode_rle(compressed, size_hw)
    except (ValueError, TypeError, RuntimeError, OverflowError, PixelkinError) as error:
        reason = " ".join(str(error.__cause__ or error).split()).rstrip(".")
        raise PixelkinError(
            f"{where} has run lengths that do not describe its {size_hw[1]}×{size_hw[0]} image "
            f"({reason}); write them again"
        ) from error
    return compressed
