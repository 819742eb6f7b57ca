"""Folders of masks: index PNGs, Penn-Fudan, VOC, CVPPP, nuclei, Cityscapes; and image files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sets import (
    HEIGHT,
    WIDTH,
    only_problem,
    problems_of,
    rectangle,
    write_nuclei,
    write_picture,
    write_pngs,
)

from pixelkin.checking.check import check_data
from pixelkin.data.instances.sources import open_source
from pixelkin.errors import PixelkinError
from pixelkin.masks import write_indexed_png


def labels_of(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


# Images


def test_broken_images_are_told_apart(tmp_path: Path) -> None:
    root = write_pngs(tmp_path)
    images = root / "images"
    for stem in ("a", "b", "c", "d", "e"):
        shutil.copy(root / "masks" / "1.png", root / "masks" / f"{stem}.png")
    (images / "a.png").write_bytes(b"")
    whole = (images / "1.png").read_bytes()
    (images / "b.png").write_bytes(whole[: len(whole) // 2])
    (images / "c.png").write_bytes(b"this is no image")
    Image.fromarray(np.full((HEIGHT, WIDTH), 900, np.uint16)).save(images / "d.png")
    shutil.copy(images / "1.png", images / "e.png")
    found = {p.where: p for p in problems_of(root)}
    assert found["images/a.png"].what == "the file is empty (0 bytes)"
    assert found["images/b.png"].what.startswith("cannot be decoded: ")
    assert found["images/c.png"].what == "cannot be decoded: no known image format"
    assert "more than 8 bits" in found["images/d.png"].what
    assert found["images/e.png"].what == "has the very pixels of images/1.png"
    assert found["images/e.png"].severity == "warning"
    assert len(found) == len(problems_of(root)) == 5


@pytest.mark.parametrize(
    ("size_wh", "what"),
    [((20000, 15000), "300 megapixels"), ((12000, 10000), "is 12000×10000, 120 megapixels")],
)
def test_a_huge_image_is_found_by_its_header(
    size_wh: tuple[int, int], what: str, tmp_path: Path
) -> None:
    root = write_pngs(tmp_path)
    Image.new("1", size_wh).save(root / "images" / "1.png")
    found = {p.where: p.what for p in problems_of(root)}
    assert what in found["images/1.png"]


def test_exif_that_turns_an_image_without_a_size_is_a_warning(tmp_path: Path) -> None:
    root = write_pngs(tmp_path)
    exif = Image.Exif()
    exif[274] = 3
    with Image.open(root / "images" / "1.png") as image:
        image.save(root / "images" / "1.png", exif=exif)
    found = only_problem(root)
    assert found.where == "masks/1.png"
    assert "orientation 3" in found.what
    assert found.severity == "warning"


# Index PNGs


def test_a_sound_set_of_index_pngs_has_no_problem(tmp_path: Path) -> None:
    name, report = check_data(write_pngs(tmp_path))
    assert name == "pngs"
    assert report.problems == []
    assert (report.images, report.objects) == (2, 4)


def planted(root: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(root / "masks" / "2.png")


TWO = rectangle(2, 2, 9, 9) | rectangle(12, 12, 9, 9)
DEEP = np.where(rectangle(2, 2, 9, 9), 300, np.where(rectangle(20, 20, 9, 9), 255, 0))
FAR = rectangle(0, 0, 6, 6) | rectangle(54, 74, 6, 6)

PLANTED = {
    "colour": (
        lambda r: planted(r, np.zeros((HEIGHT, WIDTH, 3), np.uint8)),
        "masks/2.png", "the mask is a colour image (RGB)", "error"),
    "another size": (
        lambda r: planted(r, np.pad(rectangle(5, 5, 9, 9), ((0, 1), (0, 0))).astype(np.uint8)),
        "masks/2.png", "annotated as 80×61, the image is 80×60", "error"),
    "palette of 0 and 255": (
        lambda r: write_indexed_png(r / "masks" / "2.png", TWO * np.uint8(255)),
        "masks/2.png", "holds only 0 and 255, so all of it reads as unknown", "error"),
    "grey of 0 and 255, two regions": (
        lambda r: planted(r, TWO * np.uint8(255)),
        "masks/2.png", "numbers 2 separate regions as one object", "warning"),
    "16 bits with id 255": (
        lambda r: planted(r, DEEP.astype(np.uint16)),
        "masks/2.png", "objects to 300, and one of them 255", "error"),
    "far parts": (
        lambda r: planted(r, FAR.astype(np.uint8) * 3),
        "masks/2.png, id 3", "one object of 2 large parts", "warning"),
    "stray pixel": (
        lambda r: planted(r, rectangle(4, 4, 1, 1).astype(np.uint8) * 9),
        "masks/2.png, id 9", "covers 1 pixel", "warning"),
    "empty file": (
        lambda r: (r / "masks" / "2.png").write_bytes(b""), "masks/2.png", "0 bytes", "error"),
    "no mask": (
        lambda r: (r / "masks" / "2.png").unlink(), "images/2.png", "has no mask", "error"),
    "no image": (
        lambda r: (r / "images" / "2.png").unlink(), "masks/2.png", "has no image", "error"),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLANTED)
def test_each_planted_mask_is_found_once(fault: str, tmp_path: Path) -> None:
    plant, where, what, severity = PLANTED[fault]
    root = write_pngs(tmp_path)
    plant(root)
    found = only_problem(root)
    assert found.where == where
    assert what in found.what
    assert found.severity == severity


def test_masks_of_two_kinds_of_names_are_told_as_the_loader_refuses_them(tmp_path: Path) -> None:
    root = write_pngs(tmp_path)
    (root / "masks" / "2.png").rename(root / "masks" / "2_mask.png")
    found = only_problem(root)
    assert found.where == "masks/2_mask.png"
    assert found.what == "is named otherwise than others are: expected 2.png"
    with pytest.raises(PixelkinError, match=r"2\.png has no mask: expected .*masks/2\.png"):
        open_source(f"pngs:{root}")
    (root / "masks" / "1.png").unlink()
    assert (only_problem(root).where, only_problem(root).what) == (
        "images/1.png",
        "the image has no mask",
    )
    with pytest.raises(PixelkinError, match=r"1\.png has no mask: expected .*masks/1_mask\.png"):
        open_source(f"pngs:{root}")


def test_masks_may_end_with_upper_case_where_the_loader_takes_them(tmp_path: Path) -> None:
    root = write_pngs(tmp_path)
    for n in (1, 2):
        (root / "masks" / f"{n}.png").rename(root / "masks" / f"{n}.PNG")
    name, report = check_data(root)
    assert (name, report.problems, report.objects) == ("pngs", [], 4)
    assert len(open_source(root)[0].instances) == 2
    plants = tmp_path / "plants"
    write_picture(plants / "plant1_rgb.png", 1)
    shutil.copy(root / "masks" / "1.PNG", plants / "plant1_label.PNG")
    told = {p.what: p.fix for p in check_data(Path(f"cvppp:{plants}"))[1].problems}
    assert told["ends with .PNG, which is not read"] == "rename the file, so that it ends with .png"


def test_a_jpeg_mask_is_refused_whatever_its_name(tmp_path: Path) -> None:
    root = write_pngs(tmp_path)
    (root / "masks" / "2.png").unlink()
    Image.new("L", (WIDTH, HEIGHT)).save(root / "masks" / "2.jpg")
    found = only_problem(root)
    assert (found.where, found.what) == ("masks/2.jpg", "the mask is a jpg file")
    (root / "masks" / "2.jpg").rename(root / "masks" / "2.png")
    found = only_problem(root)
    assert (found.where, found.what) == ("masks/2.png", "the mask is JPEG under the name of a PNG")


def test_many_ids_in_16_bits_are_no_problem(tmp_path: Path) -> None:
    root = write_pngs(tmp_path)
    values = np.kron(np.arange(300).reshape(15, 20), np.ones((4, 4), int))
    planted(root, np.where(values == 255, 0, values).astype(np.uint16))
    _, report = check_data(root)
    assert report.problems == []
    assert report.objects == 2 + 298


# Penn-Fudan, VOC, CVPPP


@pytest.fixture
def penn(shared_data: Path, tmp_path: Path) -> Path:
    for pattern in ("PNGImages/{}.png", "PedMasks/{}_mask.png", "Annotation/{}.txt"):
        for name in ("FudanPed00002", "FudanPed00004"):
            target = tmp_path / pattern.format(name)
            target.parent.mkdir(exist_ok=True)
            shutil.copy(shared_data / "penn_fudan" / pattern.format(name), target)
    return tmp_path


def test_faults_planted_in_real_pedestrians(penn: Path) -> None:
    assert problems_of(penn) == []
    mask = penn / "PedMasks" / "FudanPed00004_mask.png"
    values = labels_of(mask)
    Image.fromarray(np.where(values == 2, 1, values)).save(mask)
    found = {p.where: p for p in problems_of(penn)}
    assert found["Annotation/FudanPed00004.txt, object 2"].what == "the mask holds no id 2"
    assert "is not that of the mask" in found["Annotation/FudanPed00004.txt, object 1"].what
    Image.fromarray(values[:-5]).save(mask)
    assert any("annotated as 396×392, the image is 396×397" in p.what for p in problems_of(penn))


def test_two_pedestrians_of_one_id(penn: Path) -> None:
    mask = penn / "PedMasks" / "FudanPed00002_mask.png"
    values = labels_of(mask)
    values[:20, -8:] = 2
    values[-20:, :8] = 2
    Image.fromarray(values).save(mask)
    (penn / "Annotation" / "FudanPed00002.txt").unlink()
    found = only_problem(penn)
    assert found.where == "PedMasks/FudanPed00002_mask.png, id 2"
    assert "2 large parts" in found.what


def test_all_real_pedestrians(shared_data: Path) -> None:
    name, report = check_data(shared_data / "penn_fudan")
    assert (name, report.images, report.objects) == ("penn-fudan", 78, 209)
    assert report.problems == []


def write_voc(root: Path) -> Path:
    write_picture(root / "JPEGImages" / "a.jpg", 1)
    write_picture(root / "JPEGImages" / "unmasked.jpg", 2)
    objects = np.zeros((HEIGHT, WIDTH), np.int64)
    objects[5:20, 5:20], objects[5:20, 20:22], objects[30:40, 30:60] = 1, 255, 2
    for folder in ("SegmentationObject", "SegmentationClass"):
        (root / folder).mkdir()
    write_indexed_png(root / "SegmentationObject" / "a.png", objects)
    classes = np.where(objects == 1, 15, np.where(objects == 2, 20, objects))
    write_indexed_png(root / "SegmentationClass" / "a.png", classes)
    return root


def test_voc_objects_of_no_or_of_two_classes(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    assert check_data(root)[0] == "voc"
    assert problems_of(root) == []
    path = root / "SegmentationClass" / "a.png"
    classes = labels_of(path).astype(np.int64)
    for changed, what in (
        (np.where(classes == 20, 21, classes), "holds the class 21"),
        (np.where(classes == 20, 0, classes), "object 2 has no class"),
        (np.where(np.arange(WIDTH) < 40, classes, classes // 2), "object 2 has the classes"),
    ):
        write_indexed_png(path, changed)
        assert any(what in p.what for p in problems_of(root)), what


def test_voc_objects_have_the_classes_of_the_list(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    listed = root / "classes.txt"
    listed.write_text("".join(f"class {n}\n" for n in range(21)))
    assert problems_of(root) == []
    listed.write_text("".join(f"class {n}\n" for n in range(20)))
    assert only_problem(root).what == "holds the class 20"
    listed.write_text("15: person\n20: screen\n")
    assert "lists no value 0" in only_problem(root).what


def test_voc_maps_of_void_alone_are_sound_in_its_palette(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    write_picture(root / "JPEGImages" / "b.jpg", 3)
    void = np.zeros((HEIGHT, WIDTH), np.uint8)
    void[5:9, 5:9] = 255
    for folder in ("SegmentationObject", "SegmentationClass"):
        write_indexed_png(root / folder / "b.png", void)
    assert problems_of(root) == []
    Image.fromarray(void).save(root / "SegmentationClass" / "b.png")
    assert "SegmentationClass/b.png" in {problem.where for problem in problems_of(root)}


def test_cvppp_pairs_by_their_names(tmp_path: Path) -> None:
    for n in (1, 2):
        write_picture(tmp_path / f"plant{n}_rgb.png", n)
        Image.fromarray(rectangle(5, 5, 9, 9).astype(np.uint8) * 2).save(
            tmp_path / f"plant{n}_label.png"
        )
    name, report = check_data(tmp_path)
    assert (name, report.images, report.objects, report.problems) == ("cvppp", 2, 2, [])
    (tmp_path / "plant2_label.png").unlink()
    assert only_problem(tmp_path).where == "plant2_rgb.png"


# Nuclei


def test_a_sound_set_of_nuclei_has_no_problem(tmp_path: Path) -> None:
    name, report = check_data(write_nuclei(tmp_path))
    assert (name, report.images, report.objects, report.problems) == ("nuclei", 2, 4, [])


def nucleus(root: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8) * 255).save(root / "one" / "masks" / "9.png")


NUCLEI = {
    "empty": (rectangle(0, 0, 0, 0), "the mask is empty", "error"),
    "overlap": (rectangle(10, 10, 10, 10), "overlaps 0.png in 25 pixels", "warning"),
    "copy": (rectangle(5, 5, 10, 10), "is the same mask as 0.png", "warning"),
    "far": (
        rectangle(0, 74, 6, 6) | rectangle(54, 0, 6, 6), "one object of 2 large parts", "warning"),
    "tiny": (rectangle(0, 0, 1, 3), "covers 3 pixels", "warning"),
    "size": (np.eye(HEIGHT, WIDTH + 1, 40, bool), "annotated as 81×60", "error"),
}  # fmt: skip


@pytest.mark.parametrize("fault", NUCLEI)
def test_each_planted_nucleus_is_found_once(fault: str, tmp_path: Path) -> None:
    mask, what, severity = NUCLEI[fault]
    root = write_nuclei(tmp_path)
    nucleus(root, mask)
    found = only_problem(root)
    assert found.where == "one/masks/9.png"
    assert what in found.what
    assert found.severity == severity


def test_nuclei_without_masks_or_with_two_images(tmp_path: Path) -> None:
    root = write_nuclei(tmp_path)
    shutil.rmtree(root / "two" / "masks")
    write_picture(root / "one" / "images" / "more.png", 77)
    found = {p.where: p.what for p in problems_of(root)}
    assert found == {
        "one/images": "holds 2 images, not one",
        "two/masks": "there is no folder of masks",
    }


def test_faults_planted_in_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    name = sorted(p.name for p in (shared_data / "dsb2018").iterdir())[0]
    shutil.copytree(shared_data / "dsb2018" / name, tmp_path / name)
    assert problems_of(tmp_path) == []
    masks = sorted((tmp_path / name / "masks").iterdir())
    Image.fromarray(labels_of(masks[0]) * 0).save(masks[0])
    shutil.copy(masks[1], masks[1].with_name("zzz.png"))
    masks[2].write_bytes(masks[2].read_bytes()[:60])
    found = {Path(p.where).name: p.what for p in problems_of(tmp_path)}
    assert found.pop(masks[0].name) == "the mask is empty"
    assert found.pop("zzz.png") == f"is the same mask as {masks[1].name}"
    assert found.pop(masks[2].name).startswith("cannot be decoded")
    assert found == {}


# Cityscapes


def write_cityscapes(root: Path) -> Path:
    ids = np.full((HEIGHT, WIDTH), 7, np.uint16)
    ids[10:20, 10:20], ids[30:40, 10:20], ids[50:, :] = 26001, 24000, 24
    for n in (1, 2):
        write_picture(root / f"leftImg8bit/train/ulm/ulm_{n}_leftImg8bit.png", n)
        path = root / f"gtFine/train/ulm/ulm_{n}_gtFine_instanceIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(path)
    write_picture(root / "leftImg8bit/test/bonn/bonn_1_leftImg8bit.png", 3)
    return root


def test_cityscapes(tmp_path: Path) -> None:
    root = write_cityscapes(tmp_path)
    name, report = check_data(root)
    assert (name, report.images, report.objects, report.problems) == ("cityscapes", 2, 4, [])
    mask = root / "gtFine/train/ulm/ulm_2_gtFine_instanceIds.png"
    where = "gtFine/train/ulm/ulm_2_gtFine_instanceIds.png"
    ids = labels_of(mask)
    Image.fromarray(np.where(ids == 24000, 7001, np.where(ids == 24, 40, ids))).save(mask)
    assert {p.where for p in problems_of(root)} == {f"{where}, id 40", f"{where}, id 7001"}
    Image.fromarray(ids.astype(np.uint8)).save(mask)
    assert only_problem(root).what == "the mask has 8 bits, not 16"
    Image.fromarray(ids[:-1]).save(mask)
    assert only_problem(root).what == "annotated as 80×59, the image is 80×60"
    mask.unlink()
    assert only_problem(root).what == "the image has no instanceIds"


# What is no data set


def test_a_path_that_shows_no_format_and_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="no file or folder"):
        check_data(tmp_path / "none")
    with pytest.raises(PixelkinError, match="shows no known format"):
        check_data(tmp_path)
    with pytest.raises(PixelkinError, match="did you mean nuclei"):
        check_data(tmp_path, format="nucleii")
    with pytest.raises(PixelkinError, match="leave out --images"):
        check_data(tmp_path, format="nuclei", images=tmp_path)
    with pytest.raises(PixelkinError, match="no label files"):
        check_data(tmp_path, format="yolo")
