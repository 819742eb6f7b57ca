"""Methods judged on small DAVIS folders made of real frames."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelkin.assess import (
    METHODS,
    assess,
    assess_interactive,
    build_method,
    follow_first_mask,
    masks_in,
    summarise,
)
from pixelkin.assess.files import choose_worst
from pixelkin.assess.robot import to_references
from pixelkin.data.clips.davis import VideoFolder
from pixelkin.errors import PixelkinError
from pixelkin.evaluation.interactive import Scribble as Stroke
from pixelkin.evaluation.video import Report, evaluate_sequence_2016
from pixelkin.grouping.references import Mask
from pixelkin.masks import read_indexed_png, write_indexed_png
from pixelkin.media import MemoryClip, open_clip
from pixelkin.models.retrieval_model import small_model
from pixelkin.runtime import EagerRuntime
from pixelkin.video import ClipSession

HEIGHT, WIDTH, FRAMES = 64, 80, 6


@pytest.fixture(scope="module")
def frames(carphone_clip) -> list[np.ndarray]:
    with open_clip(carphone_clip) as clip:
        return [f[40 : 40 + HEIGHT, 50 : 50 + WIDTH].copy() for f in clip.frames(0, FRAMES)]


@pytest.fixture(scope="module")
def root(frames, tmp_path_factory) -> Path:
    """Two sequences; "dog" is one of those that do not count in T."""
    base = tmp_path_factory.mktemp("davis")
    for name, speed in (("car", 1), ("dog", 3)):
        for index, frame in enumerate(frames):
            labels = np.zeros((HEIGHT, WIDTH), np.uint8)
            labels[10:40, 10 + speed * index : 40 + speed * index] = 1
            image = base / "JPEGImages" / "480p" / name / f"{index:05}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(image)
            mask = base / "Annotations" / "480p" / name / f"{index:05}.png"
            write_indexed_png(mask, labels)
    return base


@pytest.fixture(scope="module")
def runtime() -> EagerRuntime:
    torch.manual_seed(0)
    return EagerRuntime(small_model(), "cpu")


def test_following_is_what_a_session_gives(frames, runtime):
    first = np.zeros((HEIGHT, WIDTH), np.uint8)
    first[10:40, 10:40], first[45:60, 50:70], first[:5] = 1, 2, 255
    with ClipSession(runtime, MemoryClip(frames[:3])) as session:
        session.add(Mask.from_labels(0, first))
        expected = list(session.all_labels())
    found = list(follow_first_mask(runtime, iter(frames[:3]), first))
    assert len(found) == 3
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours == theirs).all()


def test_measures_are_those_of_the_masks_written(root, tmp_path):
    data, steps = VideoFolder(root, year=2016), []
    found = assess(
        data,
        build_method("copy"),
        name="copy",
        out=tmp_path,
        progress=lambda *step: steps.append(step),
    )
    assert steps[0] == ("car", 1, FRAMES)
    assert steps[-1] == ("dog", FRAMES, FRAMES)
    results = []
    for name in ("car", "dog"):
        written = [
            read_indexed_png(path) for path in sorted((tmp_path / "masks" / name).glob("*.png"))
        ]
        results.append(evaluate_sequence_2016(written, list(data.labels(name)), name=name))
    expected, every = Report(tuple(results)).summary(), Report(tuple(results), frozenset())
    summary = json.loads((tmp_path / "summary.json").read_text())
    for name, value in expected.items():
        assert summary[name] == pytest.approx(value, abs=1e-5)
    assert summary["T"] == pytest.approx(results[0].summary()["T"], abs=1e-5)
    assert summary["T_all_sequences"] == pytest.approx(every.summary()["T"], abs=1e-5)
    assert summary["frames"] == 2 * FRAMES
    assert summary["fps"] > 0
    assert summary["versions"]["torch"]
    assert summarise(found)["J&F"] == summary["J&F"]
    per_frame = json.loads((tmp_path / "per_frame.json").read_text())
    # A box of 30 columns that moves 3 a frame, and its copy that stays.
    boxes = [(30 - 3 * i) / (30 + 3 * i) for i in range(1, FRAMES - 1)]
    assert per_frame["sequences"]["dog"]["objects"]["1"]["J"] == pytest.approx(boxes)
    assert "dog" in (tmp_path / "table.txt").read_text()
    gallery = np.asarray(Image.open(tmp_path / "worst.png"))
    # Two frames in two columns: no third, which would be white.
    assert gallery.shape[1] == 2 * 512
    assert (gallery[:, 700:] < 250).any()
    assert [(s.sequence, s.frame) for s in choose_worst(found.report, 12)] == [
        ("dog", FRAMES - 2),
        ("car", FRAMES - 2),
    ]


def test_masks_that_are_there(root, tmp_path):
    data = VideoFolder(root, year=2017)
    folder = root / "Annotations" / "480p"
    perfect = assess(data, masks_in(folder), year=2017, sequences=["dog"])
    assert summarise(perfect)["J&F"] == 1
    assert summarise(perfect)["fps"] is None
    assert summarise(perfect)["T"] is None
    # The first and the last are not judged; another one that is missing is a mistake.
    for index in range(1, FRAMES - 1):
        labels = read_indexed_png(folder / "dog" / f"{index:05}.png")
        write_indexed_png(tmp_path / "dog" / f"{index:05}.png", labels)
    assert summarise(assess(data, masks_in(tmp_path), year=2017, sequences=["dog"]))["J&F"] == 1
    (tmp_path / "dog" / "00002.png").unlink()
    with pytest.raises(PixelkinError, match=r"no mask at .*00002\.png"):
        assess(data, masks_in(tmp_path), year=2017, sequences=["dog"])


def test_every_method_is_built_or_says_what_it_needs(root):
    assert set(METHODS) == {
        "pixelkin",
        "copy",
        "flow",
        "untrained",
        "retrieval",
        "retrieval-untrained",
        "osvos",
        "masktrack",
    }
    flow = assess(VideoFolder(root, year=2016), build_method("flow"), sequences=["car"])
    assert flow.frames == FRAMES
    with pytest.raises(PixelkinError, match="masktrack:FOLDER"):
        build_method("masktrack")
    with pytest.raises(PixelkinError, match="no checkpoint at /gone"):
        build_method("osvos:/gone")
    with pytest.raises(PixelkinError, match="choose pixelkin, copy"):
        build_method("magic")


def test_sequences_without_all_masks_are_refused_first(root, tmp_path):
    data = VideoFolder(root, year=2016)
    mask = root / "Annotations" / "480p" / "dog" / "00003.png"
    mask.rename(tmp_path / "aside.png")
    try:
        with pytest.raises(PixelkinError, match="dog has masks for 5 of 6 frames"):
            assess(data, lambda clip, first: pytest.fail("began"), out=tmp_path / "out")
    finally:
        (tmp_path / "aside.png").rename(mask)
    with pytest.raises(PixelkinError, match="gave 0 masks of car"):
        assess(data, lambda clip, first: iter(()))


def test_strokes_end_on_the_pixels_they_name():
    stroke = Stroke(np.array([[0.0, 0.0], [0.5, 1.0], [1.0, 1.0]]), 2)
    (scribble,) = to_references({3: [stroke]}, (HEIGHT, WIDTH + 1))
    assert (scribble.frame, scribble.object_id) == (3, 2)
    pixels = [(int(x), int(y)) for x, y in scribble.points_xy]
    assert pixels == [(0, 0), (WIDTH // 2, HEIGHT - 1), (WIDTH, HEIGHT - 1)]


def test_interactive(root, runtime, tmp_path):
    data = VideoFolder(root, year=2017)
    seen: list[tuple[str, int, int]] = []
    found = assess_interactive(
        data,
        runtime,
        sequences=["car"],
        max_interactions=2,
        out=tmp_path,
        progress=lambda *step: seen.append(step),
    )
    assert seen[0] == ("car", 1, 2)
    scores = found["sequences"]["car"]["scores"]
    assert len(scores) == len(seen)
    assert 0 <= found["AUC"] <= 1
    assert found["AUC"] == found["sequences"]["car"]["AUC"]
    written = json.loads((tmp_path / "interactive.json").read_text())
    assert written["sequences"]["car"]["scores"] == scores
    with pytest.raises(PixelkinError, match=r"001\.json"):
        assess_interactive(data, runtime, sequences=["car"], scribbles=tmp_path)
