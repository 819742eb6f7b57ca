"""The 13 convolutions of VGG16, on which FCN and SegNet stand.

K. Simonyan, A. Zisserman: "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, configuration D.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from pixelkin.errors import PixelkinError

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions of each stage; a 2×2 max-pooling stands after each stage."""

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of each stage."""


def vgg_stages(
    widths: tuple[int, ...] = WIDTHS, *, batch_norm: bool = False, in_channels: int = 3
) -> list[nn.Sequential]:
    """The five stages without their pooling: 3×3 convolutions that keep the size, BN, ReLU.

    Raises:
        PixelkinError: there are not five widths.
    """
    if len(widths) != len(DEPTHS):
        raise PixelkinError(
            f"got {len(widths)} widths, expected {len(DEPTHS)}: "
            f"one per stage of VGG16, such as {WIDTHS}"
        )
    stages = []
    for depth, width in zip(DEPTHS, widths, strict=True):
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers.append(nn.Conv2d(in_channels, width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            in_channels = width
        stages.append(nn.Sequential(*layers))
    return stages


def start_as_he(module: nn.Module) -> None:
    """Draw the weights of every convolution in `module` by He's rule; biases are zero.

    Without it the signal of 16 layers without batch normalisation fades.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)


@torch.no_grad()
def load_convolutions(stages: nn.ModuleList, state: Mapping[str, Tensor]) -> None:
    """Fill the stages from the state dict of torchvision's `vgg16` or `vgg16_bn`, in place.

    Batch normalisation is filled where both have it; where only the stages have it, it stays. Keys
    other than "features.…" are left alone.

    Raises:
        PixelkinError: the tensors do not fit.
    """
    layers = [m for m in stages.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
    convs = [m for m in layers if isinstance(m, nn.Conv2d)]
    norms = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
    kernels, scales = _names(state, ndim=4), _names(state, ndim=1)
    if scales and not norms:
        raise PixelkinError(
            "the weights have batch normalisation, the network has none; "
            "give those of torchvision's vgg16, not vgg16_bn"
        )
    if len(kernels) != len(convs):
        raise PixelkinError(
            f"the weights have {len(kernels)} convolutions named features.…, expected "
            f"{len(convs)}; give the state dict of torchvision's vgg16"
        )
    pairs: list[tuple[nn.Module, str]] = list(zip(convs, kernels, strict=True))
    if scales:
        pairs += zip(norms, scales, strict=True)
    for layer, name in pairs:
        for key, tensor in _tensors(layer):
            fill(tensor, state, f"{name}.{key}")


def fill(tensor: Tensor, state: Mapping[str, Tensor], name: str) -> None:
    """Copy `state[name]`, in its order of elements, into `tensor`, in place.

    Raises:
        PixelkinError: it is not there, or has another number of elements.
    """
    given = state.get(name)
    if given is None or given.numel() != tensor.numel():
        got = "is missing" if given is None else f"has the shape {tuple(given.shape)}"
        raise PixelkinError(
            f"{name} of the weights {got}, expected {tensor.numel()} values for "
            f"{tuple(tensor.shape)}; give the state dict of torchvision's vgg16 to a network of "
            "its widths"
        )
    with torch.no_grad():
        tensor.copy_(given.reshape(tensor.shape))


def _names(state: Mapping[str, Tensor], *, ndim: int) -> list[str]:
    """Layers "features.N" whose weight has so many dimensions, ascending in N."""
    numbers = [
        int(key.split(".")[1])
        for key, tensor in state.items()
        if key.startswith("features.") and key.endswith(".weight") and tensor.ndim == ndim
    ]
    return [f"features.{number}" for number in sorted(numbers)]


def _tensors(layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
        if name != "num_batches_tracked":
            yield name, tensor
