"""Networks made for inference compute the same; folding touches only what it may."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from pixelkin.models.inference import fold_batch_norm, for_inference


def settled(network: nn.Module) -> nn.Module:
    """With statistics as after training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
    return network.eval()


class Twice(nn.Module):
    """The convolution's result is normalised and also added, as in pre-activation residuals."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x + self.norm(x)


class Shared(nn.Module):
    """One convolution, run on two inputs, with a normalisation for each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.one, self.other = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(self.conv(x)) + self.other(self.conv(x.flip(3)))


class SharedNorm(nn.Module):
    """Two convolutions, one normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.one(x)) + self.norm(self.other(x))


class Between(nn.Module):
    """Something happens in place between the two."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.relu_(self.conv(x)))


class Scaled(nn.Conv2d):
    """A convolution that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def plain(convolution: nn.Module) -> nn.Module:
    return nn.Sequential(convolution, nn.BatchNorm2d(4, eps=1e-3), nn.ReLU())


FOLDED = {
    "plain": lambda: plain(nn.Conv2d(3, 4, 3)),
    "without bias": lambda: plain(nn.Conv2d(3, 4, 3, bias=False)),
    "strided, reflecting": lambda: plain(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, padding_mode="reflect")
    ),
    "pointwise, strided": lambda: plain(nn.Conv2d(3, 4, 1, stride=2)),
    "transposed": lambda: plain(nn.ConvTranspose2d(3, 4, 2, stride=2)),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
    ),
    "not affine": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)),
    "with activation": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4)),
}

LEFT = {
    "result used twice": Twice,
    "convolution used twice": Shared,
    "normalisation used twice": SharedNorm,
    "changed in place between": Between,
    "another convolution": lambda: plain(Scaled(3, 4, 3)),
    "statistics of the batch": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "first thing": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
}


def one_image(seed: int = 3) -> Tensor:
    return torch.rand(1, 3, 11, 14, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", FOLDED.values(), ids=FOLDED)
def test_batch_norm_goes_into_the_convolution(make) -> None:
    network = settled(nn.Sequential(make()))
    expected = network(one_image())
    assert fold_batch_norm(network, torch.zeros(1, 3, 11, 14)) == 1
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    torch.testing.assert_close(network(one_image()), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", LEFT.values(), ids=LEFT)
def test_what_may_not_be_folded_is_left(make) -> None:
    network = settled(make())
    expected = network(one_image())
    assert fold_batch_norm(network, torch.zeros(1, 3, 11, 14)) == 0
    assert torch.equal(network(one_image()), expected)


def test_the_network_itself_is_left_alone() -> None:
    network = settled(plain(nn.Conv2d(3, 4, 1)))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ready = for_inference(network, one_image())
    assert set(before) == set(network.state_dict())
    assert all(torch.equal(before[name], v) for name, v in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in ready.parameters())


def test_pointwise_convolutions_compute_the_same() -> None:
    network = settled(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1, stride=2)))
    ready = for_inference(network, one_image())
    assert [m.dilation for m in ready if isinstance(m, nn.Conv2d)] == [(2, 2), (2, 2)]
    torch.testing.assert_close(ready(one_image()), network(one_image()), rtol=1e-6, atol=1e-6)
