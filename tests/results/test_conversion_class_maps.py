"""Class maps through every format that can be written, and back."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from conversion_cases import Memory, converted_maps, counted, picture
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.data.class_maps.camvid import CamVid
from pixelkin.data.class_maps.from_instances import PaintedClasses
from pixelkin.data.class_maps.sources import open_semantic_source
from pixelkin.data.class_maps.voc import VOC_SEMANTIC_CLASSES, VocSemantic
from pixelkin.data.source import Subset
from pixelkin.errors import PixelkinError
from pixelkin.results.conversion.class_formats import CLASS_MAP_WRITERS
from pixelkin.results.conversion.comparison import compare_class_maps
from pixelkin.results.conversion.report import Report
from pixelkin.structures import IGNORE, Sample

FORMATS = ("pngs", "voc", "coco", "panoptic")


def each(name, numbers):
    return numbers


@settings(max_examples=8, deadline=None)
@given(
    background=st.booleans(),
    size_hw=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.parametrize("name", FORMATS)
def test_labels_come_back(name: str, background: bool, size_hw: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = ("road", "Background" if background else "sky", "car")
    labels = rng.choice([0, 1, 2, IGNORE], size_hw)
    source = Memory([Sample(picture(size_hw), labels, "a")], names)
    with tempfile.TemporaryDirectory() as folder:
        report = converted_maps(source, name, Path(folder) / "set")
        after = CLASS_MAP_WRITERS[name].read(Path(folder) / "set")
        first = len(after.class_names) - len(names)
        assert after.class_names[first:] == names
        added = "class 'background' was added as 0, and all others moved up by one"
        assert (added in report.notes) == (added in report.as_text()) == bool(first)
        assert bool(first) == (name == "coco" and not background)
        expected = np.where(labels == IGNORE, IGNORE, labels + first)
        np.testing.assert_array_equal(after[0].labels, expected)
    assert not report.changed
    assert not report.vanished
    assert not report.unknown
    assert report.lossless or (name == "voc" and report.images == ["a"])


@settings(max_examples=25, deadline=None)
@given(
    count=st.sampled_from([1, 2, 16, 254, 255, 256, 257, 700]),
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_index_pngs_hold_any_number_of_classes(
    count: int, sizes: list[tuple[int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    names = tuple(f"class {n}" for n in range(count))
    if count > IGNORE:
        names = (*names[:IGNORE], "", *names[IGNORE:])
    # Labels at both ends, where they wrap, as often as those between.
    known = [n for n, name in enumerate(names) if name]
    values = np.array([0, known[-1], IGNORE, *rng.choice(known, 3)])
    samples = [
        Sample(rng.integers(0, 256, (*size, 3), np.uint8), rng.choice(values, size), f"s{n}")
        for n, size in enumerate(sizes)
    ]
    with tempfile.TemporaryDirectory() as folder:
        assert converted_maps(Memory(samples, names), "pngs", Path(folder) / "set").lossless
        read = open_semantic_source(f"pngs:{folder}/set")
        assert read.class_names == names
        assert read.names == [sample.name for sample in samples]
        for index, sample in enumerate(samples):
            np.testing.assert_array_equal(read[index].labels, sample.labels)
            np.testing.assert_array_equal(read[index].image, sample.image)


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
def test_class_names_come_back_or_are_refused(names: list[str]) -> None:
    source = Memory([Sample(picture((1, 1)), np.array([[0]]), "a")], tuple(names))
    with tempfile.TemporaryDirectory() as folder:
        try:
            converted_maps(source, "pngs", Path(folder) / "set")
        except PixelkinError:
            assert not (Path(folder) / "set").exists()
        else:
            assert open_semantic_source(f"pngs:{folder}/set").class_names == tuple(names)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_said_to_be_lost_equals_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    old, new = (rng.choice([0, 1, 2, IGNORE], (4, 5)) for _ in range(2))
    report = Report("class maps", "old", "new")
    sources = [Memory([Sample(picture((4, 5)), one, "a")], ("x", "y", "z")) for one in (old, new)]
    compare_class_maps(*sources, ["a"], report, each=each)
    expected, gone, unknown = {}, [], []
    for label in (0, 1, 2, IGNORE):
        was, now = old == label, new == label
        if not was.any() or counted(was, now)[1:] == (0, 0):
            continue
        if label == IGNORE:
            unknown.append(counted(was, now))
        elif now.any():
            expected[label] = counted(was, now)
        else:
            gone.append(label)
    found = {one.instance: (one.pixels, one.missing, one.added) for one in report.changed}
    assert found == expected
    assert [one.instance for one in report.vanished] == gone
    assert [(one.pixels, one.missing, one.added) for one in report.unknown] == unknown


@pytest.mark.parametrize("name", FORMATS)
def test_real_streets(name: str, shared_data: Path, tmp_path: Path) -> None:
    source = Subset(CamVid(shared_data / "camvid", "val"), [0, 5])
    report = converted_maps(source, name, tmp_path / "set")
    assert report.lossless == (name != "voc")
    after = CLASS_MAP_WRITERS[name].read(tmp_path / "set")
    first = len(after.class_names) - len(source.class_names)
    for index in range(2):
        was = source[index].labels
        expected = np.where(was == IGNORE, IGNORE, was + first)
        np.testing.assert_array_equal(after[index].labels, expected)


@pytest.mark.parametrize("classes", [3, 300])
def test_what_was_written_opens_by_name_with_its_unknown_pixels(
    tmp_path: Path, classes: int
) -> None:
    """Also a map of nothing but the first class and unknown, in 8 bits and in the 16 of many."""
    names = tuple(f"class {n}" if n != IGNORE else "" for n in range(classes))
    maps = [np.array([[0, IGNORE, 0], [0, 0, n]]) for n in (0, classes - 1)]
    source = Memory([Sample(picture((2, 3)), one, str(n)) for n, one in enumerate(maps)], names)
    converted_maps(source, "pngs", tmp_path / "set")
    for spec in (tmp_path / "set", f"pngs:{tmp_path / 'set'}"):
        after = open_semantic_source(spec)
        assert after.class_names == names
        for index, labels in enumerate(maps):
            np.testing.assert_array_equal(after[index].labels, labels)
    assert (tmp_path / "set" / "classes.txt").read_text().endswith("\nignore: 255\n")


def test_voc_opens_as_voc(tmp_path: Path) -> None:
    labels = np.array([[0, 20, IGNORE], [5, 0, 0]])
    source = Memory([Sample(picture((2, 3)), labels, "a")], VOC_SEMANTIC_CLASSES)
    converted_maps(source, "voc", tmp_path / "set")
    read = open_semantic_source(f"voc:{tmp_path / 'set'}")
    assert read.class_names == VOC_SEMANTIC_CLASSES
    np.testing.assert_array_equal(read[0].labels, labels)


def test_voc_opens_with_the_names_that_were_written(tmp_path: Path) -> None:
    """Also more classes than VOC has; the proof reads them as a user does."""
    names = tuple(f"class {n}" for n in range(255))
    labels = np.array([[0, 254, IGNORE], [21, 0, 0]])
    converted_maps(Memory([Sample(picture((2, 3)), labels, "a")], names), "voc", tmp_path / "set")
    for spec in (tmp_path / "set", f"voc:{tmp_path / 'set'}"):
        read = open_semantic_source(spec)
        assert read.class_names == names
        np.testing.assert_array_equal(read[0].labels, labels)
    assert isinstance(CLASS_MAP_WRITERS["voc"].read(tmp_path / "set"), VocSemantic)


@pytest.mark.parametrize(
    ("labels", "names", "format", "message"),
    [
        ([[3]], ("x", "y"), "pngs", "a has label 3: expected 0 to 1 or 255"),
        ([[-1]], ("x", "y"), "pngs", "a has label -1"),
        ([[0]], ("x", "y\nz"), "pngs", "cannot stand in a line"),
        ([[0]], ("x", "y", "x"), "pngs", "has 'x' twice"),
        ([[0]], tuple(map(str, range(256))), "pngs", "says ignore: 255, and 255 is '255'"),
        ([[0]], tuple(map(str, range(256))), "voc", "at most 255, as VOC's 8 bits"),
        ([[0]], tuple(map(str, range(256))), "coco", "at most 255"),
    ],
)
def test_what_cannot_be_written_leaves_nothing(
    labels: list[list[int]], names: tuple[str, ...], format: str, message: str, tmp_path: Path
) -> None:
    source = Memory([Sample(picture((1, 1)), np.array(labels), "a")], names)
    with pytest.raises(PixelkinError, match=message):
        converted_maps(source, format, tmp_path / "set")
    assert not list(tmp_path.iterdir())


def test_painted_instances_past_255_keep_their_classes() -> None:
    from conversion_cases import still
    from test_conversion_losses import squares

    painted = PaintedClasses(Memory([still(squares(300))]))
    assert painted.class_names == ("background", "cat", "dog")
    expected = np.zeros((40, 40), int)
    for n in range(300):
        expected[n // 40, n % 40] = n % 2 + 1
    np.testing.assert_array_equal(painted[0].labels, expected)
