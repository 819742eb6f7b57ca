"""A folder of images beside a folder of index PNGs with a class per pixel, of one's own making.

The layout of PASCAL VOC's `SegmentationClass`, of CVAT's and Label Studio's exports and of most
hand-made sets. Pixels are indices of a palette or grey values, in 8 or 16 bits; the classes stand
in a text file, and so may the value of pixels that nobody knows: `ignore: 255`.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from pixelkin.data.class_maps.files import ClassMapFiles, class_table, paired_files
from pixelkin.data.reading import decoded, open_image, require_size
from pixelkin.errors import PixelkinError
from pixelkin.masks import palette, png_depth, stored_values
from pixelkin.structures import IGNORE

CLASSES_FILE = "classes.txt"

Classes = Sequence[str] | Mapping[int, str] | str | os.PathLike[str]
"""Names in the order of their values from 0; value → name; or a text file of either, which may say
`ignore: VALUE` too."""

_VALUES = 1 << 16
_COLOURED = frozenset({"RGB", "RGBA", "LA"})
_INDEXED = frozenset({"1", "L", "P", "I", "I;16", "I;16B"})
_GREY, _PALETTED = 0, 3
_IGNORE_LINE = re.compile(r"ignore\s*[:=]\s*(\d+)", re.IGNORECASE)

FIX_BINARY = (
    f"list the classes as '0: background' and '{IGNORE}: name' in {CLASSES_FILE}; or, where "
    f"{IGNORE} does mean unknown, add the line 'ignore: {IGNORE}' to it"
)
FIX_COLOUR = "save each pixel's class as a palette index or grey value; colours lose it"
FIX_DEPTH = "save all maps with the same number of bits, from the source of their values"
FIX_CLASSES = "correct the class list, or the pixels"
FIX_PNG = "save the map as PNG; lossy formats mix the values at every edge"


class MapError(PixelkinError):
    """A map that cannot be read as classes.

    Attributes:
        path: the file.
        what: the fault, without the file.
        fix: what to do.
    """

    def __init__(self, path: Path, what: str, fix: str) -> None:
        super().__init__(f"{path} {what}; {fix}")
        self.path = path
        self.what = what
        self.fix = fix


@dataclass(frozen=True)
class ClassValues:
    """Which value of a file means which class.

    Attributes:
        names: value → name of its class; the classes are in the order of their values.
        ignore: value of pixels that nobody knows; None is 255, or 65535 where 255 is a class.
            Unless it is said to be 255, maps of nothing but 0 and 255 are refused as binary, except
            in the palette of PASCAL VOC, whose 255 is drawn as unknown.
    """

    names: Mapping[int, str]
    ignore: int | None = None

    def __post_init__(self) -> None:
        wrong = [n for n in (*self.names, self.ignore or 0) if not 0 <= n < _VALUES]
        if wrong:
            raise PixelkinError(
                f"value {wrong[0]} is out of range: expected 0 to {_VALUES - 1}, as 16 bits hold"
            )

    @property
    def ignored_value(self) -> int:
        """The value that becomes `IGNORE`."""
        if self.ignore is not None:
            return self.ignore
        return _VALUES - 1 if IGNORE in self.names else IGNORE

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """In the order of their values; index 255 is nobody's, its name empty."""
        names = [self.names[value] for value in sorted(self.names)]
        return tuple([*names[:IGNORE], "", *names[IGNORE:]] if len(names) > IGNORE else names)

    @cached_property
    def table(self) -> Int64[np.ndarray, " n"]:
        """Label of each value; −1 where it has none."""
        ordered = sorted(self.names)
        # Index 255 would be read as unknown.
        indices = {value: n + (n >= IGNORE) for n, value in enumerate(ordered)}
        return class_table({**indices, self.ignored_value: IGNORE}, size=_VALUES)

    @property
    def expected(self) -> str:
        """The values as messages name them."""
        values = sorted(self.names)
        last = values[-1]
        listed = f"0 to {last}" if values == list(range(last + 1)) else ", ".join(map(str, values))
        return f"{listed} ({len(values)} classes) and {self.ignored_value} (unknown)"


