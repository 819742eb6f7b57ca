"""Masks: round trips over arbitrary maps, oracles of plain loops, real DAVIS masks, bad files."""

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pixelkin import masks
from pixelkin.errors import PixelkinError
from pixelkin.structures import Segments

shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
binary = hnp.arrays(bool, shapes)
label_maps = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 255))
few_labels = hnp.arrays(np.uint8, shapes, elements=st.sampled_from([0, 0, 1, 2, 254, 255]))


def loop_counts(mask: np.ndarray) -> list[int]:
    """Uncompressed COCO counts by a plain loop: column-major, zeros first."""
    counts, current, run = [], False, 0
    for value in mask.ravel(order="F"):
        if bool(value) != current:
            counts.append(run)
            current, run = bool(value), 0
        run += 1
    return [*counts, run]


def loop_compress(counts: list[int]) -> bytes:
    """COCO's string coding of counts: deltas to the count before last, six bits a character."""
    text = bytearray()
    for i, count in enumerate(counts):
        x = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = x & 0x1F
            x >>= 5
            more = x != -1 if bits & 0x10 else x != 0
            text.append((bits | 0x20 if more else bits) + 48)
    return bytes(text)


@given(binary)
def test_rle_is_cocos_code_and_returns(mask: np.ndarray) -> None:
    counts = masks.encode_rle(mask)
    assert counts == loop_compress(loop_counts(mask))
    np.testing.assert_array_equal(masks.decode_rle(counts, mask.shape), mask)
    assert masks.rle_area(counts, mask.shape) == mask.sum()


@given(binary)
def test_rle_box_encloses_the_mask(mask: np.ndarray) -> None:
    x, y, width, height = masks.rle_box_xywh(masks.encode_rle(mask), mask.shape)
    ys, xs = np.nonzero(mask)
    if len(ys) == 0:
        assert (width, height) == (0, 0)
    else:
        box = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
        assert (x, y, width, height) == box


@given(label_maps)
def test_labels_return_from_segments(labels: np.ndarray) -> None:
    expected = np.where(labels == 255, 0, labels)
    segments = masks.segments_from_labels(labels.astype(np.int64))
    assert segments.object_ids == sorted(set(np.unique(expected)) - {0})
    np.testing.assert_array_equal(masks.labels_from_segments(segments), expected)


def test_larger_id_lies_on_top() -> None:
    whole = masks.encode_rle(np.ones((3, 4), bool))
    segments = Segments((3, 4), {9: whole, 2: whole})
    assert (masks.labels_from_segments(segments) == 9).all()


@given(st.integers(256, 70_000) | st.integers(-70_000, -1))
def test_wide_ids_never_wrap(wrong: int) -> None:
    labels = np.zeros((4, 5), np.int32)
    labels[1, 2] = wrong
    with pytest.raises(PixelkinError, match=rf"object id {wrong} .*renumber"):
        masks.segments_from_labels(labels)


def test_float_labels_and_wrong_ranks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="float32"):
        masks.segments_from_labels(np.zeros((2, 2), np.float32))
    with pytest.raises(PixelkinError, match=r"\(2, 2, 1\)"):
        masks.encode_rle(np.zeros((2, 2, 1), bool))
    with pytest.raises(PixelkinError, match=r"\(3,\)"):
        masks.write_indexed_png(tmp_path / "m.png", np.zeros(3, np.uint8))
    assert not list(tmp_path.iterdir())


@given(binary, st.binary(max_size=12))
def test_damaged_counts_give_one_line(mask: np.ndarray, junk: bytes) -> None:
    counts = masks.encode_rle(mask)
    height, width = mask.shape
    with pytest.raises(PixelkinError, match="run-length") as caught:
        masks.decode_rle(counts, (height, width + 1))
    assert "\n" not in str(caught.value)
    # Junk is refused as a PixelkinError or happens to be valid; nothing else may come out.
    with suppress(PixelkinError):
        assert masks.decode_rle(junk, (height, width)).shape == mask.shape


