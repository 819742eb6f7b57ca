"""Files that are cut off, damaged, or no video at all."""

from pathlib import Path

import av
import numpy as np
import pytest
from video_cases import all_frames, encode, gradients, message_of, remux

from pixelkin import media
from pixelkin.errors import PixelkinError
from pixelkin.media import VideoWriter, open_clip


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
