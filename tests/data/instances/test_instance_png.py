import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from pixelkin.data.instances.instance_png import InstancePng, rles_by_id
from pixelkin.data.reading import image_size_hw, read_image, read_index_png
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, encode_rle, paint_instances
from pixelkin.structures import InstanceSample, nth_instance_id

IDS = np.array([[0, 1, 1, 0], [2, 2, 1, 255], [7, 7, 0, 0]])


def ids_of(sample: InstanceSample) -> np.ndarray:
    """The ids that the file held, painted from the instances and their keys."""
    ids = np.zeros(sample.size_hw, np.int64)
    if sample.ignore is not None:
        ids[decode_rle(sample.ignore, sample.size_hw)] = 255
    for instance in sample.instances:
        ids[decode_rle(instance.rle, sample.size_hw)] = int(instance.key)
    return ids


def write_pair(root: Path, stem: str, mask: Image.Image, suffix: str = "") -> None:
    (root / "images").mkdir(exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    Image.new("RGB", mask.size, (10, 20, 30)).save(root / "images" / f"{stem}.png")
    mask.save(root / "masks" / f"{stem}{suffix}.png")


def palette_image(ids: np.ndarray) -> Image.Image:
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(Image.fromarray(IDS.astype(np.uint8)), id="grey"),
        pytest.param(palette_image(IDS), id="palette"),
        pytest.param(Image.fromarray(IDS.astype(np.uint16)), id="16-bit"),
    ],
)
def test_ids_are_kept_in_every_depth(tmp_path: Path, mask: Image.Image) -> None:
    write_pair(tmp_path, "a", mask, "_mask")
    data = InstancePng(tmp_path / "images", tmp_path / "masks", mask_suffix="_mask")
    assert data.names == ["a"]
    assert len(data) == 1
    sample = data[0]
    assert [one.key for one in sample.instances] == ["1", "2", "7"]
    assert not any(one.crowd or one.category for one in sample.instances)
    assert data.class_names == ("object",)
    assert sample.image.dtype == np.uint8
    np.testing.assert_array_equal(ids_of(sample), IDS)
    painted = paint_instances(sample).labels
    np.testing.assert_array_equal(painted, np.where(IDS == 7, 3, IDS))
    assert sample.image[2, 3].tolist() == [10, 20, 30]
    assert sample.name == "a"


def test_ids_above_eight_bits_survive(tmp_path: Path) -> None:
    ids = np.array([[0, 256], [1000, 65535]])
    Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_index_png(tmp_path / "m.png"), ids)


