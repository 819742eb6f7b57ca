"""Atrous and depthwise-separable convolutions that keep the size of their input.

Atrous (dilated) convolution: L.-C. Chen, G. Papandreou, I. Kokkinos, K. Murphy, A. L. Yuille:
"DeepLab", TPAMI 2018, section 3.1. Depthwise-separable convolution: F. Chollet: "Xception", CVPR
2017. Their union, with batch normalisation and ReLU after the depthwise part too: L.-C. Chen,
Y. Zhu, G. Papandreou, F. Schroff, H. Adam: "Encoder-Decoder with Atrous Separable Convolution",
ECCV 2018 (DeepLab v3+), section 3.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from pixelkin.errors import PixelkinError


def atrous_conv(
    in_channels: int,
    out_channels: int,
    kernel_px: int = 3,
    *,
    rate: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution whose taps lie `rate` pixels apart; (N, I, H, W) → (N, O, H, W).

    It sees `rate` · (`kernel_px` − 1) + 1 pixels at the price of `kernel_px`.

    Raises:
        PixelkinError: the kernel is even, for which no padding keeps the size.
    """
    if kernel_px % 2 == 0:
        raise PixelkinError(
            f"a kernel of {kernel_px}×{kernel_px} cannot keep the size of its input; "
            f"choose an odd one such as {kernel_px + 1}"
        )
    return nn.Conv2d(
        in_channels,
        out_channels,
        kernel_px,
        padding=rate * (kernel_px // 2),
        dilation=rate,
        groups=groups,
        bias=bias,
    )


class SeparableConv(nn.Module):
    """One filter per channel, then a mix of the channels in every pixel, each with BN and ReLU.

    k² · I + I · O weights stand for the k² · I · O of a full convolution.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_px: k, odd.
        rate: distance of the depthwise filter's taps in pixels.
        depthwise_relu: BN and ReLU stand between the two parts too, as DeepLab v3+ has it;
            without, only BN does (Xception's own blocks).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_px: int = 3,
        *,
        rate: int = 1,
        depthwise_relu: bool = True,
    ) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            atrous_conv(in_channels, in_channels, kernel_px, rate=rate, groups=in_channels),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True) if depthwise_relu else nn.Identity(),
        )
        self.pointwise = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, maps: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h w"]:
        """Maps of the same size."""
        mixed: Tensor = self.pointwise(self.depthwise(maps))
        return mixed
