"""Data sets of class maps by the name of their format, or by what lies in their folder."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pixelkin.data.class_maps.ade20k import Ade20k
from pixelkin.data.class_maps.bdd100k import BddDrivable, BddLanes, BddPanopticSemantic, BddSemantic
from pixelkin.data.class_maps.camvid import CamVid, CamVidRgb
from pixelkin.data.class_maps.ccp import CcpSemantic
from pixelkin.data.class_maps.cityscapes import CityscapesSemantic
from pixelkin.data.class_maps.coco_stuff_json import open_coco_stuff
from pixelkin.data.class_maps.from_instances import PaintedClasses
from pixelkin.data.class_maps.index_png import Classes, read_class_list
from pixelkin.data.class_maps.kitti import KittiSemantic
from pixelkin.data.class_maps.lits import WINDOW_HU, Lits, LitsTarget
from pixelkin.data.class_maps.panoptic import PanopticClasses
from pixelkin.data.class_maps.pascal_context import PascalContext
from pixelkin.data.class_maps.place import Place
from pixelkin.data.class_maps.png_folders import PNG_FOLDERS
from pixelkin.data.class_maps.pratheepan import Pratheepan
from pixelkin.data.class_maps.scene_parse import SceneParse150
from pixelkin.data.class_maps.semantic_format import Maker, SemanticFormat
from pixelkin.data.class_maps.voc import SbdSemantic, VocSemantic
from pixelkin.data.instances.coco_panoptic import CocoPanoptic
from pixelkin.data.instances.sources import (
    FORMATS,
    LAYOUTS,
    format_and_path,
    has_all,
    layouts_at,
    open_source,
    the_one_format,
)
from pixelkin.data.source import SemanticSource


def _of_split(make: Callable[..., SemanticSource], **options: object) -> Maker:
    """Opens what needs no more than a path and a split."""

    def opened(place: Place) -> SemanticSource:
        place.only("split")
        return place.of_split(make, **options)

    return opened


def _camvid(place: Place) -> SemanticSource:
    if any(place.path.glob("*annot/")):
        place.only("split")
        return place.of_split(CamVid)
    place.only("split", "images", "masks")
    return CamVidRgb(place.path, place.split, images=place.images, masks=place.masks)


def _voc(place: Place) -> SemanticSource:
    place.only("split", "masks")
    return place.of_split(VocSemantic, masks=place.masks)


def _context(place: Place, **options: int) -> SemanticSource:
    place.only("split", "masks")
    return place.of_split(PascalContext, annotations=place.masks, **options)


def _kitti(place: Place) -> SemanticSource:
    place.only()
    return KittiSemantic(place.path)


def _ade20k(place: Place, part_level: int = 0) -> SemanticSource:
    place.only("split", "classes")
    listed = place.classes
    if isinstance(listed, str | os.PathLike):
        listed = read_class_list(Path(listed))
    # ADE20K's numbers are from 1: with a 0 among them they are but the lines of a plain list.
    numbered = isinstance(listed, Mapping) and 0 not in listed
    classes = listed if numbered else place.chosen()
    return place.of_split(Ade20k, classes=classes, part_level=part_level)


def _panoptic(place: Place) -> SemanticSource:
    place.only("images", "masks")
    source = open_source(f"panoptic:{place.path}", images=place.images, masks=place.masks)
    assert isinstance(source, CocoPanoptic)
    return PanopticClasses(source)


def _ccp(place: Place) -> SemanticSource:
    place.only("classes")
    return CcpSemantic(place.path, classes=place.chosen())


def _pratheepan(place: Place) -> SemanticSource:
    place.only()
    return Pratheepan(place.path)


def _lits(place: Place, target: LitsTarget = "tumour") -> SemanticSource:
    place.only("window")
    return Lits(place.path, window_hu=place.window or WINDOW_HU, target=target)


def _camvid_lies_in(folder: Path) -> bool:
    pairs = folder.glob("*annot/")
    segnet = any((folder / path.name.removesuffix("annot")).is_dir() for path in pairs)
    return segnet or (folder / "LabeledApproved_full").is_dir()


# Main holds a list for every class too.
_CONTEXT_PARTS = (
    "ImageSets/SegmentationContext/*.txt",
    "ImageSets/Main/train.txt",
    "ImageSets/Main/val.txt",
)
_STUFF_JSON = "annotations/stuff_*.json"
_BDD_100K = ("images/100k/*/",)

SEMANTIC_FORMATS: dict[str, SemanticFormat] = {
    "pngs": PNG_FOLDERS,
    "camvid": SemanticFormat(
        _camvid,
        "<split>/ and <split>annot/, or 701_StillsRaw_full/ and LabeledApproved_full/",
        _camvid_lies_in,
        parts=("*annot/", "*_labels/", "train/", "val/"),
    ),
    "voc": SemanticFormat(
        _voc,
        "JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/",
        has_all("JPEGImages", "SegmentationClass"),
        parts=("ImageSets/Segmentation/*.txt",),
    ),
    "sbd": SemanticFormat(
        _of_split(SbdSemantic), "img/ and cls/", has_all("img", "cls"), parts=("*.txt",)
    ),
    "context": SemanticFormat(
        _context,
        "VOC 2010 with trainval/*.mat; 59 classes",
        has_all("JPEGImages", "trainval/*.mat"),
        parts=_CONTEXT_PARTS,
    ),
    "context60": SemanticFormat(
        partial(_context, classes=60),
        "as context, with background as class 0",
        parts=_CONTEXT_PARTS,
    ),
    "cityscapes": SemanticFormat(
        _of_split(CityscapesSemantic),
        "leftImg8bit/ and gtFine/",
        has_all("leftImg8bit", "gtFine"),
        parts=("leftImg8bit/*/",),
    ),
    "cityscapes-coarse": SemanticFormat(
        _of_split(CityscapesSemantic, annotation="gtCoarse"),
        "leftImg8bit/ and gtCoarse/",
        parts=("leftImg8bit/*/",),
    ),
    "kitti": SemanticFormat(
        _kitti,
        "training/image_2/ and training/semantic/",
        has_all("training/image_2", "training/semantic"),
    ),
    "bdd": SemanticFormat(
        _of_split(BddSemantic),
        "images/10k/ and labels/sem_seg/masks/",
        has_all("images/10k", "labels/sem_seg/masks"),
        parts=("images/10k/*/",),
    ),
    "bdd-drivable": SemanticFormat(
        _of_split(BddDrivable),
        "images/100k/ and labels/drivable/masks/",
        has_all("images/100k", "labels/drivable/masks"),
        parts=_BDD_100K,
    ),
    "bdd-lanes": SemanticFormat(
        _of_split(BddLanes),
        "images/100k/ and labels/lane/masks/; the 8 kinds of lane marks",
        has_all("images/100k", "labels/lane/masks"),
        parts=_BDD_100K,
    ),
    "bdd-lane-styles": SemanticFormat(
        _of_split(BddLanes, target="style"),
        "as bdd-lanes; solid or dashed",
        parts=_BDD_100K,
    ),
    "bdd-lane-directions": SemanticFormat(
        _of_split(BddLanes, target="direction"),
        "as bdd-lanes; parallel or vertical",
        parts=_BDD_100K,
    ),
    "bdd-panoptic": SemanticFormat(
        _of_split(BddPanopticSemantic),
        "images/10k/ and labels/pan_seg/bitmasks/; 40 classes",
        has_all("images/10k", "labels/pan_seg/bitmasks"),
        parts=("images/10k/*/",),
    ),
    "ade20k": SemanticFormat(
        _ade20k,
        "images/ADE/<split>/ with *_seg.png and *.json",
        has_all("images/ADE"),
        parts=("images/ADE/*/",),
    ),
    "ade20k-parts": SemanticFormat(
        partial(_ade20k, part_level=1),
        "as ade20k; the parts of objects, *_parts_1.png",
        parts=("images/ADE/*/",),
    ),
    "sceneparse": SemanticFormat(
        _of_split(SceneParse150),
        "images/, annotations/ and objectInfo150.txt",
        has_all("images", "annotations", "objectInfo150.txt"),
        parts=("images/*/",),
    ),
    "coco-stuff": SemanticFormat(
        open_coco_stuff,
        "<split>/ and stuffthingmaps/<split>/ or annotations/stuff_<split>.json; or that JSON",
        lambda folder: any(folder.glob("stuffthingmaps")) or any(folder.glob(_STUFF_JSON)),
        # COCO has other things in annotations/, such as panoptic_val2017/.
        parts=(
            *("stuffthingmaps/*/", "annotations/train2017/", "annotations/val2017/"),
            *(_STUFF_JSON, "train2017/", "val2017/"),
        ),
    ),
    "panoptic": SemanticFormat(
        _panoptic, "a JSON with segments_info, its PNGs in the folder of its name; things and stuff"
    ),
    "ccp": SemanticFormat(
        _ccp,
        "photos/, annotations/pixel-level/ and label_list.mat",
        has_all("photos", "annotations/pixel-level"),
    ),
    "pratheepan": SemanticFormat(
        _pratheepan,
        "Pratheepan_Dataset/ and Ground_Truth/",
        has_all("Pratheepan_Dataset", "Ground_Truth"),
    ),
    "lits": SemanticFormat(
        _lits,
        "volume-<n>.nii and segmentation-<n>.nii; background, liver and tumour, slice by slice",
        lambda folder: any(
            has_all(f"{inner}volume-*.nii*", f"{inner}segmentation-*.nii*")(folder)
            for inner in ("", "*/")
        ),
    ),
    "lits-liver": SemanticFormat(
        partial(_lits, target="liver"), "as lits; the tumours in the liver"
    ),
}
"""By the name in `FORMAT:PATH`. A new format is entered here, with its layout and a function that
opens it."""


def _painted(name: str) -> Maker:
    """Opens a data set of instances as class maps."""

    def opened(place: Place) -> SemanticSource:
        place.only("images", "masks", "split")
        source = open_source(
            f"{name}:{place.path}", images=place.images, masks=place.masks, split=place.split
        )
        return PaintedClasses(source, nameless="object")

    return opened


_PARTS_AS = {"yolo": "pngs", "bdd-instances": "bdd"}

PAINTED_FORMATS: dict[str, SemanticFormat] = {
    name: SemanticFormat(
        _painted(name),
        LAYOUTS[name],
        parts=SEMANTIC_FORMATS[_PARTS_AS[name]].parts if name in _PARTS_AS else (),
    )
    for name in FORMATS
    if name not in SEMANTIC_FORMATS
}
"""Formats of `data.instances.sources` that hold no class maps: their classes painted over
background. Where a format holds both, its name here means its class maps."""

_ALL = SEMANTIC_FORMATS | PAINTED_FORMATS


def open_semantic_source(
    spec: str | os.PathLike[str],
    *,
    images: Path | None = None,
    masks: Path | None = None,
    split: str | None = None,
    classes: Classes | None = None,
    window: tuple[float, float] | None = None,
) -> SemanticSource:
    """The data set of class maps at `"FORMAT:PATH"`, or at a path whose content shows its format.

    Args:
        spec: one of `SEMANTIC_FORMATS` or `PAINTED_FORMATS`, a colon and a path; or a path alone.
        images: folder of the images, for `pngs`, `panoptic`, CamVid's colours, COCO-Stuff's JSON
            and as `open_source`.
        masks: folder of the maps, for `pngs`, `panoptic`, CamVid's colours, `voc`, `context` and as
            `open_source`.
        split: which part, for all but `kitti`, `ccp`, `pratheepan`, `panoptic`, `lits` and most of
            `PAINTED_FORMATS`.
        classes: for `pngs` the names of the classes, as `SemanticPng` takes them; for `ade20k`
            and `ccp` those of its classes that are wanted.
        window: for `lits`, the Hounsfield units that become black and white.

    Raises:
        PixelkinError: the format is unknown, or not to be told from what lies there; an option
            does not belong to it; or the data set refuses its files.
    """
    name, path = semantic_format(spec)
    return _ALL[name].make(Place(path, images, masks, split, classes, window))


def semantic_parts(spec: str | os.PathLike[str]) -> list[str]:
    """Names of the parts, or splits, of the data set at `spec`; none where it is all one.

    Raises:
        PixelkinError: as `open_semantic_source` of the format.
    """
    name, path = semantic_format(spec)
    return _ALL[name].part_names(path)


def semantic_format(spec: str | os.PathLike[str]) -> tuple[str, Path]:
    """The name of the format, told from what lies there where it is not given, and the path.

    Raises:
        PixelkinError: the format is unknown, or not to be told; or there is nothing.
    """
    name, path = format_and_path(spec, _ALL)
    return name or recognised_semantic(path), path


def recognised_semantic(path: Path) -> str:
    """The one format of class maps whose layout lies at `path`, else of instances to be painted.

    Raises:
        PixelkinError: none or several do.
    """
    found = [
        name
        for name, one in SEMANTIC_FORMATS.items()
        if one.lies_in is not None and one.lies_in(path)
    ]
    found = found or [name for name in layouts_at(path) if name in PAINTED_FORMATS]
    return the_one_format(found, path, {name: one.layout for name, one in _ALL.items()})
