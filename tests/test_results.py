"""Results: what is written is read back the same, by us and by other readers."""

import contextlib
import errno
import io
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pixelkin import results
from pixelkin.errors import PixelkinError
from pixelkin.masks import (
    encode_rle,
    labels_from_segments,
    overlay,
    palette,
    read_indexed_png,
    segments_from_labels,
)
from pixelkin.media import open_clip
from pixelkin.structures import Segments

clips = st.integers(1, 4).flatmap(
    lambda n: hnp.arrays(np.uint8, (n, 9, 7), elements=st.sampled_from([0, 0, 0, 1, 2, 9, 254]))
)


def moving_square(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    maps = [np.zeros(size_hw, np.uint8) for _ in range(count)]
    for i, labels in enumerate(maps):
        labels[8:24, 4 + i : 20 + i] = 1
        labels[30:40, 30:50] = 2
    return maps


def pictures(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return [np.stack([x * 3 + i, y * 4, x + y], -1).astype(np.uint8) for i in range(count)]


def names(count: int) -> list[str]:
    return [f"{i:05d}" for i in range(count)]


@settings(max_examples=25)
@given(clips)
def test_davis_folder_returns(tmp_path_factory: pytest.TempPathFactory, clip: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("davis") / "masks"
    found = [segments_from_labels(labels) for labels in clip]
    assert results.write_davis_png(folder, iter(found), iter(names(len(clip)))) == len(clip)
    back = list(results.read_davis_png(folder, size_hw=(9, 7)))
    assert back == list(zip(names(len(clip)), found, strict=True))
    for name, labels in zip(names(len(clip)), clip, strict=True):
        with Image.open(folder / f"{name}.png") as image:
            assert image.mode == "P"
            assert image.getpalette() == palette().ravel().tolist()
            assert np.array_equal(np.asarray(image), labels)


@settings(max_examples=25)
@given(clips, st.floats(0, 1))
def test_coco_returns_and_pycocotools_reads_it(
    tmp_path_factory: pytest.TempPathFactory, clip: np.ndarray, score: float
) -> None:
    coco_class = pytest.importorskip("pycocotools.coco").COCO
    path = tmp_path_factory.mktemp("coco") / "clip.json"
    found = [segments_from_labels(labels) for labels in clip]
    found = [Segments(s.size_hw, s.rles, dict.fromkeys(s.rles, score)) for s in found]
    files = [f"{name}.jpg" for name in names(len(clip))]
    count = results.write_coco_json(path, iter(found), iter(files), video_name="clip")
    assert results.read_coco_json(path) == dict(zip(files, found, strict=True))

    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class(str(path))
    assert len(coco.anns) == count == sum(len(s.rles) for s in found)
    assert sorted(coco.imgs) == list(range(1, len(clip) + 1))
    for image in coco.imgs.values():
        labels = clip[image["frame_index"]]
        assert image["video_id"] == 1
        painted = np.zeros_like(labels)
        for entry in coco.imgToAnns[image["id"]]:
            mask = coco.annToMask(entry)
            painted[mask > 0] = entry["object_id"]
            ys, xs = np.nonzero(mask)
            width, height = np.ptp(xs) + 1, np.ptp(ys) + 1
            assert entry["bbox"] == [xs.min(), ys.min(), width, height]
            assert entry["area"] == mask.sum()
            assert coco.cats[entry["category_id"]]["name"] == f"object {entry['object_id']}"
        assert np.array_equal(painted, labels)


def test_objects_of_one_name_share_a_category(tmp_path: Path) -> None:
    found = [segments_from_labels(labels) for labels in moving_square(2)]
    path = tmp_path / "o.json"
    results.write_coco_json(path, found, names(2), categories={1: "duck", 2: "duck"})
    whole = json.loads(path.read_text())
    assert whole["categories"] == [{"id": 1, "name": "duck"}]
    assert {entry["category_id"] for entry in whole["annotations"]} == {1}


def test_empty_objects_are_left_out_of_coco(tmp_path: Path) -> None:
    empty = Segments((4, 5), {3: encode_rle(np.zeros((4, 5), bool))})
    assert results.write_coco_json(tmp_path / "o.json", [empty], ["a"]) == 0
    assert results.read_coco_json(tmp_path / "o.json") == {"a": Segments((4, 5), {})}


def test_overlay_video_of_a_real_clip(bikes_clip: Path, tmp_path: Path) -> None:
    maps = moving_square(12, (272, 640))
    path = tmp_path / "o.mp4"
    with open_clip(bikes_clip) as clip:
        found = (segments_from_labels(labels) for labels in maps)
        count = results.write_overlay_video(path, clip.frames(0, 12), found, fps=clip.fps)
        assert count == 12
        with open_clip(path) as written:
            assert (len(written), written.size_hw, written.fps) == (12, clip.size_hw, 25.0)
            for i in (0, 11):
                expected = overlay(clip[i], maps[i])
                assert np.abs(written[i].astype(int) - expected).mean() < 4


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_cutout_video_has_the_masks_as_alpha(tmp_path: Path, suffix: str) -> None:
    maps = moving_square(5)
    path = tmp_path / f"o{suffix}"
    found = [segments_from_labels(labels) for labels in maps]
    assert results.write_cutout_video(path, pictures(5), found, fps=10, object_ids=[1]) == 5
    decoder = av.CodecContext.create("libvpx-vp9" if suffix == ".webm" else "prores", "r")
    with av.open(str(path)) as container:
        frames = [f for packet in container.demux(video=0) for f in decoder.decode(packet)]
    assert len(frames) == 5
    for frame, labels in zip(frames, maps, strict=True):
        alpha = frame.to_ndarray(format="rgba", threads=1)[..., 3]
        assert np.array_equal(alpha > 127, labels == 1)


def test_cutout_png(tmp_path: Path) -> None:
    maps, frames = moving_square(3), pictures(3)
    found = [segments_from_labels(labels) for labels in maps]
    files = ["a.jpg", "b.1.png", "c.2"]
    results.write_cutout_png(tmp_path, frames, found, files)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.1.png", "c.2.png"]
    with Image.open(tmp_path / "c.2.png") as image:
        rgba = np.asarray(image)
    inside = maps[2] > 0
    assert np.array_equal(rgba[..., 3] == 255, inside)
    assert np.array_equal(rgba[inside, :3], frames[2][inside])
    assert not rgba[~inside].any()


def test_cutout_of_an_absent_object_is_transparent() -> None:
    found = segments_from_labels(moving_square(1)[0])
    assert not results.cutout(pictures(1)[0], found, object_ids=[7]).any()


def test_writers_stream(tmp_path: Path) -> None:
    """A frame is asked for only when those before it are written."""
    taken: list[int] = []

    def frames() -> Iterator[np.ndarray]:
        for i, frame in enumerate(pictures(6)):
            taken.append(i)
            yield frame

    def segments() -> Iterator[Segments]:
        for i, labels in enumerate(moving_square(6)):
            assert len(taken) == i + 1
            assert len(list(tmp_path.glob("*.png"))) == i
            yield segments_from_labels(labels)

    assert results.write_cutout_png(tmp_path, frames(), segments(), names(6)) == 6


def test_unequal_lengths_are_a_mistake(tmp_path: Path) -> None:
    found = [segments_from_labels(labels) for labels in moving_square(3)]
    with pytest.raises(PixelkinError, match="there are 2 frames but more masks"):
        results.write_overlay_video(tmp_path / "o.mp4", pictures(2), found, fps=10)
    with pytest.raises(PixelkinError, match="there are 3 masks but more names"):
        results.write_coco_json(tmp_path / "o.json", found, names(4))
    with pytest.raises(PixelkinError, match="no frame for"):
        results.write_overlay_video(tmp_path / "o.mp4", [], [], fps=10)
    with pytest.raises(PixelkinError, match=r"the masks are 64×48, expected 65×48"):
        results.write_cutout_video(tmp_path / "o.mov", pictures(3, (48, 65)), found, fps=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "..", ".png"])
def test_names_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    found = segments_from_labels(moving_square(1)[0])
    with pytest.raises(PixelkinError, match="no plain file name"):
        results.write_davis_png(tmp_path / "in", [found], [name])
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_failure_keeps_what_is_done_and_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "00002.png").write_text("old")
    (tmp_path / "o.json").write_text("old")
    found = [segments_from_labels(labels) for labels in moving_square(4)]
    sync, calls = os.fsync, iter(range(100))

    def fail_at_the_third(handle: int) -> None:
        if next(calls) >= 2:
            raise OSError(errno.ENOSPC, "full")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fail_at_the_third)
    with pytest.raises(PixelkinError, match=r"00002\.png: no space is left"):
        results.write_davis_png(tmp_path, found, names(4))
    with pytest.raises(PixelkinError, match=r"o\.json: no space is left"):
        results.write_coco_json(tmp_path / "o.json", found, names(4))
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert kept == ["00000.png", "00001.png", "00002.png", "mine.txt", "o.json"]
    assert np.array_equal(read_indexed_png(tmp_path / "00001.png"), moving_square(2)[1])
    assert (tmp_path / "00002.png").read_text() == "old"
    assert (tmp_path / "o.json").read_text() == "old"


