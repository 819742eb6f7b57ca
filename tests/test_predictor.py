"""Image sessions: a clip session over one frame, nothing else."""

import numpy as np
import pytest
from tiny_model import moving_scene, tiny_runtime

from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Box, Click, Mask, Scribble
from pixelkin.masks import labels_from_segments
from pixelkin.media import MemoryClip
from pixelkin.predictor import ImageSession
from pixelkin.video import ClipSession

RED = Click(frame=0, point_xy=(16.0, 20.0), object_id=1)
BLUE = Scribble(frame=0, points_xy=((70.0, 40.0), (84.0, 55.0)), object_id=2)


@pytest.fixture
def image():
    clip, _ = moving_scene()
    return clip[0]


@pytest.fixture
def session(image):
    with ImageSession(tiny_runtime()) as session:
        session.set_image(image)
        yield session


def test_image_session_answers_what_a_clip_session_answers(session, image):
    references = (RED, BLUE, Box(0, (2.0, 4.0, 40.0, 36.0), 1), Click(0, (50.0, 50.0), 0))
    session.add(*references)
    with ClipSession(tiny_runtime(), MemoryClip([image])) as whole:
        whole.add(*references)
        assert np.array_equal(session.labels(), whole.labels(0))
    assert session.labels().dtype == np.uint8
    assert set(np.unique(session.labels())) == {0, 1, 2}
    assert session.object_ids == [1, 2]
    assert session.size_hw == image.shape[:2]


def test_image_is_embedded_once_however_much_is_asked(session):
    assert session.runtime.embedded == [0]
    for reference in (RED, BLUE):
        session.add(reference)
        session.labels()
        session.segments()
    session.undo()
    session.labels()
    assert session.runtime.embedded == [0]


def test_edits_lead_to_the_same_answer_as_fresh_references(session):
    session.add(RED)
    only_red = session.labels()
    session.add(BLUE)
    both = session.labels()
    assert not np.array_equal(only_red, both)
    session.undo()
    assert np.array_equal(session.labels(), only_red)
    session.replace_all([RED, BLUE])
    assert np.array_equal(session.labels(), both)
    session.remove(BLUE)
    assert session.references == (RED,)
    assert np.array_equal(session.labels(), only_red)
    session.change(RED, BLUE)
    assert session.references == (BLUE,)
    session.change(BLUE, RED)
    assert np.array_equal(session.labels(), only_red)


def test_segments_are_the_labels(session):
    session.add(RED, BLUE)
    assert np.array_equal(labels_from_segments(session.segments()), session.labels())


def test_mask_of_odd_size_comes_back():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (37, 51, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (37, 51)).astype(np.uint8)
    with ImageSession(tiny_runtime()) as session:
        session.set_image(image)
        session.add(Mask.from_labels(0, labels))
        assert np.array_equal(session.labels(), labels)


def test_without_references_everything_is_background(session):
    assert not session.labels().any()
    assert session.segments().object_ids == []


def test_next_image_forgets_the_references(session, image):
    session.add(RED)
    session.set_image(np.ascontiguousarray(image[:, ::-1]))
    assert session.references == ()
    with pytest.raises(PixelkinError, match="nothing to undo"):
        session.undo()


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        "photo.jpg",
    ],
)
def test_wrong_image_is_one_line_and_the_image_before_stays(session, wrong):
    session.add(RED)
    before = session.labels()
    with pytest.raises(PixelkinError, match=r"expected uint8 \(height, width, 3\)") as caught:
        session.set_image(wrong)
    assert "\n" not in str(caught.value)
    assert np.array_equal(session.labels(), before)


def test_reference_in_another_frame_is_an_error(session):
    with pytest.raises(PixelkinError, match="frame 1 is outside the clip"):
        session.add(Click(1, (3.0, 3.0), 1))
    assert session.references == ()


def test_without_an_image_an_error_says_what_to_do(image):
    session = ImageSession(tiny_runtime())
    for ask in (session.labels, session.segments, session.undo, lambda: session.add(RED)):
        with pytest.raises(PixelkinError, match="call set_image first"):
            ask()
    session.set_image(image)
    session.close()
    session.close()
    with pytest.raises(PixelkinError, match="call set_image first"):
        session.labels()


def test_memory_clip_is_a_clip():
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    kept = frames.copy()
    for given in (frames, list(frames)):
        clip = MemoryClip(given, fps=10, name="made")
        assert (len(clip), clip.size_hw, clip.fps, clip.name) == (5, (4, 6), 10, "made")
        for t in (3, 0, 4):
            assert np.array_equal(clip[t], frames[t])
        for prefetch in (0, 2):
            assert np.array_equal(np.stack(list(clip.frames(1, 4, prefetch=prefetch))), kept[1:4])
        # What a caller writes into a frame must not reach the clip.
        clip[2][:] = 0
        next(clip.frames(2))[:] = 0
        assert np.array_equal(np.stack(list(clip.frames())), kept)
        with pytest.raises(PixelkinError, match="frame 5 is outside made"):
            clip[5]


@pytest.mark.parametrize(
    ("frames", "fps", "message"),
    [
        ([], 24, "holds no frames"),
        ([np.zeros((4, 6, 3), np.uint8), np.zeros((4, 7, 3), np.uint8)], 24, "frame 1 of memory"),
        ([np.zeros((4, 6, 3), np.int64)], 24, "int64"),
        ([np.zeros((4, 6, 3), np.uint8)], 0, "fps is 0"),
    ],
)
def test_memory_clip_refuses_what_is_no_clip(frames, fps, message):
    with pytest.raises(PixelkinError, match=message):
        MemoryClip(frames, fps=fps)
