"""Modified Aligned Xception, 65 layers.

L.-C. Chen, Y. Zhu, G. Papandreou, F. Schroff, H. Adam: "Encoder-Decoder with Atrous Separable
Convolution for Semantic Image Segmentation", ECCV 2018 (DeepLab v3+), section 3.2, after
F. Chollet: "Xception", CVPR 2017. Built by timm.
"""

from pixelkin.models.backbone import TimmBackbone

XCEPTION65 = "xception65.tf_in1k"
"""The authors' ImageNet weights. Without a tag timm means another family under the same name:
`ra3_in1k`, trained by timm's recipe."""

XCEPTION65_MEAN = XCEPTION65_STD = (0.5, 0.5, 0.5)
"""What these weights expect of inputs in [0, 1]."""


def xception65(*, output_stride: int = 16, pretrained: bool = False) -> TimmBackbone:
    """The backbone of DeepLab v3+: maps of 256 channels at stride 4 and 2048 at `output_stride`.

    The map at stride 4 is what enters the last, strided, convolution of the second block of the
    entry flow: the paper's low-level features.

    Args:
        output_stride: 8 or 16, by atrous convolutions in the exit (and middle) flow; 32 without.
        pretrained: fetch the weights.
    """
    return TimmBackbone(
        XCEPTION65, strides=(4, output_stride), output_stride=output_stride, pretrained=pretrained
    )