def test_bad_coco_files(tmp_path: Path) -> None:
    path = tmp_path / "o.json"
    found = [segments_from_labels(moving_square(1)[0])]
    results.write_coco_json(path, found, ["a"])
    good = path.read_text()
    cases = {
        good[:100]: "damaged or no JSON",
        "{}": "no field 'images'",
        "[]": "no field",
        good.replace("object_id", "id_of_object"): "no field 'object_id'",
        good.replace('"height": 48', '"height": 47'): "do not describe a 64×47 mask",
        good.replace('"height": 48', '"height": 49'): "do not describe a 64×49 mask",
        good.replace('"object_id": 1', '"object_id": 300'): "object id 300",
    }
    for text, expected in cases.items():
        path.write_text(text)
        with pytest.raises(PixelkinError, match=expected) as caught:
            results.read_coco_json(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(PixelkinError, match="cannot read"):
        results.read_coco_json(tmp_path / "none.json")
    with pytest.raises(PixelkinError, match="holds no PNG masks"):
        results.read_davis_png(tmp_path)


def test_contact_sheet_places_images() -> None:
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    images = [np.full((20, 40, 3), colour, np.uint8) for colour in colours]
    images[1] = np.full((40, 40, 3), colours[1], np.uint8)
    sheet = results.contact_sheet(iter(images), columns=2, width_px=84, gap_px=4)
    assert sheet.shape == (40 + 4 + 20, 84, 3)
    assert (sheet[:20, :40] == colours[0]).all()
    assert (sheet[:40, 44:] == colours[1]).all()
    assert (sheet[44:, :40] == colours[2]).all()
    white = np.ones(sheet.shape[:2], bool)
    white[:20, :40] = white[:40, 44:] = white[44:, :40] = False
    assert (sheet[white] == 255).all()


def test_contact_sheet_errors() -> None:
    with pytest.raises(PixelkinError, match="0 columns"):
        results.contact_sheet(pictures(1), columns=0, width_px=100)
    with pytest.raises(PixelkinError, match="50 columns do not fit into 100"):
        results.contact_sheet(pictures(1), columns=50, width_px=100)
    with pytest.raises(PixelkinError, match="no images"):
        results.contact_sheet([], columns=2, width_px=100)


def test_real_davis_sequence_goes_through(shared_data: Path, tmp_path: Path) -> None:
    folder = sorted((shared_data / "davis2016/Annotations/480p").iterdir())[0]
    given = list(islice(results.read_davis_png(folder, size_hw=(480, 854)), 8))
    results.write_davis_png(tmp_path / "png", [s for _, s in given], [n for n, _ in given])
    assert list(results.read_davis_png(tmp_path / "png")) == given
    results.write_coco_json(tmp_path / "o.json", [s for _, s in given], [n for n, _ in given])
    assert list(results.read_coco_json(tmp_path / "o.json").items()) == given
    inside = labels_from_segments(given[0][1]) > 0
    with Image.open(folder / f"{given[0][0]}.png") as image:
        assert np.array_equal(np.asarray(image) > 0, inside)
