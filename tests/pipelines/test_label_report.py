"""report.html: what it names is there, and it needs nothing from elsewhere."""

import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rendered_photos import label

from pixelkin.masks import read_indexed_png
from pixelkin.pipelines.weak_labels import Extent
from pixelkin.pipelines.weak_labels.report import (
    SAMPLES,
    TRAININGS,
    _curves,
    columns,
    curve,
    middle_of_largest,
    samples,
    write_report,
)
from pixelkin.pipelines.weak_labels.stages import class_coverage
from pixelkin.pipelines.weak_labels.workspace import Workspace

pytest.importorskip("lightning")

VOID = {"meta", "img", "br", "hr", "input", "link", "path", "polyline", "circle", "line", "rect"}


class Page(HTMLParser):
    """The elements of a page; a tag that is not closed, or closed twice, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def ran(root, whole):
    shutil.copytree(whole, root / "a run <1>")
    shutil.rmtree(root / "a run <1>" / "report")
    run = label(root, root / "a run <1>")
    for stage in ("classifier", "affinity", "network"):
        # So few steps give one row alone, which is no curve.
        with open(run.workspace.folder(stage) / "metrics.csv", "w") as handle:
            handle.write("step,loss\n20,2.5\n40,\n60,1.5\n")
    write_report(run)
    return root, run


@pytest.fixture(scope="module")
def page(ran) -> Page:
    return Page((ran[1].workspace.root / "report.html").read_text("utf-8"))


def test_it_names_every_stage_training_class_and_photo(ran, page):
    text = " ".join(page.text.split())
    told = ("a run <1>", "10 photos, 9 with tags", "b/a&7", "tags: disc, square",
            "no tags: only the network")  # fmt: skip
    titles = [title for stage, title in TRAININGS.items() if stage != "irnet"]
    for words in (*columns(ran[1]).values(), *titles, *told):
        assert words in text
    # The legend and the table.
    assert text.count("square") >= 2
    assert sum(tag == "svg" for tag, _ in page.found) == len(titles)


def test_all_pictures_are_there_and_nothing_comes_from_elsewhere(ran, page):
    root = ran[1].workspace.root
    sources = [values["src"] for tag, values in page.found if tag == "img"]
    # Of 8 photos with tags all kinds; of one without, itself and the network's masks.
    assert len(sources) == 8 * len(columns(ran[1])) + 2
    assert len(set(sources)) == len(sources)
    for source in sources:
        with Image.open(root / source) as picture:
            picture.load()
            assert picture.size in ((64, 32), (32, 64))
    for tag, values in page.found:
        assert tag not in ("script", "link", "iframe")
        for name, value in values.items():
            assert name not in ("href", "srcset")
            assert "//" not in (value or "")
        if tag == "img":
            assert values["alt"]
    assert "http" not in (root / "report.html").read_text("utf-8")
    assert "url(" not in (root / "report.html").read_text("utf-8")


def test_coverage_equals_counting(ran, page):
    run = ran[1]
    for folder in ("labels", "4_regions", "predictions"):
        counts = np.zeros(256, int)
        for index in run.photos.with_tags():
            path = run.workspace.root / folder / f"{run.photos.names[index]}.png"
            values, numbers = np.unique(read_indexed_png(path), return_counts=True)
            counts[values] += numbers
        found = class_coverage(run, folder)
        assert list(found) == ["background", "disc", "square"]
        for number, share in enumerate(found.values()):
            assert share == pytest.approx(counts[number] / counts.sum())
    assert re.search(r"square\s*5 \(56%\)", page.text)


def test_a_report_of_a_part_of_a_run(ran, tmp_path):
    root, run = ran
    out = tmp_path / "out"
    shutil.copytree(run.workspace.root, out)
    Workspace(out).clear_from("affinity")
    (out / "report.html").unlink()
    label(root, out, extent=Extent(only="regions"))
    page = Page((out / "report.html").read_text("utf-8"))
    kinds = {Path(values["src"]).stem.split("_")[1] for tag, values in page.found if tag == "img"}
    assert kinds == {"photo", "activations", "regions"}


@pytest.mark.parametrize(("tagged", "untagged"), [(3, 2), (100, 0), (100, 2), (100, 50), (1, 30)])
def test_samples_are_spread_and_some_are_without_tags(ran, tagged, untagged):
    count = tagged + untagged
    names = tuple(map(str, range(count)))
    there = np.arange(count) < tagged
    photos = replace(
        ran[1].photos, names=names, files=names, sizes_hw=((8, 8),) * count, tagged=there,
        tags=np.stack([there, there], axis=1),
    )  # fmt: skip
    shown = samples(replace(ran[1], photos=photos))
    assert len(shown) == len(set(shown)) == min(SAMPLES, count)
    of_untagged = [one for one in shown if one >= tagged]
    assert len(of_untagged) >= min(3, untagged)
    if tagged > SAMPLES:
        of_tagged = [one for one in shown if one < tagged]
        assert (of_tagged[0], of_tagged[-1]) == (0, tagged - 1)
        assert np.ptp(np.diff(of_tagged)) <= 1


def test_losses_too_few_for_a_curve_are_told(ran, tmp_path):
    run = replace(ran[1], workspace=Workspace(tmp_path))
    assert _curves(run) == ["<p>No training has told a loss yet.</p>"]
    (tmp_path / "2_classifier").mkdir()
    (tmp_path / "2_classifier" / "metrics.csv").write_text("step,loss\n4,2.639\n")
    assert _curves(run) == ["<p>tag classifier: 2.64 after 4 steps</p>"]


def test_a_curve_by_hand():
    found = curve([(10, 4.0), (20, 1.0), (40, 2.0)])
    (points,) = re.findall(r'points="([^"]*)"', found)
    # 270 wide from 44, 132 high from 6.
    assert points == "111.5,6.0 179.0,105.0 314.0,72.0"
    assert "loss from 4 to 2 in 40 steps" in found
    assert Page(found).found[0][0] == "svg"
    assert "nan" not in curve([(1, 0.0), (2, 0.0)])


@given(st.integers(0, 2**31), st.integers(3, 12), st.integers(3, 12))
def test_the_marked_cell_is_the_innermost_of_the_largest_region(seed, h, w):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 2, 255], np.uint8), (h, w), p=[0.1, 0.6, 0.2, 0.1])
    x, y = middle_of_largest(labels)
    counts = {one: int((labels == one).sum()) for one in (1, 2)}
    largest = max(counts, key=counts.get)
    if counts[largest] == 0:
        assert (x, y) == (w // 2, h // 2)
        return
    inside = np.pad(labels == labels[y, x], 1)

    def depth(row: int, column: int) -> float:
        rows, columns = np.nonzero(~inside)
        return float(np.hypot(rows - row - 1, columns - column - 1).min())

    assert counts[int(labels[y, x])] == counts[largest]
    deepest = max(depth(r, c) for r, c in zip(*np.nonzero(labels == labels[y, x]), strict=True))
    # OpenCV's distances with a mask of 3 are a few per cent off.
    assert depth(y, x) >= 0.9 * deepest
