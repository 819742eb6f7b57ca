"""ADE20K in full: scenes with every object, its parts and the parts of those, 3,688 classes.

Zhou, Zhao, Puig, Xiao, Fidler, Barriuso, Torralba: Semantic Understanding of Scenes through the
ADE20K Dataset, IJCV 2019.
"""

import difflib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64

from pixelkin.data.class_maps.files import (
    REMEDY,
    ClassMapFiles,
    class_table,
    classes_of,
    faults_are_noted,
    one_still,
)
from pixelkin.data.instances.instance_png import rles_by_id
from pixelkin.data.reading import (
    decoded,
    read_colour_png,
    read_image,
    require_folder,
)
from pixelkin.data.splits import unknown_split
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Instance, InstanceSample

Others = Literal["background", "ignore"]

_LAYOUT = (
    "the ADE20K layout: images/ADE/training/<scenes>/<scene>/<name>.jpg, and <name>_seg.png and "
    "<name>.json beside it"
)
_LOG = logging.getLogger(__name__)
_MANY = 5000
_NUMBERS = 26 * 256
"""As many as the red and green of a pixel can say."""


@dataclass(frozen=True)
class AdeObject:
    """An entry of an image's JSON.

    Attributes:
        key: its id within the image, from 0, parts included.
        number: of its class, from 1, what the PNG encodes; 0 where it has none.
        name: of its class, synonyms with commas.
        part_level: 0 whole objects, 1 their parts, 2 parts of those.
    """

    key: int
    number: int
    name: str
    part_level: int


