import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.class_maps.ccp import CcpSemantic
from pixelkin.data.class_maps.writer import read_semantic_pngs, write_semantic_pngs
from pixelkin.data.source import Subset
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE, Sample


class Memory:
    def __init__(self, samples: Sequence[Sample], class_names: tuple[str, ...]) -> None:
        self.names = [sample.name for sample in samples]
        self.class_names = class_names
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def image_file(self, index: int) -> None:
        return None


def still(labels: object, name: str = "a") -> Sample:
    labels = np.array(labels, np.int64)
    image = np.arange(labels.size * 3, dtype=np.uint8).reshape(*labels.shape, 3)
    return Sample(image, labels, name)


def gapped(count: int) -> tuple[str, ...]:
    names = [f"class {n}" for n in range(count)]
    return tuple(names if count <= IGNORE else [*names[:IGNORE], "", *names[IGNORE:]])


@settings(max_examples=25, deadline=None)
@given(
    count=st.sampled_from([1, 2, 16, 254, 255, 256, 257, 700]),
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_round_trip(count: int, sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = gapped(count)
    # Labels at both ends, where they wrap, as often as those between.
    known = [n for n, name in enumerate(names) if name]
    values = np.array([0, known[-1], IGNORE, *rng.choice(known, 3)])
    samples = [
        Sample(rng.integers(0, 256, (*size, 3), np.uint8), rng.choice(values, size), f"s{n}")
        for n, size in enumerate(sizes)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_semantic_pngs(Memory(samples, names), Path(folder) / "set")
        read = read_semantic_pngs(Path(folder) / "set")
        assert read.class_names == names
        assert read.names == [sample.name for sample in samples]
        for index, sample in enumerate(samples):
            np.testing.assert_array_equal(read[index].labels, sample.labels)
            np.testing.assert_array_equal(read[index].image, sample.image)


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
def test_class_names_come_back_or_are_refused(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Memory([still([[0]])], tuple(names))
        try:
            write_semantic_pngs(source, Path(folder) / "set")
        except PixelkinError:
            assert not (Path(folder) / "set").exists()
        else:
            assert read_semantic_pngs(Path(folder) / "set").class_names == tuple(names)


def test_what_lies_in_the_folder(tmp_path: Path) -> None:
    source = Memory([still([[0, 1, IGNORE]], "city/1"), still([[1]], "city/0")], ("road", "2: car"))
    (tmp_path / "set").mkdir()
    write_semantic_pngs(source, tmp_path / "set")
    assert (tmp_path / "set/classes.txt").read_text() == "0: road\n1: 2: car\nignore: 255\n"
    with Image.open(tmp_path / "set/labels/city_1.png") as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((1, 0)) == (128, 0, 0)
        assert np.array(image).tolist() == [[0, 1, 255]]
    assert read_semantic_pngs(tmp_path / "set").names == ["city_0", "city_1"]
    write_semantic_pngs(Memory([still([[0, 256, IGNORE]])], gapped(256)), tmp_path / "deep")
    with Image.open(tmp_path / "deep/labels/a.png") as image:
        assert image.mode == "I;16"


@pytest.mark.parametrize(
    ("samples", "names", "message"),
    [
        ([still([[2]])], ("a", "b"), "a has label 2: expected 0 to 1 or 255"),
        ([still([[-1]])], ("a", "b"), "a has label -1"),
        ([still([[0]], "x/y"), still([[0]], "x_y")], ("a",), "'x/y' and 'x_y' share x_y"),
        ([still([[0]], ".x")], ("a",), "'.x' cannot name a file"),
        ([still([[0]])], ("a", "b", "a"), "'a' is there twice"),
        ([still([[0]])], ("a", "b\nc"), "cannot stand in a line"),
        ([still([[0]])], ("a", ""), "cannot stand in a line"),
        ([still([[0]])], tuple(map(str, range(256))), "'255' has label 255, which means unknown"),
        ([], ("a",), "has no still"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    tmp_path: Path, samples: list[Sample], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PixelkinError, match=message):
        write_semantic_pngs(Memory(samples, names), tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(PixelkinError, match="is there already"):
        write_semantic_pngs(Memory([still([[0]])], ("a",)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_real_photos(shared_data: Path, tmp_path: Path) -> None:
    source = Subset(CcpSemantic(shared_data / "ccp"), [0, 7])
    write_semantic_pngs(source, tmp_path / "set")
    read = read_semantic_pngs(tmp_path / "set")
    assert read.class_names == source.class_names
    for index in range(2):
        np.testing.assert_array_equal(read[index].labels, source[index].labels)
        np.testing.assert_array_equal(read[index].image, source[index].image)
