import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_class_map_sets import make_ade20k, make_bdd, make_kitti
from tiny_instance_sets import (
    EMPTY_COCO,
    INSTANCE_SETS,
    make_coco,
    make_nuclei,
    make_pngs,
    make_yolo,
    picture,
    text,
)

from pixelkin.data.class_maps.sources import recognised_semantic
from pixelkin.data.instances.sources import FORMATS, LAYOUTS, open_source, recognised
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle

BY_NAME_ALONE = ("ade20k-instances", "ade20k-part-instances")
"""Formats whose files hold class maps too, which are what a path alone means."""


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_opens_by_name_and_by_what_lies_there(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    specs: list[str | Path] = [f"{name}:{tmp_path}"]
    if name not in BY_NAME_ALONE:
        assert recognised(tmp_path) == name
        specs += [str(tmp_path), tmp_path]
    for spec in specs:
        source = open_source(spec)
        assert len(source) == len(source.names) == 1
        sample = source[0]
        assert sample.name == source.names[0]
        assert sample.size_hw == (4, 6)
        for one in sample.instances:
            assert decode_rle(one.rle, (4, 6)).any()
            assert 0 <= one.category < len(source.class_names)
        assert len(sample.instances) == (name not in ("coco", "labelme"))


@pytest.mark.parametrize("name", ["yolo", "pngs", "penn-fudan", "cityscapes", "cvppp", "nuclei"])
def test_what_to_do_about_empty_folders_is_said(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    if name == "nuclei":
        shutil.rmtree(tmp_path / "a")
    with pytest.raises(PixelkinError, match=r"holds no .*: expected .*; (give|put|unpack) ") as one:
        open_source(f"{name}:{tmp_path}")
    assert str(tmp_path) in str(one.value)


def test_a_missing_folder_may_be_given(tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        told = rf"no folder .*/{folder}: expected it .*; check the path, or give the folder of the "
        with pytest.raises(PixelkinError, match=told + folder):
            open_source(f"pngs:{tmp_path}")
        picture(tmp_path / "images" / "a.png")


def test_every_format_has_its_layout_described() -> None:
    assert list(LAYOUTS) == list(FORMATS) == list(INSTANCE_SETS)


@pytest.mark.parametrize("name", ["coco", "panoptic"])
def test_a_json_is_told_by_its_words(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert recognised(path) == name
    assert open_source(path).names == ["a"]


@pytest.mark.parametrize("name", ["voc", "sbd", "cityscapes", "bdd-instances", *BY_NAME_ALONE])
def test_a_split_is_handed_on(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    split = "validation" if name in BY_NAME_ALONE else "val"
    assert len(open_source(f"{name}:{tmp_path}", split=split)) == 1
    with pytest.raises(PixelkinError, match="'walk'"):
        open_source(f"{name}:{tmp_path}", split="walk")


@pytest.mark.parametrize(
    ("name", "maps"), [("kitti-instances", make_kitti), ("bdd-instances", make_bdd)]
)
def test_beside_class_maps_a_path_alone_means_those(
    tmp_path: Path, name: str, maps: Callable[[Path], None]
) -> None:
    INSTANCE_SETS[name](tmp_path)
    maps(tmp_path)
    with pytest.raises(PixelkinError, match=rf"shows no known format; .* {name} \("):
        recognised(tmp_path)
    assert recognised_semantic(tmp_path) == name.removesuffix("-instances")


def test_parts_of_objects_are_a_format_of_their_own(tmp_path: Path) -> None:
    make_ade20k(tmp_path)
    for name, classes in (("ade20k-instances", "wall"), ("ade20k-part-instances", "window")):
        source = open_source(f"{name}:{tmp_path}")
        assert source.class_names == (classes,)
        assert [one.category for one in source[0].instances] == [0]


@pytest.mark.parametrize("layout", ["{kind}/{split}", "{split}/{kind}"])
def test_yolo_in_splits_asks_which(tmp_path: Path, layout: str) -> None:
    for split in ("train", "val"):
        picture(tmp_path / layout.format(kind="images", split=split) / f"{split}.png")
        text(tmp_path / layout.format(kind="labels", split=split) / f"{split}.txt", "0 0 0 1 0 1 1")
    text(tmp_path / "data.yaml", "names: [cat]")
    assert recognised(tmp_path) == "yolo"
    source = open_source(tmp_path, split="val")
    assert source.names == ["val"]
    assert source.class_names == ("cat",)
    with pytest.raises(PixelkinError, match=r"divided into train, val: .* as split"):
        open_source(tmp_path)
    with pytest.raises(PixelkinError, match=r"no folder .*images.test"):
        open_source(tmp_path, split="test")


def test_folders_may_lie_apart(tmp_path: Path) -> None:
    make_yolo(tmp_path / "x")
    (tmp_path / "x" / "labels").rename(tmp_path / "y")
    make_pngs(tmp_path / "z")
    (tmp_path / "z" / "masks" / "a.png").rename(tmp_path / "z" / "masks" / "a_mask.png")
    root, images = tmp_path / "x", tmp_path / "x" / "images"
    assert open_source(f"yolo:{root}", masks=tmp_path / "y").names == ["a"]
    source = open_source(f"pngs:{root}", masks=tmp_path / "z" / "masks", images=images)
    assert len(source[0].instances) == 1


def test_an_option_of_another_format_is_refused(tmp_path: Path) -> None:
    make_nuclei(tmp_path)
    with pytest.raises(PixelkinError, match="takes no split: expected the path alone"):
        open_source(tmp_path, split="train")
    make_coco(tmp_path / "c")
    with pytest.raises(PixelkinError, match="takes no masks: expected images"):
        open_source(tmp_path / "c", masks=tmp_path)


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match=r"format 'COCO' is unknown: .* did you mean coco:x"):
        open_source("COCO:x")
    with pytest.raises(PixelkinError, match="format 'zzz' is unknown: expected one of coco,"):
        open_source(f"zzz:{tmp_path}")
    with pytest.raises(PixelkinError, match=r"no file or folder .*nowhere"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(PixelkinError, match="no file or folder nowhere"):
        open_source("coco:nowhere")
    with pytest.raises(PixelkinError, match="no file or folder C:"):
        open_source("C:\\nowhere")
    with pytest.raises(PixelkinError, match="no file or folder coco:"):
        open_source("coco:")


def test_what_lies_there_must_tell_one_format(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match=r"shows no known format; .* cvppp \(<plant>") as none:
        open_source(tmp_path)
    assert "\n" not in str(none.value)
    text(tmp_path / "x.json", "")
    with pytest.raises(PixelkinError, match="shows no known format"):
        open_source(tmp_path / "x.json")
    make_yolo(tmp_path)
    make_pngs(tmp_path)
    with pytest.raises(PixelkinError, match=r"could be yolo or pngs: .* write yolo:"):
        open_source(tmp_path)
    assert open_source(f"pngs:{tmp_path}").class_names == ("object",)


def test_of_two_annotation_files_one_must_be_given(tmp_path: Path) -> None:
    make_coco(tmp_path)
    text(tmp_path / "more.json", EMPTY_COCO)
    with pytest.raises(PixelkinError, match=r"there: _annotations\.coco\.json, more\.json; give"):
        open_source(tmp_path)


def test_real_folders_are_recognised(shared_data: Path) -> None:
    assert recognised(shared_data / "dsb2018") == "nuclei"
    assert recognised(shared_data / "penn_fudan") == "penn-fudan"
    coco = shared_data / "coco_mini"
    path = coco / "panoptic_segmentation" / "annotations" / "panoptic_train2017.json"
    images = coco / "images" / "train2017"
    assert recognised(path) == "panoptic"
    assert len(open_source(path, images=images)) == 100
    labels = coco / "instance_segmentation" / "labels" / "train2017"
    source = open_source(f"yolo:{coco}", images=images, masks=labels)
    assert (len(source), source.class_names[0]) == (100, "person")
