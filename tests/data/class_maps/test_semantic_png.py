import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.class_maps.index_png import (
    SemanticPng,
    class_values,
    read_class_list,
    read_class_map,
)
from pixelkin.errors import PixelkinError
from pixelkin.masks import palette, write_indexed_png
from pixelkin.structures import IGNORE

NAMES = ("road", "sky", "car")
GRID = np.array([[0, 1, 2, 255], [2, 2, 0, 1]])


def write_map(path: Path, values: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "P":
        write_indexed_png(path, values)
    elif mode == "RGB":
        Image.fromarray(palette()[values]).save(path)
    else:
        dtype = np.uint16 if mode == "I;16" else np.uint8
        image = Image.fromarray(values.astype(dtype))
        (image.convert(mode) if mode == "1" else image).save(path)


def write_set(
    root: Path, maps: dict[str, np.ndarray], *, mode: str = "L", names: str = "road\nsky\ncar\n"
) -> Path:
    for stem, values in maps.items():
        write_map(root / "masks" / f"{stem}.png", values, mode)
        (root / "images").mkdir(exist_ok=True)
        Image.new("RGB", values.shape[::-1]).save(root / "images" / f"{stem}.jpg")
    (root / "classes.txt").write_text(names)
    return root


def opened(root: Path, **options: object) -> SemanticPng:
    return SemanticPng(root / "images", root / "masks", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_indices_are_kept_in_grey_palette_and_16_bits(tmp_path: Path, mode: str) -> None:
    root = write_set(tmp_path, {"a": GRID, "b": GRID[:, :2]}, mode=mode)
    data = opened(root)
    assert data.names == ["a", "b"]
    assert data.class_names == NAMES
    np.testing.assert_array_equal(data[0].labels, GRID)
    np.testing.assert_array_equal(data[1].labels, GRID[:, :2])
    np.testing.assert_array_equal(data.labels(0), GRID)
    assert data[0].labels.dtype == np.int64


def test_a_suffix_and_images_without_a_map(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID, "b": GRID})
    (root / "masks" / "a.png").rename(root / "masks" / "a_mask.png")
    with pytest.raises(PixelkinError, match=r"b\.jpg has no label file: expected .*b_mask\.png"):
        opened(root, mask_suffix="_mask")
    assert opened(root, mask_suffix="_mask", skip_missing=True).names == ["a"]


# Values and classes


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_values_of_16_bits_become_the_classes_in_their_order(data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 65534), min_size=2, max_size=9, unique=True))
    names = {value: f"class {value}" for value in values}
    ignore = 65535
    pixels = np.array([data.draw(st.lists(st.sampled_from([*values, ignore]), min_size=1))])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.png"
        write_map(path, pixels, "I;16")
        rules = class_values(names, ignore=ignore)
        labels = read_class_map(path, rules)
    for pixel, label in zip(pixels.ravel().tolist(), labels.ravel().tolist(), strict=True):
        if pixel == ignore:
            assert label == IGNORE
        else:
            assert rules.class_names[label] == f"class {pixel}"
            assert label == sorted(values).index(pixel)


def test_more_than_255_classes_leave_index_255_to_nobody(tmp_path: Path) -> None:
    names = [f"class {n}" for n in range(300)]
    pixels = np.array([[0, 254, 255, 256, 299, 65535]])
    root = write_set(tmp_path, {"a": pixels}, mode="I;16", names="\n".join(names))
    data = opened(root)
    assert len(data.class_names) == 301
    assert data.class_names[255] == ""
    labels = data[0].labels
    assert labels.tolist() == [[0, 254, 256, 257, 300, IGNORE]]
    assert [data.class_names[n] for n in labels[0, :5]] == [names[n] for n in pixels[0, :5]]


def test_another_value_may_mean_unknown(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID % 255})
    np.testing.assert_array_equal(
        opened(root, ignore=0)[0].labels, np.where(GRID % 255 == 0, 255, GRID)
    )
    with pytest.raises(PixelkinError, match="value 65536 is out of range"):
        opened(root, ignore=65536)


