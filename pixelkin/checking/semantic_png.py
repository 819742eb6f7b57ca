"""`pixelkin check` of class maps: index PNGs with a class per pixel, and their list of classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pixelkin.checking.files import (
    ImageFacts,
    check_images,
    check_size,
    images_by_stem,
    inspect_image,
)
from pixelkin.checking.pairs import MaskWords, paired_masks
from pixelkin.checking.report import ClassTally, Progress, Report
from pixelkin.data.class_maps.index_png import (
    CLASSES_FILE,
    FIX_PNG,
    Classes,
    ClassValues,
    MapError,
    class_values,
    odd_depths,
    read_class_map,
)
from pixelkin.data.class_maps.png_folders import MASK_FOLDERS, MASK_SUFFIXES
from pixelkin.data.reading import PNGS, mask_suffix
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

_WORDS = MaskWords(
    name="label file",
    kind="map",
    lossless=FIX_PNG,
    no_image="add the image, or remove the label file",
    no_mask="add the label file, or remove the image",
)
_NONE = "choose the folder that holds the label files, named as the images"
_LIST = "write classes.txt: one name a line, the first of value 0"
_ONE_LIST = "write one classes.txt beside the folders, for all parts"
_SAY_IGNORE = "write 'ignore: 255' in place of that line where nobody knows what the pixels are"
_UNUSED = "remove the names, or see whether the list belongs to these maps"

_MEANS_UNKNOWN = frozenset({"ignore", "ignored", "unknown", "void", "unlabeled", "unlabelled"})


def check_semantic_png(
    pairs: Sequence[tuple[Path, Path]],
    report: Report,
    each: Progress,
    *,
    classes: Classes | None = None,
) -> None:
    """Report every problem of folders of images and of class maps, and of the class lists.

    Args:
        pairs: folder of images and folder of maps, of each split.
        report: collects the problems, and in `classes` the pixels.
        each: shows progress.
        classes: as `SemanticPng` takes them; None looks for `classes.txt` in and beside the
            folders.
    """
    report.classes = tally = ClassTally()
    listed = _listed_classes(pairs, classes, report)
    files = [
        (pair, values)
        for folders, values in zip(pairs, listed, strict=True)
        for pair in _pairs(*folders, report)
    ]
    report.images += len(files)
    if not files:
        report.error(report.place(pairs[0][1]), "no image has a label file", fix=_NONE)
    for odd in odd_depths(mask for (_, mask), _ in files):
        report.error(report.place(odd.path), odd.what, fix=odd.fix)
    facts = check_images([image for (image, _), _ in files], report, each)
    for (image, mask), values in each("maps", files):
        labels = _labels_of(mask, facts[image], values, report)
        if labels is not None and values is not None:
            tally.add(labels, values.class_names)
            report.empty_images += not (labels != IGNORE).any()
    unused = [name for name, count in tally.pixels.items() if not count]
    if unused:
        what = f"{len(unused)} of {len(tally.pixels)} classes are in no map: {', '.join(unused)}"
        report.warning(report.place(pairs[0][1]), what, fix=_UNUSED)


def folder_pairs(
    root: Path, images: Path | None, masks: Path | None = None
) -> list[tuple[Path, Path]]:
    """Folder of images and folder of maps, of each split where a data set is divided.

    Args:
        root: of the data set.
        images: folder of images, where they do not lie beside the maps.
        masks: folder of maps, where they do not lie in `root`.

    Raises:
        PixelkinError: there is no folder of maps.
    """
    if masks is not None:
        return [(root / "images" if images is None else images, masks)]
    if images is not None:
        kinds = [root / kind for kind in MASK_FOLDERS if (root / kind).is_dir()]
        return [(images, kinds[0] if kinds else root)]
    for kind in MASK_FOLDERS:
        # images/ and masks/; images/train/ and masks/train/; train/images/ and train/masks/
        folders = [path for path in (root / kind, *sorted(root.glob(f"*/{kind}"))) if path.is_dir()]
        pairs = [
            (folder.parent / "images" / inner, folder / inner)
            for folder in folders
            for inner in _divisions(folder)
        ]
        if pairs:
            return pairs
    listed = " or ".join(f"{kind}/" for kind in MASK_FOLDERS)
    raise PixelkinError(
        f"{root} holds no folder of maps: expected images/ beside {listed}, in splits or "
        "without; or give the folders with --masks and --images"
    )


def _divisions(folder: Path) -> list[str]:
    """Names of the splits in a folder of maps, or `""` where it holds the maps themselves."""
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return [""] if any(folder.glob(PNGS)) or not inner else inner


def _pairs(images_dir: Path, masks_dir: Path, report: Report) -> list[tuple[Path, Path]]:
    images = images_by_stem(images_dir, report)
    if not masks_dir.is_dir():
        report.error(report.place(masks_dir), "there is no such folder of maps", fix=_NONE)
        return []
    maps = {path.stem for path in masks_dir.glob(PNGS)}
    suffix = mask_suffix(images, maps, MASK_SUFFIXES)
    masks = paired_masks(images, masks_dir.iterdir(), suffix, report, _WORDS)
    return [(image, masks[stem]) for stem, image in images.items() if stem in masks]


def _listed_classes(
    pairs: Sequence[tuple[Path, Path]], classes: Classes | None, report: Report
) -> list[ClassValues | None]:
    """What the values mean, in each split; None where its list is missing or faulty."""
    if isinstance(classes, str | os.PathLike):
        return [_read_classes(Path(classes), report)] * len(pairs)
    if classes is not None:
        return [class_values(classes)] * len(pairs)
    read: dict[Path, ClassValues | None] = {}
    found: list[Path] = []
    for images, masks in pairs:
        # The order in which the loader looks.
        folders = (report.root, masks, masks.parent, images.parent)
        path = next((one / CLASSES_FILE for one in folders if (one / CLASSES_FILE).is_file()), None)
        if path is None:
            path = masks.parent / CLASSES_FILE
            if path not in read:
                report.error(report.place(path), "is not there", fix=_LIST)
                read[path] = None
        elif path not in read:
            read[path] = _read_classes(path, report)
        found.append(path)
    first = next((path for path in found if read[path] is not None), None)
    for path in dict.fromkeys(found):
        own, other = read[path], read.get(first) if first else None
        if own is not None and other is not None and own.names != other.names:
            assert first is not None
            what = (
                f"lists {len(own.names)} classes, and {report.place(first)} "
                f"{len(other.names)}{_difference(own, other)}"
            )
            report.error(report.place(path), what, fix=_ONE_LIST)
    return [read[path] for path in found]


def _difference(own: ClassValues, other: ClassValues) -> str:
    values = sorted({*own.names, *other.names})
    value = next(n for n in values if own.names.get(n) != other.names.get(n))
    here, there = (one.names.get(value, "nothing") for one in (own, other))
    return f": value {value} is {here!r} here and {there!r} there"


def _read_classes(path: Path, report: Report) -> ClassValues | None:
    try:
        values = class_values(path)
    except PixelkinError as error:
        report.error(report.place(path), str(error).removeprefix(f"{path} "), fix=_LIST)
        return None
    for value, name in values.names.items():
        if name.lower() in _MEANS_UNKNOWN and value in (values.ignored_value, IGNORE):
            what = f"lists {value} as the class {name!r}, which is learned and counted"
            report.warning(report.place(path), what, fix=_SAY_IGNORE)
    return values


def _labels_of(
    path: Path, image: ImageFacts, values: ClassValues | None, report: Report
) -> Int64[np.ndarray, "h w"] | None:
    """The labels of one map; None, with a report, where it cannot be read."""
    where = report.place(path)
    found = inspect_image(path)
    if found.stored_hw is None or not found.digest:
        assert found.fault is not None
        report.error(where, found.fault[0], fix=found.fault[1])
        return None
    if image.stored_hw is not None:
        check_size(image, found.stored_hw, where, report)
    # Without a list every value may be a class, and colours and two values are faults all the same.
    values = values or ClassValues({n: str(n) for n in range(IGNORE)})
    try:
        return read_class_map(path, values)
    except MapError as error:
        report.error(where, error.what, fix=error.fix)
    except PixelkinError as error:
        report.error(where, str(error).removeprefix(f"{path} "), fix=FIX_PNG)
    return None
