"""A folder of images beside a folder of instance-index PNGs, and the reading that loaders share.

The layout of Penn-Fudan pedestrians (`PNGImages/x.png`, `PedMasks/x_mask.png`), of PASCAL VOC
(`JPEGImages/x.jpg`, `SegmentationObject/x.png`) and of most hand-made sets. The pixel of a mask is
the id of its instance: 0 background, 255 unknown.
"""

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Int64, Integer, UInt8
from PIL import Image, ImageOps

from pixelkin.errors import PixelkinError
from pixelkin.masks import MAX_PIXELS
from pixelkin.structures import IGNORE, Instance, InstanceSample

MAX_IMAGE_PIXELS = MAX_PIXELS
"""Largest image or mask that is decoded; larger ones are refused by their header.

As many as the masks may have: at 3 bytes a pixel the image takes 300 MB. Cut larger ones into
tiles before annotating them.
"""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})

_EXIF_ORIENTATION = 274
_Decoded = TypeVar("_Decoded")


InstancesAndIgnore = tuple[tuple[Instance, ...], bytes | None]
"""The objects of a still, and COCO counts of what belongs to nobody knows what."""


class MaskedStills:
    """Stills whose instances stand in one mask file each; a data set says how to read it.

    Args:
        files: name → image and mask.
        class_names: of the categories.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(
        self, files: Mapping[str, tuple[Path, Path]], class_names: tuple[str, ...]
    ) -> None:
        self._files = files
        self.names = list(files)
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        name = self.names[index]
        image_path, mask = self._files[name]
        image = read_image(image_path)
        size_hw = (image.shape[0], image.shape[1])
        instances, ignore = self._read_instances(mask, size_hw)
        return InstanceSample(image, instances, name, ignore)

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        """What a mask holds; its image has `size_hw`."""
        raise NotImplementedError


class InstancePng(MaskedStills):
    """Images and masks of the same stem, the mask's with `mask_suffix` appended.

    Every id in the PNG (8-bit grey or palette, or 16-bit grey) is an instance, in ascending order,
    its id the instance's `key`; ids may have gaps. 255 is unknown in every depth, so that a map
    which numbers past it must leave it out. Only a grey mask of nothing but 0 and 255 is taken as
    one object, id 1. Colour PNGs are refused: whoever saved them lost the index.

    Args:
        images_dir: folder of images; sub-folders are not read.
        masks_dir: folder of `<stem><mask_suffix>.png`.
        mask_suffix: what stands between the image's stem and `.png`, `"_mask"` for Penn-Fudan.
        class_name: what all instances are.
        binary: every non-zero pixel becomes instance 1, for masks of one object in any value.
        skip_missing: leave out images without a mask (VOC has many) instead of raising.

    Raises:
        PixelkinError: a folder is missing or empty, or an image has no mask; on reading, a file
            is corrupt, sizes differ, a mask is not an index PNG, or its 255 may be an instance.
    """

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        masks_dir: str | os.PathLike[str],
        *,
        mask_suffix: str = "",
        class_name: str = "object",
        binary: bool = False,
        skip_missing: bool = False,
    ) -> None:
        images = images_by_stem(images_dir)
        masks = require_folder(masks_dir, f"index PNGs named <image>{mask_suffix}.png")
        self._binary = binary
        files: dict[str, tuple[Path, Path]] = {}
        for stem, image in images.items():
            mask = masks / f"{stem}{mask_suffix}.png"
            if mask.is_file():
                files[stem] = (image, mask)
            elif not skip_missing:
                raise PixelkinError(
                    f"{image.name} has no mask: expected {mask}; add it, or pass skip_missing=True"
                )
        if not files:
            raise PixelkinError(
                f"no image of {images_dir} has a mask in {masks}: expected names like "
                f"{next(iter(images))}{mask_suffix}.png; check mask_suffix"
            )
        super().__init__(files, (class_name,))

    def _read_instances(self, mask: Path, size_hw: tuple[int, int]) -> InstancesAndIgnore:
        labels = read_index_png(mask, size_hw=size_hw)
        if self._binary:
            labels = (labels != 0).astype(np.int64)
        return index_instances(labels, mask, remedy="pass binary=True")


def read_image(path: str | os.PathLike[str]) -> UInt8[np.ndarray, "h w 3"]:
    """The image as uint8 RGB (H, W, 3), upright by its EXIF orientation; alpha is dropped.

    Raises:
        PixelkinError: the file is missing, empty, corrupt, deeper than 8 bits per channel, or of
            more than `MAX_IMAGE_PIXELS`.
    """

    def decode() -> tuple[str, UInt8[np.ndarray, "h w 3"]]:
        with open_image(path) as image:
            # PIL would clip deeper pixels to white instead of scaling them.
            if image.mode.startswith(("I", "F")):
                return image.mode, np.empty((0, 0, 3), np.uint8)
            return image.mode, np.array(ImageOps.exif_transpose(image).convert("RGB"))

    mode, pixels = decoded(path, decode, kind="image")
    if not pixels.size:
        raise PixelkinError(
            f"{path} has pixels of mode {mode}: expected 8 bits per channel; convert it first"
        )
    return pixels


def image_size_hw(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels, upright by EXIF, from the file's header alone."""

    def decode() -> tuple[int, int]:
        with open_image(path) as image:
            lies_on_side = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            return image.size if lies_on_side else (image.height, image.width)

    return decoded(path, decode, kind="image")


