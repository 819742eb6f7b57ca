import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.ade20k import Ade20k, Ade20kInstances, read_ade_json, read_ade_png
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle
from pixelkin.structures import IGNORE

NUMBERS = np.array([[0, 2978, 2978, 312], [0, 2978, 312, 312], [3000, 401, 401, 401]])
BLUE = np.array([[0, 40, 40, 90], [0, 40, 135, 135], [200, 7, 7, 254]])
PARTS = np.array([[0, 3050, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2600]])
NAMES = {312: "building, edifice", 401: "car, auto", 2978: "wall", 3000: "café"}
PART_NAMES = {3050: "window", 2600: "door, handle"}


def encoded(numbers: np.ndarray, blue: np.ndarray | None = None) -> Image.Image:
    red, green = numbers // 256 * 10, numbers % 256
    blue = np.zeros_like(numbers) if blue is None else blue
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def annotation(objects: object) -> bytes:
    text = json.dumps({"annotation": {"filename": "x.jpg", "object": objects}}, ensure_ascii=False)
    return text.encode("latin-1")


def entry(key: int, number: int, name: str, level: int = 0) -> dict[str, object]:
    parts = {"hasparts": [], "ispartof": [], "part_level": level}
    return {"id": key, "name": name, "name_ndx": number, "raw_name": name, "parts": parts}


def write_set(root: Path, numbers: np.ndarray = NUMBERS, blue: np.ndarray = BLUE) -> Path:
    folder = root / "images/ADE/training/urban/street"
    folder.mkdir(parents=True)
    stem = folder / "ADE_train_00000002"
    Image.new("RGB", numbers.shape[::-1]).save(stem.with_suffix(".jpg"))
    encoded(numbers, blue).save(f"{stem}_seg.png")
    encoded(PARTS).save(f"{stem}_parts_1.png")
    objects = [entry(i, n, name) for i, (n, name) in enumerate(NAMES.items())]
    objects += [entry(9, n, name, 1) for n, name in PART_NAMES.items()]
    stem.with_suffix(".json").write_bytes(annotation(objects))
    # A scene elsewhere, without parts, whose only object MATLAB did not write as a list.
    other = root / "images/ADE/training/home/bed"
    other.mkdir(parents=True)
    Image.new("RGB", (2, 1)).save(other / "ADE_train_00000001.jpg")
    encoded(np.array([[165, 0]]), np.array([[9, 0]])).save(other / "ADE_train_00000001_seg.png")
    (other / "ADE_train_00000001.json").write_bytes(annotation(entry(0, 165, "bed")))
    return root


def test_a_long_reading_is_told(tmp_path: Path, monkeypatch, caplog) -> None:
    write_set(tmp_path)
    Ade20k(tmp_path)
    assert not caplog.messages
    monkeypatch.setattr("pixelkin.data.class_maps.ade20k._MANY", 2)
    Ade20k(tmp_path)
    assert "from 2 JSON files, which takes a while" in caplog.text
    Ade20k(tmp_path, classes=NAMES | {165: "bed"})
    assert len(caplog.messages) == 1


def test_classes_present_are_compacted(tmp_path: Path) -> None:
    data = Ade20k(write_set(tmp_path))
    assert data.names == ["ADE_train_00000001", "ADE_train_00000002"]
    assert data.class_names == ("bed", "building, edifice", "car, auto", "wall", "café")
    assert data[0].labels.tolist() == [[0, IGNORE]]
    assert data[1].labels.tolist() == [[255, 3, 3, 1], [255, 3, 1, 1], [4, 2, 2, 2]]
    levels = [(one.name, one.part_level) for one in data.objects(1)]
    assert levels[-2:] == [("window", 1), ("door, handle", 1)]
    assert data.objects(0)[0].number == 165


def test_chosen_classes(tmp_path: Path) -> None:
    write_set(tmp_path)
    data = Ade20k(tmp_path, classes=["wall", "car, auto"])
    assert data.class_names == ("wall", "car, auto")
    expected = [[255, 0, 0, 255], [255, 0, 255, 255], [255, 1, 1, 1]]
    assert data[1].labels.tolist() == expected
    data = Ade20k(tmp_path, classes=["wall", "car, auto"], others="background")
    assert data.class_names == ("background", "wall", "car, auto")
    assert data[1].labels.tolist() == [[255, 1, 1, 0], [255, 1, 0, 0], [0, 2, 2, 2]]
    for path in tmp_path.rglob("*.json"):
        path.unlink()
    data = Ade20k(tmp_path, classes={2978: "wall", 401: "car, auto"})
    assert data[1].labels.tolist() == expected