class SemanticPng(ClassMapFiles):
    """Images and maps of the same stem, the map's with `mask_suffix` appended.

    Maps are PNGs of palette indices or grey values, all of 8 or all of 16 bits. An RGB map is
    taken where it is a rendering of the classes, in grey or in the palette of PASCAL VOC.

    Args:
        images_dir: folder of images; sub-folders are not read.
        masks_dir: folder of `<stem><mask_suffix>.png`.
        classes: names, the first of value 0; or value → name; or a text file as `read_class_list`
            reads it. None looks for `classes.txt` in and beside the folders.
        ignore: value of pixels that nobody knows, as `ClassValues`.
        foreground: value of the one class in binary masks, 0 being background.
        mask_suffix: what stands between the image's stem and `.png`.
        skip_missing: leave out images without a map instead of raising.

    Raises:
        PixelkinError: a folder is missing or empty, an image has no map, some maps have 8 bits and
            some 16, or the class list is missing or faulty; on reading, a file is corrupt, sizes
            differ, a value has no class, a map holds nothing but 0 and 255, or colours.
    """

    def __init__(
        self,
        images_dir: str | os.PathLike[str],
        masks_dir: str | os.PathLike[str],
        *,
        classes: Classes | None = None,
        ignore: int | None = None,
        foreground: int | None = None,
        mask_suffix: str = "",
        skip_missing: bool = False,
    ) -> None:
        images, masks = Path(images_dir), Path(masks_dir)
        files = paired_files(images, masks, mask_suffix=mask_suffix, skip_missing=skip_missing)
        if classes is None and foreground is None:
            classes = find_classes_file((masks, masks.parent, images.parent))
        self._values = class_values(classes, ignore=ignore, foreground=foreground)
        odd = odd_depths(mask for _, mask in files.values())
        if odd:
            raise odd[0]
        super().__init__(files, self._values.class_names)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        return read_class_map(path, self._values, size_hw=size_hw)


def find_classes_file(folders: Sequence[Path]) -> Path:
    """The first `classes.txt` in `folders`; `PixelkinError` where there is none."""
    found = next((path for one in folders if (path := one / CLASSES_FILE).is_file()), None)
    if found is None:
        raise PixelkinError(
            f"no class list: expected {folders[0] / CLASSES_FILE} or one folder up, with one name "
            "a line, the first of value 0; write it, or give classes"
        )
    return found


def class_values(
    classes: Classes | None, *, ignore: int | None = None, foreground: int | None = None
) -> ClassValues:
    """Which value means which class, from a list, a mapping, a text file or a foreground value.

    Raises:
        PixelkinError: the list is empty, has a name twice or an empty one, or is not of two
            names where `foreground` is given; or a value is out of range.
    """
    if classes is None:
        names: dict[int, str] = dict(enumerate(("background", "foreground")))
    elif isinstance(classes, str | os.PathLike):
        names, listed = _read_list(Path(classes))
        ignore = listed if ignore is None else ignore
    elif isinstance(classes, Mapping):
        names = dict(classes)
    else:
        names = dict(enumerate(classes))
    _check_names(names, "the class list")
    if foreground is not None:
        if len(names) != 2 or foreground == 0:
            raise PixelkinError(
                f"foreground is {foreground} and there are {len(names)} classes: expected a value "
                "above 0 and two, background and what is on it; leave foreground out, or name two"
            )
        names = dict(zip((0, foreground), (names[value] for value in sorted(names)), strict=True))
    return ClassValues(names, ignore)


