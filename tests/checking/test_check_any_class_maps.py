"""Every format of class maps: sound sets pass, and planted faults are all found and named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_class_map_sets import CLASS_MAP_SETS, SIZE, mat, picture

from pixelkin.checking.check import FORMATS, check_data
from pixelkin.checking.class_maps import explained
from pixelkin.checking.report import Problem, Report
from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS
from pixelkin.errors import PixelkinError

# Of these the check is that of their objects, or another.
OWN_CHECKS = ("pngs", "panoptic", "ccp")
MAKERS = {name: make for name, make in CLASS_MAP_SETS.items() if name not in OWN_CHECKS}
VOLUMES = ("lits", "lits-liver")
PNG_MAPS = [name for name in MAKERS if name not in (*VOLUMES, "sbd", "context", "context60")]


def problems(name: str, root: Path) -> list[Problem]:
    return check_data(Path(f"{name}:{root}"))[1].problems


def one(root: Path, pattern: str) -> Path:
    return sorted(root.rglob(pattern))[0]


def a_map(name: str, root: Path) -> Path:
    folders = {"camvid": "trainannot", "voc": "SegmentationClass", "kitti": "semantic",
               "cityscapes": "gtFine", "cityscapes-coarse": "gtCoarse", "ade20k": "training",
               "ade20k-parts": "training",
               "sceneparse": "annotations", "coco-stuff": "stuffthingmaps",
               "pratheepan": "Ground_Truth"}  # fmt: skip
    folder = one(root, folders.get(name, "labels"))
    return one(folder, {"ade20k": "*_seg.png", "ade20k-parts": "*_parts_1.png"}.get(name, "*.png"))


def image_of(path: Path, name: str, root: Path) -> Path:
    """The image of a map: of the same part, which sorts first as well."""
    if name.startswith("ade20k"):
        return path.with_name(re.sub(r"_(seg|parts_1)\.png", ".jpg", path.name))
    images = [
        one
        for one in sorted(root.rglob("*"))
        if one.suffix in (".jpg", ".png") and Image.open(one).mode == "RGB" and one != path
        and "Ground_Truth" not in one.parts
    ]  # fmt: skip
    return next(one for one in images if "train" in str(one) or "train" not in str(path))


def test_all_formats_can_be_checked() -> None:
    assert {*SEMANTIC_FORMATS} <= {*FORMATS}


@pytest.mark.parametrize("name", MAKERS)
def test_a_sound_set_has_no_error_and_its_pixels_are_counted(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    if SEMANTIC_FORMATS[name].lies_in is not None:
        assert check_data(tmp_path)[0] == name
    _, report = check_data(Path(f"{name}:{tmp_path}"))
    # Black pictures of two parts are alike, and so are these volumes.
    told = [p for p in report.problems if "very pixels" not in p.what and "Hounsfield" not in p.fix]
    assert told == []
    assert report.classes is not None
    known = sum(report.classes.pixels.values())
    assert known + report.classes.unknown == report.images * SIZE[0] * SIZE[1]
    assert known > 0


@pytest.mark.parametrize("name", PNG_MAPS)
def test_faulty_maps_are_named_each_with_its_fix(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    path = a_map(name, tmp_path)
    whole, place = path.read_bytes(), str(path.relative_to(tmp_path))

    def told(words: str) -> None:
        found = [p for p in problems(name, tmp_path) if p.where == place]
        assert len(found) == 1, found
        assert words in found[0].what
        assert found[0].fix
        assert str(tmp_path) not in found[0].what

    with Image.open(path) as image:
        channels = len(image.getbands())
    shape = (SIZE[1], SIZE[0], *((channels,) if channels > 1 else ()))
    path.write_bytes(b"")
    told("the file is empty")
    path.write_bytes(whole[:50])
    told("cannot be read: ")
    Image.fromarray(np.full((3, 3, *shape[2:]), 1, np.uint8)).save(path)
    assert "annotated as 3×3, the image is 6×4" in [
        p.what for p in problems(name, tmp_path) if p.where == place
    ]
    if name == "pratheepan":
        return
    # 249 is no class of any of them, as red of ADE20K's and of bitmasks. Bit 3 of it is set, which
    # means background in lanes, whose bits 6 and 7 are not used.
    Image.fromarray(np.full(shape, 249, np.uint8)).save(path)
    told(" in 24 pixels: expected ")
    wrong = shape[:2] if channels > 1 else (*shape, 3)
    Image.fromarray(np.zeros(wrong, np.uint8)).save(path)
    told("of mode ")
    if channels == 1:
        Image.fromarray(np.ones(shape, np.uint16)).save(path)
        told("has 16 bits a pixel")
        binary = np.zeros(shape, np.uint8)
        binary[1] = 255
        Image.fromarray(binary).save(path)
        found = [p for p in problems(name, tmp_path) if p.where == place]
        assert len(found) == 1
        assert "255" in found[0].what
        # In these two 0 is a class that may be alone with what is unknown.
        assert found[0].severity == ("warning" if name in ("bdd", "coco-stuff") else "error")


@pytest.mark.parametrize("name", PNG_MAPS)
def test_missing_maps_and_broken_images_are_all_named(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    path = a_map(name, tmp_path)
    image = image_of(path, name, tmp_path)
    image.write_bytes(b"")
    found = [p for p in problems(name, tmp_path) if p.where == str(image.relative_to(tmp_path))]
    assert [p.what for p in found] == ["the file is empty (0 bytes)"]
    path.unlink()
    texts = [f"{p.where} {p.what}" for p in problems(name, tmp_path)]
    if not name.startswith("ade20k"):
        # There the maps are what is listed.
        assert any(path.name in text for text in texts), texts
    MAKERS[name](tmp_path)
    image.unlink()
    texts = [f"{p.where} {p.what}" for p in problems(name, tmp_path)]
    named = (image.name, path.name, "holds no image")
    assert any(word in text for word in named for text in texts), texts


def write_sbd_classes(path: Path, values: np.ndarray) -> None:
    mat(path, {"GTcls": {"Segmentation": values, "Boundaries": 0}})


def write_context_map(path: Path, values: np.ndarray) -> None:
    mat(path, {"LabelMap": values})


@pytest.mark.parametrize(
    ("name", "write"),
    [("sbd", write_sbd_classes), ("context", write_context_map), ("context60", write_context_map)],
)
def test_faulty_mat_files_are_named(
    tmp_path: Path, name: str, write: Callable[[Path, np.ndarray], None]
) -> None:
    MAKERS[name](tmp_path)
    path = one(tmp_path, "*.mat")
    place = str(path.relative_to(tmp_path))
    for make, words in (
        (lambda: write(path, np.full((4, 6), 600, np.uint16)), "holds 600 in 24 pixels: expected"),
        (lambda: write(path, np.zeros((3, 3), np.uint8)), "is 3×3: expected 6×4"),
        (lambda: mat(path, {"other": 1}), "holds no "),
        (lambda: path.write_bytes(b""), "the file is empty"),
        (lambda: path.write_bytes(b"no MAT-file" * 20), "cannot be read"),
        (path.unlink, "is not there"),
    ):
        make()
        found = [p for p in problems(name, tmp_path) if p.where == place]
        assert len(found) == 1
        assert words in found[0].what


def test_camvid_in_colours_and_all_faulty_files_at_once(tmp_path: Path) -> None:
    for n in range(5):
        picture(tmp_path / "701_StillsRaw_full" / f"{n}.png")
        labels = tmp_path / "LabeledApproved_full" / f"{n}_L.png"
        labels.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE, (128, 64, 128)).save(labels)
    maps = tmp_path / "LabeledApproved_full"
    Image.new("RGB", SIZE, (1, 2, 3)).save(maps / "0_L.png")
    Image.new("L", SIZE, 3).save(maps / "1_L.png")
    (maps / "2_L.png").unlink()
    (maps / "3_L.png").rename(maps / "9_L.png")
    _, report = check_data(tmp_path)
    found = [(p.where, p.what) for p in report.problems if "very pixels" not in p.what]
    assert [where for where, _ in found] == [
        "701_StillsRaw_full/2.png",
        "701_StillsRaw_full/3.png",
        "LabeledApproved_full/9_L.png",
        "LabeledApproved_full/0_L.png",
        "LabeledApproved_full/1_L.png",
    ]
    assert "the colour (1, 2, 3) at x 0, y 0" in found[3][1]
    assert report.classes is not None
    assert report.classes.pixels["Road"] == 24


def test_skin_that_is_not_white_and_deep_masks(tmp_path: Path) -> None:
    MAKERS["pratheepan"](tmp_path)
    path = a_map("pratheepan", tmp_path)
    place = str(path.relative_to(tmp_path))
    Image.fromarray(np.ones((SIZE[1], SIZE[0]), np.uint8)).save(path)
    dim = [p for p in problems("pratheepan", tmp_path) if p.where == place]
    assert [(p.what, p.severity) for p in dim] == [("is dark throughout, 1 at most", "warning")]
    picture(path)
    (photo,) = [p for p in problems("pratheepan", tmp_path) if p.where == place]
    assert photo.what.startswith("has colours in ")
    assert photo.fix == "use the file that the data set ships"
    Image.fromarray(np.full((SIZE[1], SIZE[0]), 65535, np.uint16)).save(path)
    deep = [p for p in problems("pratheepan", tmp_path) if p.where == place]
    assert [p.what for p in deep] == ["has pixels of mode I;16: expected 8 bits per channel"]


@pytest.mark.parametrize(
    ("name", "gone", "where", "what"),
    [
        ("camvid", "trainannot", ".", "holds no maps of part 'train'"),
        ("coco-stuff", "stuffthingmaps/train2017", "stuffthingmaps", "no maps of part 'train2017'"),
        ("bdd", "labels/sem_seg/masks/train", "labels/sem_seg/masks", "no maps of part 'train'"),
        ("kitti", "training/semantic", "training/semantic", "is not there: expected KITTI's"),
        ("voc", "SegmentationClass", "SegmentationClass", "is not there: expected the VOC layout"),
        ("sceneparse", "annotations/training", "annotations/training", "is not there"),
    ],
)
def test_missing_folders_of_maps_are_told(
    tmp_path: Path, name: str, gone: str, where: str, what: str
) -> None:
    MAKERS[name](tmp_path)
    shutil.rmtree(tmp_path / gone)
    found = [p for p in problems(name, tmp_path) if p.where == where]
    assert len(found) == 1
    assert what in found[0].what


@pytest.mark.parametrize("name", ["camvid", "cityscapes-coarse", "kitti", "ade20k", "lits"])
def test_empty_folders_have_a_fix_of_their_own(tmp_path: Path, name: str) -> None:
    MAKERS[name](tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".jpg", ".png", ".nii"):
            path.unlink()
    found = problems(name, tmp_path)
    assert found
    for one in found:
        assert one.what.startswith("holds no ")
        assert one.fix.startswith(("give ", "put ", "unpack "))
        assert ";" not in one.what


def test_faults_of_folders_without_a_fix_are_not_told_to_leave_a_still_out(tmp_path: Path) -> None:
    report = Report(tmp_path)
    error = PixelkinError(f"{tmp_path / 'x'} holds no map: expected some")
    assert explained(error, report)[::2] == ("x", "choose the folder that holds the data set, and "
                                             "see that its maps lie where they should")  # fmt: skip
    fix = "use the file that the data set ships, or leave the still out"
    assert explained(error, report, tmp_path / "x")[::2] == ("x", fix)


def test_ccp_labels_without_photo_of_other_size_and_of_other_classes(tmp_path: Path) -> None:
    names = np.array([["null", *(f"garment {number}" for number in range(1, 59))]], dtype=object)
    mat(tmp_path / "label_list.mat", {"label_list": names})
    labels = tmp_path / "annotations" / "pixel-level"
    for number in range(1, 5):
        picture(tmp_path / "photos" / f"{number:04}.jpg")
        mat(labels / f"{number:04}.mat", {"groundtruth": np.ones(SIZE[::-1], np.uint8)})
    assert problems("ccp", tmp_path) == []
    (tmp_path / "photos" / "0001.jpg").unlink()
    mat(labels / "0002.mat", {"groundtruth": np.ones((2, 2), np.uint8)})
    mat(labels / "0003.mat", {"groundtruth": np.full(SIZE[::-1], 108, np.uint8)})
    assert [(Path(p.where).name, p.what, p.fix) for p in problems("ccp", tmp_path)] == [
        (
            "0001.mat",
            "has no photo: expected photos/0001.jpg",
            "add the photo, or remove the .mat",
        ),
        ("0002.mat", "is 2×2: expected 6×4 as its image", "make them the same size"),
        (
            "0003.mat",
            "holds class 108: expected 0 to 58, CCP's classes",
            "use CCP's pixel-level file",
        ),
    ]


def test_ade20k_images_without_maps_and_annotations_that_cannot_be_read(tmp_path: Path) -> None:
    MAKERS["ade20k"](tmp_path)
    image = one(tmp_path / "images" / "ADE" / "training", "*.jpg")
    alone = image.with_name("ADE_train_00000002.jpg")
    shutil.copy(image, alone)
    image.with_suffix(".json").write_text("{")
    texts = {Path(p.where).name: p.what for p in problems("ade20k", tmp_path)}
    assert texts[alone.name] == "has no *_seg.png"
    assert texts[image.with_suffix(".json").name].startswith("cannot be read: ")


def test_parts_without_published_maps_are_no_fault(tmp_path: Path) -> None:
    MAKERS["voc"](tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "test.txt").write_text("unseen\n")
    MAKERS["bdd"](tmp_path / "bdd")
    picture(tmp_path / "bdd" / "images" / "10k" / "test" / "b.jpg")
    for name, root in (("voc", tmp_path), ("bdd", tmp_path / "bdd")):
        assert [p for p in problems(name, root) if p.severity == "error"] == []
    # A list is not to name what is not there.
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nunseen\n")
    found = [p for p in problems("voc", tmp_path) if p.severity == "error"]
    assert [p.where for p in found] == ["JPEGImages/unseen.jpg"]
