"""Clip sessions: what they answer depends on the references alone."""

import os
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import moving_scene, tiny_runtime

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Box, Click, Mask, Reference, Scribble
from pixelkin.masks import labels_from_segments
from pixelkin.media import MemoryClip
from pixelkin.models.retrieval_model import small_model
from pixelkin.runtime import EagerRuntime
from pixelkin.structures import IGNORE
from pixelkin.video import ClipSession
from pixelkin.video.following import FollowSettings
from pixelkin.video.session import check_frame, fit, upsample_logits

FRAMES = 8
TESTS = Path(__file__).resolve().parents[1]


def fresh_labels(clip, references, order=None, **options) -> np.ndarray:
    """All label maps from a session that knows nothing but these references."""
    with ClipSession(tiny_runtime(), clip, **options) as session:
        session.add(*references)
        found = {t: session.labels(t) for t in (order or range(len(clip)))}
    return np.stack([found[t] for t in sorted(found)])


def random_reference(rng: np.random.Generator, truth: np.ndarray) -> Reference:
    frames, h, w = truth.shape
    frame = int(rng.integers(frames))
    object_id = int(rng.integers(1, 4))
    x, y = float(rng.uniform(0, w)), float(rng.uniform(0, h))
    kind = rng.choice(["click", "negative", "background", "scribble", "box", "mask", "part"])
    if kind in ("click", "negative"):
        return Click(frame, (x, y), object_id, positive=bool(kind == "click"))
    if kind == "background":
        return Click(frame, (x, y), 0)
    if kind == "scribble":
        return Scribble(frame, ((x, y), (float(rng.uniform(0, w)), y)), object_id, 3)
    if kind == "box":
        return Box(frame, (x - 20, y - 15, x + 20, y + 15), object_id)
    labels = truth[frame].copy()
    labels[labels == 1] = object_id
    if kind == "part":
        labels[:, : w // 2] = IGNORE
    return Mask.from_labels(frame, labels)


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


REFERENCES = (
    Click(6, (40.0, 20.0), 1),
    Scribble(3, ((60.0, 40.0), (72.0, 52.0)), 2),
    Click(1, (60.0, 10.0), 0),
    Box(7, (30.0, 4.0, 66.0, 36.0), 3),
)


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


def test_results_that_nothing_needs_any_more_are_forgotten():
    clip, _ = moving_scene(FRAMES)
    with ClipSession(tiny_runtime(), clip) as session:
        list(session.all_labels())
        for x in range(8):
            session.replace_all([Click(3, (20.0 + x, 20.0), 1)])
            list(session.all_labels())
        assert sum(key[0] == "logits" for key in session.store) == FRAMES
        assert len(session.store) == 2 * FRAMES


def test_frames_followed_backward_are_decoded_forward():
    """Video files seek slowly: going back must not begin one scan per frame."""
    clip, _ = moving_scene(FRAMES)
    scans: list[int] = []

    class Watched(MemoryClip):
        def frames(self, start=0, stop=None, *, prefetch=0):
            scans.append(start)
            return super().frames(start, stop, prefetch=prefetch)

    with ClipSession(tiny_runtime(), Watched(list(clip.frames()))) as session:
        session.add(Click(FRAMES - 1, (60.0, 20.0), 1))
        session.labels(0)
        assert sorted(session.runtime.embedded) == list(range(FRAMES))
    assert len(scans) <= 3


def test_spilled_session_is_silent():
    clip, _ = moving_scene(FRAMES)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            spilled = fresh_labels(clip, REFERENCES, budget_mb=0.01)
        assert np.array_equal(spilled, fresh_labels(clip, REFERENCES))
    finally:
        torch.set_warn_always(False)


class Flaky(MemoryClip):
    """Frame 4 cannot be read while `broken`."""

    broken = True

    def _scan(self, start, stop):
        for index in range(start, stop):
            if index == 4 and self.broken:
                raise PixelkinError("frame 4 cannot be read")
            yield self._frames[index].copy()


def test_frame_that_failed_once_can_be_asked_for_again():
    clip, _ = moving_scene(FRAMES)
    references = [Click(0, (16.0, 16.0), 1)]
    flaky = Flaky(list(clip.frames()))
    with ClipSession(tiny_runtime(), flaky) as session:
        session.add(*references)
        for _ in range(2):
            with pytest.raises(PixelkinError, match="frame 4 cannot be read"):
                session.labels(5)
        flaky.broken = False
        assert np.array_equal(session.labels(5), fresh_labels(clip, references)[5])


def test_broken_frame_does_not_spoil_those_before_it():
    clip, _ = moving_scene(FRAMES)
    references = [Click(0, (16.0, 16.0), 1)]
    with ClipSession(tiny_runtime(), Flaky(list(clip.frames()))) as session:
        session.add(*references)
        assert np.array_equal(session.labels(3), fresh_labels(clip, references)[3])


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


def test_hundreds_of_clicks_asked_from_the_far_end():
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    clip = MemoryClip([frame] * 400)
    with ClipSession(tiny_runtime(), clip) as session:
        session.add(*(Click(t, (16, 16), 1) for t in range(400)))
        assert session.labels(399)[16, 16] == 1


FLAT = """
from pathlib import Path
import numpy as np
from tiny_model import tiny_runtime
from pixelkin.grouping.references import Mask
from pixelkin.media import MemoryClip
from pixelkin.video import ClipSession

rng = np.random.default_rng(0)
shown = [rng.integers(0, 256, (64, 96, 3), dtype=np.uint8) for _ in range(16)]
clip = MemoryClip([shown[t % 16] for t in range(2550)])
mask = np.zeros((64, 96), np.uint8)
mask[16:48, 24:64] = 1
resident = []
with ClipSession(tiny_runtime(), clip, budget_mb=2) as session:
    session.add(Mask.from_labels(0, mask))
    for t in range(len(clip)):
        session.segments(t)
        assert session.store.memory_bytes <= 2 * 2**20
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)
    assert session.store.file_bytes > 2 * 2**20, "something was spilled"
print((np.median(resident[2450:]) - np.median(resident[450:550])) / 2)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")
def test_memory_stays_flat_under_a_budget():
    # In a process of its own, over 2,000 frames, from medians of 100: what other tests left in the
    # allocator, and its habit of growing in steps, are not the session's memory.
    room = os.pathsep.join(str(path) for path in (TESTS, TESTS.parent))
    done = subprocess.run(
        [sys.executable, "-c", FLAT],
        env={**os.environ, "PYTHONPATH": room},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    growth = float(done.stdout)
    assert growth < 1.5, f"{growth:.2f} MB over 1,000 frames"
