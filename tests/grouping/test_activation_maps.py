"""Class activation maps against plain loops in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.grouping.activation_maps import (
    PAPER_ALPHA_BACKGROUND,
    PAPER_ALPHA_FOREGROUND,
    background_map,
    combine_activations,
    confident_regions,
    scaled_size,
    with_background,
)
from pixelkin.structures import IGNORE


def loops_bilinear(plane: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Cells are areas: the centre of pixel y lies at (y + ½) h / H − ½ among the cells."""
    h, w = plane.shape
    found = np.zeros(size_hw)
    for y in range(size_hw[0]):
        for x in range(size_hw[1]):
            v = min(max((y + 0.5) * h / size_hw[0] - 0.5, 0), h - 1)
            u = min(max((x + 0.5) * w / size_hw[1] - 0.5, 0), w - 1)
            top, left = int(v), int(u)
            low, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = v - top, u - left
            found[y, x] = (1 - a) * ((1 - b) * plane[top, left] + b * plane[top, right]) + a * (
                (1 - b) * plane[low, left] + b * plane[low, right]
            )
    return found


def test_combination_equals_loops():
    torch.manual_seed(0)
    tags = torch.tensor([True, False, True, True])
    sizes = [(4, 5), (2, 3), (8, 10)]
    maps = [torch.randn(4, *size, dtype=torch.float64) for size in sizes]
    mirrored = [torch.randn(4, *size, dtype=torch.float64) for size in sizes]
    for one in (*maps, *mirrored):
        one[3] = -one[3].abs()  # tagged, but nowhere seen
    found = combine_activations(maps, tags, size_hw=(9, 11), mirrored=mirrored)
    for c in range(4):
        total = np.zeros((9, 11))
        for plain, turned in zip(maps, mirrored, strict=True):
            total += loops_bilinear(plain[c].numpy(), (9, 11))
            total += loops_bilinear(turned[c].numpy()[:, ::-1], (9, 11))
        total = np.maximum(total, 0) * bool(tags[c])
        expected = total / total.max() if total.max() > 0 else total
        np.testing.assert_allclose(found[c].numpy(), expected, atol=1e-12)
    assert float(found[0].max()) == 1
    assert not found[1].any()
    assert not found[3].any()


def test_combination_does_not_change_what_it_is_given():
    maps = [torch.randn(2, 3, 3)]
    before = maps[0].clone()
    combine_activations(maps, torch.tensor([True, True]), size_hw=(3, 3))
    assert torch.equal(maps[0], before)


def test_a_mirrored_object_falls_on_itself():
    plain = torch.zeros(1, 4, 6)
    plain[0, 1, 0] = 2
    found = combine_activations(
        [plain], torch.tensor([True]), size_hw=(4, 6), mirrored=[plain.flip(-1)]
    )
    assert found.nonzero().tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("alpha", [4.0, 16.0, 24.0])
def test_background_map_equals_loops(alpha):
    torch.manual_seed(0)
    maps = torch.rand(3, 4, 5, dtype=torch.float64)
    found = background_map(maps, alpha=alpha)
    for y in range(4):
        for x in range(5):
            expected = (1 - max(float(maps[c, y, x]) for c in range(3))) ** alpha
            assert float(found[y, x]) == pytest.approx(expected, rel=1e-12)
    scores = with_background(maps, alpha=alpha)
    assert torch.equal(scores[0], found)
    assert torch.equal(scores[1:], maps)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_regions_equal_loops(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(classes, 5, 6, generator=generator, dtype=torch.float64) ** 3
    generous = with_background(maps, alpha=PAPER_ALPHA_FOREGROUND)
    strict = with_background(maps, alpha=PAPER_ALPHA_BACKGROUND)
    found = confident_regions(generous, strict)
    assert found.dtype == torch.int64
    for y in range(5):
        for x in range(6):
            best = max(range(classes), key=lambda c: float(maps[c, y, x]))
            m = float(maps[best, y, x])
            if m > (1 - m) ** PAPER_ALPHA_FOREGROUND:
                expected = best + 1
            elif (1 - m) ** PAPER_ALPHA_BACKGROUND >= m:
                expected = 0
            else:
                expected = IGNORE
            assert int(found[y, x]) == expected


def test_all_three_kinds_of_regions():
    # m > (1 − m)⁴ from .276 on, (1 − m)²⁴ ≥ m up to .084.
    maps = torch.tensor([[[0.9, 0.3, 0.2, 0.1, 0.05, 0.0]]])
    generous, strict = (with_background(maps, alpha=a) for a in (4.0, 24.0))
    assert confident_regions(generous, strict).tolist() == [[1, 1, IGNORE, IGNORE, 0, 0]]


def test_what_two_crfs_say_differently_is_background_and_padding_is_neutral():
    generous = torch.tensor([[[0.1, 0.0]], [[0.9, 0.0]]])
    strict = torch.tensor([[[0.8, 0.0]], [[0.2, 0.0]]])
    assert confident_regions(generous, strict).tolist() == [[0, IGNORE]]


@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.sampled_from([0.5, 1.0, 1.5, 2.0]),
    st.sampled_from([8, 16, 32]),
)
def test_scaled_sizes_fit_and_are_near(size_hw, scale, multiple):
    for side, found in zip(size_hw, scaled_size(size_hw, scale, multiple=multiple), strict=True):
        assert found % multiple == 0
        assert found == multiple or abs(found - side * scale) <= multiple / 2


def test_maps_of_a_fitting_size_do_not_shift():
    """A ramp over the image comes back as it was, whatever the scale it was seen at."""
    size_hw = (50, 75)
    ramp = torch.arange(75.0).add(0.5).div(75).expand(1, 1, *size_hw)
    for scale in (0.5, 1.0, 2.0):
        size = scaled_size(size_hw, scale, multiple=8)
        seen = F.interpolate(ramp, size, mode="bilinear")
        cells = F.avg_pool2d(seen, 8)[0]
        found = combine_activations([cells], torch.tensor([True]), size_hw=size_hw)[0]
        middle = slice(20, 56)
        ratio = found[25, middle] / ramp[0, 0, 25, middle]
        assert float(ratio.max() / ratio.min()) < 1.03


def test_map_mistakes_are_one_line():
    one = torch.zeros(2, 3, 3)
    tags = torch.tensor([True, False])
    for call, message in (
        (lambda: combine_activations([], tags, size_hw=(3, 3)), "no activation maps"),
        (lambda: combine_activations([one[:1]], tags, size_hw=(3, 3)), r"\(1, 3, 3\) for tags"),
        (lambda: background_map(one, alpha=0), "alpha is 0"),
        (lambda: background_map(one[:0], alpha=4), "no class maps"),
        (lambda: confident_regions(one, one[:1]), "the same"),
        (lambda: confident_regions(torch.zeros(256, 1, 1), torch.zeros(256, 1, 1)), "255 classes"),
        (lambda: scaled_size((3, 3), 0, multiple=8), "scale is 0"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