class Ade20k(ClassMapFiles):
    """Class maps of a split (25,574 images of training, 2,000 of validation).

    A pixel of `<name>_seg.png` has class (R // 10) · 256 + G, 0 void; of `<name>_parts_<i>.png`
    too, for parts of level i. Those classes become labels 0, 1, 2 … in the order of `class_names`;
    where there are more than 255, label 255 is nobody's. Void is `IGNORE`.

    Args:
        root: folder that holds `images`, as `ADE20K_2021_17_01`.
        split: `"training"` or `"validation"`.
        classes: None gives the classes that the split has at this level, in the order of their
            numbers; it and a list of names read the JSON of every image first, which takes a
            minute for the whole set, and is logged. Number → name reads none; the command line
            takes it as a text file with a line `number: name` each.
        others: what a class that was not chosen becomes: `"ignore"`, or `"background"`, which
            then is class 0.
        part_level: 0 for objects; 1, 2 … for parts, of the images that have them.

    Raises:
        PixelkinError: a folder, an image or a JSON is missing or corrupt, the split or a class is
            unknown; on reading, a PNG is corrupt or no RGB, sizes differ, or its class has no
            name.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "training",
        *,
        classes: Sequence[str] | Mapping[int, str] | None = None,
        others: Others = "ignore",
        part_level: int = 0,
    ) -> None:
        if others not in get_args(Others):
            raise PixelkinError(f"others is {others!r}: expected 'ignore' or 'background'")
        files = _files(root, split, "seg" if part_level == 0 else f"parts_{part_level}")
        if isinstance(classes, Mapping):
            name_of = dict(classes)
        else:
            name_of = _present(files.values(), part_level)
        wanted = _wanted(name_of, classes)
        first = ("background",) if others == "background" and classes is not None else ()
        rest = 0 if first else IGNORE
        names = _with_gap((*first, *wanted))
        label_of = {name: label for label, name in enumerate(names) if name}
        self._table = class_table(
            {n: label_of[name] for n, name in name_of.items() if name in wanted},
            ignored=(0,),
            size=_NUMBERS,
        )
        if classes is not None:
            self._table[self._table < 0] = rest
        super().__init__(files, names)

    def _read_labels(self, path: Path, size_hw: tuple[int, int]) -> Int64[np.ndarray, "h w"]:
        numbers = read_ade_png(path, size_hw=size_hw)[0]
        labels: Int64[np.ndarray, "h w"] = self.label_table(numbers, path)[numbers]
        return labels

    def label_table(self, numbers: Int64[np.ndarray, "h w"], path: Path) -> Int64[np.ndarray, " n"]:
        """Label of each class number, proven to have one for all `numbers` read from `path`."""
        expected = "a class that the JSON of some image of the split names"
        classes_of(numbers, self._table, path, expected=expected)
        return self._table

    def objects(self, index: int) -> list[AdeObject]:
        """What the JSON of an image lists, parts included."""
        return read_ade_json(self._files[self.names[index]][0].with_suffix(".json"))


class Ade20kInstances:
    """The same images with an instance for each object (or part, from `part_level` 1).

    The blue of a pixel tells objects of an image apart; the `key` of an instance is the rank of
    its blue among those of the image, from 1; 0 is void, which becomes `ignore`. Its category is
    the label that `Ade20k` gives its class; objects of other classes are left out.

    Arguments and errors are those of `Ade20k`.
    """

    names: list[str]
    class_names: tuple[str, ...]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "training",
        *,
        classes: Sequence[str] | Mapping[int, str] | None = None,
        part_level: int = 0,
    ) -> None:
        self._maps = Ade20k(root, split, classes=classes, part_level=part_level)
        self.names = self._maps.names
        self.class_names = self._maps.class_names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        path = self._maps.map_file(index)
        image = read_image(_image_of(path))
        numbers, blue = read_ade_png(path, size_hw=image.shape[:2])
        label_of = self._maps.label_table(numbers, path)
        values = np.unique(blue[blue != 0]).tolist()
        instances = []
        for packed, rle in rles_by_id(numbers * 256 + blue).items():
            number, value = divmod(packed, 256)
            label = int(label_of[number])
            if value and label != IGNORE:
                instances.append(Instance(rle, label, key=str(values.index(value) + 1)))
        ignore = rles_by_id((numbers == 0).view(np.uint8)).get(1)
        return InstanceSample(image, tuple(instances), self.names[index], ignore)

    def image_file(self, index: int) -> Path | None:
        """The image file of a still; see `Source`."""
        return self._maps.image_file(index)

    def mask_file(self, index: int) -> Path:
        """The file that holds the instances of a still."""
        return self._maps.map_file(index)


def read_ade_png(
    path: Path, *, size_hw: tuple[int, ...]
) -> tuple[Int64[np.ndarray, "h w"], Int64[np.ndarray, "h w"]]:
    """Class numbers (R // 10) · 256 + G, and the blue that tells instances apart; both (H, W).

    Raises:
        PixelkinError: the file is missing, corrupt, no RGB PNG, or of another size.
    """
    remedy = f"as ADE20K has them; {REMEDY}"
    pixels = read_colour_png(path, mode="RGB", what="class map", remedy=remedy, size_hw=size_hw)
    rgb = pixels.astype(np.int64)
    return rgb[..., 0] // 10 * 256 + rgb[..., 1], rgb[..., 2]


def read_ade_json(path: Path) -> list[AdeObject]:
    """The objects of an image; the files are latin-1.

    Raises:
        PixelkinError: the file is missing, no JSON, or not of ADE20K's form.
    """

    def decode() -> list[AdeObject]:
        # Names were typed by hand: control characters stand between quotes.
        content = json.loads(path.read_text(encoding="latin-1"), strict=False)
        objects = content["annotation"]["object"]
        # MATLAB writes a list of one as the one.
        return [
            AdeObject(
                int(one["id"]),
                int(one["name_ndx"]),
                str(one["name"]).strip(),
                int(one["parts"]["part_level"]),
            )
            for one in ([objects] if isinstance(objects, dict) else objects)
        ]

    return decoded(path, decode, kind="ADE20K annotation")


def _files(root: str | os.PathLike[str], split: str, kind: str) -> dict[str, tuple[Path, Path]]:
    """Name → image and PNG of a kind, of all scenes, ascending."""
    base = require_folder(Path(root) / "images", _LAYOUT)
    base = base / "ADE" if (base / "ADE").is_dir() else base
    known = [path.name for path in base.iterdir() if path.is_dir()]
    if split not in known:
        raise unknown_split(split, known, where=base)
    maps = sorted((base / split).rglob(f"[!.]*_{kind}.png"), key=lambda path: path.name)
    if not maps:
        raise PixelkinError(
            f"{base / split} holds no *_{kind}.png: expected {_LAYOUT}; give the folder that holds "
            "images, with all that ADE20K ships in it"
        )
    files = {}
    for path in maps:
        image = _image_of(path)
        with one_still():
            if not image.is_file():
                raise PixelkinError(f"{path} has no image: expected {image.name}; add it")
            files[image.stem] = (image, path)
    if kind == "seg" and faults_are_noted():
        for image in sorted((base / split).rglob("[!.]*.jpg")):
            with one_still():
                if not image.with_name(f"{image.stem}_seg.png").is_file():
                    raise PixelkinError(f"{image} has no *_seg.png; add it, or remove the image")
    return files


def _image_of(path: Path) -> Path:
    stem = path.stem.removesuffix("_seg").split("_parts_")[0]
    return path.with_name(f"{stem}.jpg")


def _present(files: Iterable[tuple[Path, Path]], part_level: int) -> dict[int, str]:
    """Number → name of the classes of a level, by number."""
    found: dict[int, str] = {}
    images = [image for image, _ in files]
    if len(images) >= _MANY:
        _LOG.warning(
            "reading which classes there are from %s JSON files, which takes a while; a list of "
            "lines 'number: name' given as classes needs none of them",
            f"{len(images):,}",
        )
    for image in images:
        with one_still():
            for one in read_ade_json(image.with_suffix(".json")):
                if one.part_level == part_level and one.number:
                    found[one.number] = one.name
    return dict(sorted(found.items()))


def _wanted(
    name_of: Mapping[int, str], classes: Sequence[str] | Mapping[int, str] | None
) -> tuple[str, ...]:
    """Names in the order of their labels, each once, or a `PixelkinError` for one not there."""
    wrong = next((n for n in name_of if not 0 < n < _NUMBERS), None)
    if wrong is not None:
        raise PixelkinError(f"class number {wrong} is out of range: expected 1 to {_NUMBERS - 1}")
    # Two numbers of one name are one class: a name is all that a user sees.
    known = tuple(dict.fromkeys(name_of.values()))
    if classes is None or isinstance(classes, Mapping):
        return known
    if isinstance(classes, str) or not classes or len(set(classes)) < len(classes):
        raise PixelkinError(f"classes is {classes!r}: expected a list of names, each once")
    for name in classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise PixelkinError(
                f"class {name!r} is unknown: expected one of the {len(known)} that the split "
                f"has{hint}"
            )
    return tuple(classes)


def _with_gap(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names with an empty one at 255, which is nobody's, where there are so many."""
    return names if len(names) <= IGNORE else (*names[:IGNORE], "", *names[IGNORE:])
