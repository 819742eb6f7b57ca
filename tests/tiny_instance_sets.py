"""Data sets of instances with a still of 6×4 in every part, one maker for each format."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat
from tiny_class_map_sets import make_ade20k

SIZE = (6, 4)
EMPTY_COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}],
    "annotations": [],
    "categories": [],
}


def picture(path: Path) -> None:
    """Noise that is another in every file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = zlib.crc32("/".join(path.parts[-3:]).encode())
    noise = np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def ids(path: Path, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, SIZE)
    image.putpixel((1, 1), 1)
    image.save(path)


def text(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def make_coco(root: Path) -> None:
    picture(root / "a.png")
    text(root / "_annotations.coco.json", EMPTY_COCO)


def make_panoptic(root: Path) -> None:
    picture(root / "a.png")
    ids(root / "panoptic" / "a.png", "RGB")
    Image.fromarray(np.full((4, 6, 3), (1, 0, 0), np.uint8)).save(root / "panoptic" / "a.png")
    segment = {"id": 1, "category_id": 1, "iscrowd": 0}
    content = dict(EMPTY_COCO)
    content["annotations"] = [{"image_id": 1, "file_name": "a.png", "segments_info": [segment]}]
    content["categories"] = [{"id": 1, "name": "cat", "isthing": 1}]
    text(root / "panoptic.json", content)


def make_yolo(root: Path) -> None:
    picture(root / "images" / "a.png")
    text(root / "labels" / "a.txt", "0 0 0 1 0 1 1")


def make_labelme(root: Path) -> None:
    picture(root / "a.png")
    text(root / "a.json", {"shapes": [], "imagePath": "a.png"})


def make_pngs(root: Path) -> None:
    picture(root / "images" / "a.png")
    ids(root / "masks" / "a.png")


def make_penn_fudan(root: Path) -> None:
    picture(root / "PNGImages" / "a.png")
    ids(root / "PedMasks" / "a_mask.png")


def make_nuclei(root: Path) -> None:
    picture(root / "a" / "images" / "a.png")
    ids(root / "a" / "masks" / "x.png")


def make_voc(root: Path) -> None:
    picture(root / "JPEGImages" / "a.jpg")
    ids(root / "SegmentationObject" / "a.png", "P")
    ids(root / "SegmentationClass" / "a.png", "P")
    for split in ("train", "val"):
        text(root / "ImageSets" / "Segmentation" / f"{split}.txt", "a\n")


def make_sbd(root: Path) -> None:
    picture(root / "img" / "a.jpg")
    (root / "inst").mkdir()
    labels = np.zeros(SIZE[::-1], np.uint8)
    labels[1, 1] = 1
    savemat(
        root / "inst" / "a.mat",
        {"GTinst": {"Segmentation": labels, "Categories": np.array([[3]], np.uint8)}},
    )
    for split in ("train", "val"):
        text(root / f"{split}.txt", "a\n")


def make_cityscapes(root: Path) -> None:
    for split in ("train", "val"):
        stem = "ulm_000000_000019"
        picture(root / "leftImg8bit" / split / "ulm" / f"{stem}_leftImg8bit.png")
        labels = np.zeros(SIZE[::-1], np.uint16)
        labels[1, 1] = 26001
        folder = root / "gtFine" / split / "ulm"
        folder.mkdir(parents=True)
        Image.fromarray(labels).save(folder / f"{stem}_gtFine_instanceIds.png")


def make_kitti(root: Path) -> None:
    picture(root / "training" / "image_2" / "000000_10.png")
    labels = np.full(SIZE[::-1], 7 * 256, np.uint16)  # road
    labels[1, 1] = 26 * 256 + 1  # the first car
    folder = root / "training" / "instance"
    folder.mkdir()
    Image.fromarray(labels).save(folder / "000000_10.png")


def make_bdd(root: Path) -> None:
    for split in ("train", "val"):
        picture(root / "images" / "10k" / split / "a.jpg")
        pixels = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
        pixels[1, 1] = (3, 0b1000, 1, 2)  # a truncated car of id 258
        folder = root / "labels" / "ins_seg" / "bitmasks" / split
        folder.mkdir(parents=True)
        Image.fromarray(pixels).save(folder / "a.png")


def make_cvppp(root: Path) -> None:
    picture(root / "plant001_rgb.png")
    ids(root / "plant001_label.png")


INSTANCE_SETS: dict[str, Callable[[Path], None]] = {
    "coco": make_coco,
    "panoptic": make_panoptic,
    "yolo": make_yolo,
    "labelme": make_labelme,
    "pngs": make_pngs,
    "penn-fudan": make_penn_fudan,
    "nuclei": make_nuclei,
    "voc": make_voc,
    "sbd": make_sbd,
    "cityscapes": make_cityscapes,
    "kitti-instances": make_kitti,
    "bdd-instances": make_bdd,
    "ade20k-instances": make_ade20k,
    "ade20k-part-instances": make_ade20k,
    "cvppp": make_cvppp,
}
