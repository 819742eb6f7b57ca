"""The photos of a run: found, matched with their tags, and kept as working copies."""

from __future__ import annotations

import difflib
import filecmp
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from pixelkin.data.reading import IMAGE_SUFFIXES, read_image, require_folder
from pixelkin.data.tags.image_tags import TagProblem, Tags, composed, resolve
from pixelkin.data.tags.sources import read_tags
from pixelkin.errors import PixelkinError
from pixelkin.files import atomic_path, atomic_write
from pixelkin.grouping.activation_maps import scaled_size
from pixelkin.masks import read_indexed_png
from pixelkin.pipelines.weak_labels.maps import COPY_MULTIPLE, resized
from pixelkin.pipelines.weak_labels.workspace import Workspace, made_alone
from pixelkin.structures import MAX_OBJECT_ID, Sample
from pixelkin.trainings.tags import WINDOW_SHARE

Report = Callable[[str, int, int], None]
"""Called with a stage, how much of it is done, and how much there is."""

_KEPT_BYTES = 1 << 30
"""Working copies up to so much in all stay in memory."""


@dataclass(frozen=True)
class Photos:
    """The photos that could be read.

    Attributes:
        names: unique: paths below the folder, without suffix.
        files: the paths below the folder themselves.
        sizes_hw: of the files, pixels.
        class_names: C names; a label map holds 0 for background and c + 1 for the c-th.
        tagged: whether the tags say anything of a photo; they may say that it shows none.
        tags: bool (n, C).
    """

    names: tuple[str, ...]
    files: tuple[str, ...]
    sizes_hw: tuple[tuple[int, int], ...]
    class_names: tuple[str, ...]
    tagged: Bool[np.ndarray, " n"]
    tags: Bool[np.ndarray, "n c"]

    def classes_of(self, index: int) -> tuple[int, ...]:
        """The classes that a photo is tagged with."""
        return tuple(int(one) for one in np.flatnonzero(self.tags[index]))

    def with_tags(self) -> list[int]:
        """Indices of the photos that the tags say something of."""
        return [int(one) for one in np.flatnonzero(self.tagged)]


def classes_text(class_names: Sequence[str]) -> str:
    """How many classes, in words."""
    return "1 class" if len(class_names) == 1 else f"{len(class_names)} classes"


def find_photos(images: Path, tags: Path, *, out: Path) -> dict[str, Path]:
    """Name → file of every photo below `images`; hidden files and folders are left out, and `out`.

    Where `images` is itself the folder of tags, one folder of photos per tag, a photo's name begins
    below the tag, and copies of it under several tags are one.

    Raises:
        PixelkinError: there is no photo, two have one name (below tags: two that differ), or `out`
            lies where it would be a tag.
    """
    root = require_folder(images, "photos")
    below_tag = tags.resolve() == root.resolve()
    own = out.resolve()
    if below_tag and own.is_relative_to(root.resolve()):
        raise PixelkinError(
            f"{out} lies in {root}, where each folder is a tag; choose a folder beside it"
        )
    inside = own.relative_to(root.resolve()).parts if own.is_relative_to(root.resolve()) else None
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if path.suffix.lower() not in IMAGE_SUFFIXES or any(p.startswith(".") for p in parts):
            continue
        if path.is_dir() or (inside and parts[: len(inside)] == inside):
            continue
        inner = parts[1:] if below_tag and len(parts) > 1 else parts
        name = os.path.splitext("/".join(inner))[0]
        if name in found and not below_tag:
            raise PixelkinError(
                f"{root} holds {found[name].name} and {path.name}: expected one photo per name; "
                "rename one"
            )
        if name in found and not filecmp.cmp(found[name], path, shallow=False):
            raise PixelkinError(
                f"{found[name]} and {path} are other photos of one name: expected copies of one "
                "photo, which has both tags; rename one"
            )
        found.setdefault(name, path)
    if not found:
        raise PixelkinError(
            f"{root} holds no photo: expected {', '.join(sorted(IMAGE_SUFFIXES))}; check the folder"
        )
    return found


