from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.instances.voc import VOC_CLASSES, Sbd, Voc
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances, write_indexed_png

# A person (15) above a horse (13), VOC's white outline between and around them; one pixel of the
# horse has the person's class. Ids leave a gap.
OBJECTS = np.array(
    [[0, 255, 255, 255], [0, 255, 1, 1], [0, 255, 255, 255], [255, 3, 3, 3]], np.uint8
)
CLASSES = np.array(
    [[0, 255, 255, 255], [0, 255, 15, 15], [0, 255, 255, 255], [255, 13, 15, 13]], np.uint8
)


def write_voc(root: Path, name: str = "2007_000032") -> Path:
    for folder in ("JPEGImages", "SegmentationClass", "SegmentationObject"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (200, 200, 200)).save(root / "JPEGImages" / f"{name}.jpg")
    write_indexed_png(root / "SegmentationClass" / f"{name}.png", CLASSES)
    write_indexed_png(root / "SegmentationObject" / f"{name}.png", OBJECTS)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "val.txt").write_text(f"{name}\n")
    return root


def test_voc_objects_take_the_class_of_most_of_their_pixels(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "JPEGImages" / "without_masks.jpg").write_bytes(b"")
    data = Voc(root, "val")
    assert data.names == ["2007_000032"]
    assert len(data) == 1
    assert data.class_names == VOC_CLASSES
    sample = data[0]
    assert [(one.key, VOC_CLASSES[one.category]) for one in sample.instances] == [
        ("1", "person"),
        ("3", "horse"),
    ]
    for instance in sample.instances:
        mask = decode_rle(instance.rle, (4, 4))
        np.testing.assert_array_equal(mask, int(instance.key) == OBJECTS)
        assert not instance.crowd
    assert sample.ignore is not None
    np.testing.assert_array_equal(decode_rle(sample.ignore, (4, 4)), OBJECTS == 255)
    painted = paint_instances(sample)
    np.testing.assert_array_equal(painted.labels, np.where(OBJECTS == 3, 2, OBJECTS))
    assert painted.categories == (14, 12)
    assert sample.image.dtype == np.uint8


