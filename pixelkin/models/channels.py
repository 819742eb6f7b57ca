"""Numbers of the channels red, green and blue, for images in [0, 1]."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What torchvision's and most of timm's weights were trained with."""

LUMA = (0.299, 0.587, 0.114)
"""Shares in a grey value (ITU-R BT.601)."""
