"""Shift-and-stitch: dense output from a network that strides, in two ways that are one.

J. Long, E. Shelhamer, T. Darrell: "Fully Convolutional Networks for Semantic Segmentation", CVPR
2015, section 3.2 (the trick from S. Mallat: "A Wavelet Tour of Signal Processing", 1999, the
"algorithme à trous"); A. Giusti, D. C. Cireşan, J. Masci, L. M. Gambardella, J. Schmidhuber: "Fast
image scanning with deep max-pooling convolutional neural networks", ICIP 2013.

Networks are here `nn.Sequential`s, nested or not, of unpadded convolutions and max-poolings and of
layers that treat each pixel alone. The one receptive field of such a network lies wholly in the
image for each output; what shall be known near the border is padded before, once, around the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError

PIXELWISE = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softmax2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.BatchNorm2d,
)
"""Layers that need no change when their input gets denser."""


@dataclass(frozen=True)
class Reach:
    """What one output of a network sees.

    Attributes:
        stride: pixels of the image between neighbouring outputs.
        field_px: side of the square window of the image that one output depends on.
    """

    stride: int
    field_px: int


def reach(network: nn.Sequential) -> Reach:
    """Stride and receptive field of a network.

    Raises:
        PixelkinError: a layer pads, is not square, or is of a kind that is not known here.
    """
    stride, field_px = 1, 1
    for layer in _layers(network):
        kernel, step, rate = _window(layer)
        field_px += (kernel - 1) * rate * stride
        stride *= step
    return Reach(stride, field_px)


def shift_and_stitch(
    network: nn.Sequential, images: Float[Tensor, "n i h w"]
) -> Float[Tensor, "n o H W"]:
    """Outputs for every position of the receptive field, by stride² passes of shifted images.

    Pass (y, x) sees the image without its first y rows and x columns; its outputs are those at rows
    y, y + stride, … and columns x, x + stride, …

    Returns:
        (N, O, H − field + 1, W − field + 1).

    Raises:
        PixelkinError: the image is smaller than the receptive field, or `reach` refuses it.
    """
    known = reach(network)
    height, width = _dense_size(images, known)
    dense: Tensor | None = None
    for y in range(min(known.stride, height)):
        for x in range(min(known.stride, width)):
            part = network(images[..., y:, x:])
            if dense is None:
                dense = part.new_empty(*part.shape[:2], height, width)
            dense[..., y :: known.stride, x :: known.stride] = part
    assert dense is not None
    return dense


def run_dilated(
    network: nn.Sequential, images: Float[Tensor, "n i h w"]
) -> Float[Tensor, "n o H W"]:
    """The same outputs in one pass: strides become 1, and every later filter is dilated by them.

    Each value is computed once; the passes of `shift_and_stitch` compute those before the first
    stride stride² times over.

    Returns:
        (N, O, H − field + 1, W − field + 1).

    Raises:
        PixelkinError: the image is smaller than the receptive field, or `reach` refuses it.
    """
    _dense_size(images, reach(network))
    maps, dilation = images, 1
    for layer in _layers(network):
        _, step, rate = _window(layer)
        if isinstance(layer, nn.Conv2d):
            maps = F.conv2d(
                maps, layer.weight, layer.bias, dilation=rate * dilation, groups=layer.groups
            )
        elif isinstance(layer, nn.MaxPool2d):
            maps = F.max_pool2d(maps, layer.kernel_size, stride=1, dilation=rate * dilation)
        else:
            maps = layer(maps)
        dilation *= step
    return maps


class DilatedTwin(nn.Module):
    """`run_dilated` of a network as a module; the weights are the network's own.

    Args:
        network: see the module's docstring.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        reach(network)
        self.network = network

    def forward(self, images: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o H W"]:
        """(N, O, H − field + 1, W − field + 1)."""
        return run_dilated(self.network, images)


def _dense_size(images: Tensor, known: Reach) -> tuple[int, int]:
    height, width = images.shape[-2:]
    if min(height, width) < known.field_px:
        raise PixelkinError(
            f"the image is {width}×{height}, the receptive field "
            f"{known.field_px}×{known.field_px}; pad the image to at least that"
        )
    return height - known.field_px + 1, width - known.field_px + 1


def _layers(network: nn.Sequential) -> Iterator[nn.Module]:
    for layer in network:
        if isinstance(layer, nn.Sequential):
            yield from _layers(layer)
        else:
            yield layer


def _window(layer: nn.Module) -> tuple[int, int, int]:
    """Kernel, stride and dilation of a layer, in cells of its input."""
    if isinstance(layer, PIXELWISE):
        return 1, 1, 1
    name = type(layer).__name__
    if not isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
        raise PixelkinError(
            f"{name} has no dilated form here; use unpadded convolutions, max-pooling and layers "
            "that treat each pixel alone (a full layer is a convolution over its whole input)"
        )
    if _side(layer.padding, name) != 0 or (isinstance(layer, nn.MaxPool2d) and layer.ceil_mode):
        raise PixelkinError(
            f"{name} pads its input, which shifted passes see at other places; "
            "pad the image before the network, and no layer"
        )
    sides = (layer.kernel_size, layer.stride, layer.dilation)
    kernel, stride, dilation = (_side(value, name) for value in sides)
    return kernel, stride, dilation


def _side(value: int | str | tuple[int, ...] | None, name: str) -> int:
    if value == "valid":
        return 0
    if isinstance(value, tuple) and len(set(value)) == 1:
        value = value[0]
    if not isinstance(value, int):
        raise PixelkinError(
            f"{name} has {value} for height and width; give both the same number, without padding"
        )
    return value
