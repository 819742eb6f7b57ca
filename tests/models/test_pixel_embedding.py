"""Embedding networks: strides, norms, positions, batches."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pixelkin.models.heads import join_positions
from pixelkin.models.pixel_embedding import pad_to_multiple, paper_network, small_network


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return small_network().eval()


@torch.inference_mode()
def test_small_network_contract(small):
    images = torch.rand(3, 3, 64, 96)
    fields = small(images)
    assert small.stride == fields.stride == 16
    assert fields.embeddings.shape == (3, 64, 4, 6)
    assert [tuple(d.shape) for d in fields.details] == [
        (3, 64, 4, 6),
        (3, 32, 8, 12),
        (3, 16, 16, 24),
    ]
    assert torch.allclose(fields.embeddings.norm(dim=1), torch.ones(3, 4, 6), atol=1e-5)
    for n in range(3):
        alone = small(images[n : n + 1])
        assert torch.allclose(alone.embeddings[0], fields.embeddings[n], atol=1e-5)
        for one, all_ in zip(alone.details, fields.details, strict=True):
            assert torch.allclose(one[0], all_[n], atol=1e-5)


@torch.inference_mode()
def test_normalisation_is_inside_and_travels_with_the_weights(small):
    images = torch.rand(1, 3, 32, 32)
    expected, _ = small.decoder(small.backbone((images - 0.5) / 0.5))
    assert torch.allclose(
        small(images).embeddings, F.normalize(small.head(expected), dim=1), atol=1e-6
    )
    assert {"mean", "std"} <= small.state_dict().keys()


@torch.inference_mode()
def test_paper_network():
    """Output stride 8, d = 128, unit norm; x, y and t are features (Chen et al. 2018)."""
    torch.manual_seed(0)
    net = paper_network().eval()
    images = torch.rand(1, 3, 64, 64)
    fields = net(images)
    assert net.stride == fields.stride == 8
    assert fields.embeddings.shape == (1, 128, 8, 8)
    assert fields.details == ()
    assert torch.allclose(fields.embeddings.norm(dim=1), torch.ones(1, 8, 8), atol=1e-5)
    assert torch.equal(net(images, torch.zeros(1)).embeddings, fields.embeddings)
    assert not torch.allclose(net(images, torch.ones(1)).embeddings, fields.embeddings, atol=1e-6)
    head = net.head.layers[0].weight
    assert head.shape[1] == 2048 + 3
    for channel in (2048, 2049):  # x, y
        kept = head[:, channel].clone()
        head[:, channel] = 0
        assert not torch.allclose(net(images).embeddings, fields.embeddings, atol=1e-6)
        head[:, channel] = kept
    two = net(images.repeat(2, 1, 1, 1), torch.tensor([0.0, 1.0])).embeddings
    assert torch.allclose(two[0], fields.embeddings[0], atol=1e-5)


def test_positions_span_the_frame():
    joined = join_positions(torch.zeros(2, 1, 3, 5), torch.tensor([0.25, -1.0]))
    assert joined.shape == (2, 4, 3, 5)
    assert joined[0, 1, 2].tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1])
    assert joined[1, 2, :, 4].tolist() == pytest.approx([-1, 0, 1])
    assert (joined[0, 3] == 0.25).all()
    assert (joined[1, 3] == -1).all()


@pytest.mark.parametrize("size_hw", [(32, 48), (33, 47), (1, 5)])
def test_padding_repeats_the_border(size_hw):
    images = torch.rand(2, 3, *size_hw)
    padded = pad_to_multiple(images, 16)
    h, w = padded.shape[-2:]
    assert h % 16 == w % 16 == 0
    assert h - size_hw[0] < 16
    rows = np.minimum(np.arange(h), size_hw[0] - 1)
    columns = np.minimum(np.arange(w), size_hw[1] - 1)
    assert torch.equal(padded, images[:, :, rows][:, :, :, columns])