@settings(max_examples=300)
@given(binary)
def test_polygons_return_exactly_with_holes(mask: np.ndarray) -> None:
    polygons = masks.mask_to_polygons(mask)
    np.testing.assert_array_equal(masks.polygons_to_mask(polygons, mask.shape), mask)


def test_ring_keeps_its_hole() -> None:
    ring = np.ones((9, 9), bool)
    ring[3:6, 3:6] = False
    polygons = masks.mask_to_polygons(ring)
    assert len(polygons) == 2
    assert not masks.polygons_to_mask(polygons, (9, 9))[4, 4]


def test_polygon_errors() -> None:
    with pytest.raises(PixelkinError, match=r"\(n, 2\)"):
        masks.polygons_to_mask([np.zeros((3, 3))], (4, 4))
    with pytest.raises(PixelkinError, match="finite"):
        masks.polygons_to_mask([np.array([[0, np.nan], [1, 1], [2, 0]])], (4, 4))
    far = masks.polygons_to_mask([np.array([[-1e12, 0], [1e12, 0], [1e12, 1], [-1e12, 1]])], (4, 4))
    np.testing.assert_array_equal(far, np.arange(4)[:, None] < np.array([[2] * 4]))


def test_palette_is_vocs() -> None:
    colours = masks.palette()
    # First and last rows of the palette that PASCAL VOC publishes.
    assert colours[:7].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128],
        [0, 128, 128],
    ]  # fmt: skip
    assert colours[255].tolist() == [224, 224, 192]
    assert len(np.unique(colours, axis=0)) == 256


