"""Runtimes: padding, batches, devices."""

import numpy as np
import pytest
import torch
from tiny_model import tiny_runtime

from pixelkin.errors import PixelkinError
from pixelkin.runtime import OnnxRuntime, pad_image, pick_device


@pytest.mark.parametrize("size_hw", [(1, 1), (15, 33), (16, 32), (17, 16)])
def test_padding_repeats_the_border(size_hw):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    padded = pad_image(image)
    h, w = size_hw
    assert padded.shape[:2] == (-(-h // 16) * 16, -(-w // 16) * 16)
    assert padded.flags.c_contiguous
    for y in range(padded.shape[0]):
        for x in range(padded.shape[1]):
            assert np.array_equal(padded[y, x], image[min(y, h - 1), min(x, w - 1)])


def test_padded_frame_embeds_as_the_frame_padded_by_hand():
    runtime = tiny_runtime()
    image = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    ours, by_hand = runtime.embed(image), runtime.embed(pad_image(image))
    assert ours.embeddings.shape == (1, 64, 3, 4)
    assert torch.equal(ours.embeddings, by_hand.embeddings)
    # A frame that is a view with its columns turned is not contiguous.
    turned = runtime.embed(np.ascontiguousarray(image[:, ::-1]))
    assert torch.equal(runtime.embed(image[:, ::-1].copy()).embeddings, turned.embeddings)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}


@pytest.mark.parametrize("name", ["gpu", "cuda:99", ""])
def test_missing_device_is_one_line(name):
    with pytest.raises(PixelkinError, match="is not available here") as caught:
        pick_device(name)
    assert "\n" not in str(caught.value)


def test_broken_graph_is_one_line(tmp_path):
    for name in ("embed.onnx", "answer.onnx"):
        (tmp_path / name).write_bytes(b"no graph")
    with pytest.raises(PixelkinError, match="export the model again") as caught:
        OnnxRuntime(tmp_path / "embed.onnx", tmp_path / "answer.onnx")
    assert "\n" not in str(caught.value)
