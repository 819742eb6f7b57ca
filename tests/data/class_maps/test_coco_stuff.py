from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.coco_stuff import (
    COCO_STUFF_STUFF,
    COCO_STUFF_THINGS,
    COCO_UNUSED_IDS,
    CocoStuff,
)
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

# Ids of COCO's annotation files, looked up one by one; a pixel is the id minus 1.
ID_NAMES = {
    1: "person", 11: "fire hydrant", 13: "stop sign", 25: "giraffe", 27: "backpack",
    31: "handbag", 44: "bottle", 46: "wine glass", 67: "dining table", 70: "toilet", 72: "tv",
    82: "refrigerator", 84: "book", 90: "toothbrush", 92: "banner", 96: "building-other",
    106: "clouds", 124: "grass", 149: "road", 157: "sky-other", 169: "tree", 177: "wall-wood",
    182: "wood",
}  # fmt: skip


def write_set(root: Path, values: np.ndarray, images: str, maps: str) -> Path:
    for folder in (root / images / "val2017", root / maps / "val2017"):
        folder.mkdir(parents=True)
    size = values.shape[::-1]
    Image.new("RGB", size).save(root / images / "val2017" / "000000000139.jpg")
    Image.fromarray(values).save(root / maps / "val2017" / "000000000139.png")
    return root


@pytest.mark.parametrize(("images", "maps"), [("", "stuffthingmaps"), ("images", "annotations")])
def test_ids_are_compacted_by_name(tmp_path: Path, images: str, maps: str) -> None:
    values = np.array([[number - 1 for number in ID_NAMES]], np.uint8)
    data = CocoStuff(write_set(tmp_path, values, images, maps), "val2017")
    assert data.names == ["000000000139"]
    labels = data[0].labels
    assert [data.class_names[label] for label in labels[0]] == list(ID_NAMES.values())


def test_every_id_in_use_and_void(tmp_path: Path) -> None:
    used = [number for number in range(1, 183) if number not in COCO_UNUSED_IDS]
    values = np.array([[number - 1 for number in used] + [255]], np.uint8)
    labels = CocoStuff(write_set(tmp_path, values, "", "stuffthingmaps"), "val2017")[0].labels
    assert labels[0].tolist() == [*range(171), IGNORE]
    assert (len(COCO_STUFF_THINGS), len(COCO_STUFF_STUFF)) == (80, 91)
    assert len(set(COCO_STUFF_THINGS + COCO_STUFF_STUFF)) == 171
    assert list(COCO_STUFF_STUFF) == sorted(COCO_STUFF_STUFF)


def test_ids_out_of_use_are_refused(tmp_path: Path) -> None:
    write_set(tmp_path, np.zeros((1, 2), np.uint8), "", "stuffthingmaps")
    data = CocoStuff(tmp_path, "val2017")
    path = tmp_path / "stuffthingmaps/val2017/000000000139.png"
    for value in [*(number - 1 for number in COCO_UNUSED_IDS), 182, 254]:
        Image.fromarray(np.array([[0, value]], np.uint8)).save(path)
        with pytest.raises(PixelkinError, match=f"holds {value} in 1 pixel: expected 0 to 181"):
            data[0]
    path.unlink()
    with pytest.raises(PixelkinError, match=r"000000000139\.jpg has no label file"):
        CocoStuff(tmp_path, "val2017")
    with pytest.raises(PixelkinError, match=r"'val' is unknown .* did you mean 'val2017'"):
        CocoStuff(tmp_path, "val")
    with pytest.raises(PixelkinError, match="expected the COCO-Stuff layout"):
        CocoStuff(tmp_path / "nowhere")
