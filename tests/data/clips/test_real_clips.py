"""Training clips from annotated videos."""

from pathlib import Path

import numpy as np
import pytest

from pixelkin.data.clips.davis import VideoFolder
from pixelkin.data.clips.real_clips import MixedClips, RealClips, swap_to_front
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE


@pytest.fixture(scope="module")
def clips(shared_data: Path) -> RealClips:
    return RealClips(VideoFolder(shared_data / "davis2016", year=2016), frames=3, size_hw=(96, 128))


def test_clips_follow_one_object_in_windows_of_the_size_asked_for(clips: RealClips) -> None:
    shares = []
    for index in range(6):
        images, labels, prompt = clips[index]
        assert images.shape == (3, 96, 128, 3)
        assert labels.shape == (3, 96, 128)
        assert prompt.shape == (96, 128)
        assert set(np.unique(labels)) <= {0, 1, IGNORE}
        assert set(np.unique(prompt)) <= {0, 1, IGNORE}
        shares.append((labels[0] == 1).mean())
    assert min(shares) > 0, "the window holds the object of the first frame"


def test_an_item_depends_on_its_index_and_the_seed_alone(clips: RealClips) -> None:
    again = RealClips(clips.videos, frames=3, size_hw=(96, 128))
    other = RealClips(clips.videos, frames=3, size_hw=(96, 128), seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(clips[4], again[4], strict=True))
    assert not np.array_equal(clips[4][0], other[4][0])


def test_too_short_videos_are_refused_with_their_name(clips: RealClips) -> None:
    with pytest.raises(PixelkinError, match="blackswan has 50 annotated frames, expected 60"):
        RealClips(clips.videos, frames=60)


def test_sources_take_turns(clips: RealClips) -> None:
    other = RealClips(clips.videos, frames=3, size_hw=(96, 128), seed=9)
    mixed = MixedClips([clips, other])
    assert np.array_equal(mixed[4][0], clips[2][0])
    assert np.array_equal(mixed[5][0], other[2][0])


def test_swapping_keeps_the_other_objects_apart() -> None:
    labels = np.array([[0, 1, 2, 3, IGNORE]], np.uint8)
    assert swap_to_front(labels, 3).tolist() == [[0, 3, 2, 1, IGNORE]]
    assert swap_to_front(labels, 1).tolist() == labels.tolist()
