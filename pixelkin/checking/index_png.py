"""`pixelkin check` of index PNGs: plain folders, Penn-Fudan, PASCAL VOC, CVPPP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Shaped
from PIL import Image
from scipy import ndimage

from pixelkin.checking.files import (
    ImageFacts,
    check_images,
    check_size,
    images_by_stem,
    inspect_image,
)
from pixelkin.checking.pairs import MaskWords, paired_masks
from pixelkin.checking.regions import TINY_PX, check_mask_parts
from pixelkin.checking.report import Progress, Report
from pixelkin.data.class_maps.index_png import CLASSES_FILE, draws_unknown
from pixelkin.data.instances.voc import voc_object_values
from pixelkin.data.reading import read_index_png, read_indices
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

_INDEX_MODES = ("1", "L", "P")

_NONE = "draw the masks, or choose the folder that holds them"
_LOSSLESS = "save the mask as PNG; JPEG mixes the ids at every edge"
_WORDS = MaskWords(
    name="mask",
    kind="mask",
    lossless=_LOSSLESS,
    no_image="add the image, or remove the mask",
    no_mask="add a mask, black where nothing is on the image; or remove the image",
)
_COLOUR = "save the mask with a palette or in grey: its values are the ids, colours lost them"
_AS_IGNORE = f"number the objects from 1; {IGNORE} means unknown and is left out"
_ONE_OBJECT = "number the regions 1, 2, 3, … where they are several objects"
_ID_255 = f"renumber this object: {IGNORE} means unknown in every depth, so it is left out"
_TINY = "erase the stray pixels, or draw the object"
_BOX = "see whether mask and annotation are of the same image and of the same object"
_CLASS = f"write classes 0 … 20, or those of {CLASSES_FILE}, or {IGNORE} for the outline"
_VOC_LIST = "write background first, of value 0, and the classes of objects after it"
_TWO_CLASSES = "paint each object with one class in SegmentationClass"
_OVERLAY = "draw the same outlines in SegmentationClass and SegmentationObject"

_PENN_BOX = re.compile(r"Bounding box for object (\d+).*?: \((\d+), (\d+)\) - \((\d+), (\d+)\)")
_BOX_PX = 3


@dataclass(frozen=True)
class IndexFolders:
    """Where images and masks of one set lie.

    Attributes:
        images: folder of images.
        masks: folder of masks, `<stem><mask_suffix>.png`.
        mask_suffix: what follows the image's stem in a mask's name.
        image_suffix: what an image's stem ends with, and a mask's has not (CVPPP's `_rgb`).
        all_masked: whether each image should have a mask; VOC has masks for some only.
        upper_case: whether the loader takes masks that end with `.PNG` too.
        void: whether a mask of nothing but 0 and 255 in VOC's palette says that it is unknown, and
            is no slip.
    """

    images: Path
    masks: Path
    mask_suffix: str = ""
    image_suffix: str = ""
    all_masked: bool = True
    upper_case: bool = True
    void: bool = False


def check_index_png(
    folders: IndexFolders, report: Report, each: Progress
) -> dict[str, Int64[np.ndarray, "h w"]]:
    """Report every problem of index masks and of their images; the readable masks by stem."""
    images = {
        stem.removesuffix(folders.image_suffix): path
        for stem, path in images_by_stem(folders.images, report).items()
        if stem.endswith(folders.image_suffix)
        and not (folders.images == folders.masks and _is_mask(path, folders))
    }
    masks = _masks_by_stem(folders, images, report)
    pairs = [(images[stem], masks[stem]) for stem in images if stem in masks]
    facts = check_images([image for image, _ in pairs], report, each)
    report.images += len(pairs)
    if not pairs:
        report.error(report.place(folders.masks), "no image has a mask", fix=_NONE)
    kept: dict[str, Int64[np.ndarray, "h w"]] = {}
    for image, mask in each("masks", pairs):
        labels = check_mask_file(mask, facts[image], report, void=folders.void)
        if labels is not None:
            count = check_labels(labels, report.place(mask), report)
            report.objects += count
            report.empty_images += not count
            kept[image.stem.removesuffix(folders.image_suffix)] = labels
    return kept


def _is_mask(path: Path, folders: IndexFolders) -> bool:
    return bool(folders.mask_suffix) and path.stem.endswith(folders.mask_suffix)


def _masks_by_stem(
    folders: IndexFolders, images: dict[str, Path], report: Report
) -> dict[str, Path]:
    if not folders.masks.is_dir():
        return {}
    files = [
        path
        for path in folders.masks.iterdir()
        if folders.images != folders.masks or _is_mask(path, folders)
    ]
    return paired_masks(
        images,
        files,
        folders.mask_suffix,
        report,
        _WORDS,
        all_masked=folders.all_masked,
        upper_case=folders.upper_case,
    )


def check_mask_file(
    path: Path,
    image: ImageFacts | None,
    report: Report,
    *,
    binary: bool = False,
    void: bool = False,
) -> Shaped[np.ndarray, "h w"] | None:
    """The ids of a mask as the loader reads them; None, with a report, where it cannot.

    With `binary` every value but 0 is the one object: values are as stored, none can be misread.
    `void` as of `IndexFolders`; 255 is never an object then.
    """
    where = report.place(path)
    try:
        # What any value but 0 means needs no second look at the values.
        raw = binary or void
        labels = read_indices(path)[1].astype(np.int64) if raw else read_index_png(path)
    except PixelkinError as error:
        _report_unreadable(path, image, str(error), report)
        return None
    check_mask_size(image, (labels.shape[0], labels.shape[1]), where, report)
    if not (binary or (void and draws_unknown(path))):
        _check_two_values(labels, path, report)
    return labels


def _report_unreadable(path: Path, image: ImageFacts | None, reason: str, report: Report) -> None:
    where = report.place(path)
    found = inspect_image(path)
    if found.fault is not None and not found.digest:
        report.error(where, found.fault[0], fix=found.fault[1])
        return
    if found.stored_hw is not None:
        check_mask_size(image, found.stored_hw, where, report)
    with Image.open(path) as opened:
        kind, mode = opened.format, opened.mode
    if kind != "PNG":
        report.error(where, f"the mask is {kind} under the name of a PNG", fix=_LOSSLESS)
    elif mode not in _INDEX_MODES:
        report.error(where, f"the mask is a colour image ({mode})", fix=_COLOUR)
    else:
        report.error(where, reason, fix=_COLOUR)


def check_mask_size(
    image: ImageFacts | None, mask_hw: tuple[int, int], where: str, report: Report
) -> None:
    """Report a mask of another size than its image; one that cannot be read tells no size."""
    if image is not None and not (image.fault and image.stored_hw is None):
        check_size(image, mask_hw, where, report)


def _check_two_values(labels: Int64[np.ndarray, "h w"], path: Path, report: Report) -> None:
    """Report 255 where it may be meant as an object, and one id for what may be several."""
    known = labels[labels != IGNORE]
    where, most = report.place(path), int(known.max(initial=0))
    if known.size < labels.size and not most:
        what = f"holds only 0 and {IGNORE}, so all of it reads as unknown"
        report.error(where, what, fix=_AS_IGNORE)
    elif known.size < labels.size and most > IGNORE:
        report.error(where, f"numbers objects to {most}, and one of them {IGNORE}", fix=_ID_255)
    elif most == 1 and _is_binary(path):
        _check_one_object(labels, where, report)


def _is_binary(path: Path) -> bool:
    """Whether a mask of one id was stored as 0 and 255, or in one bit."""
    with Image.open(path) as image:
        extrema = image.getextrema() if image.mode == "L" else (0, IGNORE)
        return image.mode == "1" or (image.mode == "L" and extrema == (0, IGNORE))


def _check_one_object(labels: Int64[np.ndarray, "h w"], where: str, report: Report) -> None:
    sizes = np.bincount(ndimage.label(labels, np.ones((3, 3)))[0].ravel())[1:]
    large = int((sizes >= max(TINY_PX, sizes.max() / 4)).sum())
    if large > 1:
        what = f"numbers {large} separate regions as one object (its values are 0 and 255)"
        report.warning(where, what, fix=_ONE_OBJECT)


def check_labels(labels: Int64[np.ndarray, "h w"], where: str, report: Report) -> int:
    """Report the objects of a label map that are tiny or lie far apart; how many there are."""
    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape)
    count = 0
    # Rank 0 is the smallest id, which find_objects does not look for.
    for rank, window in enumerate(ndimage.find_objects(compact + 1)):
        number = int(ids[rank])
        if number in (0, IGNORE) or window is None:
            continue
        count += 1
        mask = compact[window] == rank
        area = int(mask.sum())
        if area < TINY_PX:
            what = f"covers {area} pixel{'s' * (area > 1)}"
            report.warning(f"{where}, id {number}", what, fix=_TINY)
        else:
            check_mask_parts(mask, f"{where}, id {number}", report)
    return count


def check_penn_fudan(root: Path, report: Report, each: Progress) -> None:
    """Report every problem of Penn-Fudan, the boxes of `Annotation` against the masks too."""
    folders = IndexFolders(root / "PNGImages", root / "PedMasks", mask_suffix="_mask")
    for stem, labels in check_index_png(folders, report, each).items():
        text = root / "Annotation" / f"{stem}.txt"
        if text.is_file():
            _compare_penn_boxes(text, labels, report)


def _compare_penn_boxes(text: Path, labels: Int64[np.ndarray, "h w"], report: Report) -> None:
    boxes = {
        int(number): tuple(map(int, corners))
        for number, *corners in _PENN_BOX.findall(text.read_text("utf-8", errors="replace"))
    }
    windows = ndimage.find_objects(labels)
    for number, box in boxes.items():
        where = f"{report.place(text)}, object {number}"
        window = windows[number - 1] if number <= len(windows) else None
        if window is None:
            report.error(where, f"the mask holds no id {number}", fix=_BOX)
            continue
        rows, columns = window
        # The annotation counts from 1, its last pixel inside.
        own = (columns.start + 1, rows.start + 1, columns.stop, rows.stop)
        if any(abs(a - b) > _BOX_PX for a, b in zip(own, box, strict=True)):
            what = f"the box {box} is not that of the mask, {own}"
            report.error(where, what, fix=_BOX)
    for rank, window in enumerate(windows, start=1):
        if window is not None and rank not in boxes and rank != IGNORE:
            where = f"{report.place(text)}, object {rank}"
            report.error(where, "is in the mask, not in the annotation", fix=_BOX)


def check_voc(root: Path, report: Report, each: Progress) -> None:
    """Report every problem of PASCAL VOC's object masks, and of classes that do not fit them."""
    folders = IndexFolders(
        root / "JPEGImages",
        root / "SegmentationObject",
        all_masked=False,
        upper_case=False,
        void=True,
    )
    known = _voc_values(root, report)
    for stem, objects in check_index_png(folders, report, each).items():
        path = root / "SegmentationClass" / f"{stem}.png"
        if not path.is_file():
            report.error(report.place(path), "there is no class mask", fix=_OVERLAY)
            continue
        classes = check_mask_file(path, ImageFacts(path, objects.shape), report, void=True)
        if classes is not None and classes.shape == objects.shape:
            _compare_voc(report.place(path), classes, objects, known, report)


def _voc_values(root: Path, report: Report) -> set[int]:
    """The values that maps of classes may hold; all where the list of classes is faulty."""
    try:
        values = voc_object_values(root)
    except PixelkinError as error:
        path = root / CLASSES_FILE
        report.error(report.place(path), str(error).removeprefix(f"{path} "), fix=_VOC_LIST)
        return {*range(IGNORE + 1)}
    return {*values.names, values.ignored_value}


def _compare_voc(
    where: str,
    classes: Int64[np.ndarray, "h w"],
    objects: Int64[np.ndarray, "h w"],
    known: set[int],
    report: Report,
) -> None:
    wrong = sorted(set(np.unique(classes).tolist()) - known)
    if wrong:
        report.error(where, f"holds the class {wrong[0]}", fix=_CLASS)
    for number in np.unique(objects[(objects != 0) & (objects != IGNORE)]).tolist():
        own = classes[objects == number]
        kinds = np.unique(own[(own != 0) & (own != IGNORE)]).tolist()
        if len(kinds) > 1:
            report.error(where, f"object {number} has the classes {kinds}", fix=_TWO_CLASSES)
        elif not kinds:
            report.error(where, f"object {number} has no class", fix=_TWO_CLASSES)
    bare = int(((classes != 0) & (classes != IGNORE) & (objects == 0)).sum())
    if bare:
        report.error(where, f"{bare} pixels of a class belong to no object", fix=_OVERLAY)
