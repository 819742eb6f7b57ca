import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.class_maps.camvid import CAMVID_CLASSES
from pixelkin.data.class_maps.sources import (
    SEMANTIC_FORMATS,
    open_semantic_source,
    recognised_semantic,
)
from pixelkin.errors import PixelkinError

SIZE = (6, 4)
STEM = "ulm_000000_000019"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE).save(path)


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
        # Number 1, and of it one object.
        pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        pixels[1, 1] = (0, 1, 9)
        Image.fromarray(pixels).save(f"{stem}_seg.png")
        whole = {"hasparts": [], "ispartof": [], "part_level": 0}
        one = {"id": 0, "name": "wall", "name_ndx": 1, "raw_name": "wall", "parts": whole}
        text(stem.with_suffix(".json"), json.dumps({"annotation": {"object": [one]}}))


def make_lits(root: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    labels = np.zeros((*SIZE, 1), np.uint8)
    labels[1, 1] = 1
    for kind, stored in (("volume", labels.astype(np.int16)), ("segmentation", labels)):
        nibabel.save(nibabel.Nifti1Image(stored, np.diag([1, 1, 2, 1])), root / f"{kind}-0.nii")


MAKERS: dict[str, Callable[[Path], None]] = {
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
    "lits": make_lits,
    "lits-liver": make_lits,
}
OWN_SPLITS = {"sceneparse": "validation", "ade20k": "validation", "coco-stuff": "val2017"}
WITHOUT_SPLITS = {"pngs", "kitti", "pratheepan", "lits", "lits-liver"}


@pytest.mark.parametrize("name", MAKERS)
def test_every_format_opens_by_name_and_by_what_lies_there(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    specs: list[str | Path] = [f"{name}:{tmp_path}"]
    if SEMANTIC_FORMATS[name].lies_in is not None:
        assert recognised_semantic(tmp_path) == name
        specs += [str(tmp_path), tmp_path]
    for spec in specs:
        source = open_semantic_source(spec)
        assert len(source) == len(source.names) == (2 if name == "pratheepan" else 1)
        sample = source[0]
        assert sample.name == source.names[0]
        assert sample.labels.shape == sample.image.shape[:2] == (4, 6)
        known = sample.labels[sample.labels != 255]
        assert known.size
        assert known.max() < len(source.class_names)
        assert len(np.unique(sample.labels)) == 2


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in WITHOUT_SPLITS])
def test_a_split_is_handed_on(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    split = OWN_SPLITS.get(name, "val")
    assert len(open_semantic_source(f"{name}:{tmp_path}", split=split)) == 1
    with pytest.raises(PixelkinError, match="'walk'"):
        open_semantic_source(f"{name}:{tmp_path}", split="walk")


def test_every_format_of_another_layout_is_described() -> None:
    assert set(SEMANTIC_FORMATS) == {*MAKERS, "ccp"}
    for one in SEMANTIC_FORMATS.values():
        assert one.layout


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}"])
@pytest.mark.parametrize("kind", ["masks", "labels", "annotations"])
def test_pngs_in_splits_ask_which(tmp_path: Path, layout: str, kind: str) -> None:
    for split in ("train", "val"):
        picture(tmp_path / layout.format(kind="images", split=split) / f"{split}.jpg")
        grid(tmp_path / layout.format(kind=kind, split=split) / f"{split}_mask.png")
    text(tmp_path / "classes.txt", "road\nsky\n")
    assert recognised_semantic(tmp_path) == "pngs"
    assert open_semantic_source(tmp_path, split="val").names == ["val"]
    with pytest.raises(PixelkinError, match="divided into train, val: expected to hear which"):
        open_semantic_source(tmp_path)


def test_folders_and_classes_may_be_given(tmp_path: Path) -> None:
    picture(tmp_path / "pictures" / "a.jpg")
    grid(tmp_path / "maps" / "a.png", 255)
    folders = {"images": tmp_path / "pictures", "masks": tmp_path / "maps"}
    for classes in ({0: "rest", 255: "cell"}, tmp_path / "list.txt"):
        text(tmp_path / "list.txt", "0: rest\n255: cell\n")
        source = open_semantic_source(f"pngs:{tmp_path}", classes=classes, **folders)
        assert source.class_names == ("rest", "cell")
        assert source[0].labels.sum() == 1


def test_labels_of_text_beside_a_class_list_are_not_class_maps(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.jpg")
    text(tmp_path / "labels" / "a.txt", "0 0 0 1 0 1 1")
    text(tmp_path / "classes.txt", "cat")
    with pytest.raises(PixelkinError, match="shows no known format; write FORMAT:PATH with one of"):
        open_semantic_source(tmp_path)


def test_wrong_names_options_and_paths_are_told(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    with pytest.raises(PixelkinError, match=r"'camvd' is unknown.*did you mean camvid:x\?"):
        open_semantic_source("camvd:x")
    with pytest.raises(PixelkinError, match="no file or folder nowhere: check the path"):
        open_semantic_source("camvid:nowhere")
    with pytest.raises(PixelkinError, match="its format takes no classes: expected split; leave"):
        open_semantic_source(tmp_path, classes=["a"])
    with pytest.raises(PixelkinError, match="takes no split: expected the path alone"):
        open_semantic_source(f"kitti:{tmp_path}", split="train")
    make_voc(tmp_path)
    with pytest.raises(PixelkinError, match="could be camvid or voc: expected one format; write"):
        open_semantic_source(tmp_path)


def test_real_parts_open(shared_data: Path) -> None:
    assert open_semantic_source(shared_data / "camvid").class_names == CAMVID_CLASSES
    source = open_semantic_source(f"ccp:{shared_data / 'ccp'}", classes=["skin", "hair"])
    assert source.class_names == ("background", "skin", "hair")