def read_class_list(path: Path) -> dict[int, str]:
    """Value → name of a text file: a name a line, the first of value 0, or `value: name` a line.

    A line `ignore: VALUE` is no class: it says which value `class_values` takes for unknown.

    Raises:
        PixelkinError: the file is missing, empty or no UTF-8 text, a line is empty, some lines
            have values and some not, or a name or a value stands twice; names the line.
    """
    return _read_list(path)[0]


def _read_list(path: Path) -> tuple[dict[int, str], int | None]:
    """Value → name, and the value that the file says to ignore, if any."""
    text = decoded(path, lambda: path.read_text(encoding="utf-8-sig"), kind="class list")
    lines = [line.strip() for line in text.rstrip().splitlines()]
    said = {line: int(one[1]) for line in lines if (one := _IGNORE_LINE.fullmatch(line))}
    if len(said) > 1:
        raise PixelkinError(f"{path} says ignore twice: expected one such line; remove the others")
    ignore = next(iter(said.values()), None)
    listed = {n: line for n, line in enumerate(lines, start=1) if line not in said}
    valued = {n: re.fullmatch(r"(\d+)\s*[:=]\s*(.+)", line) for n, line in listed.items()}
    if any(valued.values()) and not all(valued.values()):
        number = next(n for n, match in valued.items() if not match)
        raise PixelkinError(
            f"{path}, line {number} has no value, and others have: expected 'value: name' in all "
            "or in none; correct it"
        )
    pairs = [(int(one[1]), one[2]) for one in valued.values() if one]
    pairs = pairs or list(enumerate(listed.values()))
    names = dict(pairs)
    if len(names) < len(pairs):
        raise PixelkinError(f"{path} has a value twice: expected one line each; correct it")
    _check_names(names, str(path))
    if ignore in names:
        raise PixelkinError(
            f"{path} says ignore: {ignore}, and {ignore} is {names[ignore]!r}: expected one of "
            "them; correct it"
        )
    return names, ignore


def _check_names(names: Mapping[int, str], where: str) -> None:
    listed = list(names.values())
    if not listed or not all(listed):
        line = f"an empty line, {listed.index('') + 1}" if listed else "no name"
        raise PixelkinError(
            f"{where} has {line}: expected one name a line, since its place is its value; fill it"
        )
    twice = next((name for name in listed if listed.count(name) > 1), None)
    if twice is not None:
        raise PixelkinError(f"{where} has {twice!r} twice: expected unique names; rename one")


def read_class_map(
    path: Path, values: ClassValues, *, size_hw: tuple[int, ...] | None = None
) -> Int64[np.ndarray, "h w"]:
    """The labels of a map, int64 (H, W): indices into `values.class_names`, or `IGNORE`.

    Raises:
        MapError: the map has colours that are no rendering of the classes, a value that has no
            class, or nothing but 0 and 255.
        PixelkinError: the file is missing, corrupt, or of another size than `size_hw`.
    """
    mode, stored = _read_pixels(path, size_hw)
    if mode in _COLOURED:
        stored = _colour_values(stored, values, path)
    elif stored.dtype == bool:
        stored = stored.astype(np.uint8)
    # What values there are is asked of a table, which is faster than to ask every pixel again.
    there = np.zeros(_VALUES, bool)
    there[stored] = True
    present = np.flatnonzero(there)
    unsaid = values.ignore is None and IGNORE not in values.names
    if unsaid and only_0_and_255(present) and not (mode == "P" and draws_unknown(path)):
        what = f"holds nothing but 0 and {IGNORE}, which looks like a binary mask"
        raise MapError(path, what, FIX_BINARY)
    strange = present[values.table[present] < 0]
    if strange.size:
        largest = int(strange.max())
        what = (
            f"holds value {largest} in {int((stored == largest).sum())} of its pixels: expected "
            f"{values.expected}"
        )
        raise MapError(path, what, FIX_CLASSES)
    labels: Int64[np.ndarray, "h w"] = values.table[stored]
    return labels


