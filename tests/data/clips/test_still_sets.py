"""The four sets of stills, from the real files."""

import pytest

from pixelkin.data.clips.still_sets import OBJECT_SETS, STILL_SETS, still_sets
from pixelkin.errors import PixelkinError


def test_parts_are_apart_and_shrunk(shared_data):
    train, held_out = still_sets(shared_data, validation=0.3, longest_px=96, limit=2)
    # Two of each of the four sets, seen 4, 1, 1 and 2 times.
    assert len(train) == 2 * (4 + 1 + 1 + 2)
    assert len(held_out) == 2 * 4
    assert {s.name for s in train}.isdisjoint(s.name for s in held_out)
    assert len({id(s) for s in train}) == 2 * 4
    for sample in (*train, *held_out):
        assert max(sample.labels.shape) == 96
        assert sample.labels.any()


def test_object_sets_have_background(shared_data):
    train, _ = still_sets(shared_data, validation=0.1, longest_px=96, limit=2, names=OBJECT_SETS)
    assert all((sample.labels == 0).any() for sample in train)
    regions, _ = still_sets(shared_data, validation=0.1, longest_px=96, limit=2, names=["bsds500"])
    assert not any((sample.labels == 0).any() for sample in regions)


def test_unknown_set_is_told(tmp_path):
    with pytest.raises(PixelkinError, match=", ".join(STILL_SETS)):
        still_sets(tmp_path, validation=0.1, longest_px=96, names=["davis"])
