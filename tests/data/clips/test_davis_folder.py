from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.clips.davis import VideoFolder
from pixelkin.errors import PixelkinError

IDS = np.array([[0, 1, 1], [2, 2, 255]], np.uint8)


def write_sequence(
    root: Path, inner: str, *, frames: int = 3, ids: np.ndarray = IDS, masks_at: int = 1
) -> None:
    images, masks = root / "JPEGImages" / inner, root / "Annotations" / inner
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for i in range(frames):
        shape = (ids.shape[1], ids.shape[0])
        Image.new("RGB", shape, (i * 40, 0, 0)).save(images / f"{i:05d}.jpg", quality=100)
        if i % masks_at == 0:
            mask = Image.fromarray(ids)
            mask.putpalette(np.arange(768, dtype=np.uint16).astype(np.uint8)[::-1].tobytes())
            mask.save(masks / f"{i:05d}.png")


def write_list(root: Path, inner: str, text: str) -> None:
    path = root / "ImageSets" / inner
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_davis_2017_keeps_palette_indices(tmp_path: Path) -> None:
    write_sequence(tmp_path, "480p/dogs")
    video = VideoFolder(tmp_path)
    assert video.sequences == ["dogs"]
    assert len(video) == 1
    labels = video.labels("dogs")
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, np.stack([IDS] * 3))
    np.testing.assert_array_equal(video.first_labels("dogs"), IDS)
    np.testing.assert_array_equal(video.labels_at("dogs", 2), IDS)
    assert video.annotated("dogs") == [0, 1, 2]


def test_davis_2016_is_one_object(tmp_path: Path) -> None:
    write_sequence(tmp_path, "480p/dogs")
    write_sequence(tmp_path, "480p/swan", ids=np.array([[0, 255], [255, 0]], np.uint8))
    video = VideoFolder(tmp_path, year=2016)
    assert video.labels_at("dogs", 0).tolist() == [[0, 1, 1], [1, 1, 1]]
    assert video.first_labels("swan").tolist() == [[0, 1], [1, 0]]
    assert video.first_labels("swan").dtype == np.uint8
    with pytest.raises(PixelkinError, match="pass year=2016"):
        VideoFolder(tmp_path).first_labels("swan")


def test_frames_come_in_order(tmp_path: Path) -> None:
    write_sequence(tmp_path, "480p/dogs", frames=4)
    video = VideoFolder(tmp_path)
    assert [p.name for p in video.frame_paths("dogs")] == [f"{i:05d}.jpg" for i in range(4)]
    frames = list(video.frames("dogs"))
    # JPEG moves values a little.
    assert [round(int(f[0, 0, 0]) / 40) for f in frames] == [0, 1, 2, 3]
    assert all(f.shape == (2, 3, 3) and f.dtype == np.uint8 for f in frames)
    np.testing.assert_array_equal(video.frame_at("dogs", 3), frames[3])
    with pytest.raises(PixelkinError, match=r"no frame 4 .* expected 0 to 3"):
        video.frame_at("dogs", 4)


def test_youtube_vos_leaves_frames_unknown(tmp_path: Path) -> None:
    write_sequence(tmp_path, "003234408d", frames=11, masks_at=5)
    video = VideoFolder(tmp_path)
    assert video.sequences == ["003234408d"]
    assert video.annotated("003234408d") == [0, 5, 10]
    labels = video.labels("003234408d")
    assert labels.shape == (11, 2, 3)
    for i in range(11):
        assert (labels[i] == (IDS if i % 5 == 0 else 255)).all()
    with pytest.raises(PixelkinError, match="has no mask"):
        video.labels_at("003234408d", 1)


def test_youtube_vos_object_that_enters_later(tmp_path: Path) -> None:
    write_sequence(tmp_path, "late", frames=11, masks_at=5)
    (tmp_path / "Annotations" / "late" / "00000.png").unlink()
    video = VideoFolder(tmp_path)
    assert video.annotated("late")[0] == 5
    np.testing.assert_array_equal(video.first_labels("late"), IDS)
    for path in (tmp_path / "Annotations" / "late").iterdir():
        path.unlink()
    with pytest.raises(PixelkinError, match="no frame of 'late' has a mask"):
        video.first_labels("late")


def test_splits_of_both_releases(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_sequence(tmp_path, f"480p/{name}", frames=1)
    write_list(tmp_path, "2017/train.txt", "c\na\n")
    write_list(
        tmp_path,
        "480p/val.txt",
        "/JPEGImages/480p/b/00000.jpg /Annotations/480p/b/00000.png\n"
        "/JPEGImages/480p/b/00001.jpg /Annotations/480p/b/00001.png\n",
    )
    write_list(tmp_path, "2017/gone.txt", "z\n")
    assert VideoFolder(tmp_path).sequences == ["a", "b", "c"]
    assert VideoFolder(tmp_path, split="train").sequences == ["c", "a"]
    assert VideoFolder(tmp_path, split="val").sequences == ["b"]
    with pytest.raises(PixelkinError, match=r"'trian' is unknown .* did you mean 'train'"):
        VideoFolder(tmp_path, split="trian")
    with pytest.raises(PixelkinError, match="the frames of split 'gone'"):
        VideoFolder(tmp_path, split="gone")


def test_missing_parts_are_named(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="expected JPEGImages/<resolution>/<sequence>"):
        VideoFolder(tmp_path)
    write_sequence(tmp_path, "480p/dogs")
    with pytest.raises(PixelkinError, match=r"no '1080p' in .*there: 480p"):
        VideoFolder(tmp_path, resolution="1080p")
    with pytest.raises(PixelkinError, match="year 2018 is unknown"):
        VideoFolder(tmp_path, year=2018)
    video = VideoFolder(tmp_path)
    with pytest.raises(PixelkinError, match=r"no sequence 'cats' .* expected one of dogs"):
        video.labels("cats")
    mask = tmp_path / "Annotations" / "480p" / "dogs" / "00001.png"
    Image.new("P", (4, 4)).save(mask)
    with pytest.raises(PixelkinError, match=r"00001\.png is 4×4, expected 3×2"):
        video.labels("dogs")
    mask.unlink()
    with pytest.raises(PixelkinError, match=r"00001\.jpg has no mask: expected .*00001\.png"):
        video.labels("dogs")


def test_frames_of_different_size_are_refused(tmp_path: Path) -> None:
    write_sequence(tmp_path, "480p/dogs")
    Image.new("RGB", (5, 4)).save(tmp_path / "JPEGImages" / "480p" / "dogs" / "00002.jpg")
    Image.new("P", (5, 4)).save(tmp_path / "Annotations" / "480p" / "dogs" / "00002.png")
    with pytest.raises(PixelkinError, match="make all frames one size"):
        VideoFolder(tmp_path).labels("dogs")


def test_real_sequences(shared_data: Path) -> None:
    video = VideoFolder(shared_data / "davis2016", year=2016)
    counts = {s: len(video.frame_paths(s)) for s in video.sequences}
    assert counts == {
        "blackswan": 50,
        "bmx-trees": 80,
        "car-shadow": 40,
        "dance-twirl": 90,
        "horsejump-high": 50,
        "libby": 49,
    }
    labels = video.labels("blackswan")
    assert labels.shape == (50, 480, 854)
    assert sorted(np.unique(labels)) == [0, 1]
    path = shared_data / "davis2016" / "Annotations" / "480p" / "blackswan" / "00007.png"
    np.testing.assert_array_equal(labels[7] == 1, np.array(Image.open(path)) == 255)
    assert next(video.frames("blackswan")).shape == (480, 854, 3)
