"""Looks change, labels do not; each option does what its sentence says."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.data.appearance import Blur, ColourJitter, Noise
from pixelkin.errors import PixelkinError
from pixelkin.structures import Sample

LUMA = np.array([0.299, 0.587, 0.114])


def picture(seed: int = 0, low: int = 0, high: int = 256) -> Sample:
    rng = np.random.default_rng(seed)
    image = rng.integers(low, high, (40, 50, 3), dtype=np.uint8)
    return Sample(image, rng.integers(0, 999, (40, 50)), "noise", (1, 2))


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_same_state_gives_the_same_look_and_labels_stay(seed: int) -> None:
    sample = picture()
    looks = [
        ColourJitter(
            brightness=0.2,
            contrast=0.4,
            gamma=0.4,
            saturation=0.5,
            hue_degrees=40,
            grey=0.3,
            invert=0.3,
        ),
        Blur(probability=0.7),
        Noise(probability=0.7, sigma=(0.01, 0.2)),
    ]
    for look in looks:
        np.random.seed(seed)
        first = look(sample)
        np.random.seed(seed)
        again = look(sample)
        np.testing.assert_array_equal(first.image, again.image)
        assert first.image.dtype == np.uint8
        assert first.image.shape == sample.image.shape
        assert first.labels is sample.labels
        assert first.categories == (1, 2)


def test_no_option_no_change() -> None:
    np.random.seed(0)
    np.testing.assert_array_equal(ColourJitter()(picture()).image, picture().image)


def test_colours_equal_plain_arithmetic() -> None:
    sample = picture(1)
    rng = np.random.default_rng(2)
    for invert in (0.0, 1.0):
        jitter = ColourJitter(brightness=0.2, contrast=0.5, gamma=0.4, invert=invert)
        state = int(rng.integers(2**31))
        np.random.seed(state)
        shift, spread, power, *_ = np.random.uniform(-1, 1, 5)
        np.random.seed(state)
        got = jitter(sample).image

        def curve(value: float, negative: float = invert, power: float = power) -> float:
            return float((1 - value if negative else value) ** np.exp(0.4 * power))

        middle = curve(float(np.mean(sample.image)) / 255)
        for pixel, result in zip(
            sample.image[::7, ::7].ravel(), got[::7, ::7].ravel(), strict=True
        ):
            value = (curve(pixel / 255) - middle) * np.exp(0.5 * spread) + middle + 0.2 * shift
            assert abs(min(max(255 * value, 0), 255) - result) <= 0.5 + 1e-6


def test_the_negative_of_the_negative_is_the_image() -> None:
    negative = ColourJitter(invert=1.0)
    sample = picture()
    np.testing.assert_array_equal(negative(sample).image, 255 - sample.image)
    np.testing.assert_array_equal(negative(negative(sample)).image, sample.image)


def test_grey_is_luma() -> None:
    sample = picture(3)
    grey = ColourJitter(grey=1.0)(sample).image
    expected = cv2.cvtColor(sample.image, cv2.COLOR_RGB2GRAY)
    assert np.abs(grey.astype(int) - expected[..., None]).max() <= 1


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_hue_and_saturation_keep_luma_and_leave_grey_alone(seed: int) -> None:
    jitter = ColourJitter(saturation=0.3, hue_degrees=180)
    np.random.seed(seed)
    # Colours near grey: none is cut off at 0 or 255.
    sample = picture(4, 100, 156)
    got = jitter(sample).image
    assert np.abs(got @ LUMA - sample.image @ LUMA).max() < 1
    grey = Sample(np.repeat(sample.image[..., :1], 3, axis=2), sample.labels)
    assert np.abs(jitter(grey).image.astype(int) - grey.image).max() <= 1


def test_hue_turns_colours() -> None:
    np.random.seed(0)
    red = Sample(np.full((4, 4, 3), (180, 80, 80), np.uint8), np.zeros((4, 4), np.int64))
    hues = [
        cv2.cvtColor(ColourJitter(hue_degrees=180)(red).image, cv2.COLOR_RGB2HSV)[0, 0, 0]
        for _ in range(60)
    ]
    assert np.histogram(hues, bins=6, range=(0, 180))[0].min() > 0


def test_noise_has_its_strength() -> None:
    flat = Sample(np.full((200, 200, 3), 128, np.uint8), np.zeros((200, 200), np.int64))
    np.random.seed(0)
    grain = Noise(probability=1.0, sigma=(0.05, 0.05))(flat).image.astype(float) - 128
    assert abs(grain.std() - 0.05 * 255) < 0.2
    assert abs(grain.mean()) < 0.1
    assert abs(np.corrcoef(grain[..., 0].ravel(), grain[..., 1].ravel())[0, 1]) < 0.02


def test_noise_is_cut_off_at_the_ends() -> None:
    black = Sample(np.zeros((50, 50, 3), np.uint8), np.zeros((50, 50), np.int64))
    np.random.seed(0)
    assert Noise(probability=1.0, sigma=(0.02, 0.02))(black).image.max() < 60


def test_blur_spreads_a_point_by_its_sigma() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    blurred = Blur(probability=1.0, sigma_px=(1.5, 1.5))(
        Sample(image, np.zeros((41, 41), np.int64))
    ).image[..., 0]
    away = np.arange(41) - 20
    spread = np.sqrt((blurred.sum(0) * away**2).sum() / blurred.sum())
    assert abs(spread - 1.5) < 0.15


@pytest.mark.parametrize("look", [Blur, Noise])
def test_probability_is_a_share(look: Callable[..., Blur | Noise]) -> None:
    sample = picture()
    np.random.seed(0)
    changed = [(look(probability=0.3)(sample) is not sample) for _ in range(400)]
    assert 0.2 < np.mean(changed) < 0.4


@pytest.mark.parametrize(
    "make",
    [
        lambda: ColourJitter(grey=2.0),
        lambda: ColourJitter(invert=-0.1),
        lambda: Blur(probability=1.2),
        lambda: Blur(probability=1.0, sigma_px=(0.0, 1.0)),
        lambda: Noise(probability=0.5, sigma=(0.2, 0.1)),
    ],
)
def test_wrong_options_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(PixelkinError, match="expected"):
        make()