@pytest.mark.parametrize("where", ["masks", ".", "argument"])
def test_classes_stand_in_a_file_or_are_given(tmp_path: Path, where: str) -> None:
    root = write_set(tmp_path, {"a": GRID})
    listed = root / "classes.txt"
    if where == "masks":
        listed = listed.rename(root / "masks" / "classes.txt")
    if where == "argument":
        listed = listed.rename(root / "names")
        for classes in (listed, str(listed), NAMES, dict(enumerate(NAMES))):
            assert opened(root, classes=classes).class_names == NAMES
        with pytest.raises(PixelkinError, match=r"no class list: expected .*masks/classes\.txt"):
            opened(root)
    else:
        assert opened(root).class_names == NAMES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("road\nsky", {0: "road", 1: "sky"}),
        ("\ufeffroad\r\n sky \r\n\r\n", {0: "road", 1: "sky"}),
        ("0: background\n255 = Zelle", {0: "background", 255: "Zelle"}),
        ("7:a b\n3:c", {7: "a b", 3: "c"}),
    ],
)
def test_class_lists(tmp_path: Path, text: str, expected: dict[int, str]) -> None:
    (tmp_path / "classes.txt").write_bytes(text.encode())
    assert read_class_list(tmp_path / "classes.txt") == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", r"classes\.txt has no name"),
        ("a\n\nb", r"classes\.txt has an empty line, 2"),
        ("a\nb\na", r"classes\.txt has 'a' twice"),
        ("0: a\nb", r"classes\.txt, line 2 has no value, and others have"),
        ("0: a\n0: b", r"classes\.txt has a value twice"),
        ("\xff", r"cannot read the class list .*classes\.txt"),
    ],
)
def test_faulty_class_lists_are_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "classes.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(PixelkinError, match=match) as caught:
        read_class_list(tmp_path / "classes.txt")
    assert "\n" not in str(caught.value)


def test_a_class_list_of_another_length_is_told_by_its_pixels(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": np.where(GRID == 1, 3, GRID)})
    with pytest.raises(
        PixelkinError,
        match=r"masks/a\.png holds value 3 in 2 of its pixels: expected 0 to 2 \(3 classes\) and "
        r"255 \(unknown\); correct the class list, or the pixels",
    ):
        opened(root)[0]


# Binary masks


@pytest.mark.parametrize("mode", ["L", "grey palette"])
def test_masks_of_0_and_255_want_to_be_explained(tmp_path: Path, mode: str) -> None:
    root = write_set(tmp_path, {"a": np.where(GRID == 2, 255, 0)})
    if mode != "L":
        image = Image.open(root / "masks" / "a.png")
        image.putpalette([n for value in range(256) for n in (value, value, value)])
        assert image.mode == "P"
        image.save(root / "masks" / "a.png")
    with pytest.raises(
        PixelkinError,
        match=r"masks/a\.png holds nothing but 0 and 255.*list the classes as '0: background' and "
        r"'255: name' in classes\.txt; or, where 255 does mean unknown, add the line 'ignore: 255'",
    ):
        opened(root)[0]
    expected = (GRID == 2).astype(int)
    one = opened(root, foreground=255)
    assert one.class_names == ("background", "foreground")
    np.testing.assert_array_equal(one[0].labels, expected)
    named = opened(root, foreground=255, classes=["rest", "cell"])
    assert named.class_names == ("rest", "cell")
    np.testing.assert_array_equal(named[0].labels, expected)
    (root / "classes.txt").write_text("0: rest\n255: cell\n")
    np.testing.assert_array_equal(opened(root)[0].labels, expected)
    (root / "classes.txt").write_text("a\nb\n")
    np.testing.assert_array_equal(opened(root, ignore=255)[0].labels, expected * 255)
    for wrong in ({"foreground": 0}, {"foreground": 255, "classes": NAMES}):
        with pytest.raises(PixelkinError, match="foreground is"):
            opened(root, **wrong)


@pytest.mark.parametrize("line", ["ignore: 255", "IGNORE=255"])
@pytest.mark.parametrize("names", ["a\nb\n{}\n", "{}\na\nb", "0: a\n1: b\n{}\n"])
def test_the_class_list_may_say_that_255_is_unknown(tmp_path: Path, names: str, line: str) -> None:
    mask = np.where(GRID == 2, 255, 0)
    root = write_set(tmp_path, {"a": mask}, names=names.format(line))
    assert opened(root).class_names == ("a", "b")
    np.testing.assert_array_equal(opened(root)[0].labels, mask)
    # Another value, and what is said in code, which goes first.
    (root / "classes.txt").write_text("a\nignore: 7\n")
    write_map(root / "masks" / "a.png", np.where(mask, 7, 0))
    np.testing.assert_array_equal(opened(root)[0].labels, mask)
    with pytest.raises(PixelkinError, match="holds value 7"):
        opened(root, ignore=255)[0]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a\nb\nignore: 1", r"classes\.txt says ignore: 1, and 1 is 'b': expected one of them"),
        ("a\nignore: 3\nignore: 4", r"classes\.txt says ignore twice"),
        ("ignore: 255", r"classes\.txt has no name"),
    ],
)
def test_contradictions_about_the_unknown_are_told(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(PixelkinError, match=match):
        class_values(tmp_path / "classes.txt")


def test_255_in_the_palette_of_voc_is_unknown(tmp_path: Path) -> None:
    mask = np.where(GRID == 2, 255, 0)
    root = write_set(tmp_path, {"a": mask}, mode="P")
    np.testing.assert_array_equal(opened(root)[0].labels, mask)


def test_one_bit_is_two_classes(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": np.where(GRID == 2, 255, 0)}, mode="1", names="a\nb")
    np.testing.assert_array_equal(opened(root)[0].labels, GRID == 2)


# Colours


def test_colours_that_render_the_classes_are_read_back(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID}, mode="RGB")
    np.testing.assert_array_equal(opened(root)[0].labels, GRID)
    path = root / "masks" / "a.png"
    grey = np.repeat(GRID[..., None], 3, axis=2).astype(np.uint8)
    for pixels in (grey, np.dstack([grey, np.full(GRID.shape, 255, np.uint8)])):
        Image.fromarray(pixels).save(path)
        np.testing.assert_array_equal(opened(root)[0].labels, GRID)
    Image.fromarray(np.dstack([grey, GRID.astype(np.uint8)])).save(path)
    with pytest.raises(PixelkinError, match="of mode RGBA, some of it transparent; save each pix"):
        opened(root)[0]
    Image.fromarray(grey + np.array([0, 0, 7], np.uint8)).save(path)
    with pytest.raises(PixelkinError, match=r"is a colour image, with 4 colours such as .* and no"):
        opened(root)[0]
    # Index 3 of the palette is none of three classes.
    write_map(path, np.where(GRID == 2, 3, GRID), "RGB")
    with pytest.raises(PixelkinError, match="no rendering of values 0 to 2"):
        opened(root)[0]


def test_binary_masks_in_colour_are_binary_all_the_same(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID})
    white = np.repeat(np.where(GRID == 2, 255, 0)[..., None], 3, axis=2).astype(np.uint8)
    Image.fromarray(white).save(root / "masks" / "a.png")
    with pytest.raises(PixelkinError, match="looks like a binary mask"):
        opened(root)[0]