def match_tags(
    tags: Path, names: Sequence[str], *, classes: Sequence[str] = ()
) -> tuple[Tags, list[TagProblem]]:
    """The tags of the photos that exist, of the classes that some photo carries.

    Args:
        tags: any encoding that `read_tags` knows.
        names: of the photos.
        classes: those to learn, in this order; none takes all.

    Raises:
        PixelkinError: no photo has a tag, a chosen class is unknown, or there are too many.
    """
    found, problems = resolve(read_tags(tags), images=names)
    classes = [composed(name) for name in classes]
    chosen = classes or list(found.class_names)
    for name in chosen:
        if name not in found.class_names:
            near = difflib.get_close_matches(name, found.class_names, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]}?" if near else f"choose of {', '.join(found.class_names)}"
            )
            raise PixelkinError(f"no photo of {tags} is tagged {name!r}; {hint}")
    counts = dict(zip(found.class_names, found.counts(), strict=True))
    kept = tuple(name for name in chosen if counts[name])
    if not kept and found.by_name:
        raise PixelkinError(
            f"{tags} names {len(found.by_name)} photos of the folder, and no tag of any; tag some"
        )
    if not kept:
        raise PixelkinError(
            f"no tag of {tags} belongs to a photo of the folder; check that names agree"
        )
    if len(kept) > MAX_OBJECT_ID:
        raise PixelkinError(
            f"{tags} has {len(kept)} classes, expected at most {MAX_OBJECT_ID}; choose some with "
            "--classes"
        )
    number = {found.class_names.index(name): i for i, name in enumerate(kept)}
    by_name = {
        name: tuple(sorted(number[one] for one in indices if one in number))
        for name, indices in found.by_name.items()
    }
    if classes:
        asked = tuple(f"class {name!r} " for name in classes)
        problems = [
            one
            for one in problems
            if not one.what.startswith("class ") or one.what.startswith(asked)
        ]
    return Tags(kept, by_name), problems


def prepare_photos(
    workspace: Workspace,
    images: Path,
    paths: dict[str, Path],
    tags: Tags,
    *,
    long_side_px: int,
    progress: Report,
) -> tuple[Photos, list[str], list[Path]]:
    """Write a working copy of every photo that can be read; the stage "photos".

    Copies have sides divisible by `COPY_MULTIPLE`, the longer one near `long_side_px`: at 448, a
    photo 4 to 3 becomes flatter by 5 %.

    Returns:
        The photos; a line for each that cannot be read, which is left out; and those that were
        left out when the stage was done and can be read now.
    """
    sizes: dict[str, tuple[int, int]] = {}
    faults: list[str] = []
    files = {name: path.relative_to(images).as_posix() for name, path in paths.items()}
    if workspace.is_done("photos"):
        photos = load_photos(workspace, files, tags)
        copy_lost(workspace, paths, photos, long_side_px=long_side_px)
        return photos, *look_again(sorted(paths[name] for name in paths.keys() - {*photos.names}))
    for index, (name, path) in enumerate(paths.items()):
        progress("photos", index, len(paths))
        try:
            image = read_image(path)
        except PixelkinError as error:
            faults.append(_left_out(error))
            continue
        sizes[name] = image.shape[0], image.shape[1]
        copy = workspace.file("photos", name, ".png")
        if not copy.is_file():
            _write_copy(copy, working_copy(image, long_side_px))
    progress("photos", len(paths), len(paths))
    if not any(name in tags.by_name for name in sizes):
        raise PixelkinError(
            f"no photo that can be read has a tag: {len(faults)} of {len(paths)} cannot be read"
            + (f", the first: {faults[0].removeprefix('error: ')}" if faults else "")
            + "; tag or replace them"
        )
    atomic_write(workspace.folder("photos") / "index.json", json.dumps(sizes))
    workspace.finish("photos")
    return load_photos(workspace, files, tags), faults, []


def _left_out(error: PixelkinError) -> str:
    return f"error: {error}; left out"


