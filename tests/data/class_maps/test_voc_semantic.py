from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from pixelkin.data.class_maps.sources import open_semantic_source
from pixelkin.data.class_maps.voc import VOC_SEMANTIC_CLASSES, SbdSemantic, VocSemantic
from pixelkin.errors import PixelkinError
from pixelkin.masks import write_indexed_png

NAME = "2007_000032"
CLASSES = np.array(
    [[0, 255, 255, 255], [0, 255, 15, 15], [0, 20, 1, 255], [255, 13, 15, 13]], np.uint8
)


def write_voc(root: Path, classes: np.ndarray = CLASSES, folder: str = "SegmentationClass") -> Path:
    for inner in ("JPEGImages", "ImageSets/Segmentation"):
        (root / inner).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (200, 200, 200)).save(root / "JPEGImages" / f"{NAME}.jpg")
    write_indexed_png(root / folder / f"{NAME}.png", classes)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(f"{NAME}\n")
    return root


def test_voc_keeps_palette_indices_and_ignores_outlines(tmp_path: Path) -> None:
    data = VocSemantic(write_voc(tmp_path))
    with Image.open(tmp_path / "SegmentationClass" / f"{NAME}.png") as image:
        assert image.mode == "P"
    assert (data.names, len(data)) == ([NAME], 1)
    assert data.class_names == VOC_SEMANTIC_CLASSES
    assert len(data.class_names) == 21
    assert [data.class_names[n] for n in (0, 1, 15, 20)] == [
        *("background", "aeroplane", "person", "tvmonitor"),
    ]
    np.testing.assert_array_equal(data[0].labels, CLASSES)
    assert data[0].labels.dtype == np.int64


def test_voc_maps_may_lie_elsewhere_and_have_more_of_what_is_known(tmp_path: Path) -> None:
    root = write_voc(tmp_path, np.where(CLASSES == 255, 0, CLASSES), "SegmentationClassAug")
    with pytest.raises(PixelkinError, match="SegmentationClass: expected the VOC layout"):
        VocSemantic(root)
    data = VocSemantic(root, masks=root / "SegmentationClassAug")
    np.testing.assert_array_equal(data[0].labels, np.where(CLASSES == 255, 0, CLASSES))


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        (np.where(CLASSES == 1, 21, CLASSES), "holds 21 in 1 pixel: expected 0 to 20 .*and 255"),
        (CLASSES[:3], "is 4×3: expected 4×4"),
    ],
)
def test_voc_faults_are_named(tmp_path: Path, classes: np.ndarray, match: str) -> None:
    data = VocSemantic(write_voc(tmp_path, classes))
    with pytest.raises(PixelkinError, match=rf"{NAME}\.png {match}"):
        data[0]
    with pytest.raises(PixelkinError, match=r"split 'trian' .* did you mean 'train'"):
        VocSemantic(tmp_path, "trian")
    Image.new("RGB", (4, 4)).save(tmp_path / "SegmentationClass" / f"{NAME}.png")
    with pytest.raises(PixelkinError, match="of mode RGB: expected a PNG whose pixels are indices"):
        data[0]
    (tmp_path / "SegmentationClass" / f"{NAME}.png").unlink()
    with pytest.raises(PixelkinError, match=rf"no file .*{NAME}\.png: expected it as .*train\.txt"):
        VocSemantic(tmp_path)


def test_background_and_unknown_alone_are_read_in_the_palette_of_voc(tmp_path: Path) -> None:
    """As `pngs` does: grey of 0 and 255 is most likely a binary mask."""
    map_ = np.where(CLASSES, 255, 0).astype(np.uint8)
    data = VocSemantic(write_voc(tmp_path, map_))
    np.testing.assert_array_equal(data[0].labels, map_)
    Image.fromarray(map_).save(tmp_path / "SegmentationClass" / f"{NAME}.png")
    with pytest.raises(PixelkinError, match=rf"{NAME}\.png holds no id beside 0 and 255"):
        data[0]


