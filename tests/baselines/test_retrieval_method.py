"""Plain retrieval as a method, on clips whose answer is known."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from pixelkin.baselines.retrieval import Retrieval
from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

RED, GREEN, GREY = (220, 30, 30), (30, 200, 40), (90, 90, 90)
STRIDE = 4


def colour(frame):
    """Unit vectors of the mean colour of each cell of 4 pixels, the frame padded to whole cells."""
    pixels = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    padding = (0, -pixels.shape[3] % STRIDE, 0, -pixels.shape[2] % STRIDE)
    cells = functional.avg_pool2d(functional.pad(pixels, padding, mode="replicate"), STRIDE)
    return functional.normalize(cells[0], dim=0)


def picture(*squares, size_hw=(46, 62), side=16):
    """A grey frame with coloured squares at (x, y), and its labels."""
    frame = np.full((*size_hw, 3), GREY, np.uint8)
    labels = np.zeros(size_hw, np.uint8)
    for object_id, paint, (x, y) in squares:
        frame[y : y + side, x : x + side] = paint
        labels[y : y + side, x : x + side] = object_id
    return frame, labels


def clip():
    moves = [picture((7, RED, (4 + 4 * i, 4)), (201, GREEN, (40 - 4 * i, 24))) for i in range(5)]
    return [m[0] for m in moves], [m[1] for m in moves]


def overlap(found, truth, object_id):
    a, b = found == object_id, truth == object_id
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("sigmas", [None, (40.0, 20.0)])
@pytest.mark.parametrize("along_edges", [True, False])
def test_moving_squares_are_followed(along_edges, sigmas):
    frames, truth = clip()
    method = Retrieval(colour, stride=STRIDE, along_edges=along_edges, sigmas=sigmas)
    maps = list(method(frames, truth[0]))
    assert len(maps) == 5
    assert maps[0] is truth[0]
    for found, true in zip(maps, truth, strict=True):
        assert set(np.unique(found)) == {0, 7, 201}
        for object_id in (7, 201):
            assert overlap(found, true, object_id) > 0.8


def test_same_answer_twice():
    frames, truth = clip()
    method = Retrieval(colour, stride=STRIDE)
    once, again = (list(method(frames, truth[0])) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_unknown_pixels_become_background():
    """A red square turns blue, which nothing in the first frame resembles."""
    first, labels = picture((7, RED, (8, 8)), (201, GREEN, (36, 20)))
    later, _ = picture((7, (20, 20, 240), (8, 8)), (201, GREEN, (36, 20)))
    frames = [first, later, later]
    guess = list(Retrieval(colour, stride=STRIDE)(frames, labels))[-1]
    knowing = list(Retrieval(colour, stride=STRIDE, unknown_threshold=0.1)(frames, labels))
    for found in knowing[1:]:
        assert not (found == 7).any()
        assert set(np.unique(found)) == {0, 201}
        assert overlap(found, labels, 201) > 0.8
    # Without the threshold the vote is between references that are all far.
    assert set(np.unique(guess)) <= {0, 7, 201}


def test_ignored_pixels_are_no_references():
    """The green square is unmarked at first: neither background nor object may learn from it."""
    first, labels = picture((7, RED, (8, 8)), (IGNORE, GREEN, (36, 20)))
    last = list(Retrieval(colour, stride=STRIDE, unknown_threshold=0.1)([first] * 3, labels))[-1]
    assert set(np.unique(last)) == {0, 7}
    assert overlap(last, labels, 7) > 0.8


def test_object_smaller_than_a_cell_has_a_reference():
    first, labels = picture((7, RED, (8, 8)), side=1)
    method = Retrieval(colour, stride=STRIDE, k=1, along_edges=False)
    assert (list(method([first] * 2, labels))[-1] == 7).any()


def test_adaptation_follows_a_colour_that_drifts():
    """Red becomes grey's neighbour step by step; only added references carry the label there."""
    fade = [tuple(paint.astype(int)) for paint in np.linspace(RED, (95, 90, 125), 24)]
    frames, labels = zip(*[picture((7, paint, (8, 8)), side=20) for paint in fade], strict=True)
    still = Retrieval(colour, stride=STRIDE, most_adapted=0)
    adapting = Retrieval(colour, stride=STRIDE)
    last_still, last = (list(method(frames, labels[0]))[-1] for method in (still, adapting))
    assert overlap(last, labels[-1], 7) > 0.8
    assert overlap(last_still, labels[-1], 7) < 0.2


def test_added_references_are_bounded(monkeypatch):
    sizes = []

    def spy(*args, **options):
        store = append(*args, **options)
        sizes.append(len(store))
        return store

    from pixelkin.baselines import retrieval

    append = retrieval.append_confident
    monkeypatch.setattr(retrieval, "append_confident", spy)
    frames, truth = clip()
    list(Retrieval(colour, stride=STRIDE, added_per_frame=60, most_adapted=100)(frames, truth[0]))
    first = 12 * 16
    assert sizes[0] > first
    assert max(sizes) == sizes[-1] == first + 100


def test_wrong_stride_is_told():
    frames, truth = clip()
    with pytest.raises(PixelkinError, match="give the stride of the embeddings"):
        list(Retrieval(colour, stride=2)(frames, truth[0]))
