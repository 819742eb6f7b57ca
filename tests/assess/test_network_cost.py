"""Costs of networks against sums by hand."""

import time

import pytest
import torch
from torch import nn

from pixelkin.assess.comparison_picture import Point, comparison_picture, quality_ticks
from pixelkin.assess.network_cost import network_cost, peak_memory_bytes, timed
from pixelkin.errors import PixelkinError

H, W = 10, 12


def test_cost_of_a_chain_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 1), nn.ReLU()
    ).eval()
    cost = network_cost(model, (H, W))
    assert cost.parameters == 3 * 8 * 9 + 8 + 8 * 4 + 4
    assert cost.multiply_adds == H * W * (3 * 8 * 9 + 8 * 4)
    # At the second convolution: weights, the image, its input and its output.
    assert cost.memory_bytes == 4 * (cost.parameters + H * W * (3 + 8 + 4))
    assert next(model.parameters()).device.type == "cpu"
    assert peak_memory_bytes(model, (H, W)) == cost.memory_bytes


class Skip(nn.Module):
    """Holds its first map while three others come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 5, 1, bias=False)
        self.more = nn.Sequential(*(nn.Conv2d(5, 5, 1, bias=False) for _ in range(3)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        kept = self.first(images)
        return torch.cat([kept, self.more(kept)], dim=1)


def test_what_is_held_counts_and_what_is_gone_does_not():
    model = Skip().eval()
    weights = 3 * 5 + 3 * 25
    # In the chain: the kept map, a map and the next; at the end: two maps and both of them joined.
    assert peak_memory_bytes(model, (H, W)) == 4 * (weights + H * W * (3 + 4 * 5))


def test_time_is_a_median_without_the_first_run():
    naps = iter([0.3, 0.01, 0.01, 0.2])
    found = timed(lambda: time.sleep(next(naps)), runs=3)
    assert 10 <= found.wall_ms < 200
    assert found.processor_ms < found.wall_ms


def test_better_is_higher_and_faster_is_left_of_slower():
    """Discs lie where the numbers say: found again by their colours."""
    points = [
        Point("good and slow", ms=400, quality=0.7, spread=0.02, parameters=30_000_000),
        Point("poor and fast", ms=10, quality=0.4, spread=0, parameters=1_000_000),
    ]
    picture = comparison_picture(points).astype(int)
    places, areas = [], []
    for colour in ((0, 114, 178), (213, 94, 0)):
        pale = [(value + 2 * 255) // 3 for value in colour]
        rows, columns = (abs(picture - pale).max(axis=2) <= 6).nonzero()
        places.append((columns.mean(), rows.mean()))
        areas.append(len(rows))
    (slow_x, good_y), (fast_x, poor_y) = places
    assert fast_x < slow_x
    assert good_y < poor_y
    assert areas[0] > 5 * areas[1]
    assert comparison_picture(points[:1]).shape == (600, 900, 3)
    with pytest.raises(PixelkinError, match="no network"):
        comparison_picture([])


def test_small_discs_lie_on_large_ones_whatever_the_order():
    large = Point("large", ms=50, quality=0.5, spread=0, parameters=30_000_000)
    small = Point("small", ms=50, quality=0.5, spread=0, parameters=8_000_000)
    for points in ([large, small], [small, large]):
        picture = comparison_picture(points).astype(int)
        for index, colour in enumerate(((0, 114, 178), (213, 94, 0))):
            pale = [(value + 2 * 255) // 3 for value in colour]
            count = (abs(picture - pale).max(axis=2) <= 6).sum()
            assert count > (200 if points[index] is small else 1000)


@pytest.mark.parametrize("values", [[0.0, 0.01], [0.02, 0.5], [0.97, 1.0], [0.0], [1.0], [0, 1]])
def test_the_scale_of_quality_ends_at_0_and_1(values: list[float]) -> None:
    ticks = quality_ticks(values)
    assert 0 <= ticks[0] <= min(values)
    assert max(values) <= ticks[-1] <= 1
    assert len(ticks) >= 2


def test_a_network_in_training_mode_is_counted_as_it_runs():
    class Refusing(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert not self.training
            return super().forward(x)

    model = Refusing(3, 2, 1).train()
    assert network_cost(model, (4, 5)).multiply_adds == 3 * 2 * 4 * 5
    assert model.training
