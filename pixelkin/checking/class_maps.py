"""`pixelkin check` of any data set of class maps: its loader is asked for every still."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64, Num

from pixelkin.checking.files import ImageFacts, check_images, check_size
from pixelkin.checking.report import ClassTally, Progress, Report
from pixelkin.data.class_maps.ccp import CcpSemantic
from pixelkin.data.class_maps.coco_stuff_json import CocoStuffJson
from pixelkin.data.class_maps.files import ClassMapFiles, faults_noted
from pixelkin.data.class_maps.index_png import MapError, draws_unknown, only_0_and_255
from pixelkin.data.class_maps.lits import Lits
from pixelkin.data.class_maps.place import Place, UnfitOptionError
from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS
from pixelkin.data.reading import image_size_hw, read_image, read_indices
from pixelkin.data.source import SemanticSource
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

_DEFAULT_FIX = "use the file that the data set ships, or leave the still out"
_NONE = "choose the folder that holds the data set, and see that its maps lie where they should"
_BINARY = "see whether 255 is an object here: both values mean something else in this data set"
_DIM = "make skin white (255): what is darker than half is background"
_PART = "add the maps of this part, or remove its images"
_UNPLACED = "look at a slice: without an affine nobody knows which way the volume lies"
_NO_NUMBER = "export the volume again from the files of the scanner: its values are lost"
_NAN = "write air (-1000) where the scanner saw nothing; elsewhere export the volume again"
_INFINITE = "export the volume again: some program divided by zero, or its numbers grew too large"
_UNITS = "convert the volume to Hounsfield units, in which air is -1000"

_WHITE_IS_A_CLASS = frozenset({"pratheepan"})
"""Formats whose masks are black and white."""

_SLAB = 64
"""Slices of a volume that are read at once."""

_FOUND = {
    r"cannot read the [\w -]+? (?P<where>/.+?|[^:]+?): (?P<what>.*)": "cannot be read: {}",
    r"no image of (?P<where>.+?) has a map in (?P<what>.*)": "no image has a map in {}",
    r"no (?:[\w -]+ )?(?:file|folder) (?P<where>.+?): (?P<what>.*)": "is not there: {}",
    r"split (?P<what>.+?) is unknown in (?P<where>.+?): .*": "holds no maps of part {}",
    r"(?:mask )?(?P<where>.+?) (?P<what>(?:has|holds|is|lists|says) .*)": "{}",
}
"""How messages of loaders begin → what is left of them beside the place."""
_WHERE = re.compile(r"\(\?P<where>[^)]+\)")

_FIXES = {
    "write it again as one": "save the map as a PNG of indices, in a palette or in grey",
    "say stored_axes='LPS' if you know it": "write the sform into its header, as that of its scan",
    "add it": "add the file, or remove the image",
    "add it, or remove the image": "add the label file, or remove the image",
}
"""Fixes that need the sentence before → such that stand alone."""


_Source = TypeVar("_Source", bound=Sized)


@dataclass(frozen=True)
class _Still:
    source: Any
    index: int
    image: Path
    map: Path


def check_class_maps(name: str, place: Place, report: Report, each: Progress) -> None:
    """Report every problem of all parts of a data set, and count the pixels of its classes.

    Args:
        name: one of `SEMANTIC_FORMATS`.
        place: where the data set lies; all its parts are read, whatever `split` says.
        report: collects the problems, and in `classes` the pixels.
        each: shows progress.

    Raises:
        UnfitOptionError: the format does not take what `place` says.
    """
    report.classes = report.classes or ClassTally()
    made = SEMANTIC_FORMATS[name]
    parts = made.part_names(place.path)
    opened = opened_parts(parts, lambda part: made.make(replace(place, split=part)), report)
    if not opened and not report.problems:
        report.error(report.place(place.path), "no image has a label file", fix=_NONE)
    for source in opened:
        if isinstance(source, Lits):
            _check_volumes(source, report, each)
    stills = _stills(opened)
    facts = check_images([still.image for still in stills], report, each)
    report.images += len(stills)
    for still in each("maps", stills):
        labels = _labels(still, facts[still.image], report)
        if labels is None:
            continue
        report.classes.add(labels, still.source.class_names)
        report.empty_images += not (labels != IGNORE).any()
        where = report.place(still.map)
        if name in _WHITE_IS_A_CLASS:
            if not labels.any() and (brightest := int(read_image(still.map).max())):
                report.warning(where, f"is dark throughout, {brightest} at most", fix=_DIM)
        elif _is_binary(still.map, labels):
            # Only in formats whose loader takes it, since it can be true there: bdd, coco-stuff.
            what = "holds nothing but 0 and 255, as a binary mask does"
            report.warning(where, what, fix=_BINARY)


def opened_parts(
    parts: Sequence[str], open_part: Callable[[str | None], _Source], report: Report
) -> list[_Source]:
    """The parts of a data set that hold stills; what is missing in them is reported once.

    Args:
        parts: their names; none where the data set is all one, which is opened as None.
        open_part: opens one, or says what is wrong.
        report: collects the problems.

    Raises:
        UnfitOptionError: `open_part` does.
    """
    opened: list[_Source] = []
    told: set[str] = set()
    names: list[str | None] = [*parts]
    for part in names or [None]:
        source = None
        with faults_noted() as faults:
            try:
                source = open_part(part)
            except UnfitOptionError:
                raise
            except PixelkinError as error:
                faults.append(error)
        if source is not None and len(source):
            opened.append(source)
        elif part is not None and part.startswith("test"):
            # Maps of test parts are seldom published.
            continue
        for fault in faults:
            where, what, fix = explained(fault, report)
            # Lists of parts overlap.
            if where not in told:
                report.error(where, what, fix=fix)
            told.add(where)
    return opened


def _stills(opened: list[SemanticSource]) -> list[_Still]:
    """Stills with an image and a map of their own, each once."""
    found: dict[tuple[Path, Path], _Still] = {}
    for source in opened:
        if isinstance(source, ClassMapFiles | CcpSemantic | CocoStuffJson):
            for index in range(len(source)):
                path, image = source.map_file(index), source.image_file(index)
                assert image is not None
                # A JSON holds the maps of many images.
                key = (path, image if path.suffix == ".json" else path)
                found.setdefault(key, _Still(source, index, image, path))
    return list(found.values())


def _labels(still: _Still, image: ImageFacts, report: Report) -> Int64[np.ndarray, "h w"] | None:
    """The labels of a still; None, with a report, where they cannot be read.

    A map is read in the size that it has, so that a faulty image hides no fault of the map.
    """
    try:
        if isinstance(still.source, ClassMapFiles) and still.map.suffix.lower() == ".png":
            size_hw = image_size_hw(still.map)
            check_size(image, size_hw, report.place(still.map), report)
            return still.source.read_map(still.index, size_hw)
        if image.upright_hw is None:
            return None
        if isinstance(still.source, ClassMapFiles):
            return still.source.read_map(still.index, image.upright_hw)
        labels: Int64[np.ndarray, "h w"] = still.source[still.index].labels
        return labels
    except PixelkinError as error:
        if image.fault is None or str(still.image) not in str(error):
            _, what, fix = explained(error, report, still.map)
            report.error(report.place(still.map), what, fix=fix)
        return None


def explained(
    error: PixelkinError, report: Report, path: Path | None = None
) -> tuple[str, str, str]:
    """Place, fault and fix of a loader's error, which says all three in one line.

    Args:
        error: of a loader.
        report: whose root shortens the place.
        path: the file, where it is known.
    """
    if isinstance(error, MapError):
        return report.place(error.path), error.what, error.fix
    text, _, fix = str(error).rpartition("; ")
    if not text:
        text, fix = fix, _NONE if path is None else _DEFAULT_FIX
    fix = _FIXES.get(fix, fix)
    for begin, left in _FOUND.items():
        if path is not None:
            # What is known is found behind any words, as those of "the class map".
            begin = _WHERE.sub(lambda _: f"(?P<where>{re.escape(str(path))})", begin)
        if found := re.fullmatch(begin, text):
            what = left.format(_short(found["what"], report))
            if begin.startswith("split"):
                # The loader takes it for a slip of the pen; here the images are there.
                fix = _PART
            return report.place(Path(found["where"])), what, fix
    where = report.place(report.root) if path is None else report.place(path)
    return where, _short(text.removeprefix(f"{path}: "), report), fix


def _short(text: str, report: Report) -> str:
    return text.replace(f"{report.root}/", "")


def _is_binary(path: Path, labels: Int64[np.ndarray, "h w"]) -> bool:
    """Whether a map in grey holds nothing but 0 and 255."""
    if path.suffix.lower() != ".png" or len(np.unique(labels)) > 2:
        return False
    try:
        values = read_indices(path)[1]
    except PixelkinError:
        # Colours.
        return False
    return only_0_and_255(np.unique(values)) and not draws_unknown(path)


def _check_volumes(source: Lits, report: Report, each: Progress) -> None:
    """Read all voxels of volumes and of their segmentations, slab by slab."""
    assert report.classes is not None
    for volume, mask in each("volumes", source.volumes()):
        depth = volume.size_zyx[0]
        report.images += depth
        if not volume.placed:
            what = "has the identity as its affine, as if somebody had lost it"
            report.warning(report.place(volume.path), what, fix=_UNPLACED)
        seen = _Voxels()
        faulty: set[Path] = set()
        for start in range(0, depth, _SLAB):
            stop = min(start + _SLAB, depth)
            for one in (volume, mask):
                if one.path in faulty:
                    continue
                try:
                    values = one.slab_zyx(start, stop)
                    if one is volume:
                        seen.add(values)
                        continue
                    for labels in source.labels_of(values, mask.path):
                        report.classes.add(labels, source.class_names)
                except PixelkinError as error:
                    faulty.add(one.path)
                    _, what, fix = explained(error, report, one.path)
                    slices = f"in slices {start} to {stop - 1}: " if depth > _SLAB else ""
                    report.error(report.place(one.path), f"{slices}{what}", fix=fix)
        if volume.path not in faulty:
            _check_voxels(seen, report.place(volume.path), report)


@dataclass
class _Voxels:
    """What the voxels of a volume hold: how many, how many no number, and the lowest number."""

    count: int = 0
    nan: int = 0
    infinite: int = 0
    lowest: float = np.inf

    def add(self, values: Num[np.ndarray, "z y x"]) -> None:
        self.count += values.size
        self.nan += int(np.isnan(values).sum())
        self.infinite += int(np.isinf(values).sum())
        finite = values[np.isfinite(values)]
        if finite.size:
            self.lowest = min(self.lowest, float(finite.min()))


def _check_voxels(seen: _Voxels, where: str, report: Report) -> None:
    if seen.nan + seen.infinite == seen.count:
        what = f"holds no number: NaN in {seen.nan} voxels, infinite values in {seen.infinite}"
        report.error(where, what, fix=_NO_NUMBER)
        return
    if seen.nan:
        what = f"holds NaN in {seen.nan} of {seen.count} voxels, which is read as air"
        report.warning(where, what, fix=_NAN)
    if seen.infinite:
        what = (
            f"holds infinite values in {seen.infinite} of {seen.count} voxels, which are read as "
            "the ends of the window"
        )
        report.warning(where, what, fix=_INFINITE)
    if seen.lowest >= 0:
        what = "holds no value below 0, so that it cannot be in Hounsfield units"
        report.warning(where, what, fix=_UNITS)
