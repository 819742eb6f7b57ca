"""FCN-32s, 16s and 8s: their numbers, where their cells lie, and weights from elsewhere."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.vgg import make_layers

from pixelkin.errors import PixelkinError
from pixelkin.models.fcn import FCN, FIRST_CROP, SKIP_CROPS, load_coarser, load_vgg16

THIN = (4, 4, 8, 8, 8)


def thin(stride=8, classes=3):
    torch.manual_seed(0)
    return FCN(classes, stride=stride, widths=THIN, head_channels=16)


@pytest.mark.parametrize(
    ("stride", "parameters", "macs"),
    [
        (32, 136_152_917, 181_365_854_976),
        (16, 134_815_994, 181_448_086_272),
        (8, 134_489_759, 181_529_034_048),
    ],
)
def test_parameters_and_multiplications_at_500_with_21_classes(stride, parameters, macs):
    with torch.device("meta"):
        network = FCN(21, stride=stride)
        with FlopCounterMode(display=False) as counter:
            logits = network(torch.zeros(1, 3, 500, 500))
    assert logits.shape == (1, 21, 500, 500)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert counter.get_total_flops() // 2 == macs


def centre(layers):
    """Pixels between cells, and the place of cell 0 in the image, after these layers."""
    step, place = 1.0, 0.0
    for layer in layers:
        kernel, stride = layer.kernel_size[0], layer.stride[0]
        inner = (kernel - 1) / 2 - layer.padding[0]
        if isinstance(layer, nn.ConvTranspose2d):
            step /= stride
            inner = -inner
        place += inner * step
        step *= 1 if isinstance(layer, nn.ConvTranspose2d) else stride
    return step, place


@pytest.mark.parametrize("stride", [32, 16, 8])
def test_crops_bring_cells_to_where_they_look(stride):
    network = thin(stride)
    pool = nn.Conv2d(1, 1, (2, 2), stride=(2, 2))
    path, taps = [], []
    for stage in network.stages:
        path += [m for m in stage if isinstance(m, nn.Conv2d)] + [pool]
        taps.append(centre(path))
    path += [m for m in network.head if isinstance(m, nn.Conv2d)]
    for up, crop, tap in zip(network.ups, SKIP_CROPS[stride], (taps[3], taps[2]), strict=False):
        path.append(up)
        step, place = centre(path)
        assert step == tap[0]
        # The crop of the skip: its cell of that number lies at the scores' cell 0.
        assert tap[1] + crop * step == place
    step, place = centre([*path, network.ups[-1]])
    assert step == 1
    assert place + FIRST_CROP[stride] == 0


@pytest.mark.parametrize("stride", [32, 16, 8])
@pytest.mark.parametrize("size_hw", [(1, 1), (30, 31), (64, 51)])
def test_any_size_is_taken(stride, size_hw):
    network = thin(stride).eval()
    assert network.valid_size(size_hw) == size_hw
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size_hw)).shape == (2, 3, *size_hw)


def test_skips_are_added():
    network = thin(16).eval()
    nn.init.normal_(network.skip_scores[0].weight)
    image = torch.rand(1, 3, 40, 56)
    with torch.no_grad():
        maps = (image - network.mean) / network.std
        for index, stage in enumerate(network.stages):
            maps = F.max_pool2d(stage(maps), 2, ceil_mode=True)
            if index == 3:
                skip = network.skip_scores[0](maps)
        coarse = network.ups[0](network.score(network.head(maps)))
        h, w = coarse.shape[-2:]
        wanted = network.ups[1](coarse + skip[..., 5 : 5 + h, 5 : 5 + w])
        assert torch.equal(network(image), wanted[..., 27 : 27 + 40, 27 : 27 + 56])


@pytest.mark.parametrize(("coarse", "fine"), [(32, 16), (16, 8), (32, 8)])
def test_finer_network_starts_as_the_coarser_one(coarse, fine):
    first, second = thin(coarse).eval(), thin(fine).eval()
    nn.init.normal_(first.score.weight)
    nn.init.normal_(first.score.bias)
    load_coarser(second, first)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted, got = first(image), second(image)
    # Two tents in a row round off the kinks of one wide tent, and change nothing else.
    assert (got - wanted).std() < 0.15 * wanted.std()
    assert got.mean().item() == pytest.approx(wanted.mean().item(), abs=0.1)


def test_only_a_coarser_network_of_the_same_kind_starts_a_finer_one():
    with pytest.raises(PixelkinError, match="FCN-8s of 3 classes to start an FCN-16s of 3"):
        load_coarser(thin(16), thin(8))
    with pytest.raises(PixelkinError, match="FCN-32s of 4 classes to start an FCN-16s of 3"):
        load_coarser(thin(16), thin(32, classes=4))
    with pytest.raises(PixelkinError, match="same widths"):
        load_coarser(FCN(3, widths=(2, 2, 2, 2, 2), head_channels=16), thin(16))


def test_every_parameter_learns_but_the_last_enlargement():
    network = thin(8).train()
    network(torch.rand(2, 3, 40, 40)).square().sum().backward()
    idle = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == {"ups.2.weight"}
    assert not network.ups[2].weight.requires_grad


def vgg16_state():
    torch.manual_seed(1)
    features = make_layers([4, 4, "M", 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"])
    classifier = nn.Sequential(
        nn.Linear(8 * 49, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(), nn.Dropout()
    )
    network = nn.Module()
    network.features, network.classifier = features, classifier
    return network.eval(), network.state_dict()


def test_weights_of_torchvisions_vgg16_make_its_features():
    vgg, state = vgg16_state()
    network = thin(32).eval()
    load_vgg16(network, state)
    # Padded by 99 before torchvision's own 1, and of sides that all five poolings halve.
    image = torch.rand(1, 3, 58, 90)
    with torch.no_grad():
        wanted = vgg.features(F.pad(image, (99,) * 4))
        maps = image
        for stage in network.stages:
            maps = F.max_pool2d(stage(maps), 2, ceil_mode=True)
        assert torch.allclose(maps, wanted, atol=1e-6)
        # Each place of fc6 and fc7 is torchvision's classifier on the 7×7 cells there.
        fc7 = vgg.classifier(wanted[..., 1:8, :7].flatten(1))
        assert torch.allclose(network.head(maps)[..., 1, 0], fc7, atol=1e-6)


def test_weights_without_a_classifier_leave_the_head_alone():
    _, state = vgg16_state()
    network = thin(32)
    before = network.head[0].weight.clone()
    load_vgg16(network, {k: v for k, v in state.items() if k.startswith("features.")})
    assert torch.equal(network.head[0].weight, before)
    assert torch.equal(network.stages[0][0].weight, state["features.0.weight"])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda s: s.pop("features.0.weight"), "12 convolutions"),
        (lambda s: s.pop("features.0.bias"), "features.0.bias of the weights is missing"),
        (lambda s: s.pop("classifier.3.bias"), "classifier.3.bias of the weights is missing"),
        (lambda s: s.update({"features.0.weight": torch.zeros(4, 3, 5, 5)}), r"\(4, 3, 5, 5\)"),
        (lambda s: s.update({"features.1.weight": torch.zeros(4)}), "not vgg16_bn"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, what):
    _, state = vgg16_state()
    change(state)
    with pytest.raises(PixelkinError, match=what):
        load_vgg16(thin(32), state)


def test_other_strides_and_widths_and_empty_images_are_refused():
    with pytest.raises(PixelkinError, match="choose 32, 16 or 8"):
        FCN(3, stride=4)
    with pytest.raises(PixelkinError, match="got 2 widths, expected 5"):
        FCN(3, widths=(4, 4))
    with pytest.raises(PixelkinError, match="pad it to 7×1"):
        thin()(torch.zeros(1, 3, 0, 7))
