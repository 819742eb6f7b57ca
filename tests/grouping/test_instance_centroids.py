"""Instances from centroids: two discs of one class, and every step against plain loops."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.errors import PixelkinError
from pixelkin.grouping import instance_centroids
from pixelkin.grouping.activation_maps import confident_regions
from pixelkin.grouping.boundary_affinity import boundary_transition
from pixelkin.grouping.instance_centroids import (
    PAPER_CONFIDENT_BACKGROUND,
    PAPER_CONFIDENT_FOREGROUND,
    CentroidGrouping,
    Winners,
    cluster_centroids,
    instances_of_winners,
    refine_centroids,
    split_by_cluster,
    walk_to_boundaries,
    with_constant_background,
)
from pixelkin.grouping.random_walk import walk
from pixelkin.masks import decode_rle, paint_instances
from pixelkin.structures import IGNORE

CENTRES_YX = ((12, 11), (13, 29))
RADIUS = 9


class Scene(NamedTuple):
    discs: torch.Tensor
    maps: torch.Tensor
    boundaries: torch.Tensor
    displacement: torch.Tensor


def two_discs(size_hw=(26, 42)) -> Scene:
    """Discs that touch, the cells around them as boundary, and the way to their centres.

    The class map is weak and uneven, as of a real classifier: 1 at one disc's centre, .7 at the
    other's, and it spills over into the background.
    """
    y, x = torch.meshgrid(torch.arange(size_hw[0]), torch.arange(size_hw[1]), indexing="ij")
    far = torch.stack([((y - cy) ** 2 + (x - cx) ** 2).float().sqrt() for cy, cx in CENTRES_YX])
    discs = far < RADIUS
    inside = discs.any(0)
    grown = torch.nn.functional.max_pool2d(inside[None].float(), 3, 1, 1)[0] > 0
    both = torch.stack(
        [torch.nn.functional.max_pool2d(d[None].float(), 3, 1, 1)[0] > 0 for d in discs]
    ).all(0)
    boundaries = ((grown & ~inside) | both).float()
    discs &= ~both
    displacement = torch.zeros(2, *size_hw)
    for disc, (cy, cx) in zip(discs, CENTRES_YX, strict=True):
        displacement[0][disc] = (cy - y)[disc].float()
        displacement[1][disc] = (cx - x)[disc].float()
    score = torch.exp(-((far / 9) ** 2)) * torch.tensor([1.0, 0.7]).view(2, 1, 1)
    maps = torch.zeros(3, *size_hw)
    maps[1] = score.amax(0)
    return Scene(discs, maps, boundaries, displacement)


def test_the_discs_touch_and_the_class_map_spills_over():
    scene = two_discs()
    # One column of boundary is all that lies between them.
    row = scene.discs[:, 12].any(0)
    gap = (~row[11:29]).nonzero()
    assert len(gap) == 1
    outside = ~scene.discs.any(0) & (scene.boundaries == 0)
    assert scene.maps[1][outside].max() > 0.25


def test_centroids_of_true_displacements_are_the_two_centres():
    scene = two_discs()
    centroids = refine_centroids(scene.displacement)
    clusters = cluster_centroids(centroids, scene.displacement)
    for disc, centre in zip(scene.discs, CENTRES_YX, strict=True):
        assert {tuple(p) for p in centroids[:, disc].T.tolist()} == {centre}
        own = clusters[disc].unique()
        assert len(own) == 1
        assert torch.equal(clusters == own, disc)
    assert sorted(clusters.unique().tolist()) == [1, 2, 3]


def test_two_instances_exactly():
    scene = two_discs()
    found = CentroidGrouping(stride=1)(*scene[1:], (26, 42))
    assert found.categories == (1, 1)
    assert found.scores[0] == 1
    assert 0.25 < found.scores[1] < 1
    for rle, disc in zip(found.rles, scene.discs, strict=True):
        assert np.array_equal(decode_rle(rle, (26, 42)), disc.numpy())


def test_without_displacements_one_class_is_one_instance_per_region():
    """The control: with no displacement both discs are of one cluster, and one map."""
    scene = two_discs()
    parts, categories = split_by_cluster(
        scene.maps, cluster_centroids(refine_centroids(still := scene.displacement * 0), still)
    )
    assert categories == (1,)
    assert torch.equal(parts[0], scene.maps[1])


def test_two_instances_at_stride_4_of_an_image_that_ends_within_a_cell():
    scene = two_discs()
    size_hw = (26 * 4 - 1, 42 * 4 - 3)
    found = CentroidGrouping()(*scene[1:], size_hw)
    assert found.size_hw == size_hw
    assert len(found) == 2
    for rle, disc in zip(found.rles, scene.discs, strict=True):
        truth = np.kron(disc.numpy(), np.ones((4, 4), bool))[: size_hw[0], : size_hw[1]]
        mask = decode_rle(rle, size_hw)
        assert (mask & truth).sum() / (mask | truth).sum() > 0.85


def test_the_same_instances_every_time_and_however_many_maps_at_once(monkeypatch):
    scene = two_discs()
    expected = CentroidGrouping()(*scene[1:], (104, 168))
    assert CentroidGrouping()(*scene[1:], (104, 168)) == expected
    monkeypatch.setattr(instance_centroids, "_MAPS_AT_ONCE", 1)
    found = CentroidGrouping()(*scene[1:], (104, 168))
    assert found.rles == expected.rles
    assert found.scores == pytest.approx(expected.scores, rel=1e-5)


def test_real_people_who_overlap_come_apart(shared_data):
    """Six people of one class map, several behind another: fields made from their true masks."""
    source = PennFudan(shared_data / "penn_fudan")
    sample = source[source.names.index("PennPed00045")]
    labels = paint_instances(sample).labels
    size_hw = sample.size_hw
    cells = torch.from_numpy(labels[2::4, 2::4])
    field_hw = (-(-size_hw[0] // 4), -(-size_hw[1] // 4))
    cells = torch.nn.functional.pad(
        cells, (0, field_hw[1] - cells.shape[1], 0, field_hw[0] - cells.shape[0])
    )
    boundaries = torch.zeros(field_hw)
    boundaries[:-1] = (cells[1:] != cells[:-1]).float()
    boundaries[:, :-1] = torch.maximum(boundaries[:, :-1], (cells[:, 1:] != cells[:, :-1]).float())
    place = torch.stack(torch.meshgrid(*map(torch.arange, field_hw), indexing="ij")).float()
    displacement = torch.zeros(2, *field_hw)
    for label in range(1, len(sample.instances) + 1):
        own = cells == label
        displacement[:, own] = place[:, own].mean(1, keepdim=True) - place[:, own]
    # What a classifier's map tells: where people are, and not whose pixel is whose.
    maps = torch.nn.functional.avg_pool2d((cells > 0).float()[None], 5, 1, 2)

    def people(field: torch.Tensor) -> tuple[int, int]:
        found = CentroidGrouping()(maps, boundaries, field, size_hw)
        masks = [decode_rle(rle, size_hw) for rle in found.rles]
        truths = [labels == label for label in range(1, len(sample.instances) + 1)]
        overlaps = [max((m & t).sum() / (m | t).sum() for m in masks) for t in truths]
        return len(found), sum(overlap > 0.75 for overlap in overlaps)

    assert people(displacement) == (6, 6)
    assert people(displacement * 0)[1] < 6


def loops_centroids(displacement, iterations):
    _, h, w = displacement.shape
    found = np.zeros((2, h, w), int)
    for y in range(h):
        for x in range(w):
            place = [float(y), float(x)]
            for _ in range(iterations):
                step = [0.0, 0.0]
                for v in range(h):
                    for u in range(w):
                        weight = max(1 - abs(place[0] - v), 0) * max(1 - abs(place[1] - u), 0)
                        step[0] += weight * float(displacement[0, v, u])
                        step[1] += weight * float(displacement[1, v, u])
                place = [
                    min(max(place[0] + step[0], 0), h - 1),
                    min(max(place[1] + step[1], 0), w - 1),
                ]
            found[:, y, x] = round(place[0]), round(place[1])
    return found


@pytest.mark.parametrize(("size_hw", "iterations"), [((6, 7), 1), ((6, 7), 5), ((1, 5), 3)])
def test_centroids_equal_loops(size_hw, iterations):
    generator = np.random.default_rng(3)
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    # Towards a point, and noise: paths that meet do not part again, so rounding cannot tell.
    field = 0.4 * np.stack([1.3 - y, 3.2 - x]) + generator.normal(size=(2, *size_hw)) * 0.3
    displacement = torch.from_numpy(field).float()
    found = refine_centroids(displacement, iterations=iterations)
    assert np.array_equal(found.numpy(), loops_centroids(displacement.double(), iterations))


def test_no_iterations_leave_every_cell_where_it_is():
    found = refine_centroids(torch.randn(2, 3, 4), iterations=0)
    assert found.tolist() == np.mgrid[:3, :4].tolist()


def test_displacements_out_of_the_field_end_at_its_border():
    found = refine_centroids(torch.full((2, 3, 4), 50.0))
    assert (found[0] == 2).all()
    assert (found[1] == 3).all()


def test_clusters_equal_a_flood_of_the_weak_cells():
    generator = torch.Generator().manual_seed(0)
    displacement = torch.randn(2, 9, 11, generator=generator) * 2.2
    centroids = torch.stack(
        [
            torch.randint(9, (9, 11), generator=generator),
            torch.randint(11, (9, 11), generator=generator),
        ]
    )
    weak = {
        (y, x)
        for y in range(9)
        for x in range(11)
        if math.hypot(*displacement[:, y, x].tolist()) < 2.5
    }
    region = {}
    for cell in sorted(weak):
        stack = [cell] if cell not in region else []
        while stack:
            y, x = stack.pop()
            if (y, x) in weak and (y, x) not in region:
                region[y, x] = cell
                stack += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    found = cluster_centroids(centroids, displacement)
    cells = {
        (y, x): region.get(tuple(centroids[:, y, x].tolist())) for y in range(9) for x in range(11)
    }
    order = sorted({start for start in cells.values() if start})
    assert len(order) > 3
    for (y, x), start in cells.items():
        assert int(found[y, x]) == (order.index(start) + 1 if start else 0)


def test_parts_sum_to_the_maps_and_none_is_empty():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(4, 5, 6, generator=generator)
    maps[2] = 0
    maps[3, :, 3:] = 0
    clusters = torch.arange(6).div(2, rounding_mode="floor").expand(5, 6)
    parts, categories = split_by_cluster(maps, clusters)
    assert categories == (0, 0, 0, 1, 1, 1, 3, 3)
    for category in range(4):
        own = [part for part, c in zip(parts, categories, strict=True) if c == category]
        assert torch.equal(sum(own, torch.zeros(5, 6)), maps[category])
    assert all((clusters[part > 0]).unique().numel() == 1 for part in parts)
    assert split_by_cluster(maps[2:3], clusters)[0].shape == (0, 5, 6)


def test_only_the_maps_with_the_highest_sums_are_kept_where_so_is_asked():
    maps = torch.zeros(2, 1, 6)
    maps[0, 0] = torch.tensor([0.9, 0.9, 0.2, 0.3, 0.0, 0.0])
    maps[1, 0] = torch.tensor([0.0, 0.1, 0.4, 0.4, 0.0, 0.6])
    clusters = torch.tensor([[0, 0, 1, 1, 2, 2]])
    parts, categories = split_by_cluster(maps, clusters, most=3)
    assert categories == (0, 1, 1)
    assert parts[:, 0].nonzero().tolist() == [[0, 0], [0, 1], [1, 2], [1, 3], [2, 5]]
    whole = split_by_cluster(maps, clusters)
    assert whole[1] == (0, 0, 1, 1, 1)
    assert torch.equal(split_by_cluster(maps, clusters, most=5)[0], whole[0])


def test_winners_equal_the_formula():
    generator = torch.Generator().manual_seed(0)
    boundaries = torch.rand(6, 7, generator=generator) ** 2
    maps = torch.rand(5, 6, 7, generator=generator) ** 4
    size_hw = (23, 26)
    found = walk_to_boundaries(maps, boundaries, size_hw=size_hw, background=0.6)
    walked = walk(boundary_transition(boundaries), maps * (1 - boundaries))
    fine = torch.nn.functional.interpolate(walked[None], scale_factor=4, mode="bilinear")[0]
    fine = fine[:, :23, :26] / fine[:, :23, :26].max()
    background = torch.full((1, 23, 26), 0.6)
    assert torch.equal(found.numbers, torch.cat([background, fine]).argmax(0))
    torch.testing.assert_close(found.scores, fine.amax(0))
    assert {0} < set(found.numbers.unique().tolist())


def test_nothing_is_found_where_there_is_no_class():
    scene = two_discs()
    found = CentroidGrouping(stride=1)(scene.maps * 0, *scene[2:], (26, 42))
    assert len(found) == 0
    winners = walk_to_boundaries(scene.maps[:0], scene.boundaries, size_hw=(26, 42), stride=1)
    assert not winners.numbers.any()
    assert not winners.scores.any()


def test_regions_of_one_map_are_objects_and_fragments_are_dropped_or_score_0():
    numbers = torch.zeros(20, 20, dtype=torch.int64)
    numbers[2:8, 2:8] = 2
    numbers[10:14, 10:14] = 2
    numbers[14, 14] = 2  # touches at a corner only
    numbers[8:10, 2:4] = 1
    scores = torch.arange(400).view(20, 20) / 400
    found = instances_of_winners(Winners(numbers, scores), (7, 5))
    assert found.categories == (5, 7, 5)
    assert found.scores == tuple(float(scores[cell]) for cell in ((13, 13), (9, 3), (7, 7)))
    assert [int(decode_rle(rle, (20, 20)).sum()) for rle in found.rles] == [16, 4, 36]
    kept = instances_of_winners(Winners(numbers, scores), (7, 5), keep_fragments=True)
    assert kept.rles[:3] == found.rles
    assert kept.scores == (*found.scores, 0)
    assert np.argwhere(decode_rle(kept.rles[3], (20, 20))).tolist() == [[14, 14]]
    assert len(instances_of_winners(Winners(numbers, scores), (7, 5), min_share=0.05)) == 1


def test_confident_regions_of_a_constant_background():
    maps = torch.tensor([[[0.0, 0.04, 0.2, 0.31, 0.9]], [[0.0, 0.0, 0.0, 0.0, 0.95]]])
    found = confident_regions(
        with_constant_background(maps, score=PAPER_CONFIDENT_FOREGROUND),
        with_constant_background(maps, score=PAPER_CONFIDENT_BACKGROUND),
    )
    assert found.tolist() == [[0, 0, IGNORE, 1, 2]]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: refine_centroids(torch.zeros(3, 4, 4)), r"expected \(2, h, w\)"),
        (lambda: refine_centroids(torch.full((2, 4, 4), math.nan)), "no number"),
        (
            lambda: cluster_centroids(torch.zeros(2, 3, 4).long(), torch.zeros(2, 4, 4)),
            "expected one shape",
        ),
        (lambda: split_by_cluster(torch.zeros(1, 3, 4), torch.zeros(4, 4).long()), "the field"),
        (
            lambda: walk_to_boundaries(torch.zeros(1, 3, 4), torch.zeros(3, 4), size_hw=(13, 16)),
            "16×13 at stride 4: expected 4×4 cells",
        ),
        (
            lambda: instances_of_winners(
                Winners(torch.full((3, 3), 2), torch.ones(3, 3)), categories=(0,)
            ),
            "1 categories for 2 maps",
        ),
        (lambda: with_constant_background(torch.zeros(1, 3, 4), score=0), "above 0"),
    ],
)
def test_centroid_mistakes_are_one_line(wrong, message):
    with pytest.raises(PixelkinError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
