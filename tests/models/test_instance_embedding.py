"""Instance networks: shapes, places, scales, errors."""

import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models.instance_embedding import (
    CUTS,
    MultiScale,
    cell_places,
    paper_instance_network,
    small_instance_network,
)


@pytest.mark.parametrize("stride", [2, 4])
def test_small_network_gives_fields_at_its_stride(stride):
    model = small_instance_network(8, dimensions=5, stride=stride).eval()
    fields = model(torch.rand(2, 3, 64, 96))
    assert fields.embeddings.shape == (2, 5, 64 // stride, 96 // stride)
    assert fields.logits.shape == (2, 8, 64 // stride, 96 // stride)
    assert fields.stride == stride


def test_the_place_of_a_cell_is_added_to_two_dimensions():
    torch.manual_seed(0)
    model = small_instance_network(8, dimensions=4, px_per_unit=8.0).eval()
    images = torch.rand(1, 3, 32, 48)
    here = model(images)
    there = model(images, corner_xy=(160, 80))
    moved = there.embeddings - here.embeddings
    assert torch.allclose(moved[:, 0], torch.tensor(20.0), atol=1e-4)
    assert torch.allclose(moved[:, 1], torch.tensor(10.0), atol=1e-4)
    assert torch.equal(moved[:, 2:], torch.zeros_like(moved[:, 2:]))
    model.px_per_unit = 0
    plain = model(images)
    places = cell_places((16, 24), 2) / 8
    assert torch.allclose(here.embeddings[0, :2] - plain.embeddings[0, :2], places, atol=1e-4)


def test_cell_places_are_the_centres_of_cells():
    places = cell_places((2, 3), 4, (100, 50))
    assert places[0].tolist() == [[102, 106, 110], [102, 106, 110]]
    assert places[1].tolist() == [[52, 52, 52], [56, 56, 56]]


def test_places_survive_half_precision():
    model = small_instance_network(8, dimensions=4).eval()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        x = model(torch.zeros(1, 3, 32, 32), corner_xy=(4096, 0)).embeddings[0, 0]
    assert x.dtype == torch.float32
    assert float((x[:, 8] - x[:, 7] - 0.25).abs().max()) < 0.1


def test_sides_that_do_not_fit_are_refused_with_the_next_that_do():
    model = small_instance_network(8)
    with pytest.raises(PixelkinError, match=r"100×50.*pad it to 112×64"):
        model(torch.rand(1, 3, 50, 100))


def test_several_scales_are_concatenated_at_the_size_of_scale_one():
    model = small_instance_network(8, dimensions=4, scales=(0.5, 1.0, 2.0)).eval()
    assert model.multiple == 32
    fields = model(torch.rand(1, 3, 64, 32))
    assert fields.embeddings.shape == (1, 4, 32, 16)
    encoder = model.encoder
    assert isinstance(encoder, MultiScale)
    images = torch.rand(1, 3, 64, 32)
    features = encoder(images)
    own = encoder.encoder(images)
    width = own.shape[1]
    assert torch.allclose(features[:, width : 2 * width], own, atol=1e-6), "scale 1 is untouched"


def test_the_papers_network_has_its_numbers():
    """d = 64, stride 8, four scales, (C + 1) scores for each of four cuts (section 4.1)."""
    model = paper_instance_network(20).eval()
    assert len(CUTS) == 4
    assert model.multiple == 32
    with torch.inference_mode():
        fields = model(torch.rand(1, 3, 64, 64))
    assert fields.embeddings.shape == (1, 64, 8, 8)
    assert fields.logits.shape == (1, 4 * 21, 8, 8)
    assert model.px_per_unit == 0


def test_wrong_options_are_named():
    with pytest.raises(PixelkinError, match="stride is 3"):
        small_instance_network(8, stride=3)
    with pytest.raises(PixelkinError, match="expected 1 among them"):
        small_instance_network(8, scales=(0.5, 2.0))
