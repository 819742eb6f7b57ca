"""Grey PNGs of 2 and 4 bits: Pillow stretches them to 0 … 255, and ids must not be stretched."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pixelkin.data.class_maps.files import read_byte_indices
from pixelkin.data.instances.instance_png import InstancePng
from pixelkin.data.reading import read_index_png, read_indices
from pixelkin.masks import read_indexed_png


def grey_png(values: np.ndarray, *, bits: int, kind: int = 0) -> bytes:
    """A PNG of so many bits a pixel, which Pillow does not write; kind 3 has a palette."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    rows = b""
    for row in values.tolist():
        text = "".join(format(value, f"0{bits}b") for value in row)
        text += "0" * (-len(text) % 8)
        rows += b"\0" + bytes(int(text[n : n + 8], 2) for n in range(0, len(text), 8))
    colours = chunk(b"PLTE", bytes(range(3 << bits))) if kind == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + colours
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@st.composite
def pngs(draw):
    """Values, bits and colour type of a map with less than 8 bits a pixel."""
    bits = draw(st.sampled_from([2, 4]))
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    count = height * width
    values = draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=count, max_size=count))
    return np.array(values, np.uint8).reshape(height, width), bits, draw(st.sampled_from([0, 3]))


@given(pngs())
def test_ids_are_those_of_the_file(tmp_path_factory, map_):
    values, bits, kind = map_
    path = tmp_path_factory.mktemp("map") / "a.png"
    path.write_bytes(grey_png(values, bits=bits, kind=kind))
    assert np.array_equal(read_byte_indices(path, size_hw=values.shape), values)
    assert np.array_equal(read_index_png(path), values)
    assert np.array_equal(read_indexed_png(path), values)


@given(st.data())
def test_one_bit_is_a_binary_mask_as_ever(tmp_path_factory, data):
    bits = data.draw(st.lists(st.integers(0, 1), min_size=12, max_size=12))
    values = np.array(bits, np.uint8).reshape(3, 4)
    path = tmp_path_factory.mktemp("mask") / "a.png"
    path.write_bytes(grey_png(values, bits=1))
    mode, stored = read_indices(path)
    assert mode == "1"
    assert np.array_equal(stored, values.astype(bool))
    assert np.array_equal(read_byte_indices(path, size_hw=values.shape), values)
    assert np.array_equal(read_index_png(path), values)
    assert np.array_equal(read_indexed_png(path), values)


def test_grey_of_eight_bits_is_untouched(tmp_path):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_index_png(tmp_path / "a.png"), values)
    assert np.array_equal(read_indexed_png(tmp_path / "a.png"), values)


@pytest.mark.parametrize("bits", [2, 4])
def test_instances_keep_their_ids(tmp_path: Path, bits: int):
    values = np.array([[0, 1, 1], [0, 3, 3]], np.uint8)
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    Image.new("RGB", (3, 2)).save(tmp_path / "images" / "a.png")
    (tmp_path / "masks" / "a.png").write_bytes(grey_png(values, bits=bits))
    sample = InstancePng(tmp_path / "images", tmp_path / "masks")[0]
    assert [one.key for one in sample.instances] == ["1", "3"]
