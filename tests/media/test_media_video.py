"""Video files: the same frames as PyAV's plainest loop gives."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from video_cases import all_frames, encode, gradients, remux

from pixelkin.media import open_clip


def test_bikes_by_number_and_in_order(bikes_clip: Path) -> None:
    expected = all_frames(bikes_clip)
    with open_clip(bikes_clip) as clip:
        assert (clip.name, clip.fps, clip.size_hw, len(clip)) == ("bikes", 25.0, (272, 640), 250)
        for prefetch in (0, 4):
            for i, frame in enumerate(clip.frames(prefetch=prefetch)):
                assert np.array_equal(frame, expected[i])
            assert i == 249
        order = np.random.default_rng(0).permutation(250)[:30].tolist()
        for index in [*order, 249, 248, 247, 0, 1, 50, 49, 51]:
            assert np.array_equal(clip[index], expected[index]), index
        for start, stop in ((0, 0), (249, 250), (120, 131), (50, 52)):
            part = list(clip.frames(start, stop))
            assert len(part) == stop - start
            assert all(map(np.array_equal, part, expected[start:stop]))


def test_carphone_keeps_its_odd_rate(carphone_clip: Path) -> None:
    with open_clip(carphone_clip) as clip:
        assert Fraction(clip.fps).limit_denominator(1001) == Fraction(30000, 1001)
        assert clip.size_hw == (144, 176)
        assert sum(1 for _ in clip.frames()) == len(clip) == 120


def test_caller_may_write_into_frames(bikes_clip: Path) -> None:
    with open_clip(bikes_clip) as clip:
        first = clip[3]
        kept = first.copy()
        first[:] = 0
        assert np.array_equal(clip[3], kept)


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov", ".h264", ".avi", ".gif"])
def test_other_containers_give_the_same_frames(
    bikes_clip: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"bikes{suffix}"
    if suffix in (".avi", ".gif"):
        kind = {"codec": "mpeg4"} if suffix == ".avi" else {"codec": "gif", "pixels": "rgb8"}
        encode(path, all_frames(bikes_clip)[:120], **kind)
    else:
        remux(bikes_clip, path)
    expected = all_frames(path)
    with open_clip(path) as clip:
        assert len(clip) == len(expected) >= 120
        for index in (0, 99, 60, 61, 119):
            assert np.array_equal(clip[index], expected[index])
        assert all(map(np.array_equal, clip.frames(100, 110), expected[100:110]))


@pytest.mark.parametrize(("rotation", "quarters"), [(90, 1), (-90, 3), (180, 2)])
def test_rotation_is_applied(tmp_path: Path, rotation: int, quarters: int) -> None:
    frames = gradients(3)
    path = encode(tmp_path / "phone.mp4", frames, codec="mpeg4", rotation=rotation)
    expected = np.rot90(all_frames(path)[2], quarters)
    with open_clip(path) as clip:
        assert clip.size_hw == expected.shape[:2]
        assert np.array_equal(clip[2], expected)
        assert all(frame.shape[:2] == clip.size_hw for frame in clip.frames())
