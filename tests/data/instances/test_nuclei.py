from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, paint_instances, rle_area


def write_image(root: Path, name: str, masks: dict[str, np.ndarray], mode: str = "RGBA") -> None:
    (root / name / "images").mkdir(parents=True)
    (root / name / "masks").mkdir()
    height, width = next(iter(masks.values())).shape
    Image.new(mode, (width, height), (5, 6, 7, 255)).save(root / name / "images" / f"{name}.png")
    for stem, mask in masks.items():
        Image.fromarray(mask).save(root / name / "masks" / f"{stem}.png")


def test_nuclei_come_by_file_name_and_may_overlap(tmp_path: Path) -> None:
    small = np.zeros((3, 4), np.uint8)
    small[1, 1] = 255
    large = np.zeros((3, 4), np.uint8)
    large[:2, :3] = 255
    write_image(tmp_path, "one", {"b": large, "a": small})
    data = Nuclei(tmp_path)
    assert data.names == ["one"]
    assert len(data) == 1
    sample = data[0]
    assert data.class_names == ("nucleus",)
    assert [one.key for one in sample.instances] == ["a", "b"]
    for instance, mask in zip(sample.instances, (small, large), strict=True):
        np.testing.assert_array_equal(decode_rle(instance.rle, (3, 4)), mask > 0)
    painted = paint_instances(sample).labels
    assert painted.tolist() == [[2, 2, 2, 0], [2, 1, 2, 0], [0, 0, 0, 0]]
    assert sample.image.shape == (3, 4, 3)
    assert sample.image[0, 0].tolist() == [5, 6, 7]


def test_ids_skip_255_and_go_on(tmp_path: Path) -> None:
    masks = {}
    for i in range(260):
        mask = np.zeros((13, 20), np.uint8)
        mask.flat[i] = 255
        masks[f"{i:03d}"] = mask
    write_image(tmp_path, "crowd", masks)
    labels = paint_instances(Nuclei(tmp_path)[0]).labels.ravel().tolist()
    assert labels == [*range(1, 255), *range(256, 262)]


def test_a_mask_without_a_pixel_is_no_nucleus(tmp_path: Path) -> None:
    full, empty = np.full((3, 4), 255, np.uint8), np.zeros((3, 4), np.uint8)
    write_image(tmp_path, "one", {"a": empty, "b": full})
    assert [one.key for one in Nuclei(tmp_path)[0].instances] == ["b"]
    write_image(tmp_path, "two", {"a": empty})
    assert Nuclei(tmp_path)[1].instances == ()


def test_caller_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected the layout of DSB 2018"):
        Nuclei(tmp_path / "nowhere")
    with pytest.raises(PixelkinError, match="holds no image folder"):
        Nuclei(tmp_path)
    write_image(tmp_path, "one", {"a": np.ones((3, 4), np.uint8)})
    Image.new("L", (5, 3)).save(tmp_path / "one" / "masks" / "b.png")
    with pytest.raises(PixelkinError, match=r"b\.png is 5×3: expected 4×3"):
        Nuclei(tmp_path)[0]
    (tmp_path / "one" / "masks" / "b.png").write_bytes(b"")
    with pytest.raises(PixelkinError, match=r"b\.png: the file is empty"):
        Nuclei(tmp_path)[0]
    Image.new("RGB", (4, 3)).save(tmp_path / "one" / "images" / "two.png")
    with pytest.raises(PixelkinError, match="holds 2 images: expected one"):
        Nuclei(tmp_path)[0]
    (tmp_path / "test" / "images").mkdir(parents=True)
    with pytest.raises(PixelkinError, match="masks: expected the layout"):
        Nuclei(tmp_path)


def test_real_images(shared_data: Path) -> None:
    root = shared_data / "dsb2018"
    data = Nuclei(root)
    assert len(data) == 211
    files = [len(list((root / name / "masks").iterdir())) for name in data.names]
    assert sum(files) == 9226
    crowded = data[int(np.argmax(files))]
    assert len(crowded.instances) == 313
    labels = paint_instances(crowded).labels
    assert sorted(np.unique(labels)) == [0, *range(1, 255), *range(256, 315)]
    for index in range(0, len(data), 40):
        sample = data[index]
        assert len(sample.instances) == files[index]
        for instance in sample.instances[:10]:
            with Image.open(root / sample.name / "masks" / f"{instance.key}.png") as image:
                mask = np.array(image) > 0
            np.testing.assert_array_equal(decode_rle(instance.rle, mask.shape), mask)
            assert rle_area(instance.rle, mask.shape) == mask.sum()


def test_masks_of_every_depth_are_read_alike(tmp_path: Path) -> None:
    inside = np.zeros((5, 6), bool)
    inside[1:4, 2:5] = np.array([[0, 1, 0], [1, 0, 1], [1, 1, 1]])
    inside[4, 4] = True
    write_image(tmp_path, "one", {"grey": inside.astype(np.uint8) * 7})
    masks = tmp_path / "one" / "masks"
    Image.fromarray(inside).save(masks / "one_bit.png")
    Image.fromarray(inside.astype(np.uint16) * 300).save(masks / "deep.png")
    palette = Image.fromarray(inside.astype(np.uint8))
    palette.putpalette([255, 255, 255, 0, 0, 0])
    palette.save(masks / "palette.png")
    sample = Nuclei(tmp_path)[0]
    assert [one.key for one in sample.instances] == ["deep", "grey", "one_bit", "palette"]
    for instance in sample.instances:
        np.testing.assert_array_equal(decode_rle(instance.rle, (5, 6)), inside)
    Image.new("RGB", (6, 5)).save(masks / "colour.png")
    with pytest.raises(PixelkinError, match=r"colour\.png is PNG of mode RGB"):
        Nuclei(tmp_path)[0]
    (masks / "colour.png").unlink()
    (masks / "grey.png").rename(masks / "grey.PNG")
    assert len(Nuclei(tmp_path)[0].instances) == 4
    Image.fromarray(inside).save(masks / "lost.tif")
    with pytest.raises(PixelkinError, match=r"lost\.tif is TIFF of mode 1: expected a PNG"):
        Nuclei(tmp_path)[0]
