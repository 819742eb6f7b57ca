"""Data sets of instances as class maps that know what is one object."""

from pathlib import Path

import numpy as np
import pytest
from tiny_instance_sets import EMPTY_COCO, INSTANCE_SETS, make_yolo, picture, text

from pixelkin.data.class_maps.from_instances import PaintedClasses
from pixelkin.data.class_maps.sources import (
    PAINTED_FORMATS,
    SEMANTIC_FORMATS,
    open_semantic_source,
    recognised_semantic,
    semantic_parts,
)
from pixelkin.data.instances.sources import FORMATS, open_source
from pixelkin.data.memory import InMemory
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.structures import IGNORE, Instance, InstanceSample, Sample, nth_instance_id


class Scenes:
    """300 instances of up to 30 pixels that overlap, a crowd, and unknown pixels; in a still."""

    def __init__(self, class_names: tuple[str, ...]) -> None:
        rng = np.random.default_rng(len(class_names))
        self.names = ["still"]
        self.class_names = class_names
        self.masks = np.zeros((300, 20, 31), bool)
        for mask in self.masks:
            y, x = rng.integers(0, 18), rng.integers(0, 28)
            mask[y : y + rng.integers(1, 6), x : x + rng.integers(1, 7)] = True
        self.categories = rng.integers(0, max(len(class_names), 1), 300)
        self.crowd, self.unknown = (rng.random((20, 31)) < 0.1 for _ in range(2))
        image = rng.integers(0, 256, (20, 31, 3), dtype=np.uint8)
        pairs = zip(self.masks, self.categories, strict=True)
        instances = [Instance(encode_rle(mask), int(category)) for mask, category in pairs]
        instances.insert(7, Instance(encode_rle(self.crowd), crowd=True))
        self.still = InstanceSample(image, tuple(instances), "still", encode_rle(self.unknown))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> InstanceSample:
        return self.still

    def image_file(self, index: int) -> Path | None:
        return None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("cat", "dog"), ("background", "cat", "dog")),
        (("cat", "_background_", "dog"), ("cat", "_background_", "dog")),
        ((), ("background", "object")),
    ],
)
def test_classes_and_objects_against_loops(
    given: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    scenes = Scenes(given)
    source = PaintedClasses(scenes, nameless="object")
    assert source.class_names == expected
    ground = next(i for i, name in enumerate(expected) if "background" in name)
    found = source[0]
    assert found.objects is not None
    assert found.labels.dtype == found.objects.dtype == np.int64
    areas = scenes.masks.sum((1, 2))
    for y, x in np.ndindex(20, 31):
        covering = [n for n in range(300) if scenes.masks[n, y, x]]
        label, thing = ground, 0
        if covering:
            # The smallest on top; of equals the last.
            top = min(covering, key=lambda n: (areas[n], -n))
            name = given[scenes.categories[top]] if given else "object"
            label = expected.index(name)
            thing = 0 if label == ground else nth_instance_id(top)
        elif scenes.crowd[y, x] or scenes.unknown[y, x]:
            label = thing = IGNORE
        assert (found.labels[y, x], found.objects[y, x]) == (label, thing)


def test_in_memory_objects_stay() -> None:
    source = PaintedClasses(Scenes(("cat", "dog")))
    kept, expected = InMemory(source)[0], source[0]
    assert kept.objects is not None
    assert kept.objects.dtype == np.int64
    assert kept.objects.max() > IGNORE
    np.testing.assert_array_equal(kept.objects, expected.objects)
    np.testing.assert_array_equal(kept.labels, expected.labels)


def test_objects_of_another_size_are_refused() -> None:
    image, labels = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.int64)
    with pytest.raises(PixelkinError, match=r"x: labels have shape \(2, 3\) and objects \(3, 2\)"):
        Sample(image, labels, "x", objects=labels.T)


def test_every_format_of_instances_opens_by_its_name() -> None:
    assert {*PAINTED_FORMATS} | {*SEMANTIC_FORMATS} >= {*FORMATS}
    assert not {*PAINTED_FORMATS} & {*SEMANTIC_FORMATS}


@pytest.mark.parametrize("name", PAINTED_FORMATS)
def test_by_name_and_by_what_lies_there(tmp_path: Path, name: str) -> None:
    INSTANCE_SETS[name](tmp_path)
    instances = open_source(f"{name}:{tmp_path}")
    specs: list[str | Path] = [f"{name}:{tmp_path}"]
    if not name.startswith("ade20k"):
        # There a path alone means the class maps of the same files.
        assert recognised_semantic(tmp_path) == name
        specs.append(tmp_path)
    for spec in specs:
        source = open_semantic_source(spec)
        assert source.names == instances.names
        assert source.class_names == ("background", *(instances.class_names or ("object",)))
        still, truth = source[0], instances[0]
        covered = np.zeros(still.labels.shape, bool)
        for one in truth.instances:
            covered |= decode_rle(one.rle, truth.size_hw)
        if truth.ignore is not None:
            covered |= decode_rle(truth.ignore, truth.size_hw)
        np.testing.assert_array_equal(still.labels != 0, covered)
        np.testing.assert_array_equal(still.objects != 0, covered)
        assert source.image_file(0) == instances.image_file(0)
    with pytest.raises(PixelkinError, match="takes no classes: expected images, masks, split"):
        open_semantic_source(f"{name}:{tmp_path}", classes=["cat"])


def test_folders_and_splits_are_handed_on(tmp_path: Path) -> None:
    text(tmp_path / "ann.json", EMPTY_COCO)
    picture(tmp_path / "pictures" / "a.png")
    source = open_semantic_source(f"coco:{tmp_path / 'ann.json'}", images=tmp_path / "pictures")
    assert source.names == ["a"]
    with pytest.raises(PixelkinError, match="takes no masks: expected images; leave it out"):
        open_semantic_source(f"coco:{tmp_path / 'ann.json'}", masks=tmp_path)
    for split in ("train", "val"):
        make_yolo(tmp_path / "yolo" / split)
    assert semantic_parts(f"yolo:{tmp_path / 'yolo'}") == ["train", "val"]
    assert open_semantic_source(tmp_path / "yolo", split="val").names == ["a"]
    with pytest.raises(PixelkinError, match="divided into train, val"):
        open_semantic_source(tmp_path / "yolo")


def test_real_photos_of_pedestrians(shared_data: Path) -> None:
    source = open_semantic_source(shared_data / "penn_fudan")
    assert source.class_names == ("background", "pedestrian")
    instances = open_source(shared_data / "penn_fudan")
    for index in (0, len(source) - 1):
        still = source[index]
        assert still.objects is not None
        assert len(np.unique(still.objects)) - 1 == len(instances[index].instances)
        np.testing.assert_array_equal(still.labels == 1, still.objects > 0)