def only_0_and_255(present: Integer[np.ndarray, " n"]) -> bool:
    """Whether the values that a map holds are those of a binary mask of the object 255."""
    return IGNORE in present and bool(np.isin(present, (0, IGNORE)).all())


def draws_unknown(path: Path) -> bool:
    """Whether an indexed PNG shows 0 and 255 in the colours of PASCAL VOC, black and cream."""
    with open_image(path) as image:
        colours = image.getpalette("RGB") if image.mode == "P" else None
    if colours is None or len(colours) < 3 * (IGNORE + 1):
        return False
    drawn = np.array(colours).reshape(-1, 3)[[0, IGNORE]]
    return bool((drawn == palette()[[0, IGNORE]]).all())


def _read_pixels(path: Path, size_hw: tuple[int, ...] | None) -> tuple[str, np.ndarray[Any, Any]]:
    """Mode and pixels as stored; of coloured maps RGB, their alpha found to be opaque."""

    def decode() -> tuple[str, np.ndarray[Any, Any]]:
        with open_image(path) as image:
            if image.format != "PNG":
                raise MapError(path, f"is a {image.format} file", FIX_PNG)
            if size_hw is not None:
                require_size(path, (image.height, image.width), size_hw)
            if image.mode in _INDEXED:
                return image.mode, stored_values(path, image)
            opaque = (
                image.mode == "RGB" or np.asarray(image.getchannel("A")).min(initial=255) == 255
            )
            if image.mode not in _COLOURED or not opaque:
                see_through = "" if opaque else ", some of it transparent"
                what = f"is a colour image of mode {image.mode}{see_through}"
                raise MapError(path, what, FIX_COLOUR)
            return image.mode, np.array(image.convert("RGB"))

    return decoded(path, decode, kind="map")


def _colour_values(
    rgb: UInt8[np.ndarray, "h w 3"], values: ClassValues, path: Path
) -> Int64[np.ndarray, "h w"]:
    """Values that a map of colours was drawn from: in grey, or in the palette of PASCAL VOC."""
    packed = rgb.astype(np.int64) @ (1, 256, 256**2)
    colours, inverse = np.unique(packed, return_inverse=True)
    inverse = inverse.reshape(packed.shape)
    known = np.flatnonzero(values.table[:256] >= 0).tolist()
    drawn = palette().astype(np.int64) @ (1, 256, 256**2)
    tables = {n * 0x010101: n for n in known}, {int(drawn[n]): n for n in known}
    found = [
        np.array([table[colour] for colour in colours.tolist()], np.int64)
        for table in tables
        if table.keys() >= set(colours.tolist())
    ]
    if not found or any((one != found[0]).any() for one in found):
        red, green, blue = (int(colours[-1]) >> shift & 255 for shift in (0, 8, 16))
        what = (
            f"is a colour image, with {len(colours)} colours such as ({red}, {green}, {blue}), and "
            f"no rendering of values {values.expected}"
        )
        raise MapError(path, what, FIX_COLOUR)
    drawn_values: Int64[np.ndarray, "h w"] = found[0][inverse]
    return drawn_values


def odd_depths(masks: Iterable[Path]) -> list[MapError]:
    """The faults of the maps whose bits a pixel are not those of most."""
    deep: dict[bool, list[Path]] = {False: [], True: []}
    for path in masks:
        depth = png_depth(path)
        if depth is not None and depth[1] in (_GREY, _PALETTED):
            deep[depth[0] == 16].append(path)
    if not (deep[False] and deep[True]):
        return []
    fewer = len(deep[True]) <= len(deep[False])
    odd, others = deep[fewer], deep[not fewer]
    bits = ("16", "8") if fewer else ("8", "16")
    what = (
        f"has {bits[0]} bits a pixel, and {others[0].name} ({len(others)} of "
        f"{len(odd) + len(others)} maps) {bits[1]}"
    )
    return [MapError(path, what, FIX_DEPTH) for path in odd]