def test_parts_are_a_level_of_their_own(tmp_path: Path) -> None:
    data = Ade20k(write_set(tmp_path), part_level=1)
    assert data.names == ["ADE_train_00000002"]
    assert data.class_names == ("door, handle", "window")
    assert (
        data[0].labels.tolist() == np.select([PARTS == 3050, PARTS == 2600], [1, 0], 255).tolist()
    )
    with pytest.raises(PixelkinError, match=r"holds no \*_parts_2\.png"):
        Ade20k(tmp_path, part_level=2)


def test_more_classes_than_255_leave_that_label_out(tmp_path: Path) -> None:
    write_set(tmp_path, np.arange(1, 301).reshape(1, 300), np.zeros((1, 300), int))
    data = Ade20k(tmp_path, classes={number: f"class {number}" for number in range(1, 301)})
    assert len(data.class_names) == 301
    assert data.class_names[255] == ""
    labels = data[1].labels[0]
    assert labels.tolist() == [*range(255), *range(256, 301)]
    assert [data.class_names[label] for label in labels] == [f"class {n}" for n in range(1, 301)]


def test_instances_are_ranks_of_blue(tmp_path: Path) -> None:
    data = Ade20kInstances(write_set(tmp_path))
    sample = data[1]
    found = {
        (one.key, data.class_names[one.category]): decode_rle(one.rle, NUMBERS.shape)
        for one in sample.instances
    }
    ranks = {7: "1", 40: "2", 90: "3", 135: "4", 200: "5", 254: "6"}
    expected = {}
    for value, rank in ranks.items():
        number = NUMBERS[value == BLUE][0]
        expected[rank, NAMES[number]] = value == BLUE
    assert found.keys() == expected.keys()
    for key, mask in expected.items():
        np.testing.assert_array_equal(found[key], mask)
    assert sample.ignore is not None
    np.testing.assert_array_equal(decode_rle(sample.ignore, NUMBERS.shape), NUMBERS == 0)
    chosen = Ade20kInstances(tmp_path, classes=["car, auto"])[1]
    assert [(one.key, one.category) for one in chosen.instances] == [("1", 0), ("6", 0)]


def test_a_scene_without_void_ranks_its_objects_from_one(tmp_path: Path) -> None:
    write_set(tmp_path, np.array([[401, 401]]), np.array([[30, 60]]))
    sample = Ade20kInstances(tmp_path)[1]
    assert [one.key for one in sample.instances] == ["1", "2"]
    assert sample.ignore is None


def test_every_class_number_survives_the_encoding(tmp_path: Path) -> None:
    numbers = np.arange(1, 6656).reshape(-1, 5)
    encoded(numbers).save(tmp_path / "x_seg.png")
    read = read_ade_png(tmp_path / "x_seg.png", size_hw=numbers.shape)[0]
    np.testing.assert_array_equal(read, numbers)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    write_set(tmp_path)
    with pytest.raises(PixelkinError, match=r"'building' is unknown.*mean 'building, edifice'"):
        Ade20k(tmp_path, classes=["building"])
    with pytest.raises(PixelkinError, match="expected a list of names, each once"):
        Ade20k(tmp_path, classes=["wall", "wall"])
    with pytest.raises(PixelkinError, match="'trainin' is unknown"):
        Ade20k(tmp_path, "trainin")
    folder = tmp_path / "images/ADE/training/urban/street"
    path = folder / "ADE_train_00000002_seg.png"
    data = Ade20k(tmp_path)
    encoded(np.where(NUMBERS == 401, 402, NUMBERS)).save(path)
    with pytest.raises(
        PixelkinError, match="holds 402 in 3 pixels: expected a class that the JSON"
    ):
        data[1]
    Image.new("L", (4, 3)).save(path)
    with pytest.raises(PixelkinError, match="is PNG of mode L: expected an RGB PNG"):
        data[1]
    broken = folder / "ADE_train_00000002.json"
    broken.write_text('{"annotation": {}}')
    with pytest.raises(PixelkinError, match=r"cannot read the ADE20K annotation .*00002\.json"):
        read_ade_json(broken)
    broken.unlink()
    with pytest.raises(PixelkinError, match=r"no ADE20K annotation file .*00002\.json"):
        Ade20k(tmp_path)
    (folder / "ADE_train_00000002.jpg").unlink()
    with pytest.raises(PixelkinError, match="has no image: expected"):
        Ade20k(tmp_path)