def read_index_png(
    path: str | os.PathLike[str], *, size_hw: tuple[int, ...] | None = None
) -> Int64[np.ndarray, "h w"]:
    """The ids of an index PNG as int64 (H, W): palette indices and grey values, as they are.

    16 bits are read beside 8, since stills may hold more instances than 8 bits can number. As in
    `masks.read_indexed_png`, a GREY map of nothing but 0 and 255 is a mask of one object, id 1.

    Raises:
        PixelkinError: the file is missing, corrupt or of more than `MAX_IMAGE_PIXELS`, or holds
            colours instead of indices, or its size is not `size_hw`, that of its image.
    """
    mode, ids = read_indices(path, size_hw=size_hw)
    if mode == "L" and ids.any() and np.isin(ids, (0, IGNORE)).all():
        ids = ids == IGNORE
    return ids.astype(np.int64)


def read_indices(
    path: str | os.PathLike[str], *, size_hw: tuple[int, ...] | None = None
) -> tuple[str, np.ndarray[Any, Any]]:
    """Pillow's mode of an index PNG and its pixels as stored, with no rule for 0 and 255.

    Raises as `read_index_png` does.
    """

    def decode() -> tuple[str, np.ndarray[Any, Any]]:
        with open_image(path) as image:
            require_index(Path(path), image)
            if size_hw is not None:
                require_size(Path(path), (image.height, image.width), size_hw)
            return image.mode, np.array(image)

    return decoded(path, decode, kind="mask")


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The image, its header read and its pixels not yet decoded; to be closed by the caller.

    Raises:
        PixelkinError: it has more than `MAX_IMAGE_PIXELS`.
    """
    refused = PixelkinError(
        f"{path} has more than {MAX_IMAGE_PIXELS:,} pixels, the most that is decoded; "
        "scale it down or cut it into tiles"
    )
    with warnings.catch_warnings():
        # Pillow warns below our limit already, and gives up above it with its own words.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except Image.DecompressionBombError as error:
            raise refused from error
    if image.width * image.height > MAX_IMAGE_PIXELS:
        image.close()
        raise refused
    return image


def rles_by_id(
    labels: Integer[np.ndarray, "h w"], *, left: int = 0, full_width: int = 0
) -> dict[int, bytes]:
    """COCO compressed counts of every id but 0, ids ascending, in one pass over the label map.

    `labels` may be the columns from `left` on of a map that is `full_width` wide and empty beside
    them; the counts are those of the whole map.
    """
    height, width = labels.shape
    flat = labels.ravel(order="F")
    if not flat.size:
        return {}
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    ids, firsts = np.unique(values[order], return_index=True)
    offset, total = left * height, (full_width or width) * height
    size = {"size": [height, full_width or width]}
    rles: dict[int, bytes] = {}
    for number, runs in zip(ids.tolist(), np.split(order, firsts[1:]), strict=True):
        if number == 0:
            continue
        edges = np.stack([starts[runs], ends[runs]], axis=1).ravel() + offset
        counts = np.diff(edges, prepend=0, append=total)
        # Counts that end on the object have no last run of background.
        counts = counts[: len(counts) - (counts[-1] == 0)]
        uncompressed = {**size, "counts": counts.tolist()}
        rles[number] = coco_mask.frPyObjects(uncompressed, *size["size"])["counts"]
    return rles


def index_instances(
    labels: Integer[np.ndarray, "h w"], path: Path, *, remedy: str
) -> tuple[tuple[Instance, ...], bytes | None]:
    """An instance per id of an index PNG's map, its `key` the id, and the counts of what is 255.

    Raises:
        PixelkinError: 255 may be an object: there is no other id (then do as `remedy` says), or
            the ids go on beyond it.
    """
    refuse_binary(labels, path, remedy=remedy)
    rles = rles_by_id(labels)
    ignore = rles.pop(IGNORE, None)
    largest = max(rles, default=0)
    if ignore is not None and largest > IGNORE:
        raise PixelkinError(
            f"{path} numbers objects to {largest}, and {IGNORE} means unknown: expected no object "
            f"{IGNORE}; renumber it, or what is unknown to 0"
        )
    return tuple(Instance(rle, key=str(number)) for number, rle in rles.items()), ignore


def require_index(path: Path, image: Image.Image) -> None:
    """Raise where an opened mask is no PNG of one channel, whose pixels are indices."""
    if image.format != "PNG" or image.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise PixelkinError(
            f"mask {path} is {image.format} of mode {image.mode}: expected a PNG whose pixels are "
            "indices (palette or grey); write it again as one"
        )


def require_size(path: Path, size_hw: tuple[int, ...], image_hw: tuple[int, ...]) -> None:
    """Raise where the mask read from `path` has another size than its image."""
    if size_hw != image_hw:
        raise PixelkinError(
            f"{path} is {size_hw[1]}×{size_hw[0]}: expected {image_hw[1]}×{image_hw[0]} as its "
            "image; make them the same size"
        )


def refuse_binary(labels: Integer[np.ndarray, "h w"], path: Path, *, remedy: str) -> None:
    """Raise where `labels` hold 255 but no id: a 0/255 palette would read as wholly unknown."""
    known = labels[labels != IGNORE]
    if known.size < labels.size and not known.any():
        raise PixelkinError(
            f"{path} holds no id beside 0 and {IGNORE}, and {IGNORE} means unknown: expected ids "
            f"from 1; if {IGNORE} is the object here, {remedy}"
        )


def images_by_stem(folder: str | os.PathLike[str]) -> dict[str, Path]:
    """Image files directly in `folder`, sorted by name, keyed by stem.

    Raises:
        PixelkinError: the folder is missing or holds no image, or two images share a stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(require_folder(folder, "images").iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise PixelkinError(
                f"{folder} holds {found[path.stem].name} and {path.name}: expected one image per "
                "name; rename one"
            )
        found[path.stem] = path
    if not found:
        raise PixelkinError(
            f"{folder} holds no image: expected {', '.join(sorted(IMAGE_SUFFIXES))} directly in it"
        )
    return found


def require_folder(folder: str | os.PathLike[str], expected: str) -> Path:
    """`folder` as a path, or a `PixelkinError` that says what was `expected` in it."""
    path = Path(folder)
    if not path.is_dir():
        raise PixelkinError(f"no folder {path}: expected {expected} in it; check the path")
    return path


def decoded(path: str | os.PathLike[str], decode: Callable[[], _Decoded], *, kind: str) -> _Decoded:
    """What `decode` returns, its failure turned into a one-line error that names the file."""
    if not Path(path).is_file():
        raise PixelkinError(f"no {kind} file {path}: check the path")
    try:
        return decode()
    except PixelkinError:
        raise
    except Exception as error:
        # Decoders fail on broken bytes with anything from SyntaxError to struct.error.
        reason = (
            "the file is empty" if not Path(path).stat().st_size else " ".join(str(error).split())
        )
        raise PixelkinError(
            f"cannot read the {kind} {path}: {reason}; replace the file or remove it"
        ) from error
