"""Folders of images, of index PNGs with a class per pixel, and a class list: the format `pngs`."""

from __future__ import annotations

from pathlib import Path

from pixelkin.data.class_maps.index_png import CLASSES_FILE, SemanticPng
from pixelkin.data.class_maps.place import Place
from pixelkin.data.class_maps.semantic_format import SemanticFormat
from pixelkin.data.instances.sources import part_folder
from pixelkin.data.reading import PNGS, images_by_stem, mask_suffix, pngs_by_stem
from pixelkin.data.source import SemanticSource
from pixelkin.errors import PixelkinError

MASK_FOLDERS = ("masks", "labels", "annotations")
"""What people call the folder of the maps beside `images`."""

MASK_SUFFIXES = ("", "_mask", "_label")
"""What may follow the image's stem in the name of a map."""


def _pngs(place: Place) -> SemanticSource:
    place.only("images", "masks", "split", "classes")
    images, masks = png_folders(place.path, place.images, place.masks, place.split)
    classes = place.classes
    if classes is None and (place.path / CLASSES_FILE).is_file():
        classes = place.path / CLASSES_FILE
    suffix = mask_suffix(images_by_stem(images), pngs_by_stem(masks), MASK_SUFFIXES)
    return SemanticPng(images, masks, classes=classes, mask_suffix=suffix)


def png_folders(
    root: Path, images: Path | None = None, masks: Path | None = None, split: str | None = None
) -> tuple[Path, Path]:
    """Folders of images and of maps, `masks`, `labels` or `annotations`, of a data set or a split.

    Raises:
        PixelkinError: there are none, or the data set is divided and no split is given.
    """
    if images is None:
        images = part_folder(root, "images", split)
    if masks is None:
        kinds = [
            kind for kind in MASK_FOLDERS if (root / kind).is_dir() or any(root.glob(f"*/{kind}/"))
        ]
        masks = part_folder(root, kinds[0] if kinds else MASK_FOLDERS[0], split)
    return images, masks


def png_class_lists(
    root: Path, images: Path | None = None, masks: Path | None = None
) -> list[Path]:
    """The files `classes.txt` that lie where the reader of `pngs` looks, in any part of a data set.

    None lies there where the PNGs show objects: this tells both apart.
    """
    folders = [root]
    folders += [masks, masks.parent] if masks else []
    folders += [images.parent] if images else []
    for part in (None, *PNG_FOLDERS.part_names(root)):
        try:
            pictures, maps = png_folders(root, images, masks, part)
        except PixelkinError:
            # Divided, or a folder of another kind beside the parts.
            continue
        folders += [maps, maps.parent, pictures.parent]
    lists = (folder / CLASSES_FILE for folder in dict.fromkeys(folders))
    return [path for path in lists if path.is_file()]


def _pngs_lie_in(folder: Path) -> bool:
    # Without the list nothing tells classes from instances; with labels of text it is YOLO's.
    maps = (
        pattern
        for kind in MASK_FOLDERS
        for pattern in (f"{kind}/{PNGS}", f"{kind}/*/{PNGS}", f"*/{kind}/{PNGS}")
    )
    return any(any(folder.glob(one)) for one in maps) and bool(png_class_lists(folder))


PNG_FOLDERS = SemanticFormat(
    _pngs,
    "images/, masks/ with one index PNG per image, and classes.txt with one name a line",
    _pngs_lie_in,
    parts=("images/*/", "*/images/"),
)