def test_voc_without_an_unknown_pixel_has_no_ignore(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    for folder, ids in (("SegmentationObject", OBJECTS), ("SegmentationClass", CLASSES)):
        write_indexed_png(root / folder / "2007_000032.png", np.where(ids == 255, 0, ids))
    sample = Voc(root, "val")[0]
    assert sample.ignore is None
    assert len(sample.instances) == 2


def test_voc_stills_of_void_alone_have_no_object(tmp_path: Path) -> None:
    """What is too small or too hard to tell is void, and an image may show nothing else."""
    root = write_voc(tmp_path)
    void = np.where(OBJECTS, 255, 0).astype(np.uint8)
    for folder in ("SegmentationObject", "SegmentationClass"):
        write_indexed_png(root / folder / "2007_000032.png", void)
    sample = Voc(root, "val")[0]
    assert sample.instances == ()
    assert sample.ignore is not None
    np.testing.assert_array_equal(decode_rle(sample.ignore, (4, 4)), void == 255)
    # Grey of 0 and 255 is a binary mask, most likely of somebody's object.
    for folder in ("SegmentationClass", "SegmentationObject"):
        Image.fromarray(void).save(root / folder / "2007_000032.png")
        with pytest.raises(PixelkinError, match=rf"{folder}.*holds no id beside 0 and 255"):
            Voc(root, "val")[0]
        write_indexed_png(root / folder / "2007_000032.png", void)


def test_a_class_list_in_the_folder_names_the_classes(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    listed = root / "classes.txt"
    listed.write_text("0: background\n13: pony\n15: rider\n21: cart\n")
    data = Voc(root, "val")
    assert data.class_names == ("pony", "rider", "cart")
    assert [data.class_names[one.category] for one in data[0].instances] == ["rider", "pony"]
    for text, match in (
        ("0: background\n15: rider\n", "holds class 13: expected 0, 15 "),
        ("13: pony\n15: rider\n", r"classes\.txt lists no value 0: expected background as 0"),
        ("road\n", r"classes\.txt lists no value beside 0: 'road'"),
    ):
        listed.write_text(text)
        with pytest.raises(PixelkinError, match=match) as caught:
            Voc(root, "val")[0]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("folder", "ids", "match"),
    [
        ("SegmentationClass", np.where(OBJECTS == 3, 0, CLASSES), "instance 3 has no class in"),
        ("SegmentationClass", np.where(OBJECTS == 3, 21, CLASSES), "holds class 21: expected 0 to"),
        ("SegmentationClass", CLASSES[:3], r"2007_000032\.png is 4×3: expected 4×4"),
        ("SegmentationObject", OBJECTS[:, :2], r"2007_000032\.png is 2×4: expected 4×4"),
        ("SegmentationObject", np.where(OBJECTS, 255, 0), "holds no instance, and .*class 13"),
    ],
)
def test_voc_files_that_disagree_are_named(
    tmp_path: Path, folder: str, ids: np.ndarray, match: str
) -> None:
    root = write_voc(tmp_path)
    write_indexed_png(root / folder / "2007_000032.png", ids)
    with pytest.raises(PixelkinError, match=match) as caught:
        Voc(root, "val")[0]
    assert "\n" not in str(caught.value)


def test_voc_masks_without_their_index_are_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    path = root / "SegmentationObject" / "2007_000032.png"
    with Image.open(path) as image:
        image.convert("RGB").save(path)
    with pytest.raises(PixelkinError, match="of mode RGB: expected a PNG whose pixels are indices"):
        Voc(root, "val")[0]
    # In grey, 0 and 255 alone would elsewhere be a mask of one object; here 255 is an outline.
    Image.fromarray(np.where(OBJECTS, 255, 0).astype(np.uint8)).save(path)
    with pytest.raises(PixelkinError, match="holds no id beside 0 and 255"):
        Voc(root, "val")[0]
    path.write_bytes(b"")
    with pytest.raises(PixelkinError, match=r"2007_000032\.png: the file is empty"):
        Voc(root, "val")[0]


def test_voc_splits_and_layout_are_checked(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="JPEGImages: expected the VOC layout"):
        Voc(tmp_path)
    root = write_voc(tmp_path)
    with pytest.raises(PixelkinError, match=r"split 'vall' is unknown .* did you mean 'val'"):
        Voc(root, "vall")
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000032\n2007_000033\n")
    with pytest.raises(PixelkinError, match=r"no file .*000033\.jpg: expected it as .*train\.txt"):
        Voc(root)
    (lists / "train.txt").write_text("")
    with pytest.raises(PixelkinError, match=r"train\.txt lists no image"):
        Voc(root)
    (lists / "train.txt").write_text("2007_000032\n" * 2)
    with pytest.raises(PixelkinError, match=r"train\.txt lists the same image twice"):
        Voc(root)


def write_sbd(root: Path, segmentation: np.ndarray, categories: list[int]) -> Path:
    (root / "img").mkdir(exist_ok=True)
    (root / "inst").mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(root / "img" / "2008_000002.jpg")
    # What MATLAB wrote: a struct, and in it a column of categories and a cell array of outlines.
    outlines = np.empty((len(categories), 1), object)
    for index in range(len(categories)):
        outlines[index, 0] = np.eye(4)
    truth = {
        "Segmentation": segmentation,
        "Boundaries": outlines,
        "Categories": np.array(categories, np.uint8).reshape(-1, 1),
    }
    savemat(root / "inst" / "2008_000002.mat", {"GTinst": truth}, do_compression=True)
    (root / "train.txt").write_text("2008_000002\n")
    return root


def test_sbd_instances_and_categories(tmp_path: Path) -> None:
    segmentation = np.where(OBJECTS == 255, 0, np.where(OBJECTS == 3, 2, OBJECTS)).astype(np.uint8)
    data = Sbd(write_sbd(tmp_path, segmentation, [20, 1]))
    assert data.names == ["2008_000002"]
    assert len(data) == 1
    sample = data[0]
    assert [(one.key, data.class_names[one.category]) for one in sample.instances] == [
        ("1", "tvmonitor"),
        ("2", "aeroplane"),
    ]
    assert sample.ignore is None
    np.testing.assert_array_equal(paint_instances(sample).labels, segmentation)
    one = Sbd(write_sbd(tmp_path, (segmentation > 0).astype(np.uint8), [8]))[0]
    assert [instance.category for instance in one.instances] == [7]


@pytest.mark.parametrize(
    ("segmentation", "categories", "match"),
    [
        (OBJECTS, [15, 13], "holds id 255 and 2 categories"),
        (np.ones((4, 4), np.uint8), [21], r"holds categories \[21\]: expected 1 to 20"),
        (np.ones((4, 4), np.uint8), [0], r"holds categories \[0\]: expected 1 to 20"),
        (np.ones((4, 4), np.float64), [1], "no GTinst with Segmentation of unsigned"),
        (np.ones((4, 5), np.uint8), [1], r"2008_000002\.mat is 5×4: expected 4×4"),
    ],
)
def test_sbd_files_that_disagree_are_named(
    tmp_path: Path, segmentation: np.ndarray, categories: list[int], match: str
) -> None:
    with pytest.raises(PixelkinError, match=match):
        Sbd(write_sbd(tmp_path, segmentation, categories))[0]


def test_sbd_files_and_layout_are_checked(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected the SBD layout"):
        Sbd(tmp_path)
    root = write_sbd(tmp_path, np.ones((4, 4), np.uint8), [1])
    data, mat = Sbd(root), root / "inst" / "2008_000002.mat"
    savemat(mat, {"GTcls": {"Segmentation": np.ones((4, 4), np.uint8)}})
    with pytest.raises(PixelkinError, match="use a file of SBD's folder inst"):
        data[0]
    mat.write_bytes(b"no mat")
    with pytest.raises(PixelkinError, match=r"cannot read the MAT-file .*2008_000002\.mat"):
        data[0]
    mat.unlink()
    with pytest.raises(PixelkinError, match=r"no file .*2008_000002\.mat"):
        Sbd(root)
    with pytest.raises(PixelkinError, match="split 'test' is unknown"):
        Sbd(root, "test")
