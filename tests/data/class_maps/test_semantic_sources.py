from pathlib import Path

import numpy as np
import pytest
from tiny_class_map_sets import CLASS_MAP_SETS, grid, make_camvid, make_voc, picture, text

from pixelkin.data.class_maps.camvid import CAMVID_CLASSES
from pixelkin.data.class_maps.png_folders import png_class_lists
from pixelkin.data.class_maps.sources import (
    SEMANTIC_FORMATS,
    open_semantic_source,
    recognised_semantic,
    semantic_parts,
)
from pixelkin.errors import PixelkinError

OWN_SPLITS = {
    "sceneparse": "validation",
    "ade20k": "validation",
    "ade20k-parts": "validation",
    "coco-stuff": "val2017",
}
WITHOUT_SPLITS = {"pngs", "kitti", "panoptic", "pratheepan", "lits", "lits-liver"}


@pytest.mark.parametrize("name", CLASS_MAP_SETS)
def test_every_format_opens_by_name_and_by_what_lies_there(tmp_path: Path, name: str) -> None:
    CLASS_MAP_SETS[name](tmp_path)
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


@pytest.mark.parametrize("name", [name for name in CLASS_MAP_SETS if name not in WITHOUT_SPLITS])
def test_a_split_is_handed_on(tmp_path: Path, name: str) -> None:
    CLASS_MAP_SETS[name](tmp_path)
    split = OWN_SPLITS.get(name, "val")
    assert len(open_semantic_source(f"{name}:{tmp_path}", split=split)) == 1
    with pytest.raises(PixelkinError, match="'walk'"):
        open_semantic_source(f"{name}:{tmp_path}", split="walk")


@pytest.mark.parametrize(
    "name", [name for name in CLASS_MAP_SETS if name not in ("sbd", "context", "context60", "voc")]
)
def test_what_to_do_about_empty_folders_is_said(tmp_path: Path, name: str) -> None:
    CLASS_MAP_SETS[name](tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".jpg", ".png", ".nii"):
            path.unlink()
    with pytest.raises(
        PixelkinError, match=r"(holds no|none of the 1 images) .*: expected .*; (give|put|unpack) "
    ) as empty:
        open_semantic_source(f"{name}:{tmp_path}")
    assert str(tmp_path) in str(empty.value)
    assert "\n" not in str(empty.value)


def test_every_format_of_another_layout_is_described() -> None:
    assert set(SEMANTIC_FORMATS) == {*CLASS_MAP_SETS, "ccp"}
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


@pytest.mark.parametrize(
    ("folder", "listed"),
    [
        ("{part}/{kind}", "{part}"),
        ("{part}/{kind}", "{part}/labels"),
        ("{kind}/{part}", "labels"),
        ("{kind}/{part}", "labels/{part}"),
        ("{kind}", "labels"),
    ],
)
def test_lists_of_classes_are_found_where_the_loader_looks(
    tmp_path: Path, folder: str, listed: str
) -> None:
    for part in ("train", "val"):
        picture(tmp_path / folder.format(part=part, kind="images") / f"{part}.jpg")
        grid(tmp_path / folder.format(part=part, kind="labels") / f"{part}.png", 1)
    # Of something else: no part of the data set.
    text(tmp_path / "models" / "classes.txt", "cat\n")
    assert png_class_lists(tmp_path) == []
    with pytest.raises(PixelkinError, match="shows no known format"):
        recognised_semantic(tmp_path)
    for part in ("train", "val"):
        text(tmp_path / listed.format(part=part) / "classes.txt", "road\nsky\n")
    wanted = {tmp_path / listed.format(part=part) / "classes.txt" for part in ("train", "val")}
    assert set(png_class_lists(tmp_path)) == wanted
    assert recognised_semantic(tmp_path) == "pngs"
    split = "val" if "{part}" in folder else None
    assert open_semantic_source(tmp_path, split=split).class_names == ("road", "sky")


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
    assert recognised_semantic(tmp_path) == "yolo"
    (tmp_path / "images").rename(tmp_path / "pictures")
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


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_parts_of_folders_of_pngs_by_name(tmp_path: Path, layout: str) -> None:
    for part in ("train", "val"):
        picture(tmp_path / layout.format(part) / "a.jpg")
    assert semantic_parts(f"pngs:{tmp_path}") == ["train", "val"]


def test_parts_that_other_formats_name(tmp_path: Path) -> None:
    make_camvid(tmp_path)
    assert semantic_parts(tmp_path) == ["train", "val"]
    assert semantic_parts(f"kitti:{tmp_path}") == []


def test_panoptic_annotations_are_things_and_stuff(tmp_path: Path) -> None:
    CLASS_MAP_SETS["panoptic"](tmp_path)
    source = open_semantic_source(f"panoptic:{tmp_path / 'panoptic.json'}")
    assert source.class_names == ("cat", "sky")
    expected = np.ones((4, 6), np.int64)
    expected[1, 1] = 0
    np.testing.assert_array_equal(source[0].labels, expected)
    with pytest.raises(PixelkinError, match="takes no split"):
        open_semantic_source(f"panoptic:{tmp_path}", split="val")


def test_numbers_of_ade20k_in_a_file_spare_its_json(tmp_path: Path) -> None:
    CLASS_MAP_SETS["ade20k"](tmp_path)
    names = tmp_path / "numbers.txt"
    names.write_text("1: a wall\n2: sky\n")
    # A list of names alone is looked up in the JSON.
    plain = tmp_path / "names.txt"
    plain.write_text("wall\n")
    assert open_semantic_source(f"ade20k:{tmp_path}", classes=plain).class_names == ("wall",)
    for path in tmp_path.rglob("*.json"):
        path.unlink()
    source = open_semantic_source(f"ade20k:{tmp_path}", classes=names)
    assert source.class_names == ("a wall", "sky")
    assert source[0].labels[1, 1] == 0
