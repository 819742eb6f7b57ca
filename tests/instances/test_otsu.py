"""Otsu and watershed: drawn blobs, and real nuclei of every kind of microscopy in the set."""

import numpy as np
import pytest
from skimage.measure import regionprops

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.errors import PixelkinError
from pixelkin.instances.otsu import OtsuWatershed, solidity
from pixelkin.masks import decode_rle, paint_instances


def decoded(found):
    return [decode_rle(rle, found.size_hw) for rle in found.rles]


def discs(centres, radius, size_hw=(80, 100)):
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return [(y - cy) ** 2 + (x - cx) ** 2 <= radius**2 for cy, cx in centres]


@pytest.mark.parametrize("dark", [False, True])
def test_touching_discs_are_parted_bright_or_dark(dark):
    truth = discs([(25, 25), (25, 46), (60, 70)], 12)
    grey = np.random.default_rng(0).normal(60, 4, (80, 100)) + 120 * np.any(truth, axis=0)
    grey[58:61, 68:71] = 60
    image = np.repeat((255 - grey if dark else grey).clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    found = OtsuWatershed().segment(image)
    masks = decoded(found)
    assert len(found) == 3
    for disc in truth:
        # The hole in the third one is filled.
        assert max((m & disc).sum() / (m | disc).sum() for m in masks) > 0.9
    assert found.categories == (0, 0, 0)
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_solidity_is_that_of_skimage():
    rng = np.random.default_rng(3)
    for _ in range(5):
        mask = np.zeros((40, 40), bool)
        for _ in range(4):
            y, x, h, w = rng.integers([0, 0, 5, 5], [25, 25, 15, 15])
            mask[y : y + h, x : x + w] = True
        expected = regionprops(mask.astype(np.uint8))[0].solidity
        assert solidity(mask) == pytest.approx(expected, abs=0.06)
    assert solidity(np.ones((4, 7), bool)) == 1
    assert solidity(np.eye(9, dtype=bool)) == 1


@pytest.mark.parametrize(("stained", "least"), [(False, 0.7), (True, 0.3)])
def test_real_nuclei(shared_data, stained, least):
    source = Nuclei(shared_data / "dsb2018")
    samples = (paint_instances(source[i]) for i in range(len(source)))
    kind = (s for s in samples if (np.ptp(s.image, axis=2).mean() > 3) == stained)
    shares = []
    for _ in range(3):
        sample = next(kind)
        masks = decoded(OtsuWatershed().segment(sample.image))
        assert not (np.sum(masks, axis=0) > 1).any()
        truth = [sample.labels == i for i in np.unique(sample.labels)[1:]]
        best = [max((t & m).sum() / (t | m).sum() for m in masks) for t in truth]
        shares.append(np.mean(np.array(best) > 0.5))
    assert np.mean(shares) > least


def test_an_even_image_holds_nothing_and_small_blobs_go():
    even = np.full((30, 40, 3), 90, np.uint8)
    assert len(OtsuWatershed().segment(even)) == 0
    even[10:14, 10:14] = 250
    assert len(OtsuWatershed(min_px=17).segment(even)) == 0
    assert len(OtsuWatershed(min_px=9).segment(even)) == 1


def test_options_without_sense_are_told():
    with pytest.raises(PixelkinError, match="more than 0"):
        OtsuWatershed(sigma_px=0)
