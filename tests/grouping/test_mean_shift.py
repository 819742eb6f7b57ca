"""Mean shift and one pass against plain loops, and against scikit-learn."""

import math
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.errors import PixelkinError
from pixelkin.grouping import mean_shift as module
from pixelkin.grouping.mean_shift import mean_shift, one_pass
from pixelkin.losses.discriminative import discriminative_loss
from pixelkin.masks import paint_instances

# Its square is irrational, so no two lattice points are exactly so far apart.
RADIUS = math.pi / 2


def mean_of(rows):
    return [sum(values) / len(rows) for values in zip(*rows, strict=True)]


def loop_mean_shift(points, bandwidth):
    """From every point, as scikit-learn does it; label and centre of each point's nearest mode."""
    modes = {}
    for seed in points:
        place = seed
        while True:
            inside = [row for row in points if math.dist(row, place) <= bandwidth]
            moved = mean_of(inside)
            done = math.dist(moved, place) <= 1e-3 * bandwidth
            place = moved
            if done:
                break
        modes[tuple(place)] = len(inside)
    centres = []
    for mode, _ in sorted(modes.items(), key=lambda pair: (pair[1], pair[0]), reverse=True):
        if all(math.dist(mode, other) > bandwidth for other in centres):
            centres.append(mode)
    distances = [[math.dist(row, centre) for centre in centres] for row in points]
    return [row.index(min(row)) for row in distances], centres


def loop_one_pass(points, radius, priority, refine_steps, min_size):
    """Point by point, in order of priority."""
    order = sorted(range(len(points)), key=lambda index: -priority[index])
    labels, centres = [-1] * len(points), []

    def near(place):
        return [i for i in order if labels[i] < 0 and math.dist(points[i], place) <= radius]

    for seed in order:
        if labels[seed] >= 0:
            continue
        centre, group = points[seed], near(points[seed])
        if len(group) < min_size:
            continue
        for _ in range(refine_steps):
            centre = mean_of([points[i] for i in group])
            group = sorted({*near(centre), seed})
        if len(group) < min_size:
            continue
        for i in group:
            labels[i] = len(centres)
        centres.append(centre)
    return labels, centres


def trained(n, dimensions, clusters, *, spread=0.3, noise=0.05, seed=0):
    """Embeddings of the loss's kind: means 3 apart, 5 % of the pixels between two of them."""
    generator = torch.Generator().manual_seed(seed)
    means = [torch.zeros(dimensions)]
    while len(means) < clusters:
        row = torch.randn(dimensions, generator=generator) * 4
        if all((row - other).norm() >= 3 for other in means):
            means.append(row)
    labels = torch.randint(clusters, (n,), generator=generator)
    away = functional.normalize(torch.randn(n, dimensions, generator=generator), dim=1)
    length = spread * (1 + 0.4 * torch.randn(n, 1, generator=generator)).abs()
    points = torch.stack(means)[labels] + away * length
    noisy = int(noise * n)
    other = torch.stack(means)[torch.randint(clusters, (noisy,), generator=generator)]
    points[:noisy] = torch.lerp(points[:noisy], other, torch.rand(noisy, 1, generator=generator))
    return points[order := torch.randperm(n, generator=generator)], labels[order]


lattice = st.integers(1, 3).flatmap(
    lambda d: st.lists(
        st.lists(st.integers(-4, 4), min_size=d, max_size=d), min_size=1, max_size=40
    )
)


@settings(deadline=None, max_examples=150)
@given(
    rows=lattice,
    ranks=st.lists(st.integers(0, 5), min_size=40, max_size=40),
    refine_steps=st.integers(0, 3),
    min_size=st.integers(1, 5),
    block=st.sampled_from([1, 16, 2**20]),
)
def test_one_pass_equals_plain_loops(rows, ranks, refine_steps, min_size, block):
    points = torch.tensor(rows, dtype=torch.float64)
    priority = torch.tensor(ranks[: len(rows)])
    with mock.patch.object(module, "_BLOCK", block):
        labels, centres = one_pass(
            points, radius=RADIUS, priority=priority, refine_steps=refine_steps, min_size=min_size
        )
    expected, expected_centres = loop_one_pass(
        points.tolist(), RADIUS, priority.tolist(), refine_steps, min_size
    )
    assert labels.tolist() == expected
    assert centres.shape == (len(expected_centres), points.shape[1])
    np.testing.assert_allclose(centres, np.reshape(expected_centres, centres.shape), atol=1e-12)


