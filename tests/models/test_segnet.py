"""SegNet: its numbers, its unpooling against torch's, odd sizes, weights from elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.vgg import make_layers

from pixelkin.errors import PixelkinError
from pixelkin.models.segnet import SegNet, load_vgg16, unpool

THIN = (4, 4, 6, 6, 8)


def thin(classes=3):
    torch.manual_seed(0)
    return SegNet(classes, widths=THIN)


def test_parameters_and_multiplications_at_360_480_with_11_classes():
    with torch.device("meta"):
        network = SegNet(11)
        with FlopCounterMode(display=False) as counter:
            logits = network(torch.zeros(2, 3, 360, 480))
    assert logits.shape == (2, 11, 360, 480)
    assert sum(p.numel() for p in network.parameters()) == 29_449_355
    assert counter.get_total_flops() // 2 == 2 * 106_287_759_360


@settings(max_examples=40, deadline=None)
@given(h=st.integers(2, 9), w=st.integers(2, 9))
def test_unpooling_is_torchs_and_so_is_its_gradient(h, w):
    maps = torch.randn(2, 3, h, w, dtype=torch.float64)
    pooled, indices = F.max_pool2d(maps, 2, return_indices=True)
    mine, theirs = (pooled.clone().requires_grad_() for _ in range(2))
    got = unpool(mine, indices, (h, w))
    wanted = F.max_unpool2d(theirs, indices, 2, output_size=(h, w))
    assert torch.equal(got, wanted)
    weights = torch.randn_like(wanted)
    (got * weights).sum().backward()
    (wanted * weights).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)


def test_unpooling_is_deterministic_by_torchs_own_rule():
    maps = torch.randn(1, 2, 4, 4)
    pooled, indices = F.max_pool2d(maps, 2, return_indices=True)
    torch.use_deterministic_algorithms(True)
    try:
        back = unpool(pooled, indices, (4, 4))
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(back[back != 0].sort()[0], pooled.flatten().sort()[0])


@pytest.mark.parametrize("size_hw", [(32, 32), (33, 63), (45, 90), (64, 95)])
def test_any_size_from_32_on_is_taken(size_hw):
    network = thin().eval()
    assert network.valid_size(size_hw) == size_hw
    with torch.no_grad():
        assert network(torch.rand(1, 3, *size_hw)).shape == (1, 3, *size_hw)


def test_smaller_sizes_are_refused_with_the_nearest_valid_one():
    with pytest.raises(PixelkinError, match=r"the image is 40×31.*pad it to 40×32"):
        thin()(torch.zeros(1, 3, 31, 40))


def test_decoder_is_the_encoders_mirror_image():
    network = thin(classes=11)
    shapes = [
        [(m.in_channels, m.out_channels) for m in stages.modules() if isinstance(m, nn.Conv2d)]
        for stages in (network.encoder, network.decoder)
    ]
    mirrored = [(out, into) for into, out in reversed(shapes[0])]
    assert len(mirrored) == 13
    assert shapes[1][:-1] == mirrored[:-1]
    assert shapes[1][-1] == (4, 11)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 25


def test_logits_are_below_zero_too_and_every_parameter_learns():
    network = thin().train()
    logits = network(torch.rand(2, 3, 64, 64))
    assert logits.min() < 0 < logits.max()
    logits.square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def vgg_features(*, batch_norm):
    torch.manual_seed(1)
    layers = [4, 4, "M", 4, 4, "M", 6, 6, 6, "M", 6, 6, 6, "M", 8, 8, 8, "M"]
    features = make_layers(layers, batch_norm=batch_norm)
    for module in features:
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.weight)
    network = nn.Module()
    network.features = features
    return features.eval(), network.state_dict()


@pytest.mark.parametrize("batch_norm", [True, False])
def test_weights_of_torchvisions_vgg16_make_its_features(batch_norm):
    features, state = vgg_features(batch_norm=batch_norm)
    network = thin().eval()
    load_vgg16(network, state)
    maps = wanted = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        wanted = features(wanted)
        for stage in network.encoder:
            maps = F.max_pool2d(stage(maps), 2)
    if batch_norm:
        assert torch.allclose(maps, wanted, atol=1e-6)
    else:
        # Fresh batch norms divide by √(1 + ε), thirteen times; biases come in between.
        assert torch.allclose(maps, wanted, rtol=1e-3, atol=1e-4)