@settings(max_examples=40)
@given(label_maps)
def test_indexed_png_returns(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "m.png"
    masks.write_indexed_png(path, labels)
    np.testing.assert_array_equal(masks.read_indexed_png(path, size_hw=labels.shape), labels)
    with Image.open(path) as image:
        assert image.mode == "P"
        rgb = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(rgb, masks.palette()[labels])
    assert [p.name for p in path.parent.iterdir()] == ["m.png"]


@settings(max_examples=40)
@given(few_labels)
def test_greyscale_rule(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("png") / "m.png"
    Image.fromarray(labels).save(path)
    values = set(np.unique(labels).tolist())
    expected = labels // 255 if 255 in values and values <= {0, 255} else labels
    np.testing.assert_array_equal(masks.read_indexed_png(path), expected)


def test_one_bit_and_sixteen_bit_masks(tmp_path: Path) -> None:
    inside = np.eye(5, dtype=bool)
    Image.fromarray(inside).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(masks.read_indexed_png(tmp_path / "bit.png"), inside)
    Image.fromarray(inside.astype(np.uint16) * 200).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(masks.read_indexed_png(tmp_path / "wide.png"), inside * 200)
    Image.fromarray(inside.astype(np.uint16) * 257).save(tmp_path / "wide.png")
    with pytest.raises(PixelkinError, match="id 257"):
        masks.read_indexed_png(tmp_path / "wide.png")


def test_bad_masks_give_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = tmp_path / "good.png"
    labels = np.random.default_rng(0).integers(0, 9, (40, 50)).astype(np.uint8)
    masks.write_indexed_png(good, labels)
    data = good.read_bytes()
    cases = {
        "colour image": (lambda p: Image.new("RGB", (50, 40)).save(p), "palette"),
        "damaged": (lambda p: p.write_bytes(data[: len(data) // 2]), "write it again"),
        "damaged or": (lambda p: p.write_bytes(data[:20]), "write it again"),
        "no image": (lambda p: p.write_text("hello"), "write it again"),
        "50×41, expected 50×40": (lambda p: Image.new("L", (50, 41)).save(p), "scale"),
        "is JPEG": (lambda p: Image.new("L", (50, 40)).save(p, format="JPEG"), "PNG"),
        "no mask at": (lambda p: p.unlink(missing_ok=True), "check the path"),
    }
    for got, (spoil, remedy) in cases.items():
        bad = tmp_path / "bad.png"
        spoil(bad)
        with pytest.raises(PixelkinError) as caught:
            masks.read_indexed_png(bad, size_hw=(40, 50))
        message = str(caught.value)
        assert got in message
        assert remedy in message
        assert "bad.png" in message
        assert "\n" not in message
    monkeypatch.setattr(masks, "MAX_PIXELS", 1999)
    with pytest.raises(PixelkinError, match="at most 1999 pixels"):
        masks.read_indexed_png(good)


@given(few_labels)
def test_boundary_by_plain_loops(labels: np.ndarray) -> None:
    mask = labels > 0
    height, width = mask.shape
    expected = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
            outside = [not mask[b, a] for b, a in around if 0 <= b < height and 0 <= a < width]
            expected[y, x] = mask[y, x] and any(outside)
    np.testing.assert_array_equal(masks.boundary(mask), expected)


@given(few_labels, st.floats(0, 1))
def test_overlay_by_formula(labels: np.ndarray, opacity: float) -> None:
    image = np.full((*labels.shape, 3), 100, np.uint8)
    result = masks.overlay(image, labels, opacity=opacity)
    outside = (labels == 0) | (labels == 255)
    np.testing.assert_array_equal(result[outside], image[outside])
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    colour = masks.palette()[labels].astype(float)
    expected = np.where(edge[..., None], colour, 100 * (1 - opacity) + colour * opacity)
    assert np.abs(result - expected)[~outside].max(initial=0) <= 1


def test_overlay_errors() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    with pytest.raises(PixelkinError, match="6×4, expected 5×4"):
        masks.overlay(image, np.zeros((4, 6), np.uint8))
    with pytest.raises(PixelkinError, match="opacity is 2"):
        masks.overlay(image, np.zeros((4, 5), np.uint8), opacity=2)


def test_real_davis_masks(shared_data: Path) -> None:
    paths = sorted((shared_data / "davis2016/Annotations/480p").glob("*/*.png"))[::40]
    paths += sorted((shared_data / "davis2016_pml_masks").glob("*/*.png"))[::80]
    assert len(paths) > 8
    for path in paths:
        labels = masks.read_indexed_png(path, size_hw=(480, 854))
        inside = np.asarray(Image.open(path).convert("L")) > 0
        np.testing.assert_array_equal(labels, inside)
        segments = masks.segments_from_labels(labels)
        np.testing.assert_array_equal(masks.labels_from_segments(segments), inside)
        polygons = masks.mask_to_polygons(labels)
        np.testing.assert_array_equal(masks.polygons_to_mask(polygons, labels.shape), inside)


def test_rle_keeps_video_speed(shared_data: Path) -> None:
    path = sorted((shared_data / "davis2016/Annotations/480p").glob("*/00000.png"))[0]
    mask = masks.read_indexed_png(path) > 0
    counts = masks.encode_rle(mask)

    calls = (
        lambda: masks.encode_rle(mask),
        lambda: masks.decode_rle(counts, mask.shape),
        # The least that numpy can do by column: machines differ, and do other work.
        lambda: np.flatnonzero(np.diff(mask.ravel(order="F").view(np.int8))),
    )
    times = []
    for _ in range(20):
        for call in calls:
            start = time.thread_time()
            call()
            times.append(time.thread_time() - start)
    encoding, decoding, peer = (min(times[i :: len(calls)]) for i in range(len(calls)))
    assert max(encoding, decoding) < 4 * peer


@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.tuples(*[st.integers(0, 9)] * 4),
    seed=st.integers(0, 9999),
    share=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_a_window_encodes_as_the_image_that_holds_it(size, window, seed, share):
    height, width = size
    top, left = window[0] % height, window[1] % width
    h, w = window[2] % (height - top + 1), window[3] % (width - left + 1)
    inside = np.random.default_rng(seed).random((h, w)) < share
    whole = np.zeros(size, bool)
    whole[top : top + h, left : left + w] = inside
    assert masks.encode_window(inside, corner_xy=(left, top), size_hw=size) == masks.encode_rle(
        whole
    )
