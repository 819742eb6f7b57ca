"""Balls around runs of pixels against the distance of every pixel to every seed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.grouping.blocks import PixelBlocks, changes_of_masks, squared_apart


def naive_masks(rows, seeds, distances):
    return [
        ((rows - seed).square().sum(1) <= distance).numpy()
        for seed, distance in zip(seeds, distances, strict=True)
    ]


def masks_of(blocks, seeds, distances):
    found = np.zeros((len(seeds), len(blocks.embeddings)), bool)
    changes = changes_of_masks(blocks, seeds, distances)
    assert (np.diff(changes) > 0).all()
    for begin, end in changes.reshape(-1, 2):
        seed, pixel = divmod(int(begin), found.shape[1] + 1)
        found[seed, pixel : pixel + int(end - begin)] = True
    return list(found)


@settings(max_examples=80, deadline=None)
@given(
    pixels=st.integers(0, 400),
    seeds=st.integers(0, 12),
    dimensions=st.integers(1, 40),
    run=st.sampled_from([1, 5, 40]),
    scale=st.sampled_from([0.25, 1.0, 300.0]),
    offset=st.sampled_from([0.0, 2.0, 5e3]),
    odd=st.booleans(),
    number=st.integers(0, 10_000),
)
def test_masks_equal_every_difference_with_ties(
    pixels, seeds, dimensions, run, scale, offset, odd, number
):
    """Values on a grid, so that many distances are the limit itself; runs of equal pixels."""
    rng = np.random.default_rng(number)
    grid = rng.integers(-3, 4, (pixels, dimensions)).astype(np.float32)
    rows = torch.from_numpy(grid[np.arange(pixels) // run] * scale + np.float32(offset))
    near = rng.integers(0, max(pixels, 1), seeds if pixels else 0)
    centres = rows[near] + scale * torch.from_numpy(
        rng.integers(-1, 2, (len(near), dimensions)).astype(np.float32)
    )
    limits = torch.from_numpy(
        rng.choice([-1, 0, 1, 2, 4, 9, 60, math.inf, math.nan], len(near)).astype(np.float32)
    )
    if odd and pixels:
        rows[number % pixels, number % dimensions] = math.nan
        rows[number * 7 % pixels] = math.inf
    blocks = PixelBlocks(rows)
    assert blocks.usable
    limits = limits * scale**2
    found = masks_of(blocks, centres, limits)
    for one, other in zip(found, naive_masks(rows, centres, limits), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("dimensions", [1, 3, 16, 64, 100])
def test_masks_of_noisy_objects_equal_every_difference(dimensions):
    generator = torch.Generator().manual_seed(dimensions)
    centres = torch.randn(30, dimensions, generator=generator) * math.sqrt(5 / dimensions)
    label = torch.randint(0, 30, (300,), generator=generator).repeat_interleave(37)
    rows = centres[label] + torch.randn(len(label), dimensions, generator=generator) * math.sqrt(
        0.1 / dimensions
    )
    seeds = rows[torch.randint(0, len(rows), (50,), generator=generator)]
    limits = torch.rand(50, generator=generator) * 2
    found = masks_of(PixelBlocks(rows), seeds, limits)
    expected = naive_masks(rows, seeds, limits)
    assert sum(mask.sum() for mask in expected) > 5000
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 20), st.sampled_from([1e-9, 1.0, 1e6]))
def test_no_pixel_is_outside_its_ball(pixels, dimensions, scale):
    generator = torch.Generator().manual_seed(pixels)
    rows = torch.randn(pixels, dimensions, generator=generator) * scale + scale
    blocks = PixelBlocks(rows)
    anchors = (blocks.anchors + blocks.origin).double().repeat_interleave(blocks.size, 0)[:pixels]
    apart = squared_apart(rows.double(), anchors).sqrt()
    # The origin was taken from the anchors and is added again: twice rounded.
    assert (apart <= blocks.apart.flatten()[:pixels] * (1 + 1e-6) + 1e-6 * scale).all()


def test_values_whose_squares_overflow_are_told():
    assert not PixelBlocks(torch.full((40, 2), 1e18)).usable
    assert PixelBlocks(torch.zeros(0, 3)).usable