# Files


def test_mixed_depths_are_named_before_anything_is_read(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID, "b": GRID, "c": GRID})
    write_map(root / "masks" / "b.png", GRID, "I;16")
    with pytest.raises(
        PixelkinError, match=r"b\.png has 16 bits a pixel, and a\.png \(2 of 3 maps\) 8; save all"
    ):
        opened(root)
    write_map(root / "masks" / "c.png", GRID, "I;16")
    with pytest.raises(PixelkinError, match=r"a\.png has 8 bits a pixel, and b\.png \(2 of 3"):
        opened(root)
    # A palette with few colours takes fewer bits, and is read the same.
    for stem in ("b", "c"):
        write_map(root / "masks" / f"{stem}.png", GRID, "P")
    assert len(opened(root)) == 3


def test_grey_of_few_bits_is_read_as_the_file_has_it(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID % 255})
    # Pillow writes no such file: one row of 4 pixels in 2 bits each.
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 4, 2, 2, 0, 0, 0, 0)
    rows = bytes([0, 0b00011000, 0, 0b10100001])
    (root / "masks" / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    assert opened(root)[0].labels.tolist() == [[0, 1, 2, 0], [2, 2, 0, 1]]


def test_files_that_cannot_be_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path, {"a": GRID, "b": GRID})
    data = opened(root)
    path = root / "masks" / "a.png"
    write_map(path, GRID[:1])
    with pytest.raises(PixelkinError, match=r"a\.png is 4×1: expected 4×2 as its image"):
        data[0]
    shutil.copy(root / "images" / "a.jpg", path)
    with pytest.raises(PixelkinError, match=r"a\.png is a JPEG file; save the map as PNG"):
        data[0]
    path.write_bytes((root / "masks" / "b.png").read_bytes()[:40])
    with pytest.raises(PixelkinError, match=r"cannot read the map .*a\.png"):
        data[0]
    path.write_bytes(b"")
    with pytest.raises(PixelkinError, match=r"a\.png: the file is empty"):
        data[0]
    path.unlink()
    with pytest.raises(PixelkinError, match=r"a\.jpg has no label file: expected .*masks/a\.png"):
        opened(root)
    for folder in ("images", "masks"):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()
        with pytest.raises(PixelkinError, match="holds no image: expected"):
            opened(root)
