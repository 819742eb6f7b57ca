"""Augmentation of how a still looks: colour, light, blur, noise. Labels stay as they are.

Each is a call `Sample → Sample` that draws from NumPy's global generator, as those of
`data/transforms.py` do.
"""

from dataclasses import KW_ONLY, dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float

from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample

_LUMA = np.array([0.299, 0.587, 0.114])
# Luma and two axes of colour, in which a change of hue is a turn (the NTSC system, FCC 1953).
_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


@dataclass(frozen=True)
class ColourJitter:
    """Another light, another camera, another microscope.

    Attributes:
        brightness: adds up to this share of the full range, either way.
        contrast: spreads values about the mean by a factor of up to e^contrast, or its inverse.
        gamma: an exponent of up to e^gamma, or its inverse.
        saturation: colourfulness times up to e^saturation, or its inverse.
        hue_degrees: turns hues by up to this, either way.
        grey: share of images that lose their colour.
        invert: share of images that become their negative, as dark and bright field are.
    """

    _: KW_ONLY
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    saturation: float = 0.0
    hue_degrees: float = 0.0
    grey: float = 0.0
    invert: float = 0.0

    def __post_init__(self) -> None:
        check_share("grey", self.grey)
        check_share("invert", self.invert)

    def __call__(self, sample: Sample) -> Sample:
        """The still in another light."""
        shift, spread, power, colour, turn = np.random.uniform(-1, 1, 5)
        negative, pale = np.random.random(2) < (self.invert, self.grey)
        exponent = np.exp(power * self.gamma)

        def lit(value: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
            return np.asarray((1 - value if negative else value) ** exponent)

        middle = lit(np.array(cv2.mean(sample.image)[:3]).mean(keepdims=True) / 255)
        curve = (lit(np.arange(256) / 255) - middle) * np.exp(spread * self.contrast) + middle
        curve = np.rint(255 * (curve + shift * self.brightness)).clip(0, 255).astype(np.uint8)
        image = cv2.LUT(sample.image, curve)
        if pale or self.saturation or self.hue_degrees:
            strength = 0.0 if pale else np.exp(colour * self.saturation)
            image = cv2.transform(image, _colour_matrix(strength, turn * self.hue_degrees))
        return replace(sample, image=image)


def _colour_matrix(strength: float, turn_degrees: float) -> Float[np.ndarray, "3 3"]:
    """RGB → RGB: luma as it is, colour times `strength` and turned."""
    angle = np.radians(turn_degrees)
    cos, sin = strength * np.cos(angle), strength * np.sin(angle)
    return np.asarray(np.linalg.inv(_YIQ) @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]] @ _YIQ)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur of a share of images.

    Attributes:
        probability: that share.
        sigma_px: smallest and largest standard deviation, drawn uniformly.
    """

    _: KW_ONLY
    probability: float
    sigma_px: tuple[float, float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        check_share("probability", self.probability)
        check_range("sigma_px", self.sigma_px, low=1e-3)

    def __call__(self, sample: Sample) -> Sample:
        """The still, perhaps out of focus."""
        if np.random.random() >= self.probability:
            return sample
        sigma = np.random.uniform(*self.sigma_px)
        return replace(sample, image=cv2.GaussianBlur(sample.image, (0, 0), sigma))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, drawn for each pixel and channel, on a share of images.

    Attributes:
        probability: that share.
        sigma: smallest and largest standard deviation as a share of the full range, drawn
            uniformly.
    """

    _: KW_ONLY
    probability: float
    sigma: tuple[float, float] = (0.0, 0.05)

    def __post_init__(self) -> None:
        check_share("probability", self.probability)
        check_range("sigma", self.sigma, low=0.0)

    def __call__(self, sample: Sample) -> Sample:
        """The still, perhaps with grain."""
        if np.random.random() >= self.probability:
            return sample
        sigma = 255 * np.random.uniform(*self.sigma)
        # OpenCV draws three times as fast as NumPy; seeded so, it depends on NumPy's state alone.
        cv2.setRNGSeed(np.random.randint(2**31 - 1))
        grain = np.empty(sample.image.shape, np.int16)
        cv2.randn(grain, np.zeros(3), np.full(3, sigma))
        return replace(sample, image=cv2.add(sample.image, grain, dtype=cv2.CV_8U))


def check_range(name: str, bounds: tuple[float, float], *, low: float) -> None:
    """Raise `PixelkinError` where `bounds` are not ordered, or below `low`."""
    if not low <= bounds[0] <= bounds[1]:
        raise PixelkinError(
            f"{name} is {bounds}, expected (smallest, largest) of {low:g} or more; swap or raise"
        )


def check_share(name: str, value: float) -> None:
    """Raise `PixelkinError` where `value` is not in 0 … 1."""
    if not 0 <= value <= 1:
        raise PixelkinError(f"{name} is {value}, expected a share from 0 to 1; give a fraction")
