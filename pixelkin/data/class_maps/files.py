"""What loaders of class maps share: pairs of files, and values of files turned into classes."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from jaxtyping import Int64, Integer

from pixelkin.data.reading import (
    IMAGE_SUFFIXES,
    image_size_hw,
    images_by_stem,
    pngs_by_stem,
    read_image,
    read_indices,
    require_folder,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Sample

REMEDY = "use the file that the data set ships"

_IMPOSSIBLE = -1

_FAULTS: ContextVar[list[PixelkinError] | None] = ContextVar("faults", default=None)


@contextmanager
def faults_noted() -> Iterator[list[PixelkinError]]:
    """Data sets opened within leave out stills whose files are missing, and the list says which.

    Elsewhere the first such still raises. For `pixelkin check`, which reports them all.
    """
    faults: list[PixelkinError] = []
    token = _FAULTS.set(faults)
    try:
        yield faults
    finally:
        _FAULTS.reset(token)


def faults_are_noted() -> bool:
    """Whether to look also for what harms no loader, such as files that belong to no still."""
    return _FAULTS.get() is not None


@contextmanager
def one_still() -> Iterator[None]:
    """Around what finds the files of one still: an error within leaves it out where noted."""
    try:
        yield
    except PixelkinError as error:
        faults = _FAULTS.get()
        if faults is None:
            raise
        faults.append(error)


class ClassMapFiles:
    """Stills and their class maps in pairs of files; data sets say how a map is read.

    Args:
        files: name of a still → its image and its map, in the order of the data set.
        class_names: what a label is an index into.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(self, files: Mapping[str, tuple[Path, Path]], class_names: Iterable[str]) -> None:
        self._files = dict(files)
        self.names = list(self._files)
        self.class_names = tuple(class_names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image_path, _ = self._files[name]
        image = read_image(image_path)
        return Sample(image, self._labels(name, (image.shape[0], image.shape[1])), name)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._files[self.names[index]][0]

    def map_file(self, index: int) -> Path:
        """The file that holds the class map of a still."""
        return self._files[self.names[index]][1]

    def read_map(self, index: int, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        """The labels of one still, whatever the size of its image; they are to be of `size_hw`."""
        return self._labels(self.names[index], size_hw)

    def labels(self, index: int) -> Int64[np.ndarray, "h w"]:
        """The labels of one still without its pixels, as when frequencies are counted."""
        name = self.names[index]
        return self._labels(name, image_size_hw(self._files[name][0]))

    def _labels(self, name: str, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        return self._read_labels(self._files[name][1], size_hw)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        """Classes of the map at `path`, or `PixelkinError`, where it is not of `size_hw` too."""
        raise NotImplementedError


def class_table(
    values: Mapping[int, int] | Iterable[int], *, ignored: Iterable[int] = (), size: int = 256
) -> Int64[np.ndarray, " n"]:
    """Table of what `classes_of` makes of each value 0 … `size` − 1 of a file.

    Args:
        values: value → class; or the values of classes 0, 1, 2 … in their order.
        ignored: values that become `IGNORE`, where `values` does not name them.
        size: how many values a file can hold.
    """
    table = np.full(size, _IMPOSSIBLE, np.int64)
    table[list(ignored)] = IGNORE
    if not isinstance(values, Mapping):
        values = {value: index for index, value in enumerate(values)}
    for value, index in values.items():
        table[value] = index
    return table


def classes_of(
    values: Integer[np.ndarray, "h w"],
    table: Int64[np.ndarray, " n"],
    path: Path,
    *,
    expected: str,
    remedy: str = REMEDY,
) -> Int64[np.ndarray, "h w"]:
    """Classes of the values of a file, by a `class_table`.

    Raises:
        PixelkinError: a value has no class; says which, in how many pixels, and what was
            `expected`.
    """
    if values.size and (values.min() < 0 or values.max() >= len(table)):
        outside = values[(values < 0) | (values >= len(table))]
        raise _strange(outside, path, expected, remedy)
    classes: Int64[np.ndarray, "h w"] = table[values]
    if (classes == _IMPOSSIBLE).any():
        raise _strange(values[classes == _IMPOSSIBLE], path, expected, remedy)
    return classes


def _strange(
    values: Integer[np.ndarray, " n"], path: Path, expected: str, remedy: str
) -> PixelkinError:
    count = int((values == values[0]).sum())
    return PixelkinError(
        f"{path} holds {values[0]} in {count} pixel{'s' * (count > 1)}: expected {expected}; "
        f"{remedy}"
    )


def read_byte_indices(path: Path, *, size_hw: tuple[int, ...]) -> Integer[np.ndarray, "h w"]:
    """Pixels of an index PNG of 8 bits, as stored (H, W).

    Raises:
        PixelkinError: the file is missing or corrupt, has another size, colours or 16 bits.
    """
    mode, values = read_indices(path, size_hw=size_hw)
    if mode not in ("1", "L", "P"):
        raise PixelkinError(f"{path} has 16 bits a pixel: expected an index of 8 bits; {REMEDY}")
    return values.astype(np.uint8)


def paired_files(
    images_dir: Path,
    masks_dir: Path,
    *,
    image_suffix: str = "",
    mask_suffix: str = "",
    skip_missing: bool = False,
    layout: str = "",
) -> dict[str, tuple[Path, Path]]:
    """Name → image and map, of images `<name><image_suffix>.*`, maps `<name><mask_suffix>.png`.

    Suffixes of files may be in upper case.

    Args:
        images_dir: folder of images; sub-folders are not read.
        masks_dir: folder of maps; may be the same where a suffix tells them apart.
        image_suffix: what the names of images end with.
        mask_suffix: what the names of maps end with.
        skip_missing: leave out images without a map.
        layout: what the folders should hold, for messages.

    Raises:
        PixelkinError: a folder is missing or holds no image, two images share a stem, an image
            has no map, or none has.
    """
    require_folder(images_dir, layout or "images")
    masks = require_folder(masks_dir, layout or f"index PNGs named <image>{mask_suffix}.png")
    maps = pngs_by_stem(masks)
    files: dict[str, tuple[Path, Path]] = {}
    seen = None
    for stem, image in images_by_stem(images_dir).items():
        same_folder_mask = masks == images_dir and mask_suffix and stem.endswith(mask_suffix)
        if not stem.endswith(image_suffix) or same_folder_mask:
            continue
        seen = image
        name = stem.removesuffix(image_suffix)
        mask = maps.get(f"{name}{mask_suffix}")
        with one_still():
            if mask is not None:
                files[name] = (image, mask)
            elif not skip_missing:
                raise _no_mask(image, masks / f"{name}{mask_suffix}.png")
    if masks != images_dir:
        _note_unused(maps, mask_suffix, {mask for _, mask in files.values()})
    if not files:
        example = f"{seen.name} and {seen.stem}{mask_suffix}.png" if seen else f"*{image_suffix}.*"
        raise PixelkinError(
            f"no image of {images_dir} has a map in {masks}: expected names such as {example}; "
            "check the folders"
        )
    return files


def _note_unused(maps: Mapping[str, Path], mask_suffix: str, used: set[Path]) -> None:
    """Tell of maps that have no image."""
    if faults_are_noted():
        own = {path for stem, path in maps.items() if stem.endswith(mask_suffix)}
        for path in sorted(own - used):
            with one_still():
                raise PixelkinError(f"{path} has no image; add the image, or remove the label file")


def _no_mask(image: Path, mask: Path) -> PixelkinError:
    lossy = IMAGE_SUFFIXES - {".png"}
    others = [
        path
        for path in sorted(mask.parent.iterdir())
        if path.stem == mask.stem and path.suffix.lower() in lossy
    ]
    if others:
        return PixelkinError(
            f"{others[0]} is no PNG: expected {mask.name}, since lossy formats mix the indices at "
            "every edge; save the map as PNG"
        )
    return PixelkinError(f"{image} has no label file: expected {mask}; add it, or remove the image")
