"""Photos of a run: which are found, which tags they have, and their working copies."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.reading import read_image
from pixelkin.data.tags.image_tags import Tags
from pixelkin.errors import PixelkinError
from pixelkin.masks import write_indexed_png
from pixelkin.pipelines.weak_labels.photos import (
    LabelledCopies,
    Photos,
    WorkingCopies,
    classes_text,
    find_photos,
    match_tags,
    prepare_photos,
    typical_size,
    working_copy,
)
from pixelkin.pipelines.weak_labels.workspace import Workspace
from pixelkin.trainings.tags import WINDOW_SHARE


def photo(path, size_hw=(40, 60), value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size_hw, 3), value, np.uint8)).save(path)
    return path


def tags_file(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


# Finding


def test_photos_below_a_folder_without_hidden_ones(tmp_path):
    root, tags = tmp_path / "photos", tmp_path / "tags.csv"
    for name in ("b.jpg", "a.PNG", "in/c.v2.jpeg", ".hidden.jpg", ".cache/d.jpg", "in/.x/e.png"):
        photo(root / name)
    (root / "notes.txt").write_text("no photo")
    (root / "album.jpg").mkdir()
    found = find_photos(root, tags, out=tmp_path / "out")
    assert found == {"a": root / "a.PNG", "b": root / "b.jpg", "in/c.v2": root / "in/c.v2.jpeg"}


def test_two_photos_of_one_name(tmp_path):
    photo(tmp_path / "a.jpg"), photo(tmp_path / "a.png")
    with pytest.raises(PixelkinError, match=r"a.jpg and a.png: expected one photo per name"):
        find_photos(tmp_path, tmp_path / "tags.csv", out=tmp_path / "out")


def test_no_photo_and_no_folder(tmp_path):
    with pytest.raises(PixelkinError, match="holds no photo"):
        find_photos(tmp_path, tmp_path / "tags.csv", out=tmp_path / "out")
    with pytest.raises(PixelkinError, match="nowhere"):
        find_photos(tmp_path / "nowhere", tmp_path / "tags.csv", out=tmp_path / "out")


def test_what_a_run_made_among_the_photos_is_none(tmp_path):
    photo(tmp_path / "a.jpg"), photo(tmp_path / "run2" / "b.jpg")
    photo(tmp_path / "run" / "1_photos" / "a.png")
    found = find_photos(tmp_path, tmp_path / "tags.csv", out=tmp_path / "run")
    assert list(found) == ["a", "run2/b"]


def test_a_folder_of_photos_per_tag(tmp_path):
    for name in ("cat/a.png", "cat/b.png", "dog/b.png", "dog/in/a.png", "none.png"):
        photo(tmp_path / name)
    found = find_photos(tmp_path, tmp_path, out=tmp_path.parent / "out")
    assert set(found) == {"a", "b", "in/a", "none"}
    tags, problems = match_tags(tmp_path, list(found))
    assert tags.class_names == ("cat", "dog")
    assert tags.by_name == {"a": (0,), "b": (0, 1), "in/a": (1,), "none": ()}
    assert [one.what for one in problems] == ["image none has no tag"]
    with pytest.raises(PixelkinError, match="each folder is a tag; choose a folder beside it"):
        find_photos(tmp_path, tmp_path, out=tmp_path / "out")


@pytest.mark.parametrize("other", ["dog/b.png", "dog/b.jpg"])
def test_photos_of_one_name_below_two_tags_are_copies_or_told(tmp_path, other):
    # As a camera names them, which counts from 1 on every card.
    photo(tmp_path / "cat" / "b.png", value=50), photo(tmp_path / other, value=60)
    with pytest.raises(PixelkinError, match=r"b\.png and .*b\.\w+ are other photos of one name"):
        find_photos(tmp_path, tmp_path, out=tmp_path.parent / "out")


# Tags


def test_tags_of_the_photos_in_every_condition(tmp_path):
    tags = tags_file(
        tmp_path / "tags.csv",
        "a.jpg,coat,bag,hat", "b.jpg,coat", "c.jpg,", "gone.jpg,glove", "d.jpg,bag",
    )  # fmt: skip
    found, problems = match_tags(tags, ["a", "b", "c", "d", "e"])
    # "glove" is a tag of a photo that does not exist alone: there is nothing to learn it from.
    assert found.class_names == ("bag", "coat", "hat")
    assert found.by_name == {"a": (0, 1, 2), "b": (1,), "c": (), "d": (0,)}
    said = "\n".join(map(str, problems))
    assert "class 'glove' is on no image" in said
    assert "no image gone exists" in said
    assert "image c has no tag" in said
    assert "image e is not listed" in said


def test_a_photo_with_every_tag_is_told_and_kept(tmp_path):
    tags = tags_file(tmp_path / "tags.csv", "a.jpg,coat,bag,hat", "b.jpg,coat")
    found, problems = match_tags(tags, ["a", "b"])
    assert found.by_name["a"] == (0, 1, 2)
    assert any("image a has every tag" in one.what for one in problems)


def test_chosen_classes_in_their_order(tmp_path):
    tags = tags_file(tmp_path / "tags.csv", "a.jpg,coat,bag", "b.jpg,hat", "c.jpg,bag")
    found, problems = match_tags(tags, ["a", "b", "c"], classes=["hat", "bag"])
    assert found == Tags(("hat", "bag"), {"a": (1,), "b": (0,), "c": (1,)})
    assert not problems
    with pytest.raises(PixelkinError, match="tagged 'bags'; did you mean bag"):
        match_tags(tags, ["a", "b"], classes=["bags"])
    with pytest.raises(PixelkinError, match="tagged 'zz'; choose of bag, coat, hat"):
        match_tags(tags, ["a", "b"], classes=["zz"])


def test_a_chosen_class_that_no_photo_carries_is_dropped_with_a_word(tmp_path):
    tags = tags_file(tmp_path / "tags.csv", "a.jpg,bag", "b.jpg,bag,coat", "gone.jpg,hat")
    found, problems = match_tags(tags, ["a", "b"], classes=["hat", "bag"])
    assert found == Tags(("bag",), {"a": (0,), "b": (0,)})
    said = [one.what for one in problems]
    assert "class 'hat' is on no image" in said
    # Nobody asked for a word about classes that were not chosen.
    assert not any("coat" in what for what in said)


def test_tags_that_fit_no_photo_or_are_too_many(tmp_path):
    tags = tags_file(tmp_path / "tags.csv", "x.jpg,coat")
    with pytest.raises(PixelkinError, match="belongs to a photo of the folder"):
        match_tags(tags, ["a", "b"])
    none = tags_file(tmp_path / "none.csv", "a.jpg,", "b.jpg,")
    with pytest.raises(PixelkinError, match="names 2 photos of the folder, and no tag of any; tag"):
        match_tags(none, ["a", "b"])
    many = tags_file(tmp_path / "many.csv", *(f"a.jpg,c{n:03d}" for n in range(255)))
    with pytest.raises(PixelkinError, match="255 classes, expected at most 254"):
        match_tags(many, ["a"])
    found, _ = match_tags(many, ["a"], classes=["c003"])
    assert found.class_names == ("c003",)


# Working copies


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((600, 400), (448, 288)), ((300, 448), (288, 448)), ((100, 100), (448, 448)),
     ((5, 900), (32, 448)), ((480, 640), (320, 448))],
)  # fmt: skip
def test_sizes_of_working_copies(size_hw, expected):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    assert working_copy(image, 448).shape == (*expected, 3)


@pytest.fixture
def room(tmp_path):
    photos = tmp_path / "photos"
    photo(photos / "a.jpg", (80, 40))
    photo(photos / "b.png", (40, 80))
    (photos / "empty.jpg").touch()
    whole = photo(photos / "torn.png", (200, 200)).read_bytes()
    (photos / "torn.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_text("this is no photo")
    tags = Tags(("x", "y"), {"a": (0,), "torn": (1,), "text": (0,)})
    paths = find_photos(photos, tmp_path / "tags.csv", out=tmp_path / "out")
    return Workspace(tmp_path / "out"), photos, paths, tags


def test_photos_that_cannot_be_read_are_named_and_left_out(room):
    workspace, _, paths, _ = room
    steps = []
    found, faults, readable = prepare_photos(
        *room, long_side_px=64, progress=lambda *step: steps.append(step)
    )
    assert steps == [("photos", n, 5) for n in range(6)]
    assert (found.names, found.files) == (("a", "b"), ("a.jpg", "b.png"))
    assert found.sizes_hw == ((80, 40), (40, 80))
    assert (found.tagged.tolist(), found.tags.tolist()) == (
        [True, False],
        [[True, False], [False, False]],
    )
    assert (found.with_tags(), found.classes_of(0), found.classes_of(1)) == ([0], (0,), ())
    assert len(faults) == 3
    for name in ("empty.jpg", "torn.png", "text.jpg"):
        (line,) = [one for one in faults if name in one]
        assert re.fullmatch(r"error: .*; left out", line)
    copies = WorkingCopies(workspace, found.names)
    assert [copy.shape for copy in copies] == [(64, 32, 3), (32, 64, 3)]
    assert (len(copies), copies[0] is copies[0]) == (2, True)
    assert readable == []
    # The same again, faults included, without the photos being looked at that were read.
    for name in found.names:
        paths[name].unlink()
    again, same, readable = prepare_photos(*room, long_side_px=64, progress=lambda *step: None)
    assert (again.names, again.sizes_hw) == (found.names, found.sizes_hw)
    assert (sorted(same), readable) == (sorted(faults), [])


def test_a_photo_that_was_left_out_and_can_be_read_now_is_told_and_not_taken(room):
    prepare_photos(*room, long_side_px=64, progress=lambda *step: None)
    mended = photo(room[1] / "torn.png", (40, 40))
    found, faults, readable = prepare_photos(*room, long_side_px=64, progress=lambda *step: None)
    assert found.names == ("a", "b")
    assert readable == [mended]
    assert [name for name in ("empty", "text", "torn") if any(name in one for one in faults)] == [
        "empty",
        "text",
    ]


def test_no_photo_with_a_tag_can_be_read(room):
    workspace, images, paths, _ = room
    tags = Tags(("x",), {"torn": (0,)})
    with pytest.raises(PixelkinError, match=r"3 of 5 cannot be read, the first: .*empty.jpg"):
        prepare_photos(workspace, images, paths, tags, long_side_px=64, progress=lambda *step: None)
    assert not workspace.is_done("photos")


def test_a_photo_on_its_side_by_exif_is_stood_up(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((40, 80, 3), np.uint8)).save(tmp_path / "photos/a.jpg", exif=exif)
    found, _, _ = prepare_photos(
        Workspace(tmp_path / "out"), tmp_path / "photos", {"a": tmp_path / "photos" / "a.jpg"},
        Tags(("x",), {"a": (0,)}), long_side_px=64, progress=lambda *step: None,
    )  # fmt: skip
    assert found.sizes_hw == ((80, 40),)
    assert read_image(tmp_path / "out" / "1_photos" / "a.png").shape == (64, 32, 3)


def test_labels_come_to_the_size_of_the_copies(room):
    workspace = room[0]
    prepare_photos(*room, long_side_px=64, progress=lambda *step: None)
    labels = np.zeros((80, 40), np.uint8)
    labels[:40], labels[40:, 20:] = 2, 255
    write_indexed_png(workspace.root / "labels" / "a.png", labels)
    (sample,) = LabelledCopies(
        WorkingCopies(workspace, ["a"]), [workspace.root / "labels" / "a.png"]
    )
    assert (sample.image.shape, sample.labels.shape) == ((64, 32, 3), (64, 32))
    np.testing.assert_array_equal(sample.labels[:32], 2)
    np.testing.assert_array_equal(sample.labels[32:, :16], 0)
    np.testing.assert_array_equal(sample.labels[32:, 16:], 255)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [([(600, 400)] * 3, (384, 256)), ([(600, 400), (400, 600), (600, 400)], (384, 256)),
     ([(20, 2000)], (32, 384))],
)  # fmt: skip
def test_training_windows_are_nearly_whole_photos(sizes, expected):
    names = tuple(map(str, range(len(sizes))))
    none = np.zeros((len(sizes), 1), bool)
    photos = Photos(names, names, tuple(sizes), ("x",), none[:, 0], none)
    assert typical_size(photos, long_side_px=448) == expected


def test_the_windows_share_is_that_of_the_tag_training(monkeypatch):
    none = np.zeros((1, 1), bool)
    photos = Photos(("a",), ("a",), ((600, 400),), ("x",), none[:, 0], none)
    monkeypatch.setattr("pixelkin.pipelines.weak_labels.photos.WINDOW_SHARE", WINDOW_SHARE / 2)
    assert typical_size(photos, long_side_px=448) == (192, 128)


def test_the_copies_that_are_kept_in_memory_have_a_limit(room, monkeypatch):
    workspace = room[0]
    prepare_photos(*room, long_side_px=64, progress=lambda *step: None)
    assert json.loads((workspace.folder("photos") / "index.json").read_text()) == {
        "a": [80, 40],
        "b": [40, 80],
    }
    monkeypatch.setattr("pixelkin.pipelines.weak_labels.photos._KEPT_BYTES", 64 * 32 * 3)
    copies = WorkingCopies(workspace, ["a", "b"])
    first = [copies[0], copies[1]]
    assert copies[0] is first[0]
    assert copies[1] is not first[1]
    np.testing.assert_array_equal(copies[1], first[1])


def test_classes_in_words():
    assert classes_text(["dog"]) == "1 class"
    assert classes_text(["dog", "cat"]) == "2 classes"
