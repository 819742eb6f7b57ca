"""The mask decoder: item by item, and plain retrieval before it has learned."""

import pytest
import torch
import torch.nn.functional as F

from pixelkin.models.mask_decoder import (
    CELL_PARTS,
    EVIDENCE_CHANNELS,
    PART_MAPS,
    MaskDecoder,
    ResidualBlock,
)


def inputs(n=2, h=3, w=4):
    draw = torch.Generator().manual_seed(0)
    return (
        torch.randn(n, 64, h, w, generator=draw),
        torch.randn(n, 32, 2 * h, 2 * w, generator=draw),
        torch.randn(n, 16, 4 * h, 4 * w, generator=draw),
        torch.rand(n, EVIDENCE_CHANNELS, h, w, generator=draw),
    )


@torch.inference_mode()
def test_items_are_decoded_apart():
    torch.manual_seed(0)
    decoder = MaskDecoder().eval()
    given = inputs(n=4)
    together = decoder(*given)
    assert together.shape == (4, 1, 12, 16)
    for n in range(4):
        assert torch.allclose(decoder(*(x[n : n + 1] for x in given))[0], together[n], atol=1e-5)


@torch.inference_mode()
def test_untrained_decoder_without_its_last_layer_adds_up_what_was_retrieved():
    """2 · globally + 2 · locally + previous − 2.5, each part in its place."""
    decoder = MaskDecoder().eval()
    decoder.logit.weight.zero_()
    decoder.logit.bias.zero_()
    given = inputs()
    got, evidence = decoder(*given), given[3]
    per_map = CELL_PARTS**2
    for y in range(12):
        for x in range(16):
            part = (y % 4) * 4 + x % 4
            globally, locally, previous = (
                evidence[:, k * per_map + part, y // 4, x // 4] for k in range(PART_MAPS)
            )
            expected = 2 * globally + 2 * locally + previous - 2.5
            assert torch.allclose(got[:, 0, y, x], expected, atol=1e-5)


@pytest.mark.parametrize("which", range(4))
def test_every_input_matters_and_gets_gradients(which):
    torch.manual_seed(0)
    decoder = MaskDecoder()
    given = [x.clone().requires_grad_() for x in inputs()]
    decoder(*given).square().sum().backward()
    assert (given[which].grad.flatten(2).abs().sum(dim=(0, 2)) > 0).all()


def test_residual_block_begins_as_the_identity():
    x = torch.randn(1, 5, 4, 4)
    block = ResidualBlock(5)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.second.weight)
    expected = x + F.conv2d(
        F.relu(block.first(F.relu(x))), block.second.weight, block.second.bias, padding=1
    )
    assert torch.allclose(block(x), expected, atol=1e-6)
