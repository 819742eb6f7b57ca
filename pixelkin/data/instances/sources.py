"""Data sets of annotated stills by the name of their format, or by what lies in their folder."""

import difflib
import mmap
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pixelkin.data.reading import (
    IMAGE_SUFFIXES,
    PNGS,
    images_by_stem,
    mask_suffix,
    pngs_by_stem,
)
from pixelkin.data.source import InstanceSource
from pixelkin.errors import PixelkinError

MASK_SUFFIXES = ("", "_mask")
"""What may follow the image's stem in the name of a mask, of `pngs`."""


@dataclass(frozen=True)
class _Place:
    """What a user says of a data set."""

    path: Path
    images: Path | None
    masks: Path | None
    split: str | None

    def only(self, *given: str) -> None:
        """Refuse what this format does not take: unheard, it would mislead."""
        for name in {"images", "masks", "split"} - set(given):
            if getattr(self, name) is not None:
                allowed = ", ".join(given) or "the path alone"
                raise PixelkinError(
                    f"{self.path}: its format takes no {name}: expected {allowed}; leave it out"
                )


# Imports within: a data set of one format needs none of the other readers.


def _coco(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.coco_json import CocoJson

    place.only("images")
    return CocoJson(_only_json(place.path, "coco"), place.images)


def _panoptic(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.coco_panoptic import CocoPanoptic

    place.only("images", "masks")
    return CocoPanoptic(_only_json(place.path, "panoptic"), place.images, place.masks)


def _yolo(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.yolo_seg import YoloSeg

    place.only("images", "masks", "split")
    images = place.images or part_folder(place.path, "images", place.split)
    labels = place.masks or part_folder(place.path, "labels", place.split)
    return YoloSeg(images, labels)


def part_folder(root: Path, kind: str, split: str | None) -> Path:
    """`kind/` where a data set is one, else `kind/<split>/` or `<split>/kind/`.

    Raises:
        PixelkinError: there is no such folder, or the data set is divided and no split is given.
    """
    if split:
        return first_folder(root, f"{kind}/{split}", f"{split}/{kind}")
    splits = [path.name for path in root.glob(f"{kind}/*/")]
    splits += [path.parent.name for path in root.glob(f"*/{kind}/")]
    files = any(path.is_file() for path in root.glob(f"{kind}/*"))
    if splits and not files:
        raise PixelkinError(
            f"{root} is divided into {', '.join(sorted(splits))}: expected to hear which; give "
            "it as split"
        )
    return first_folder(root, kind)


def _labelme(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.labelme import LabelMe

    place.only("images")
    return LabelMe(place.path, place.images)


def _pngs(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.instance_png import InstancePng

    place.only("images", "masks")
    images = place.images or first_folder(place.path, "images")
    masks = place.masks or first_folder(place.path, "masks")
    suffix = mask_suffix(images_by_stem(images), pngs_by_stem(masks), MASK_SUFFIXES)
    return InstancePng(images, masks, mask_suffix=suffix)


def _penn_fudan(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.penn_fudan import PennFudan

    place.only()
    return PennFudan(place.path)


def _nuclei(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.nuclei import Nuclei

    place.only()
    return Nuclei(place.path)


def _of_split(place: _Place, make: Callable[..., InstanceSource]) -> InstanceSource:
    """`make(path, split)`, or with the split of its own where none is given."""
    place.only("split")
    return make(place.path) if place.split is None else make(place.path, place.split)


def _voc(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.voc import Voc

    return _of_split(place, Voc)


def _sbd(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.voc import Sbd

    return _of_split(place, Sbd)


def _cityscapes(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.cityscapes import Cityscapes

    return _of_split(place, Cityscapes)


def _kitti(place: _Place) -> InstanceSource:
    from pixelkin.data.class_maps.kitti import KittiInstances

    place.only()
    return KittiInstances(place.path)


def _bdd(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.bdd100k import BddInstances

    return _of_split(place, BddInstances)


def _ade20k(place: _Place, part_level: int = 0) -> InstanceSource:
    from pixelkin.data.class_maps.ade20k import Ade20kInstances

    return _of_split(place, partial(Ade20kInstances, part_level=part_level))


def _cvppp(place: _Place) -> InstanceSource:
    from pixelkin.data.instances.cvppp import Cvppp

    place.only()
    return Cvppp(place.path)


FORMATS: dict[str, Callable[[_Place], InstanceSource]] = {
    "coco": _coco,
    "panoptic": _panoptic,
    "yolo": _yolo,
    "labelme": _labelme,
    "pngs": _pngs,
    "penn-fudan": _penn_fudan,
    "nuclei": _nuclei,
    "voc": _voc,
    "sbd": _sbd,
    "cityscapes": _cityscapes,
    "kitti-instances": _kitti,
    "bdd-instances": _bdd,
    "ade20k-instances": _ade20k,
    "ade20k-part-instances": partial(_ade20k, part_level=1),
    "cvppp": _cvppp,
}
"""Names of formats, as in `FORMAT:PATH`."""

LAYOUTS = {
    "coco": "a JSON with images, annotations and categories",
    "panoptic": "a JSON with segments_info, its PNGs in the folder of its name",
    "yolo": "images/ and labels/ with one .txt per image",
    "labelme": "one LabelMe .json per image",
    "pngs": "images/ and masks/ with one index PNG per image",
    "penn-fudan": "PNGImages/ and PedMasks/",
    "nuclei": "DSB 2018: <id>/images/ and <id>/masks/",
    "voc": "JPEGImages/, SegmentationObject/ and SegmentationClass/",
    "sbd": "img/ and inst/",
    "cityscapes": "leftImg8bit/ and gtFine/",
    "kitti-instances": "training/image_2/ and training/instance/",
    "bdd-instances": "images/10k/ and labels/ins_seg/bitmasks/",
    "ade20k-instances": "images/ADE/<split>/ with *_seg.png and *.json",
    "ade20k-part-instances": "as ade20k-instances; the parts of objects, *_parts_1.png",
    "cvppp": "<plant>_rgb.png and <plant>_label.png",
}
"""What lies at the path of each format, for help and messages."""


def open_source(
    spec: str | os.PathLike[str],
    *,
    images: Path | None = None,
    masks: Path | None = None,
    split: str | None = None,
) -> InstanceSource:
    """The data set at `"FORMAT:PATH"`, or at a path whose content shows its format.

    Args:
        spec: one of `FORMATS`, a colon and a path; or a path alone.
        images: folder of the images, for `coco`, `panoptic`, `yolo`, `labelme` and `pngs`.
        masks: folder of the annotations, for `panoptic`, `yolo` (its label files) and `pngs`.
        split: which part, for `voc`, `sbd`, `cityscapes`, `bdd-instances`, those of ADE20K, and
            `yolo` (`images/<split>` or `<split>/images`).

    Raises:
        PixelkinError: the format is unknown, or not to be told from what lies there; an option
            does not belong to it; or the data set refuses its files.
    """
    name, path = format_and_path(spec, FORMATS)
    return FORMATS[name or recognised(path)](_Place(path, images, masks, split))


def format_and_path(spec: str | os.PathLike[str], formats: Collection[str]) -> tuple[str, Path]:
    """Name, empty where none is given, and path of `"FORMAT:PATH"`.

    Raises:
        PixelkinError: the format is none of `formats`, or there is nothing at the path.
    """
    text = os.fspath(spec)
    # A single letter is a drive of Windows.
    prefixed = re.fullmatch(r"([A-Za-z][\w-]+):(.+)", text, re.DOTALL)
    if prefixed and not Path(text).exists():
        name, path = prefixed.groups()
        if name not in formats:
            near = difflib.get_close_matches(name.lower(), formats, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}:{path}?" if near else ""
            raise PixelkinError(
                f"format {name!r} is unknown: expected one of {', '.join(formats)}{hint}"
            )
    else:
        name, path = "", text
    if not Path(path).exists():
        raise PixelkinError(f"no file or folder {path}: check the path")
    return name, Path(path)


def recognised(path: Path) -> str:
    """The one format whose layout lies at `path`.

    Raises:
        PixelkinError: none or several do.
    """
    return the_one_format(layouts_at(path), path, LAYOUTS)


def layouts_at(path: Path) -> list[str]:
    """All formats whose layout lies at `path`."""
    if path.is_file():
        return [name for name in ("coco", "panoptic") if path in _jsons(path, name)]
    return [name for name, lies_in in _LIES_IN.items() if lies_in(path)]


def the_one_format(found: Sequence[str], path: Path, layouts: Mapping[str, str]) -> str:
    """The only entry of `found`, formats whose layout lies at `path`, else `PixelkinError`."""
    if len(found) == 1:
        return found[0]
    if found:
        raise PixelkinError(
            f"{path} could be {' or '.join(found)}: expected one format; write "
            f"{found[0]}:{path} or {found[1]}:{path}"
        )
    known = "; ".join(f"{name} ({layout})" for name, layout in layouts.items())
    raise PixelkinError(f"{path} shows no known format; write FORMAT:PATH with one of {known}")


def has_all(*parts: str) -> Callable[[Path], bool]:
    """Whether a folder holds a match of each pattern."""
    return lambda folder: all(any(folder.glob(part)) for part in parts)


_LIES_IN: dict[str, Callable[[Path], bool]] = {
    "coco": lambda folder: bool(_jsons(folder, "coco")),
    "panoptic": lambda folder: bool(_jsons(folder, "panoptic")),
    "yolo": lambda folder: any(
        has_all(*parts)(folder)
        for parts in (
            ("images", "labels/*.txt"),
            ("images/*/", "labels/*/*.txt"),
            ("*/images/", "*/labels/*.txt"),
        )
    ),
    "labelme": lambda folder: bool(_jsons(folder, "labelme")),
    "pngs": lambda folder: (
        has_all(f"masks/{PNGS}")(folder)
        and any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.glob("images/*"))
    ),
    "penn-fudan": has_all("PNGImages", "PedMasks"),
    "nuclei": lambda folder: any(
        (images / f"{images.parent.name}.png").is_file() and (images.parent / "masks").is_dir()
        for images in folder.glob("*/images")
    ),
    "voc": has_all("JPEGImages", "SegmentationObject"),
    "sbd": has_all("img", "inst"),
    "cityscapes": has_all("leftImg8bit", "gtFine"),
    # Beside class maps a path alone means these, which have the same names without -instances. So
    # it always does of ADE20K, whose files hold both.
    "kitti-instances": lambda folder: (
        has_all("training/image_2", "training/instance")(folder)
        and not (folder / "training" / "semantic").is_dir()
    ),
    "bdd-instances": lambda folder: (
        has_all("images/10k", "labels/ins_seg/bitmasks")(folder)
        and not (folder / "labels" / "sem_seg").is_dir()
    ),
    "cvppp": lambda folder: any(
        has_all(*parts)(folder)
        for parts in (("*_rgb.png", "*_label.png"), ("*/*_rgb.png", "*/*_label.png"))
    ),
}

# Thousands of files in one folder are of one kind: the first ones tell it.
_TELLING = 8

_SIGNS = {
    "coco": (b'"images"', b'"annotations"', b'"categories"'),
    "panoptic": (b'"images"', b'"annotations"', b'"segments_info"'),
    "labelme": (b'"shapes"',),
}


def _jsons(path: Path, name: str) -> list[Path]:
    """JSON files of a format, at `path` or directly in it; told by their words, unparsed."""
    files = [path] if path.is_file() else sorted(path.glob("[!.]*.json"))[:_TELLING]
    return [file for file in files if _has_words(file, name)]


def _has_words(file: Path, name: str) -> bool:
    if not file.stat().st_size:
        return False
    with open(file, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        panoptic = text.find(b'"segments_info"') >= 0
        told = all(text.find(word) >= 0 for word in _SIGNS[name])
        return told and (name != "coco" or not panoptic)


def _only_json(path: Path, name: str) -> Path:
    """`path`, or the one annotation file in the folder `path`."""
    if not path.is_dir():
        return path
    found = _jsons(path, name)
    if len(found) != 1:
        there = ", ".join(file.name for file in found) or "none"
        raise PixelkinError(
            f"{path} is a folder: expected one {name} JSON in it, there: {there}; give the file"
        )
    return found[0]


def first_folder(root: Path, *inner: str) -> Path:
    """The first of the folders `inner` that `root` has, else `PixelkinError`."""
    for name in inner:
        if (root / name).is_dir():
            return root / name
    raise PixelkinError(
        f"no folder {root / inner[0]}: expected it in the data set; check the path, or give the "
        f"folder of the {inner[0].split('/')[0]} itself"
    )
