"""Clip sessions: what they answer depends on the references alone."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from session_cases import FRAMES, REFERENCES, fresh_labels, random_reference
from tiny_model import moving_scene, tiny_runtime

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Click, Mask, Reference
from pixelkin.masks import labels_from_segments
from pixelkin.media import MemoryClip
from pixelkin.models.retrieval_model import small_model
from pixelkin.runtime import EagerRuntime
from pixelkin.video import ClipSession
from pixelkin.video.following import FollowSettings
from pixelkin.video.session import check_frame, fit, upsample_logits


@pytest.mark.parametrize("seed", range(4))
def test_edits_in_any_order_give_what_a_fresh_session_gives(seed):
    """Add, change, remove and undo at random, asking in between, against a list of references."""
    rng = np.random.default_rng(seed)
    clip, truth = moving_scene(FRAMES)
    settings = FollowSettings(memory_every=int(rng.integers(1, 5)), memory_frames=2, anchors=2)
    budget_mb = 0.02 if seed % 2 else 64
    model: list[Reference] = []
    past: list[list[Reference]] = []
    with ClipSession(tiny_runtime(), clip, settings=settings, budget_mb=budget_mb) as session:
        for _ in range(14):
            edit = rng.choice(["add", "add", "change", "remove", "undo"])
            if edit == "undo":
                if past:
                    session.undo()
                    model = past.pop()
            elif edit == "add" or not model:
                new = random_reference(rng, truth)
                past.append(list(model))
                model.append(new)
                session.add(new)
            else:
                # Of equal references the first is meant.
                place = model.index(model[int(rng.integers(len(model)))])
                past.append(list(model))
                if edit == "change":
                    new = random_reference(rng, truth)
                    session.change(model[place], new)
                    model[place] = new
                else:
                    session.remove(model[place])
                    del model[place]
            assert session.references == tuple(model)
            for frame in rng.integers(FRAMES, size=2):
                session.labels(int(frame))
        order = [int(t) for t in rng.permutation(FRAMES)]
        asked = {t: session.labels(t) for t in order}
        assert (session.store.file_bytes > 0) == (budget_mb < 1)
        counts = np.bincount(session.runtime.embedded, minlength=FRAMES)
        assert counts.max() <= 1
    got = np.stack([asked[t] for t in range(FRAMES)])
    assert np.array_equal(got, fresh_labels(clip, model, settings=settings))


@pytest.mark.parametrize("budget_mb", [0.01, 64])
def test_answers_do_not_depend_on_the_order_of_questions(budget_mb):
    clip, _ = moving_scene(FRAMES)
    expected = fresh_labels(clip, REFERENCES)
    assert len({frame.tobytes() for frame in expected}) > 5
    orders = [list(range(FRAMES))[::-1], [7, 0, 5, 4, 6, 1, 2, 3], [3, 6, 0, 7]]
    for order in orders:
        got = fresh_labels(clip, REFERENCES, order, budget_mb=budget_mb)
        assert np.array_equal(got, expected[sorted(order)])


def test_every_frame_is_embedded_once_whatever_happens():
    clip, truth = moving_scene(FRAMES)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(Mask.from_labels(5, truth[5]))
        for frame in (7, 5, 2, 0, 6):
            session.labels(frame)
        session.add(Click(7, (10.0, 10.0), 3), Click(0, (50.0, 50.0), 0))
        list(session.all_labels())
        session.undo()
        list(session.all_labels())
        assert sorted(session.runtime.embedded) == list(range(FRAMES))


def test_whole_mask_needs_no_embedding():
    clip, truth = moving_scene(FRAMES)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(Mask.from_labels(4, truth[4]))
        assert np.array_equal(session.labels(4), truth[4])
        assert session.runtime.embedded == []
        session.labels(6)
        assert {4, 5, 6} <= set(session.runtime.embedded)


@pytest.mark.parametrize("frame", [-1, FRAMES])
def test_frame_outside_the_clip_is_an_error(frame):
    clip, _ = moving_scene(FRAMES)
    with ClipSession(tiny_runtime(), clip) as session:
        for ask in (session.labels, session.segments, session.embed):
            with pytest.raises(PixelkinError, match="numbered 0 to 7"):
                ask(frame)
    check_frame(FRAMES - 1, FRAMES)


@pytest.mark.parametrize("size_hw", [(33, 47), (50, 97), (16, 16), (5, 9)])
def test_frames_of_any_size(size_hw):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (4, *size_hw, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, size_hw).astype(np.uint8)
    x, y = size_hw[1] - 1.0, size_hw[0] - 1.0
    got = fresh_labels(MemoryClip(frames), [Mask.from_labels(1, labels), Click(3, (x, y), 5)])
    assert got.shape == (4, *size_hw)
    assert np.array_equal(got[1] == 1, labels == 1)
    assert np.array_equal(got[1] == 2, labels == 2)
    assert got[3, -1, -1] == 5


def test_large_frames_are_seen_smaller_and_answered_at_full_size():
    clip, truth = moving_scene(3)
    h, w = clip.size_hw
    with ClipSession(tiny_runtime(), clip, max_pixels=h * w // 4) as session:
        assert session.work_hw == (h // 2, w // 2)
        session.add(Mask.from_labels(0, truth[0]), Click(1, (w - 0.5, h - 0.5), 2))
        assert session.labels(2).shape == (h, w)
        assert np.array_equal(session.labels(0) == 1, truth[0] == 1)
        assert session.labels(1)[h - 1, w - 1] == 2


def test_fitting_keeps_the_shape_and_never_enlarges():
    assert fit((480, 854), 480 * 864) == (480, 854)
    assert fit((1080, 1920), 480 * 864) == (482, 858)
    assert fit((1, 5000), 100) == (1, 707)


def test_segments_are_the_labels_and_all_labels_are_each():
    clip, _ = moving_scene(4)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(*REFERENCES[1:2], Click(0, (16.0, 16.0), 1))
        every = list(session.all_labels())
        for t, labels in enumerate(every):
            assert np.array_equal(labels, session.labels(t))
            assert np.array_equal(labels_from_segments(session.segments(t)), labels)


def test_logits_are_upsampled_bilinearly_about_pixel_centres():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 6)).astype(np.float16)
    got = upsample_logits(logits, (13, 22))
    for y in range(13):
        for x in range(22):
            v, u = (y + 0.5) / 4 - 0.5, (x + 0.5) / 4 - 0.5
            value = 0.0
            for i in (int(np.floor(v)), int(np.floor(v)) + 1):
                for j in (int(np.floor(u)), int(np.floor(u)) + 1):
                    at = logits[min(max(i, 0), 3), min(max(j, 0), 5)]
                    value += float(at) * (1 - abs(v - i)) * (1 - abs(u - j))
            assert got[y, x] == pytest.approx(value, abs=1e-5)


def test_network_of_the_shipped_shape_keeps_the_promise():
    torch.manual_seed(0)
    runtime = EagerRuntime(small_model())
    clip, truth = moving_scene(5)
    references = [Mask.from_labels(1, truth[1]), Click(3, (80.0, 10.0), 0)]

    def answers(order):
        with ClipSession(runtime, clip, budget_mb=0.1) as session:
            session.add(*references)
            return {t: session.labels(t) for t in order}

    forward, mixed = answers(range(5)), answers([4, 0, 2, 3, 1])
    assert np.array_equal(forward[1], truth[1])
    for t in range(5):
        assert np.array_equal(forward[t], mixed[t])
    assert any(not np.array_equal(a, b) for a, b in pairwise(forward.values()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_session_runs_on_a_gpu():
    clip, truth = moving_scene(4)
    runtime = tiny_runtime()
    runtime.device = torch.device("cuda")
    runtime.model.to("cuda")
    with ClipSession(runtime, clip) as session:
        session.add(Mask.from_labels(0, truth[0]), Click(3, (20.0, 20.0), 3))
        on_gpu = np.stack(list(session.all_labels()))
    on_cpu = fresh_labels(clip, [Mask.from_labels(0, truth[0]), Click(3, (20.0, 20.0), 3)])
    assert (on_gpu == on_cpu).mean() > 0.99
