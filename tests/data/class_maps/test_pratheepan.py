from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.pratheepan import Pratheepan, read_skin
from pixelkin.errors import PixelkinError

SKIN = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)


def write_set(root: Path) -> Path:
    mask = np.repeat((SKIN * 255)[..., None], 3, axis=2)
    for part, names in {"Face": ["a.jpg", "b.jpeg"], "Family": ["a.jpg"]}.items():
        photos = root / "Pratheepan_Dataset" / f"{part}Photo"
        masks = root / "Ground_Truth" / f"GroundT_{part}Photo"
        photos.mkdir(parents=True)
        masks.mkdir(parents=True)
        for name in names:
            Image.new("RGB", (3, 2), (9, 9, 9)).save(photos / name, format="JPEG")
            Image.fromarray(mask).save(masks / f"{Path(name).stem}.png")
    return root


def test_both_suffixes_and_both_folders(tmp_path: Path) -> None:
    write_set(tmp_path)
    assert Pratheepan(tmp_path, part="family").names == ["FamilyPhoto_a"]
    data = Pratheepan(tmp_path)
    assert data.names == ["FacePhoto_a", "FacePhoto_b", "FamilyPhoto_a"]
    assert data.class_names == ("background", "skin")
    for sample in (data[0], data[1], data[2]):
        np.testing.assert_array_equal(sample.labels, SKIN)
        assert sample.labels.dtype == np.int64


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_masks_of_every_mode_and_of_grey_edges(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "mask.png"
    grey = Image.fromarray(np.array([[0, 255, 255], [255, 0, 0]], np.uint8))
    grey.convert("RGB").convert(mode).save(path)
    np.testing.assert_array_equal(read_skin(path, size_hw=(2, 3)), SKIN)
    if mode in ("L", "RGB"):
        soft = np.array([[0, 128, 200], [255, 127, 40]], np.uint8)
        Image.fromarray(soft).convert(mode).save(path)
        np.testing.assert_array_equal(read_skin(path, size_hw=(2, 3)), SKIN)


def test_photos_and_coloured_masks_are_refused_and_tints_are_not(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    rng = np.random.default_rng(0)
    black_and_white = np.repeat(np.where(rng.random((50, 40)) < 0.5, 225, 30)[..., None], 3, axis=2)
    skin = (black_and_white[..., 0] > 128).astype(np.int64)
    tinted = black_and_white + rng.integers(-15, 16, (50, 40, 3))
    # A few odd pixels, a hundredth of all.
    tinted[7, :20] = (200, 0, 0)
    skin[7, :20] = 0
    Image.fromarray(tinted.astype(np.uint8)).save(path)
    np.testing.assert_array_equal(read_skin(path, size_hw=(50, 40)), skin)
    photo = Image.fromarray((tinted - (0, 20, 50)).clip(0).astype(np.uint8))
    red = Image.fromarray(skin.astype(np.uint8)).convert("P")
    red.putpalette([0, 0, 0, 128, 0, 0])
    for coloured in (photo, red):
        coloured.save(path)
        told = r"mask\.png has colours in \d+% of its pixels, such as \(\d+, \d+, \d+\) at .*; use"
        with pytest.raises(PixelkinError, match=told):
            read_skin(path, size_hw=(50, 40))


def test_caller_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected the Pratheepan layout"):
        Pratheepan(tmp_path)
    write_set(tmp_path)
    with pytest.raises(PixelkinError, match="part 'faces' is unknown"):
        Pratheepan(tmp_path, part="faces")  # type: ignore[arg-type]
    mask = tmp_path / "Ground_Truth/GroundT_FacePhoto/b.png"
    Image.new("RGB", (2, 2)).save(mask)
    with pytest.raises(PixelkinError, match=r"b\.png is 2×2: expected 3×2"):
        Pratheepan(tmp_path)[1]
    mask.unlink()
    with pytest.raises(PixelkinError, match=r"b\.jpeg has no label file"):
        Pratheepan(tmp_path, part="face")
