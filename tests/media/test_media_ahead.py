"""Decoding ahead: bounded, and threads that end."""

import gc
import resource
import time
from pathlib import Path

import pytest
from PIL import Image
from video_cases import decode_threads, gradients

from pixelkin import media
from pixelkin.errors import PixelkinError
from pixelkin.media import open_clip


def test_decoding_runs_ahead_and_is_bounded(
    bikes_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert, done = media.video_file._rgb, []
    monkeypatch.setattr(media.video_file, "_rgb", lambda f: done.append(0) or convert(f))
    with open_clip(bikes_clip) as clip:
        frames = clip.frames(prefetch=4)
        next(frames)
        deadline = time.monotonic() + 30
        # One is taken, four lie ready, one waits in the hand of the thread.
        while len(done) < 6 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(done) == 6
        frames.close()


def test_thread_ends_with_its_iterator(bikes_clip: Path) -> None:
    with open_clip(bikes_clip) as clip:
        dropped, closed, used_up = clip.frames(), clip.frames(), clip.frames(0, 3)
        never_started = clip.frames()
        next(dropped), next(closed)
        assert len(decode_threads()) == 2
        assert len(list(used_up)) == 3
        closed.close()
        del dropped, never_started
        gc.collect()
        assert decode_threads() == []

        def consume() -> None:
            for _ in clip.frames():
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            consume()
        gc.collect()
        assert decode_threads() == []


def test_error_of_the_thread_reaches_the_caller(tmp_path: Path) -> None:
    for i, frame in enumerate(gradients(5)):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    with open_clip(tmp_path) as clip:
        data = (tmp_path / "3.png").read_bytes()
        (tmp_path / "3.png").write_bytes(data[: len(data) // 2])
        frames = clip.frames()
        assert len([next(frames) for _ in range(3)]) == 3
        with pytest.raises(PixelkinError, match=r"3\.png is damaged"):
            next(frames)
        assert decode_threads() == []


def test_memory_is_flat(bikes_clip: Path) -> None:
    def resident_mb() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")
    with open_clip(bikes_clip) as clip:
        for _ in range(2):
            for _ in clip.frames():
                pass
        before = resident_mb()
        for _ in range(4):
            for _ in clip.frames():
                pass
        # Holding the thousand frames would take 498 MB.
        assert resident_mb() - before < 30
