"""`pixelkin check` of class maps: index PNGs with a class per pixel, and their list of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pixelkin.checking.files import (
    ImageFacts,
    check_images,
    check_size,
    images_by_stem,
    inspect_image,
)
from pixelkin.checking.report import Progress, Report
from pixelkin.data.class_maps.camvid import CAMVID_CLASSES
from pixelkin.data.class_maps.index_png import (
    CLASSES_FILE,
    FIX_PNG,
    ClassValues,
    MapError,
    class_values,
    find_classes_file,
    mixed_depths,
    read_class_map,
)
from pixelkin.data.class_maps.sources import MASK_FOLDERS, MASK_SUFFIXES
from pixelkin.data.reading import IMAGE_SUFFIXES
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

_NO_MAP = "add the label file, or remove the image"
_NO_IMAGE = "add the image, or remove the label file"
_NONE = "choose the folder that holds the label files, named as the images"
_LIST = "write classes.txt: one name a line, the first of value 0"
_UNUSED = "remove the names, or see whether the list belongs to these maps"


def check_semantic_png(
    pairs: Sequence[tuple[Path, Path]],
    classes: ClassValues | None,
    report: Report,
    each: Progress,
) -> None:
    """Report every problem of folders of images and of class maps, and of the class list.

    Args:
        pairs: folder of images and folder of maps, of each split.
        classes: those of a known data set; None looks for `classes.txt` in and beside the folders.
        report: collects the problems.
        each: shows progress.
    """
    files = [pair for images, masks in pairs for pair in _pairs(images, masks, report)]
    report.images += len(files)
    if not files:
        report.error(report.place(pairs[0][1]), "no image has a label file", fix=_NONE)
    values = classes or _listed_classes(pairs, report)
    odd = mixed_depths(mask for _, mask in files)
    if odd:
        report.error(report.place(odd.path), odd.what, fix=odd.fix)
    facts = check_images([image for image, _ in files], report, each)
    used: set[int] = set()
    for image, mask in each("maps", files):
        used |= _check_map(mask, facts[image], values, report)
    if classes is None and values is not None and files:
        names = [name for n, name in enumerate(values.class_names) if name and n not in used]
        if names:
            what = f"{len(names)} of {len(values.names)} classes are in no map: {', '.join(names)}"
            report.warning(report.place(pairs[0][1]), what, fix=_UNUSED)


def check_camvid(root: Path, report: Report, each: Progress) -> None:
    """Report every problem of SegNet's CamVid, `<split>` and `<split>annot`."""
    annotated = sorted(path for path in root.glob("*annot") if path.is_dir())
    if not annotated:
        report.error(report.place(root), "there is no <split>annot", fix=_NONE)
        return
    pairs = [(path.with_name(path.name.removesuffix("annot")), path) for path in annotated]
    # Its other void, 255, is the one that every format has.
    values = ClassValues(dict(enumerate((*CAMVID_CLASSES, "void"))))
    check_semantic_png(pairs, values, report, each)


def folder_pairs(root: Path, images: Path | None) -> list[tuple[Path, Path]]:
    """Folder of images and folder of maps, of each split where a data set is divided.

    Raises:
        PixelkinError: there is no folder of maps.
    """
    if images is not None:
        kinds = [root / kind for kind in MASK_FOLDERS if (root / kind).is_dir()]
        return [(images, kinds[0] if kinds else root)]
    for kind in MASK_FOLDERS:
        # images/ and masks/; images/train/ and masks/train/; train/images/ and train/masks/
        masks = [path for path in (root / kind, *sorted(root.glob(f"*/{kind}"))) if path.is_dir()]
        pairs = [
            (folder.parent / "images" / inner, folder / inner)
            for folder in masks
            for inner in _divisions(folder)
        ]
        if pairs:
            return pairs
    listed = " or ".join(f"{kind}/" for kind in MASK_FOLDERS)
    raise PixelkinError(
        f"{root} holds no folder of maps: expected images/ beside {listed}, in splits or "
        "without; or give the folder of maps, and that of images with --images"
    )


def _divisions(folder: Path) -> list[str]:
    """Names of the splits in a folder of maps, or `""` where it holds the maps themselves."""
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return [""] if any(folder.glob("*.png")) or not inner else inner


def _pairs(images_dir: Path, masks_dir: Path, report: Report) -> list[tuple[Path, Path]]:
    images = images_by_stem(images_dir, report)
    if not masks_dir.is_dir():
        report.error(report.place(masks_dir), "there is no such folder of maps", fix=_NONE)
        return []
    suffix = next((one for one in MASK_SUFFIXES if one and any(masks_dir.glob(f"*{one}.png"))), "")
    masks: dict[str, Path] = {}
    for path in sorted(masks_dir.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        stem = path.stem.removesuffix(suffix)
        if stem not in images:
            report.error(report.place(path), "the label file has no image", fix=_NO_IMAGE)
        elif path.suffix != ".png":
            report.error(report.place(path), f"the map is a {path.suffix[1:]} file", fix=FIX_PNG)
            masks.setdefault(stem, path)
        else:
            masks[stem] = path
    for stem, image in images.items():
        if stem not in masks:
            report.error(report.place(image), "the image has no label file", fix=_NO_MAP)
    return [
        (image, masks[stem])
        for stem, image in images.items()
        if stem in masks and masks[stem].suffix == ".png"
    ]


def _listed_classes(pairs: Sequence[tuple[Path, Path]], report: Report) -> ClassValues | None:
    images, masks = pairs[0]
    folders = (masks, masks.parent, images.parent, report.root)
    try:
        return class_values(find_classes_file(folders))
    except PixelkinError as error:
        found = next((one for one in folders if (one / CLASSES_FILE).is_file()), None)
        if found is None:
            report.error(report.place(masks.parent / CLASSES_FILE), "is not there", fix=_LIST)
        else:
            report.error(report.place(found / CLASSES_FILE), str(error), fix=_LIST)
        return None


def _check_map(
    path: Path, image: ImageFacts, values: ClassValues | None, report: Report
) -> set[int]:
    """Report the faults of one map; the labels that it holds."""
    where = report.place(path)
    found = inspect_image(path)
    if found.stored_hw is None or not found.digest:
        assert found.fault is not None
        report.error(where, found.fault[0], fix=found.fault[1])
        return set()
    if image.stored_hw is not None:
        check_size(image, found.stored_hw, where, report)
    # Without a list every value may be a class, and colours and two values are faults all the same.
    values = values or ClassValues({n: str(n) for n in range(IGNORE)})
    try:
        labels = read_class_map(path, values)
    except MapError as error:
        report.error(where, error.what, fix=error.fix)
        return set()
    present = {int(label) for label in np.unique(labels)} - {IGNORE}
    report.objects += len(present)
    return present