@settings(deadline=None, max_examples=100)
@given(rows=lattice)
def test_one_pass_covers_points_by_centres_that_are_apart(rows):
    points = torch.tensor(rows, dtype=torch.float64)
    labels, centres = one_pass(points, radius=RADIUS)
    assert labels.unique().tolist() == list(range(len(centres)))
    assert ((points - centres[labels]).norm(dim=1) <= RADIUS).all()
    gaps = torch.cdist(centres, centres).fill_diagonal_(torch.inf)
    assert (gaps > RADIUS).all()
    assert labels[0] == 0
    assert torch.allclose(centres[0], points[0])


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    seed=st.integers(0, 10**6),
    at_once=st.sampled_from([1, 3, 64]),
    block=st.sampled_from([1, 100, 2**20]),
    steady=st.sampled_from([1, 5, 32]),
)
def test_mean_shift_of_groups_apart_equals_plain_loops(sizes, seed, at_once, block, steady):
    # Groups of diameter below the bandwidth, more than two bandwidths apart, have one answer.
    generator = torch.Generator().manual_seed(seed)
    means = 3.0 * torch.arange(len(sizes), dtype=torch.float64)
    home = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    home = home[torch.randperm(len(home), generator=generator)]
    noise = 0.4 * torch.rand(len(home), 2, generator=generator, dtype=torch.float64)
    points = torch.stack([means[home], -means[home]], dim=1) + noise
    with mock.patch.multiple(module, _BLOCK=block, _STEADY=steady):
        labels, centres = mean_shift(points, bandwidth=1.0, seeds_at_once=at_once)
    expected, expected_centres = loop_mean_shift(points.tolist(), 1.0)
    assert labels.tolist() == expected
    np.testing.assert_allclose(centres, expected_centres, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at_once", [8, 64])
def test_mean_shift_with_noise_between_equals_plain_loops(seed, at_once):
    points, _ = trained(260, 3, 4, seed=seed)
    labels, centres = mean_shift(points.double(), bandwidth=0.5, seeds_at_once=at_once)
    expected, expected_centres = loop_mean_shift(points.double().tolist(), 0.5)
    assert len(centres) > 4
    assert labels.tolist() == expected
    # A flat kernel has plateaus: seeds of one mode may stop a little apart, with the same count.
    np.testing.assert_allclose(centres, expected_centres, atol=0.05)


@settings(deadline=None, max_examples=60)
@given(rows=lattice, at_once=st.sampled_from([1, 64]))
def test_modes_are_apart_and_points_take_the_nearest(rows, at_once):
    points = torch.tensor(rows, dtype=torch.float64)
    labels, centres = mean_shift(points, bandwidth=RADIUS, seeds_at_once=at_once)
    gaps = torch.cdist(centres, centres).fill_diagonal_(torch.inf)
    assert (gaps > RADIUS).all()
    distances = torch.cdist(points, centres)
    own = distances.gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(own, distances.min(1).values, atol=1e-6, rtol=0)
    inside = (distances <= RADIUS).sum(0)
    # The mode with most points comes first; a stopped seed may lie .001 bandwidths from its mean.
    assert inside.max() >= 1
    assert (inside >= 1).all()


@pytest.mark.parametrize(("dimensions", "clusters"), [(8, 20), (16, 10)])
def test_mean_shift_agrees_with_scikit_learn(dimensions, clusters):
    cluster = pytest.importorskip("sklearn.cluster")
    metrics = pytest.importorskip("sklearn.metrics")
    points, truth = trained(800, dimensions, clusters)
    peer = cluster.MeanShift(bandwidth=0.5).fit(points.double().numpy())
    labels, centres = mean_shift(points, bandwidth=0.5)
    assert metrics.adjusted_rand_score(peer.labels_, labels) >= 0.99
    assert len(centres) == pytest.approx(len(peer.cluster_centers_), rel=0.02)
    assert metrics.adjusted_rand_score(truth, labels) > 0.8


def descend(labels):
    """Free embeddings, blurred so that borders mix, on the loss of a label map."""
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(1, 8, *labels.shape[1:], generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(150):
        embeddings = functional.avg_pool2d(free, 3, stride=1, padding=1)
        terms = discriminative_loss(embeddings, labels)
        optimizer.zero_grad()
        (terms["variance"] + terms["distance"]).backward()
        optimizer.step()
    foreground = labels != 0
    return embeddings.detach().movedim(1, -1)[foreground], labels[foreground]


# Nuclei of 230 pixels each; then some of 15, among which groups of a few pixels are modes.
@pytest.mark.parametrize(("index", "step", "least"), [(5, 2, 0.95), (2, 4, 0.6)])
def test_instances_of_real_pictures(shared_data, index, step, least):
    metrics = pytest.importorskip("sklearn.metrics")
    cluster = pytest.importorskip("sklearn.cluster")
    painted = paint_instances(Nuclei(shared_data / "dsb2018")[index]).labels
    points, truth = descend(torch.from_numpy(painted[:256:step, :256:step].copy())[None])
    assert len(truth.unique()) >= 10
    for found in (
        mean_shift(points, bandwidth=0.5)[0],
        one_pass(points, radius=1.0)[0],
        one_pass(points, radius=1.0, refine_steps=3)[0],
    ):
        assert metrics.adjusted_rand_score(truth, found) > least
    few = points[:: len(points) // 800 + 1]
    peer = cluster.MeanShift(bandwidth=0.5).fit(few.double().numpy()).labels_
    assert metrics.adjusted_rand_score(peer, mean_shift(few, bandwidth=0.5)[0]) >= 0.99


def test_sample_finds_the_same_groups():
    points, truth = trained(30_000, 8, 12, noise=0.0, spread=0.2)
    labels, centres = mean_shift(points, bandwidth=0.5, sample=600)
    # One group each, and a group is never split.
    assert len(centres) == 12
    pairs = torch.stack([truth, labels], dim=1).unique(dim=0)
    assert len(pairs) == 12


def test_memory_is_not_of_all_pairs():
    # All pairs would be 160,000² floats, 100 GB.
    points, truth = trained(160_000, 2, 5, noise=0.0, spread=0.2)
    for labels, centres in (
        mean_shift(points, bandwidth=0.5, sample=None),
        one_pass(points, radius=1.0, refine_steps=1, min_size=10),
    ):
        assert len(centres) == 5
        assert len(torch.stack([truth, labels], dim=1).unique(dim=0)) == 5


def test_small_modes_are_left_out():
    points = torch.tensor([[0.0]] * 10 + [[0.3]] + [[1.2]] * 2 + [[9.0]])
    every, centres = mean_shift(points, bandwidth=0.7)
    assert every.tolist() == [0] * 11 + [1] * 2 + [2]
    labels, kept = mean_shift(points, bandwidth=0.7, min_size=3)
    assert labels.tolist() == [0] * 11 + [-1] * 3
    assert torch.equal(kept, centres[:1])
    assert mean_shift(points, bandwidth=0.7, min_size=99)[0].tolist() == [-1] * 14


def test_points_of_a_mode_left_out_go_to_a_mode_within_reach():
    # The mode of the last three is at 1.32; of them .95 alone lies within 1 of the mode near 0.
    points = torch.tensor([[0.0]] * 100 + [[0.95]] + [[1.5]] * 2)
    assert mean_shift(points, bandwidth=1.0)[0].tolist() == [0] * 100 + [1] * 3
    labels, _ = mean_shift(points, bandwidth=1.0, min_size=4)
    assert labels.tolist() == [0] * 101 + [-1] * 2


def test_far_from_the_origin_radii_hold():
    points, _ = trained(600, 8, 5)
    for group in (
        lambda rows: mean_shift(rows, bandwidth=0.5)[0],
        lambda rows: one_pass(rows, radius=1.0)[0],
    ):
        # Squares near 1e6 would swallow .25 in float32.
        moved = group(points + 400.0)
        assert torch.equal(moved, group((points + 400.0) - 400.0))


@pytest.mark.parametrize("group", ["mean_shift", "one_pass"])
def test_half_precision_autocast_and_no_points(group):
    def run(rows):
        if group == "mean_shift":
            return mean_shift(rows, bandwidth=0.5)
        return one_pass(rows, radius=1.0)

    points, _ = trained(400, 4, 3)
    points = points.bfloat16().requires_grad_()
    labels, centres = run(points)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = run(points)
    assert torch.equal(labels, again[0])
    assert torch.equal(centres, again[1])
    assert centres.dtype == torch.float32
    assert not centres.requires_grad
    labels, centres = run(torch.zeros(0, 4))
    assert labels.shape == (0,)
    assert labels.dtype == torch.int64
    assert centres.shape == (0, 4)
    labels, centres = run(torch.full((7, 2), 3.0))
    assert labels.tolist() == [0] * 7
    assert centres.tolist() == [[3.0, 3.0]]


def test_refuses_what_makes_no_sense():
    points = torch.zeros(4, 2)
    with pytest.raises(PixelkinError, match="bandwidth 0"):
        mean_shift(points, bandwidth=0.0)
    with pytest.raises(PixelkinError, match="1 or more"):
        mean_shift(points, bandwidth=1.0, min_size=0)
    with pytest.raises(PixelkinError, match="radius nan"):
        one_pass(points, radius=math.nan)
    with pytest.raises(PixelkinError, match="NaN or infinity"):
        one_pass(points / 0, radius=1.0)
    with pytest.raises(PixelkinError, match="one number for each"):
        one_pass(points, radius=1.0, priority=torch.zeros(3))
    with pytest.raises(PixelkinError, match="expected floats"):
        mean_shift(points[0], bandwidth=1.0)
