"""`pixelkin check` of DSB 2018 folders: an image, and one mask PNG per nucleus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pixelkin.checking.files import ImageFacts, check_images, images_by_stem
from pixelkin.checking.index_png import check_mask_file
from pixelkin.checking.regions import TINY_PX, check_mask_parts
from pixelkin.checking.report import Progress, Report

_LAYOUT = "lay the files out as <id>/images/<id>.png and <id>/masks/*.png"
_NO_MASKS = "add a folder masks with one PNG per nucleus, or remove the image"
_NONE = "annotate the images, or choose the folder that holds <id>/masks"
_EMPTY = "draw the nucleus, or remove the mask"
_OVERLAP = "give the shared pixels to one nucleus; where masks overlap the smaller lies on top"
_SAME = "remove one of the two masks"
_TINY = "erase the stray pixels, or draw the nucleus"


def check_nuclei(root: Path, report: Report, each: Progress) -> None:
    """Report every problem of folders `<id>/images` and `<id>/masks`."""
    folders = sorted(path.parent for path in root.glob("[!.]*/images") if path.is_dir())
    images: dict[Path, Path] = {}
    for folder in folders:
        found = list(images_by_stem(folder / "images", report).values())
        if len(found) > 1:
            what = f"holds {len(found)} images, not one"
            report.error(report.place(folder / "images"), what, fix=_LAYOUT)
        if found:
            images[folder] = found[0]
    facts = check_images(list(images.values()), report, each)
    before = report.objects
    for folder in each("masks", folders):
        _check_masks(folder / "masks", facts.get(images.get(folder, root)), report)
    report.images += len(folders)
    if report.objects == before:
        report.error(report.place(root), "holds no mask", fix=_NONE)


def _check_masks(folder: Path, image: ImageFacts | None, report: Report) -> None:
    if not folder.is_dir():
        report.error(report.place(folder), "there is no folder of masks", fix=_NO_MASKS)
        return
    paths = sorted(folder.glob("[!.]*.png"))
    report.objects += len(paths)
    report.empty_images += not paths
    owner: Int64[np.ndarray, "h w"] | None = None
    for number, path in enumerate(paths, start=1):
        values = check_mask_file(path, image, report, binary=True)
        if values is None:
            continue
        mask = values != 0
        where = report.place(path)
        area = int(mask.sum())
        if not area:
            report.error(where, "the mask is empty", fix=_EMPTY)
            continue
        if area < TINY_PX:
            what = f"covers {area} pixel{'s' * (area > 1)}"
            report.warning(where, what, fix=_TINY)
        check_mask_parts(mask, where, report)
        if owner is None:
            owner = np.zeros(mask.shape, np.int64)
        if owner.shape == mask.shape:
            _check_overlap(mask, area, owner, paths, where, report)
            owner[mask] = number


def _check_overlap(
    mask: np.ndarray,
    area: int,
    owner: Int64[np.ndarray, "h w"],
    paths: list[Path],
    where: str,
    report: Report,
) -> None:
    shared = owner[mask]
    for other in np.unique(shared[shared > 0]).tolist():
        pixels = int((shared == other).sum())
        name = paths[other - 1].name
        if pixels == area == int((owner == other).sum()):
            report.warning(where, f"is the same mask as {name}", fix=_SAME)
        else:
            report.warning(
                where, f"overlaps {name} in {pixels} pixel{'s' * (pixels > 1)}", fix=_OVERLAP
            )
