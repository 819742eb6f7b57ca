"""How stills are changed before a network that comes with pixelkin is trained on them."""

from __future__ import annotations

from dataclasses import dataclass

from pixelkin.data.appearance import Blur, ColourJitter, Noise
from pixelkin.data.transforms import Compose, RandomWindow

UPRIGHT_DEGREES = 8.0
"""How far photos lean whose objects stand upright."""

NEAR_INSTANCE = 0.8
"""Share of windows that are made to hold a pixel of an instance."""


@dataclass(frozen=True)
class Windows:
    """What a network sees of a still at a time.

    Attributes:
        crop_px: side of the square window.
        scale: range of random magnification.
        rotate: whether objects may lie in any direction, as nuclei do and pedestrians do not.
    """

    crop_px: int = 192
    scale: tuple[float, float] = (0.6, 1.6)
    rotate: bool = False


def augmentation(
    crop_px: int,
    scale: tuple[float, float],
    rotate: bool,
    *,
    near_instance: float = NEAR_INSTANCE,
) -> Compose:
    """A random window, and another look of its pixels.

    Args:
        crop_px, scale, rotate: see `Windows`.
        near_instance: see `RandomWindow`; 0 for labels that are classes.
    """
    return Compose(
        (
            RandomWindow(
                (crop_px, crop_px),
                scale=scale,
                rotate_degrees=180 if rotate else UPRIGHT_DEGREES,
                flip=True,
                near_instance=near_instance,
            ),
            ColourJitter(brightness=0.2, contrast=0.3, gamma=0.3, saturation=0.3, hue_degrees=10),
            Blur(probability=0.1),
            Noise(probability=0.2),
        )
    )
