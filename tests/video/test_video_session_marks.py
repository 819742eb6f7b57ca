"""Clip sessions: what is marked is honoured, and what is wrong is told."""

import numpy as np
import pytest
from session_cases import FRAMES, fresh_labels
from tiny_model import moving_scene, tiny_runtime

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Box, Click, Mask, Scribble
from pixelkin.video import ClipSession


def test_whole_mask_comes_back_exactly_and_is_followed():
    clip, truth = moving_scene(FRAMES)
    for frame in (0, 4, FRAMES - 1):
        got = fresh_labels(clip, [Mask.from_labels(frame, truth[frame])])
        assert np.array_equal(got[frame], truth[frame])
        for near in {max(frame - 1, 0), min(frame + 1, FRAMES - 1)} - {frame}:
            for object_id in (1, 2):
                a, b = got[near] == object_id, truth[near] == object_id
                assert (a & b).sum() / (a | b).sum() > 0.4


def test_noise_as_a_whole_mask_comes_back_exactly():
    clip, _ = moving_scene(3)
    noise = np.random.default_rng(1).choice([0, 1, 7, 254], size=clip.size_hw).astype(np.uint8)
    got = fresh_labels(clip, [Mask.from_labels(1, noise)])
    assert np.array_equal(got[1], noise)


@pytest.mark.parametrize("seed", range(3))
def test_marked_pixels_are_honoured(seed):
    rng = np.random.default_rng(seed)
    clip, _ = moving_scene(FRAMES)
    h, w = clip.size_hw
    said: dict[tuple[int, int, int], Click] = {}
    for _ in range(16):
        frame, x, y = int(rng.integers(FRAMES)), int(rng.integers(w)), int(rng.integers(h))
        click = Click(
            frame, (x + 0.5, y + 0.5), int(rng.integers(0, 4)), positive=bool(rng.random() < 0.7)
        )
        said[frame, y, x] = click
    got = fresh_labels(clip, list(said.values()))
    followed = {c.object_id for c in said.values() if c.positive and c.object_id}
    for (frame, y, x), click in said.items():
        if click.positive and click.object_id:
            assert got[frame, y, x] == click.object_id
        elif click.object_id == 0:
            assert got[frame, y, x] == 0
        else:
            assert got[frame, y, x] != click.object_id
    assert set(np.unique(got)) <= followed | {0}


def test_later_stroke_counts_where_strokes_overlap():
    clip, _ = moving_scene(2)
    one, two = (Scribble(0, ((10.0, 20.0), (60.0, 20.0)), i, 1) for i in (1, 2))
    assert (fresh_labels(clip, [one, two])[0, 20, 10:60] == 2).all()
    assert (fresh_labels(clip, [two, one])[0, 20, 10:60] == 1).all()


def test_object_that_begins_in_mid_clip_leaves_the_other_where_it_was():
    clip, truth = moving_scene(FRAMES)
    red = Mask.from_labels(0, (truth[0] == 1).astype(np.uint8))
    blue = Mask.from_labels(5, (truth[5] == 2).astype(np.uint8) * np.uint8(9))
    both = fresh_labels(clip, [red, blue])
    alone = fresh_labels(clip, [red])
    assert np.array_equal(both[0] == 1, truth[0] == 1)
    assert (both[5][truth[5] == 2] == 9).all()
    # What is not the new object's is still what it was: objects are followed apart.
    assert np.array_equal(both[both != 9], alone[both != 9])
    # The mask of red says nothing of blue: it may be found in frame 0 too.
    assert set(np.unique(both)) == {0, 1, 9}


def test_negative_clicks_alone_follow_nothing():
    clip, _ = moving_scene(3)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(Click(1, (20.0, 20.0), 1, positive=False), Click(0, (5.0, 5.0), 0))
        assert session.object_ids == []
        assert not session.labels(1).any()
        assert session.runtime.embedded == []
        session.add(Click(2, (20.0, 20.0), 1))
        assert session.object_ids == [1]
        assert session.labels(1)[20, 20] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Click(0, (3.0, 3.0), 255), "object id 255"),
        (lambda: Box(0, (3.0, 3.0, 9.0, 9.0), 0), "object id 0"),
        (lambda: Click(0, (96.0, 3.0), 1), "outside the frame of 96×64"),
        (lambda: Click(0, (3.0, -1.0), 1), "outside the frame of 96×64"),
        (lambda: Scribble(0, ((3.0, 3.0), (3.0, 64.0)), 1), "outside the frame of 96×64"),
        (lambda: Box(0, (100.0, 3.0, 120.0, 9.0), 1), "outside the frame of 96×64"),
        (lambda: Mask.from_labels(0, np.ones((64, 95), np.uint8)), "the mask of frame 0 is 95×64"),
        (lambda: Click(FRAMES, (3.0, 3.0), 1), "frame 8 is outside the clip"),
    ],
)
def test_wrong_reference_is_one_line_and_changes_nothing(make, message):
    clip, _ = moving_scene(FRAMES)
    good, kept = Click(0, (5.0, 5.0), 2), Click(0, (20.0, 20.0), 1)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(kept)
        before = session.labels(2)
        for edit in (
            lambda: session.add(good, make()),
            lambda: session.change(kept, make()),
            lambda: session.replace_all([make()]),
        ):
            with pytest.raises(PixelkinError, match=message) as caught:
                edit()
            assert "\n" not in str(caught.value)
        assert session.references == (kept,)
        assert np.array_equal(session.labels(2), before)
        session.undo()
        assert session.references == ()
        with pytest.raises(PixelkinError, match="nothing to undo"):
            session.undo()


def test_unknown_reference_cannot_be_removed_or_changed():
    clip, _ = moving_scene(3)
    kept, other = Click(0, (20.0, 20.0), 1), Click(1, (20.0, 20.0), 1)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(kept)
        for edit in (lambda: session.remove(other), lambda: session.change(other, kept)):
            with pytest.raises(PixelkinError, match="no such reference: Click in frame 1"):
                edit()
        assert session.references == (kept,)