def test_a_class_list_in_the_folder_names_the_classes(tmp_path: Path) -> None:
    map_ = np.array([[0, 1, 2, 255]] * 4, np.uint8)
    root = write_voc(tmp_path, map_)
    listed = root / "classes.txt"
    listed.write_text("Sky\nBuilding\nPole\n")
    for data in (VocSemantic(root), open_semantic_source(f"voc:{root}")):
        assert data.class_names == ("Sky", "Building", "Pole")
        np.testing.assert_array_equal(data[0].labels, map_)
    # A value that the list leaves out moves the labels after it, and unknown may be another.
    listed.write_text("0: Sky\n2: Pole\nignore: 1\n")
    write_voc(tmp_path, np.where(map_ == 255, 2, map_))
    data = VocSemantic(root)
    assert data.class_names == ("Sky", "Pole")
    np.testing.assert_array_equal(data[0].labels, np.array([[0, 255, 1, 1]] * 4))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("Sky\nBuilding\n", r"\.png holds 2 in 4 pixels: expected 0 to 1 .*; correct the class"),
        ("Sky\nSky\n", r"classes\.txt has 'Sky' twice"),
        ("0: Sky\n256: Pole\n", r"classes\.txt names value 256: expected at most 255, as VOC's"),
    ],
)
def test_a_class_list_that_does_not_fit_is_named(tmp_path: Path, text: str, match: str) -> None:
    root = write_voc(tmp_path, np.array([[0, 1, 2, 255]] * 4, np.uint8))
    (root / "classes.txt").write_text(text)
    with pytest.raises(PixelkinError, match=match) as caught:
        VocSemantic(root)[0]
    assert "\n" not in str(caught.value)


def test_a_class_list_may_say_what_0_and_255_mean(tmp_path: Path) -> None:
    map_ = np.where(CLASSES, 255, 0).astype(np.uint8)
    root = write_voc(tmp_path)
    Image.fromarray(map_).save(root / "SegmentationClass" / f"{NAME}.png")
    (root / "classes.txt").write_text("Sky\nPole\n")
    with pytest.raises(PixelkinError, match="holds no id beside 0 and 255"):
        VocSemantic(root)[0]
    (root / "classes.txt").write_text("Sky\nPole\nignore: 255\n")
    np.testing.assert_array_equal(VocSemantic(root)[0].labels, map_)
    (root / "classes.txt").write_text("0: Sky\n255: Pole\n")
    np.testing.assert_array_equal(VocSemantic(root)[0].labels, map_ // 255)


def write_sbd(root: Path, segmentation: np.ndarray) -> Path:
    for folder in ("img", "cls"):
        (root / folder).mkdir(exist_ok=True)
    Image.new("RGB", (4, 4)).save(root / "img" / "2008_000002.jpg")
    categories = np.unique(segmentation[segmentation > 0]).reshape(-1, 1)
    truth = {
        "Segmentation": segmentation,
        "Boundaries": np.empty((20, 1), object),
        "CategoriesPresent": categories,
    }
    truth["Boundaries"][:] = [[np.eye(4)]]
    savemat(root / "cls" / "2008_000002.mat", {"GTcls": truth}, do_compression=True)
    (root / "val.txt").write_text("2008_000002\n")
    return root


def test_sbd_is_read_as_stored_and_faults_are_named(tmp_path: Path) -> None:
    segmentation = np.where(CLASSES == 255, 0, CLASSES).astype(np.uint8)
    data = SbdSemantic(write_sbd(tmp_path, segmentation), "val")
    assert data.class_names == VOC_SEMANTIC_CLASSES
    np.testing.assert_array_equal(data[0].labels, segmentation)
    write_sbd(tmp_path, CLASSES)
    with pytest.raises(PixelkinError, match=r"2008_000002\.mat holds 255 in 6 pixels: expected 0"):
        data[0]
    write_sbd(tmp_path, segmentation[:3])
    with pytest.raises(PixelkinError, match=r"\.mat is 4×3: expected 4×4"):
        data[0]
    savemat(tmp_path / "cls" / "2008_000002.mat", {"GTinst": segmentation})
    with pytest.raises(PixelkinError, match="use a file of SBD's folder cls"):
        data[0]
    with pytest.raises(PixelkinError, match="img: expected the SBD layout"):
        SbdSemantic(tmp_path / "img")
