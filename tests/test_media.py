"""Clips and video files: real clips, real truncation, every error, threads that end."""

import gc
import resource
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pixelkin import media
from pixelkin.errors import PixelkinError
from pixelkin.media import VideoWriter, open_clip, read_image


def decode_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "pixelkin-decode"]


def all_frames(path: Path) -> list[np.ndarray]:
    """The oracle: PyAV's plainest loop."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24", threads=1) for frame in container.decode(video=0)]


def remux(source: Path, target: Path, options: dict[str, str] | None = None) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as read, av.open(str(target), "w", options=options or {}) as write:
        stream = write.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.size:
                packet.stream = stream
                write.mux(packet)
    return target


def encode(
    path: Path, frames: list[np.ndarray], *, codec: str, pixels: str = "yuv420p", rotation: int = 0
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def gradients(count: int, size_hw: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return [np.stack([x * 2 + i, y * 3, x + y + i], -1).astype(np.uint8) for i in range(count)]


def message_of(path: Path) -> str:
    with pytest.raises(PixelkinError) as caught:
        open_clip(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


# Reading


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


def test_folder_in_natural_order(tmp_path: Path, shared_data: Path) -> None:
    source = sorted((shared_data / "davis2016/JPEGImages/480p").glob("*/*.jpg"))[:12]
    for i, path in enumerate(source):
        shutil.copy(path, tmp_path / f"frame{i}.JPG")
    (tmp_path / "notes.txt").write_text("no frame")
    (tmp_path / ".hidden.jpg").write_text("no frame")
    with open_clip(tmp_path, fps=12) as clip:
        assert (clip.name, clip.fps, clip.size_hw, len(clip)) == (
            tmp_path.name, 12, (480, 854), 12,
        )  # fmt: skip
        for i, frame in enumerate(clip.frames()):
            expected = np.asarray(Image.open(source[i]).convert("RGB"))
            assert np.array_equal(frame, expected)
            assert np.array_equal(clip[i], expected)


def test_exif_turns_images_upright(tmp_path: Path) -> None:
    image = Image.fromarray(gradients(1)[0])
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "0.png", exif=exif)
    with open_clip(tmp_path) as clip:
        assert clip.size_hw == (64, 48)
        assert np.array_equal(clip[0], np.rot90(gradients(1)[0], -1))


def test_single_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(gradients(1)[0]).save(tmp_path / "photo.png")
    with open_clip(tmp_path / "photo.png") as clip:
        assert len(clip) == 1
        assert np.array_equal(clip[0], gradients(1)[0])


# Decoding ahead


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


# Bad input


def test_truncated_real_clips(bikes_clip: Path, tmp_path: Path) -> None:
    # The clip as it comes has its index at the end: cut off, nothing can be read.
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(bikes_clip.read_bytes()[:300_000])
    assert "truncated: its index (moov) is missing after 300000 bytes" in message_of(cut)
    # With the index in front the readable frames can be counted.
    whole = remux(bikes_clip, tmp_path / "whole.mp4", {"movflags": "faststart"})
    data = whole.read_bytes()
    readable = []
    for part in (0.3, 0.6, 0.99):
        cut.write_bytes(data[: int(len(data) * part)])
        message = message_of(cut)
        assert "of 250 frames are readable" in message
        readable.append(int(message.split("truncated: ")[1].split(" of ")[0]))
    assert 0 < readable[0] < readable[1] < readable[2] < 250


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_truncated_matroska(bikes_clip: Path, tmp_path: Path, suffix: str) -> None:
    # Matroska counts no frames, but notes the duration of the stream in front.
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".mkv":
        remux(bikes_clip, whole)
    else:
        with open_clip(bikes_clip) as clip, VideoWriter(whole, fps=25, size_hw=(272, 640)) as video:
            for frame in clip.frames(0, 60):
                video.write(frame)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.6)])
    message = message_of(cut)
    assert f"of {250 if suffix == '.mkv' else 60} frames are readable" in message


def test_edit_list_cuts_frames_off(bikes_clip: Path, tmp_path: Path) -> None:
    # Phones and lossless cutters hide the frames before the cut by an edit list.
    path = tmp_path / "edited.mp4"
    with av.open(str(bikes_clip)) as read, av.open(str(path), "w") as write:
        source = read.streams.video[0]
        stream = write.add_stream_from_template(source)
        shift = round(7 / 25 / source.time_base)
        for packet in read.demux(video=0):
            if packet.size:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                write.mux(packet)
    expected = all_frames(path)
    assert len(expected) < 250
    with open_clip(path) as clip:
        assert len(clip) == len(expected)
        assert all(map(np.array_equal, clip.frames(), expected))
        for index in (0, 100, 43, 42, 44):
            assert np.array_equal(clip[index], expected[index])


def test_damage_in_the_middle_is_told_or_concealed(bikes_clip: Path, tmp_path: Path) -> None:
    path = remux(bikes_clip, tmp_path / "hurt.mkv")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    data[200_000:260_000] = rng.integers(0, 256, 60_000).astype(np.uint8).tobytes()
    path.write_bytes(data)
    try:
        with open_clip(path) as clip:
            assert sum(1 for _ in clip.frames()) == len(clip)
    except PixelkinError as error:
        message = str(error)
    else:
        return
    assert "hurt.mkv" in message
    assert "\n" not in message


def test_files_that_are_no_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    assert "no clip at" in message_of(path)
    path.write_bytes(b"")
    assert "empty" in message_of(path)
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    assert "not a video" in message_of(path)
    # The library would draw text as a video of characters.
    text = tmp_path / "notes.txt"
    text.write_text("hello world\n" * 50)
    assert "not a video" in message_of(text)
    playlist = tmp_path / "list.m3u8"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    message_of(playlist)
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        noise.sample_rate = 8000
        container.mux(stream.encode(noise))
    assert "not a video" in message_of(sound)


def test_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "none.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    assert path.name in message_of(path)


def test_frame_size_that_changes_in_a_file(tmp_path: Path) -> None:
    # Transport streams of two sizes, one after the other, as television cuts them.
    parts = [
        encode(tmp_path / f"{i}.ts", gradients(5, size), codec="mpeg2video").read_bytes()
        for i, size in enumerate([(48, 64), (96, 128)])
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    with open_clip(path) as clip:
        frames = clip.frames()
        with pytest.raises(PixelkinError, match="changes its frame size to 128×96"):
            list(frames)


def test_bad_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "holds no frames" in message_of(tmp_path)
    Image.fromarray(gradients(1)[0]).save(tmp_path / "1.png")
    Image.fromarray(gradients(1, (48, 65))[0]).save(tmp_path / "2.png")
    assert "frame 2.png" in (message := message_of(tmp_path))
    assert "65×48, expected 64×48" in message
    (tmp_path / "2.png").write_text("not a picture")
    assert "2.png is damaged or no image" in message_of(tmp_path)
    (tmp_path / "2.png").unlink()
    monkeypatch.setattr(media.folder, "MAX_PIXELS", 64 * 48 - 1)
    assert "at most 3071 pixels" in message_of(tmp_path)


def test_image_bomb_is_refused_by_its_header(tmp_path: Path, bikes_clip: Path) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(bomb)
    assert bomb.stat().st_size < 300_000
    with pytest.raises(PixelkinError, match="at most 64000000 pixels"):
        read_image(bomb)


def test_video_over_the_pixel_cap(bikes_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media.folder, "MAX_PIXELS", 640 * 272 - 1)
    assert "640×272, expected at most" in message_of(bikes_clip)


def test_frame_numbers_outside(bikes_clip: Path) -> None:
    with open_clip(bikes_clip) as clip:
        for index in (-1, 250):
            with pytest.raises(PixelkinError, match=f"frame {index} is outside .* 0 to 249"):
                clip[index]
        for span in ((-1, 3), (5, 4), (0, 251)):
            with pytest.raises(PixelkinError, match="expected 0 to 250"):
                clip.frames(*span)


# Writing


@pytest.mark.parametrize("name", ["o.mp4", "o.webm"])
def test_written_video_returns(bikes_clip: Path, tmp_path: Path, name: str) -> None:
    with open_clip(bikes_clip) as clip:
        frames = list(clip.frames(0, 20))
    with VideoWriter(tmp_path / name, fps=30000 / 1001, size_hw=(272, 640)) as video:
        for frame in frames:
            video.write(frame)
    with open_clip(tmp_path / name) as clip:
        assert (len(clip), clip.size_hw) == (20, (272, 640))
        assert clip.fps == pytest.approx(30000 / 1001, rel=1e-3)
        errors = [np.abs(a.astype(int) - b) for a, b in zip(clip.frames(), frames, strict=True)]
    assert np.mean(errors) < 4
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_colours_are_kept_and_tagged(tmp_path: Path) -> None:
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48], frame[:, 48:] = (200, 30, 40), (20, 180, 60)
    with VideoWriter(tmp_path / "o.mp4", fps=10, size_hw=(64, 96)) as video:
        video.write(frame)
    with av.open(str(tmp_path / "o.mp4")) as container:
        decoded = next(container.decode(video=0))
        assert (decoded.colorspace, decoded.color_range) == (1, 1)
    with open_clip(tmp_path / "o.mp4") as clip:
        for x in (20, 80):
            assert np.abs(clip[0][30, x].astype(int) - frame[30, x]).max() <= 4


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_alpha_returns(tmp_path: Path, suffix: str) -> None:
    size_hw = (101, 133)
    rgba = np.dstack([gradients(1, size_hw)[0], np.zeros(size_hw, np.uint8)])
    rgba[20:70, 30:90, 3] = 255
    with VideoWriter(tmp_path / f"o{suffix}", fps=10, size_hw=size_hw, alpha=True) as video:
        for _ in range(40):
            video.write(rgba)
    with av.open(str(tmp_path / f"o{suffix}")) as container:
        # FFmpeg's own VP9 decoder leaves alpha out; browsers and libvpx read it.
        name = "libvpx-vp9" if suffix == ".webm" else "prores"
        decoder = av.CodecContext.create(name, "r")
        frames = [f for packet in container.demux(video=0) for f in decoder.decode(packet)]
    assert len(frames) == 40
    # Every frame: a conversion that is spoilt now and then has been seen here.
    for frame in frames:
        alpha = frame.to_ndarray(format="rgba", threads=1)[:101, :133, 3].astype(int)
        assert np.abs(alpha - rgba[..., 3]).max() < 64
        assert np.abs(alpha - rgba[..., 3]).mean() < 1


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    frames = gradients(4, (47, 63))
    with VideoWriter(tmp_path / "o.mp4", fps=10, size_hw=(47, 63)) as video:
        for frame in frames:
            video.write(frame)
    with open_clip(tmp_path / "o.mp4") as clip:
        assert clip.size_hw == (48, 64)
        assert np.abs(clip[0][:47, :63].astype(int) - frames[0]).mean() < 6


def test_failure_leaves_the_old_video(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    path.write_text("old")

    def write(*frames: np.ndarray) -> None:
        with VideoWriter(path, fps=10, size_hw=(48, 64)) as video:
            for frame in frames:
                video.write(frame)

    good = gradients(1)[0]
    with pytest.raises(PixelkinError, match=r"frame 1 of o\.mp4 .*\(48, 64, 3\)"):
        write(good, good[:-1])
    with pytest.raises(PixelkinError, match="float64"):
        write(good.astype(float))
    with pytest.raises(PixelkinError, match="no frame was written"):
        write()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]


def test_writer_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match=r"suffix is '\.gif', expected \.mp4 or \.webm"):
        VideoWriter(tmp_path / "o.gif", fps=10, size_hw=(4, 4))
    with pytest.raises(PixelkinError, match=r"with alpha .*expected \.mov or \.webm"):
        VideoWriter(tmp_path / "o.mp4", fps=10, size_hw=(4, 4), alpha=True)
    with pytest.raises(PixelkinError, match="fps is 0"):
        VideoWriter(tmp_path / "o.mp4", fps=0, size_hw=(4, 4))
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(PixelkinError, match="cannot write"),
        VideoWriter(tmp_path / "file" / "o.mp4", fps=10, size_hw=(4, 4)),
    ):
        pass


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A real file system of 200 KiB; only where the machine lets the test mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this machine does not let a test mount a disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["o.mp4", "o.webm", "o.mov"])
def test_full_disk(tmp_path: Path, name: str) -> None:
    alpha = name != "o.mp4"
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (12, 240, 320, 4 if alpha else 3)).astype(np.uint8)

    def write() -> None:
        with VideoWriter(disk / name, fps=10, size_hw=(240, 320), alpha=alpha) as video:
            for frame in np.concatenate([frames, frames, frames]):
                video.write(frame)

    with small_disk(tmp_path / "disk") as disk:
        (disk / name).write_text("old")
        with pytest.raises(PixelkinError, match=f"{name}: no space is left on the disk"):
            write()
        assert (disk / name).read_text() == "old"
        assert [p.name for p in disk.iterdir()] == [name]


def test_every_shortage_is_noticed(tmp_path: Path) -> None:
    # A limit on file size fails writes for real, at any byte and for any user.
    frames = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    path = tmp_path / "o.mp4"

    def write() -> None:
        with VideoWriter(path, fps=10, size_hw=(64, 64)) as video:
            for frame in frames:
                video.write(frame)

    write()
    whole = path.stat().st_size
    path.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (1, 100, whole // 2, whole - 500, whole - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(PixelkinError, match="cannot write"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not list(tmp_path.iterdir())
