"""Folders of images as clips."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_cases import gradients, message_of

from pixelkin import media
from pixelkin.errors import PixelkinError
from pixelkin.media import open_clip, read_image


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
