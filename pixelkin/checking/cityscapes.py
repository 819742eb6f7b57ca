"""`pixelkin check` of Cityscapes: its folders, its pairs, and its 16-bit instance ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pixelkin.checking.files import check_images, inspect_image
from pixelkin.checking.index_png import check_mask_size
from pixelkin.checking.report import Progress, Report
from pixelkin.data.reading import read_index_png

_IMAGE, _MASK = "_leftImg8bit", "_gtFine_instanceIds"
_LAST_LABEL = 33
_THINGS = frozenset({24, 25, 26, 27, 28, 31, 32, 33, 29, 30})
"""Label ids that may be told apart: eight that count, caravan and trailer."""

_PAIR = "add gtFine/<split>/<city>/…_gtFine_instanceIds.png, or remove the image"
_NO_IMAGE = "add leftImg8bit/<split>/<city>/…_leftImg8bit.png, or remove the mask"
_NONE = "choose the folder that holds leftImg8bit and gtFine"
_DEPTH = "use …_instanceIds.png as published: one channel of 16 bits"
_ID = "write label·1000 + number for things, the bare label (0 … 33) for groups and stuff"


def check_cityscapes(root: Path, report: Report, each: Progress) -> None:
    """Report every problem of `leftImg8bit` and `gtFine`; test images have no annotation."""
    images = _by_key(root / "leftImg8bit", _IMAGE)
    masks = _by_key(root / "gtFine", _MASK)
    for key, path in masks.items():
        if key not in images:
            report.error(report.place(path), "the mask has no image", fix=_NO_IMAGE)
    for key, path in images.items():
        if key not in masks and not key.startswith("test/"):
            report.error(report.place(path), "the image has no instanceIds", fix=_PAIR)
    keys = sorted(images.keys() & masks.keys())
    if not keys:
        report.error(report.place(root / "gtFine"), "no image has a mask", fix=_NONE)
    facts = check_images([images[key] for key in keys], report, each)
    report.images += len(keys)
    for key in each("masks", keys):
        path = masks[key]
        found = inspect_image(path)
        if found.stored_hw is None or not found.digest:
            assert found.fault is not None
            report.error(report.place(path), found.fault[0], fix=found.fault[1])
            continue
        check_mask_size(facts[images[key]], found.stored_hw, report.place(path), report)
        _check_ids(path, deep=found.fault is not None, report=report)


def _by_key(folder: Path, ending: str) -> dict[str, Path]:
    return {
        f"{path.parent.relative_to(folder).as_posix()}/{path.stem.removesuffix(ending)}": path
        for path in sorted(folder.glob(f"*/*/*{ending}.png"))
    }


def _check_ids(path: Path, *, deep: bool, report: Report) -> None:
    where = report.place(path)
    if not deep:
        # In 8 bits no id of a thing, from 24000 on, can be written.
        report.error(where, "the mask has 8 bits, not 16", fix=_DEPTH)
        return
    ids = np.unique(read_index_png(path))
    things = ids[ids >= 1000]
    report.objects += len(things)
    report.empty_images += not len(things)
    for number in ids.tolist():
        if number < 1000 and not 0 <= number <= _LAST_LABEL:
            report.error(f"{where}, id {number}", "is no label", fix=_ID)
        elif number >= 1000 and number // 1000 not in _THINGS:
            what = f"numbers an object of label {number // 1000}, which has none"
            report.error(f"{where}, id {number}", what, fix=_ID)
