"""Folders of class maps: every fault, with its file and its fix."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import HEIGHT, WIDTH, only_problem, problems_of, write_picture
from tiny_class_map_sets import make_voc

from pixelkin.checking.check import check_data
from pixelkin.data.class_maps.sources import open_semantic_source
from pixelkin.errors import PixelkinError
from pixelkin.masks import write_indexed_png

NAMES = ("road", "sky", "car")


def labels_of_maps() -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[5:15, 5:15], labels[30:40, 30:50], labels[50:] = 1, 2, 255
    return labels


def write_maps(root: Path, names: str = "road\nsky\ncar\n") -> Path:
    labels = labels_of_maps()
    (root / "masks").mkdir(parents=True)
    for n in (1, 2):
        write_picture(root / "images" / f"{n}.png", n)
        write_indexed_png(root / "masks" / f"{n}.png", labels)
    (root / "classes.txt").write_text(names)
    return root


def save(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


def first_map(root: Path) -> tuple[Path, np.ndarray]:
    path = root / "masks" / "1.png"
    return path, np.array(Image.open(path))


def test_a_sound_set_has_no_problem_in_any_layout(tmp_path: Path) -> None:
    root = write_maps(tmp_path / "plain")
    name, report = check_data(root)
    assert (name, report.problems, report.images) == ("pngs-classes", [], 2)
    assert report.classes is not None
    counts = {name: 2 * np.count_nonzero(labels_of_maps() == n) for n, name in enumerate(NAMES)}
    assert report.classes.pixels == counts
    assert report.classes.images == dict.fromkeys(NAMES, 2)
    assert report.classes.unknown == 2 * np.count_nonzero(labels_of_maps() == 255)
    assert check_data(Path(f"pngs:{root}"))[0] == "pngs-classes"
    for n, layout in enumerate(("{kind}/{split}", "{split}/{kind}")):
        divided = tmp_path / str(n)
        for split, stem in (("train", "1"), ("val", "2")):
            for kind, own in (("images", "images"), ("labels", "masks")):
                folder = divided / layout.format(kind=kind, split=split)
                folder.mkdir(parents=True)
                shutil.copy(root / own / f"{stem}.png", folder)
        shutil.copy(root / "classes.txt", divided)
        assert check_data(divided)[1].problems == []
        assert check_data(divided)[1].images == 2


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_maps(tmp_path)
    (root / "images").rename(root / "pictures")
    assert problems_of(root, images=root / "pictures", format="pngs-classes") == []
    with pytest.raises(PixelkinError, match="no folder of maps: expected images/ beside masks/ or"):
        check_data(root / "pictures", format="pngs-classes")


def test_a_value_without_a_class_and_a_class_without_a_pixel(tmp_path: Path) -> None:
    root = write_maps(tmp_path, "road\nsky\n")
    found = problems_of(root)
    assert [(p.where, p.what[:14], p.severity) for p in found] == [
        ("masks/1.png", "holds value 2 ", "error"),
        ("masks/2.png", "holds value 2 ", "error"),
    ]
    (root / "classes.txt").write_text("road\nsky\ncar\nboat\ntree\n")
    found_unused = only_problem(root)
    assert found_unused.what == "2 of 5 classes are in no map: boat, tree"
    assert found_unused.severity == "warning"


@pytest.mark.parametrize(
    ("names", "what"), [("a\n\nb\n", "has an empty line, 2"), ("", "has no name")]
)
def test_a_faulty_class_list_is_named_and_the_maps_are_read_all_the_same(
    tmp_path: Path, names: str, what: str
) -> None:
    root = write_maps(tmp_path, names)
    found = only_problem(root)
    assert found.where == "classes.txt"
    assert what in found.what
    (root / "classes.txt").unlink()
    path, values = first_map(root)
    save(path, np.where(values == 2, 255, 0).astype(np.uint8))
    problems = problems_of(root, format="pngs-classes")
    assert [(p.where, p.what.split(",")[0]) for p in problems] == [
        ("classes.txt", "is not there"),
        ("masks/1.png", "holds nothing but 0 and 255"),
    ]


def test_binary_colour_and_deep_maps(tmp_path: Path) -> None:
    root = write_maps(tmp_path)
    path, values = first_map(root)
    save(path, np.where(values == 2, 255, 0).astype(np.uint8))
    binary = only_problem(root)
    assert binary.where == "masks/1.png"
    assert "binary mask" in binary.what
    assert "add the line 'ignore: 255'" in binary.fix
    (root / "classes.txt").write_text("road\nsky\ncar\nignore: 255\n")
    assert problems_of(root) == []
    (root / "classes.txt").write_text("road\nsky\ncar\n")
    save(path, np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
    colour = only_problem(root)
    assert colour.what.startswith("is a colour image, with ")
    assert "palette index" in colour.fix
    save(path, values.astype(np.uint16))
    deep = only_problem(root)
    assert deep.where in ("masks/1.png", "masks/2.png")
    assert "16" in deep.what
    assert "same number of bits" in deep.fix


def test_files_that_are_missing_broken_or_of_another_size(tmp_path: Path) -> None:
    root = write_maps(tmp_path)
    path, values = first_map(root)
    whole = path.read_bytes()
    save(path, values[:30])
    assert "annotated as 80×30, the image is 80×60" in only_problem(root).what
    path.write_bytes(b"")
    assert only_problem(root).what == "the file is empty (0 bytes)"
    path.write_bytes(whole[:60])
    assert only_problem(root).what.startswith("cannot be decoded: ")
    path.unlink()
    missing = only_problem(root)
    assert (missing.where, missing.what) == ("images/1.png", "the image has no label file")
    Image.fromarray(values).save(root / "masks" / "1.jpg")
    lossy = only_problem(root)
    assert (lossy.where, lossy.what) == ("masks/1.jpg", "the map is a jpg file")
    (root / "masks" / "1.jpg").rename(root / "masks" / "3.jpg")
    assert {p.what for p in problems_of(root)} == {
        "the image has no label file",
        "the label file has no image",
    }


def test_empty_folders_and_wholly_unknown_maps(tmp_path: Path) -> None:
    root = write_maps(tmp_path)
    path, values = first_map(root)
    save(path, np.full_like(values, 255))
    assert "binary mask" in only_problem(root).what
    # The palette of PASCAL VOC draws it as unknown.
    write_indexed_png(path, np.full_like(values, 255))
    _, report = check_data(root)
    assert (report.problems, report.empty_images) == ([], 1)
    for folder in ("images", "masks"):
        for file in (root / folder).iterdir():
            file.unlink()
    found = problems_of(root, format="pngs-classes")
    assert [(p.where, p.what) for p in found] == [
        ("images", "the folder holds no image"),
        ("masks", "no image has a label file"),
    ]


def test_camvid_of_segnet(tmp_path: Path, shared_data: Path) -> None:
    for split in ("train", "val"):
        for folder in (split, f"{split}annot"):
            (tmp_path / folder).mkdir()
            for path in sorted((shared_data / "camvid" / folder).iterdir())[:2]:
                shutil.copy(path, tmp_path / folder)
    name, report = check_data(tmp_path)
    assert (name, report.problems, report.images) == ("camvid", [], 4)
    path = min((tmp_path / "valannot").iterdir())
    save(path, np.where(np.array(Image.open(path)) == 11, 12, 0).astype(np.uint8))
    found = only_problem(tmp_path)
    assert found.where == f"valannot/{path.name}"
    assert found.what.startswith("holds 12 in ")
    with pytest.raises(PixelkinError, match="its format takes no images: expected split"):
        check_data(tmp_path, images=tmp_path / "train", format="camvid")


def test_lists_of_parts_that_differ_and_a_list_that_counts_the_unknown(tmp_path: Path) -> None:
    for split, names in (("train", "road\nsky\ncar\n"), ("val", "road\ncar\nsky\ntree\n")):
        write_maps(tmp_path / split, names)
    found = [p for p in problems_of(tmp_path, format="pngs-classes") if p.severity == "error"]
    assert [(p.where, p.what) for p in found] == [
        (
            "val/classes.txt",
            "lists 4 classes, and train/classes.txt 3: value 1 is 'car' here and 'sky' there",
        )
    ]
    # Lists in the parts show what it is, too.
    for data in (tmp_path, Path(f"pngs:{tmp_path}")):
        assert check_data(data)[0] == "pngs-classes"
    root = write_maps(tmp_path / "own", "0: road\n1: sky\n2: car\n255: void\n")
    void = only_problem(root)
    assert (void.where, void.severity) == ("classes.txt", "warning")
    assert "write 'ignore: 255'" in void.fix


# Folders and lists that lie elsewhere


def test_maps_and_class_lists_elsewhere_are_those_of_training(tmp_path: Path) -> None:
    root = write_maps(tmp_path / "set")
    labels, names = tmp_path / "drawn" / "labels", tmp_path / "names.txt"
    labels.parent.mkdir()
    (root / "masks").rename(labels)
    (root / "classes.txt").rename(names)
    expected = open_semantic_source(f"pngs:{root}", masks=labels, classes=names)
    for classes in (names, NAMES):
        name, report = check_data(root, masks=labels, classes=classes)
        assert (name, report.problems, report.images) == ("pngs-classes", [], len(expected))
        assert report.classes is not None
        assert tuple(report.classes.pixels) == expected.class_names
    # The same where the list lies beside the maps, and nothing tells of it.
    shutil.copy(names, labels.parent / "classes.txt")
    assert check_data(Path(f"pngs:{root}"), masks=labels)[0] == "pngs-classes"
    (root / "images").rename(tmp_path / "photos")
    images = tmp_path / "photos"
    assert check_data(root, images=images, masks=labels, classes=names)[1].problems == []
    (labels / "2.png").unlink()
    report = check_data(root, images=images, masks=labels, classes=names)[1]
    assert [p.what for p in report.problems] == ["the image has no label file"]


def test_a_given_list_wins_and_its_faults_are_told(tmp_path: Path) -> None:
    root = write_maps(tmp_path / "set")
    short, twice = tmp_path / "short.txt", tmp_path / "twice.txt"
    short.write_text("road\nsky\n")
    twice.write_text("road\nroad\nsky\n")
    problems = check_data(root, classes=short)[1].problems
    assert [p.where for p in problems] == ["masks/1.png", "masks/2.png"]
    assert "holds value 2 in 200 of its pixels" in problems[0].what
    told = check_data(root, classes=twice)[1].problems
    assert [(p.where, p.what) for p in told] == [
        (str(twice), "has 'road' twice: expected unique names; rename one")
    ]


def test_masks_of_instances_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_maps(tmp_path / "set")
    (root / "classes.txt").unlink()
    (root / "masks").rename(tmp_path / "ids")
    name, report = check_data(Path(f"pngs:{root}"), masks=tmp_path / "ids")
    assert (name, report.images, report.objects) == ("pngs", 2, 4)


@pytest.mark.parametrize(
    ("name", "option", "match"),
    [
        ("coco", {"masks": Path("x")}, "format coco knows where its labels lie; leave out --masks"),
        ("nuclei", {"classes": ("a",)}, "format nuclei knows its classes; leave out --classes"),
        ("cvppp", {"images": Path("x")}, "format cvppp knows where its images lie"),
        ("voc", {"classes": ("a",)}, "takes no classes: expected split, masks; leave it out"),
        ("kitti", {"masks": Path("x")}, "takes no masks: expected the path alone"),
    ],
)
def test_options_that_are_not_for_a_format_are_refused(
    tmp_path: Path, name: str, option: dict[str, object], match: str
) -> None:
    with pytest.raises(PixelkinError, match=match):
        check_data(tmp_path, format=name, **option)  # type: ignore[arg-type]


def test_maps_of_voc_in_another_folder(tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "SegmentationObject").mkdir()
    (tmp_path / "SegmentationClass").rename(tmp_path / "Aug")
    name, report = check_data(tmp_path, format="voc", masks=tmp_path / "Aug")
    assert (name, report.problems, report.images) == ("voc", [], 1)
    assert report.classes is not None
    assert sum(report.classes.pixels.values()) == 24


# Names


def test_maps_of_two_kinds_of_names_are_told_as_the_loader_refuses_them(tmp_path: Path) -> None:
    root = write_maps(tmp_path)
    (root / "masks" / "2.png").rename(root / "masks" / "2_mask.png")
    found = only_problem(root)
    assert found.where == "masks/2_mask.png"
    assert found.what == "is named otherwise than others are: expected 2.png"
    assert found.fix == "name all of them alike, as the image or with one ending such as _mask"
    with pytest.raises(PixelkinError, match=r"2\.png has no label file: expected .*masks/2\.png"):
        open_semantic_source(root)
    (root / "masks" / "1.png").rename(root / "masks" / "1_mask.png")
    (root / "masks" / "2_mask.png").rename(root / "masks" / "2.png")
    assert only_problem(root).what == "is named otherwise than others are: expected 2_mask.png"
    with pytest.raises(PixelkinError, match=r"has no label file: expected .*2_mask"):
        open_semantic_source(root)
    # What is missing for the first image does not turn the names of all others into faults.
    (root / "masks" / "2.png").rename(root / "masks" / "2_mask.png")
    (root / "masks" / "1_mask.png").unlink()
    found = only_problem(root)
    assert (found.where, found.what) == ("images/1.png", "the image has no label file")
    with pytest.raises(PixelkinError, match=r"1\.png has no label file: expected .*1_mask"):
        open_semantic_source(root)


@pytest.mark.parametrize("suffix", ["", "_label"])
def test_maps_may_end_with_upper_case_as_images_may(tmp_path: Path, suffix: str) -> None:
    root = write_maps(tmp_path)
    for n in (1, 2):
        (root / "masks" / f"{n}.png").rename(root / "masks" / f"{n}{suffix}.PNG")
    (root / "images" / "1.png").rename(root / "images" / "1.PNG")
    name, report = check_data(root)
    assert (name, report.problems) == ("pngs-classes", [])
    np.testing.assert_array_equal(open_semantic_source(root)[0].labels, labels_of_maps())
    shutil.copy(root / "masks" / f"2{suffix}.PNG", root / "masks" / f"2{suffix}.png")
    found = only_problem(root)
    assert (found.where, found.what) == (f"masks/2{suffix}.png", f"has the name of 2{suffix}.PNG")
    with pytest.raises(PixelkinError, match=r"masks holds 2.*\.PNG and 2.*\.png: .*; rename one"):
        open_semantic_source(root)
    (root / "masks" / f"2{suffix}.png").unlink()
    (root / "masks" / f"2{suffix}.PNG").rename(root / "masks" / f"2{suffix}.JPG")
    with pytest.raises(PixelkinError, match=r"2.*\.JPG is no PNG: expected 2.*; save the map as"):
        open_semantic_source(root)
