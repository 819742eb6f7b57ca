"""Data sets of class maps with a still of 6×4 in every part, one maker for each format."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

SIZE = (6, 4)
STEM = "ulm_000000_000019"


def picture(path: Path) -> None:
    """Noise that is another in every file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32("/".join(path.parts[-3:]).encode())
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def grid(path: Path, value: int = 1, *, channels: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (SIZE[1], SIZE[0], channels) if channels else SIZE[::-1]
    labels = np.zeros(shape, np.uint8)
    labels[1, 1] = value
    Image.fromarray(labels).save(path)


def mat(path: Path, content: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def map_array() -> np.ndarray:
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[1, 1] = 2
    return labels


def make_pngs(root: Path) -> None:
    picture(root / "images" / "a.jpg")
    grid(root / "masks" / "a.png")
    text(root / "classes.txt", "road\nsky\n")


def make_camvid(root: Path) -> None:
    for split in ("train", "val"):
        picture(root / split / "a.png")
        grid(root / f"{split}annot" / "a.png")


def make_voc(root: Path) -> None:
    picture(root / "JPEGImages" / "a.jpg")
    grid(root / "SegmentationClass" / "a.png")
    for split in ("train", "val"):
        text(root / "ImageSets" / "Segmentation" / f"{split}.txt", "a\n")


def make_sbd(root: Path) -> None:
    picture(root / "img" / "a.jpg")
    mat(root / "cls" / "a.mat", {"GTcls": {"Segmentation": map_array(), "Boundaries": 0}})
    for split in ("train", "val"):
        text(root / f"{split}.txt", "a\n")


def make_context(root: Path) -> None:
    picture(root / "JPEGImages" / "a.jpg")
    mat(root / "trainval" / "a.mat", {"LabelMap": map_array().astype(np.uint16)})
    for split in ("train", "val"):
        text(root / "ImageSets" / "Main" / f"{split}.txt", "a\n")


def make_cityscapes(root: Path, kind: str = "gtFine") -> None:
    for split in ("train", "val"):
        picture(root / "leftImg8bit" / split / "ulm" / f"{STEM}_leftImg8bit.png")
        grid(root / kind / split / "ulm" / f"{STEM}_{kind}_labelIds.png", 7)


def make_kitti(root: Path) -> None:
    picture(root / "training" / "image_2" / "a.png")
    grid(root / "training" / "semantic" / "a.png", 7)


def make_bdd(
    root: Path, images: str = "10k", task: str = "sem_seg/masks", value: int = 1, channels: int = 0
) -> None:
    for split in ("train", "val"):
        picture(root / "images" / images / split / "a.jpg")
        grid(root / "labels" / task / split / "a.png", value, channels=channels)


def make_lanes(root: Path) -> None:
    # A double other, dashed, vertical.
    make_bdd(root, "100k", "lane/masks", 0b110001)


def make_sceneparse(root: Path) -> None:
    rows = "".join(f"{n}\t0.1\t9\t9\tclass{n}, other\n" for n in range(1, 151))
    text(root / "objectInfo150.txt", f"Idx\tRatio\tTrain\tVal\tName\n{rows}")
    for split in ("training", "validation"):
        picture(root / "images" / split / "a.jpg")
        grid(root / "annotations" / split / "a.png")


def make_coco_stuff(root: Path) -> None:
    for split in ("train2017", "val2017"):
        picture(root / split / "a.jpg")
        grid(root / "stuffthingmaps" / split / "a.png")


def make_pratheepan(root: Path) -> None:
    for part in ("FacePhoto", "FamilyPhoto"):
        picture(root / "Pratheepan_Dataset" / part / "a.jpg")
        grid(root / "Ground_Truth" / f"GroundT_{part}" / "a.png", 255)


def make_ade20k(root: Path) -> None:
    for split in ("training", "validation"):
        stem = root / "images" / "ADE" / split / "urban" / "street" / f"ADE_{split[:5]}_00000001"
        picture(stem.with_suffix(".jpg"))
        # Number 1, and of it one object; number 259, and of it a part of that.
        objects = []
        for level, (kind, name, number, red) in enumerate(
            (("seg", "wall", 1, 0), ("parts_1", "window", 259, 10))
        ):
            pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
            pixels[1, 1] = (red, number % 256, 9)
            Image.fromarray(pixels).save(f"{stem}_{kind}.png")
            place = {"hasparts": [], "ispartof": [], "part_level": level}
            one = {"id": level, "name": name, "name_ndx": number, "raw_name": name, "parts": place}
            objects.append(one)
        text(stem.with_suffix(".json"), json.dumps({"annotation": {"object": objects}}))


def make_lits(root: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((*SIZE, 1), np.uint8)
    labels[1, 1] = 1
    for kind, stored in (("volume", labels.astype(np.int16)), ("segmentation", labels)):
        nibabel.save(nibabel.Nifti1Image(stored, np.diag([1, 1, 2, 1])), root / f"{kind}-0.nii")


def make_panoptic(root: Path) -> None:
    picture(root / "a.jpg")
    grid(root / "panoptic" / "a.png", channels=3)
    ids = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    ids[..., 0] = 7
    ids[1, 1] = (0, 1, 0)
    Image.fromarray(ids).save(root / "panoptic" / "a.png")
    segments = [{"id": 7, "category_id": 3}, {"id": 256, "category_id": 1}]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1]}],
        "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
        "categories": [
            {"id": 3, "name": "sky", "isthing": 0},
            {"id": 1, "name": "cat", "isthing": 1},
        ],
    }
    text(root / "panoptic.json", json.dumps(content))


CLASS_MAP_SETS: dict[str, Callable[[Path], None]] = {
    "pngs": make_pngs,
    "camvid": make_camvid,
    "voc": make_voc,
    "sbd": make_sbd,
    "context": make_context,
    "context60": make_context,
    "cityscapes": make_cityscapes,
    "cityscapes-coarse": lambda root: make_cityscapes(root, "gtCoarse"),
    "kitti": make_kitti,
    "bdd": make_bdd,
    "bdd-drivable": lambda root: make_bdd(root, "100k", "drivable/masks"),
    "bdd-lanes": make_lanes,
    "bdd-lane-styles": make_lanes,
    "bdd-lane-directions": make_lanes,
    "bdd-panoptic": lambda root: make_bdd(root, "10k", "pan_seg/bitmasks", channels=4),
    "sceneparse": make_sceneparse,
    "coco-stuff": make_coco_stuff,
    "pratheepan": make_pratheepan,
    "ade20k": make_ade20k,
    "ade20k-parts": make_ade20k,
    "panoptic": make_panoptic,
    "lits": make_lits,
    "lits-liver": make_lits,
}