def test_an_id_of_255_among_larger_ones_is_not_taken_as_unknown(tmp_path: Path) -> None:
    many = np.arange(300).reshape(10, 30)
    write_pair(tmp_path, "a", Image.fromarray(many.astype(np.uint16)))
    write_pair(tmp_path, "b", Image.fromarray(np.where(many < 255, many, many + 1).astype("u2")))
    data = InstancePng(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(PixelkinError, match=r"a\.png numbers objects to 299, and 255 means unkn"):
        data[0]
    assert [int(one.key) for one in data[1].instances] == [*range(1, 255), *range(256, 301)]


@given(
    arrays(
        np.int64,
        array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
        elements=st.sampled_from([0, 0, 1, 2, 255, 70000]),
    ),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_counts_of_a_label_map_are_those_of_its_masks(
    labels: np.ndarray, left: int, right: int
) -> None:
    whole = np.pad(labels, ((0, 0), (left, right)))
    rles = rles_by_id(labels, left=left, full_width=whole.shape[1])
    assert list(rles) == [i for i in np.unique(labels).tolist() if i]
    for number, rle in rles.items():
        assert rle == encode_rle(whole == number)
    assert rles_by_id(whole) == rles


def test_masks_of_one_object(tmp_path: Path) -> None:
    ids = np.array([[0, 255], [255, 0]])
    write_pair(tmp_path, "grey", Image.fromarray(ids.astype(np.uint8)))
    write_pair(tmp_path, "palette", palette_image(ids))
    data = InstancePng(tmp_path / "images", tmp_path / "masks")
    assert ids_of(data[0]).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(PixelkinError, match="pass binary=True"):
        data[1]
    write_pair(tmp_path, "other", Image.fromarray(np.array([[0, 7], [9, 255]], np.uint8)))
    data = InstancePng(tmp_path / "images", tmp_path / "masks", binary=True)
    assert data.names == ["grey", "other", "palette"]
    assert [ids_of(data[i]).tolist() for i in range(3)] == [
        [[0, 1], [1, 0]],
        [[0, 1], [1, 1]],
        [[0, 1], [1, 0]],
    ]


def test_an_empty_mask_is_background(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", Image.new("L", (3, 2)))
    sample = InstancePng(tmp_path / "images", tmp_path / "masks")[0]
    assert sample.instances == ()
    assert sample.ignore is None


def test_missing_mask_is_named_or_skipped(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", Image.new("L", (3, 2)))
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "b.jpg")
    with pytest.raises(PixelkinError, match=r"b\.jpg has no mask: expected .*b\.png"):
        InstancePng(tmp_path / "images", tmp_path / "masks")
    data = InstancePng(tmp_path / "images", tmp_path / "masks", skip_missing=True)
    assert data.names == ["a"]
    with pytest.raises(PixelkinError, match="check mask_suffix"):
        InstancePng(tmp_path / "images", tmp_path / "masks", mask_suffix="_x", skip_missing=True)


def test_caller_mistakes_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="no folder"):
        InstancePng(tmp_path / "nowhere", tmp_path)
    with pytest.raises(PixelkinError, match="holds no image"):
        InstancePng(tmp_path, tmp_path)
    write_pair(tmp_path, "a", Image.new("RGB", (3, 2)))
    with pytest.raises(
        PixelkinError, match=r"a\.png is PNG of mode RGB: expected a PNG whose pixels are indices"
    ):
        InstancePng(tmp_path / "images", tmp_path / "masks")[0]
    Image.new("L", (4, 2)).save(tmp_path / "masks" / "a.png")
    with pytest.raises(PixelkinError, match=r"a\.png is 4×2: expected 3×2"):
        InstancePng(tmp_path / "images", tmp_path / "masks")[0]
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(PixelkinError, match=r"a\.jpg and a\.png"):
        InstancePng(tmp_path / "images", tmp_path / "masks")


@pytest.mark.parametrize("kind", ["empty", "truncated", "text"])
def test_a_broken_image_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "broken.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"hello"}[kind])
    with pytest.raises(PixelkinError, match=r"broken\.png") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert ("is empty" in str(caught.value)) == (kind == "empty")


def test_exif_orientation_is_honoured(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 0] = (255, 0, 0)
    exif = Image.Exif()
    exif[274] = 6  # stored lying on its side; shown turned clockwise by 90°
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    upright = read_image(path)
    assert upright.shape == (3, 2, 3)
    assert upright[0, 1].tolist() == [255, 0, 0]
    assert image_size_hw(path) == (3, 2)


def test_deep_images_are_refused_and_grey_ones_become_rgb(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(PixelkinError, match="8 bits per channel"):
        read_image(tmp_path / "deep.png")
    Image.fromarray(np.full((2, 3), 77, np.uint8)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png").tolist() == [[[77] * 3] * 3] * 2


def test_instance_ids_skip_255() -> None:
    ids = [nth_instance_id(i) for i in range(300)]
    assert ids[:254] == list(range(1, 255))
    assert ids[254:] == list(range(256, 302))


def test_more_pixels_than_the_limit_are_refused_by_the_header(tmp_path: Path) -> None:
    # 300 megapixels in a file of a few kilobytes, and 99 that are let through unwarned.
    path = tmp_path / "huge.png"
    write_blank_png(path, width=20000, height=15000)
    for read in (read_image, image_size_hw, read_index_png):
        with pytest.raises(PixelkinError, match=r"huge\.png has more than 100,000,000 pixels"):
            read(path)
    write_blank_png(path, width=11000, height=9100)
    with pytest.raises(PixelkinError, match="more than 100,000,000 pixels"):
        image_size_hw(path)
    write_blank_png(path, width=11000, height=9000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image_size_hw(path) == (9000, 11000)


def write_blank_png(path: Path, *, width: int, height: int) -> None:
    """A grey PNG of zeros whose header is right and whose pixels end after the first rows."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(10 * (width + 1)))), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