def copy_lost(
    workspace: Workspace, paths: Mapping[str, Path], photos: Photos, *, long_side_px: int
) -> None:
    """Write the working copies of a finished stage "photos" anew that are not there.

    Raises:
        PixelkinError: such a photo cannot be read, or is of another size than it was.
    """
    for name, size_hw in zip(photos.names, photos.sizes_hw, strict=True):
        copy = workspace.file("photos", name, ".png")
        if copy.is_file():
            continue
        image = read_image(paths[name])
        if image.shape[:2] != size_hw:
            raise PixelkinError(
                f"{paths[name]} has {image.shape[1]} × {image.shape[0]} pixels, and had "
                f"{size_hw[1]} × {size_hw[0]} when {workspace.root} began; put the former photo "
                "back, or give --again photos"
            )
        _write_copy(copy, working_copy(image, long_side_px))


def look_again(left_out: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """A line for each photo that still cannot be read, and those that can."""
    faults, readable = [], []
    for path in left_out:
        try:
            read_image(path)
        except PixelkinError as error:
            faults.append(_left_out(error))
        else:
            readable.append(path)
    return faults, readable


def working_copy(
    image: UInt8[np.ndarray, "h w 3"], long_side_px: int
) -> UInt8[np.ndarray, "H W 3"]:
    """The photo as the networks see it."""
    size_hw = (image.shape[0], image.shape[1])
    size = scaled_size(size_hw, long_side_px / max(size_hw), multiple=COPY_MULTIPLE)
    shrinks = size[0] < size_hw[0]
    small: UInt8[np.ndarray, "H W 3"] = cv2.resize(
        image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    return small


def _write_copy(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(image).save(temporary, compress_level=1)


def load_photos(workspace: Workspace, files: Mapping[str, str], tags: Tags) -> Photos:
    """The photos of a finished stage "photos"; `files`: name → path below the folder."""
    sizes: dict[str, list[int]] = workspace.read_json("photos", "index.json")
    table = np.zeros((len(sizes), len(tags.class_names)), bool)
    for row, name in zip(table, sizes, strict=True):
        row[list(tags.by_name.get(name, ()))] = True
    return Photos(
        names=tuple(sizes),
        files=tuple(files[name] for name in sizes),
        sizes_hw=tuple((h, w) for h, w in sizes.values()),
        class_names=tags.class_names,
        tagged=np.array([name in tags.by_name for name in sizes], bool),
        tags=table,
    )


class WorkingCopies(Sequence[UInt8[np.ndarray, "h w 3"]]):
    """The working copies of some photos; kept in memory as far as a gigabyte goes."""

    def __init__(self, workspace: Workspace, names: Sequence[str]) -> None:
        self._paths = [workspace.file("photos", name, ".png") for name in names]
        self._kept: dict[int, UInt8[np.ndarray, "h w 3"]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "h w 3"]:  # type: ignore[override]
        if index not in self._kept:
            with made_alone():
                image = read_image(self._paths[index])
            if self._bytes + image.nbytes > _KEPT_BYTES:
                return image
            self._kept[index], self._bytes = image, self._bytes + image.nbytes
        return self._kept[index]

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
        return (self[index] for index in range(len(self)))


class LabelledCopies(Sequence[Sample]):
    """Working copies with label maps, which are brought to the copies' sizes.

    Args:
        copies: of some photos.
        labels: the file of each label map, indexed PNG.
    """

    def __init__(self, copies: WorkingCopies, labels: Sequence[Path]) -> None:
        self._copies, self._labels = copies, list(labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Sample:  # type: ignore[override]
        image = self._copies[index]
        with made_alone():
            labels = read_indexed_png(self._labels[index])
        labels = resized(labels, (image.shape[0], image.shape[1]))
        return Sample(image, labels.astype(np.int64), self._labels[index].stem)


def typical_size(photos: Photos, *, long_side_px: int) -> tuple[int, int]:
    """Height and width of the training windows: the median photo's working copy."""
    sides = np.array(photos.sizes_hw, float)
    sides *= long_side_px / sides.max(axis=1, keepdims=True)
    h, w = np.median(sides, axis=0)
    return scaled_size((round(h), round(w)), WINDOW_SHARE, multiple=COPY_MULTIPLE)
