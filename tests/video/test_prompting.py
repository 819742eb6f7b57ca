"""What is marked of one object: against a loop that decides pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelkin.grouping.references import Box, Click, Mask, Scribble, rasterise
from pixelkin.structures import IGNORE
from pixelkin.video.prompting import BOX_STRENGTH, CLICK_RADIUS_PX, prompt_for, scaled, speaks_of

SIZE = (20, 24)


def exact_by_loop(references, object_id) -> np.ndarray:
    """Later strokes, then later areas, decide each pixel."""
    out = np.full(SIZE, IGNORE, np.uint8)
    for y in range(SIZE[0]):
        for x in range(SIZE[1]):
            area, stroke = IGNORE, IGNORE
            for r in references:
                if isinstance(r, Mask):
                    label = r.labels[y, x]
                    if label == object_id:
                        area = 1
                    elif label not in (0, IGNORE) or (
                        label == 0 and (object_id in r.object_ids or not r.object_ids)
                    ):
                        area = 0
                elif isinstance(r, Box):
                    x0, y0, x1, y1 = r.box_xyxy
                    inside = x0 <= x + 0.5 < x1 and y0 <= y + 0.5 < y1
                    if r.object_id == object_id and not inside:
                        area = 0
                elif isinstance(r, Click):
                    if (int(r.point_xy[0]), int(r.point_xy[1])) != (x, y):
                        continue
                    if r.positive:
                        stroke = int(r.object_id == object_id)
                    elif r.object_id in (0, object_id):
                        stroke = 0
                elif rasterise(r, SIZE)[y, x] != IGNORE:
                    stroke = int(r.object_id == object_id)
            out[y, x] = stroke if stroke != IGNORE else area
    return out


@pytest.mark.parametrize("seed", range(8))
def test_exact_marks_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    references = []
    for _ in range(6):
        object_id = int(rng.integers(1, 4))
        x, y = float(rng.uniform(0, SIZE[1])), float(rng.uniform(0, SIZE[0]))
        kind = rng.integers(5)
        if kind == 0:
            references.append(Click(0, (x, y), object_id, positive=bool(rng.random() < 0.5)))
        elif kind == 1:
            references.append(Click(0, (x, y), 0))
        elif kind == 2:
            references.append(Scribble(0, ((x, y), (3.0, 3.0)), int(rng.integers(0, 4)), 2))
        elif kind == 3:
            references.append(Box(0, (x - 6, y - 4, x + 6, y + 4), object_id))
        else:
            labels = rng.choice([0, 1, 2, IGNORE], SIZE).astype(np.uint8)
            references.append(Mask.from_labels(0, labels))
    for object_id in (1, 2, 3):
        prompt = prompt_for(references, object_id, SIZE)
        expected = exact_by_loop(references, object_id)
        assert np.array_equal(prompt.exact, expected)
        # The discs fill only what no stroke marks, and never take an exact stroke away.
        clicks = [r for r in references if isinstance(r, Click)]
        near = np.zeros(SIZE, bool)
        ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
        for click in clicks:
            x, y = int(click.point_xy[0]), int(click.point_xy[1])
            near |= (xs - x) ** 2 + (ys - y) ** 2 <= (CLICK_RADIUS_PX + 1) ** 2
        for box in [r for r in references if isinstance(r, Box) and r.object_id == object_id]:
            core = rasterise(box, SIZE) == object_id
            near |= core
            said = (expected != IGNORE) & core
            assert np.isin(prompt.marks[core & ~said], (0, 1)).all()
        assert np.array_equal(prompt.marks[~near], expected[~near])
        assert prompt.boxed == any(
            isinstance(r, Box) and r.object_id == object_id for r in references
        )
        assert prompt.strength == (expected == 1).sum() + BOX_STRENGTH * prompt.boxed
        assert prompt.is_whole == (expected != IGNORE).all()


def test_click_marks_a_disc_and_answers_for_one_pixel():
    prompt = prompt_for([Click(0, (10.7, 8.2), 5)], 5, SIZE)
    assert (prompt.exact == 1).sum() == 1
    assert prompt.exact[8, 10] == 1
    ys, xs = np.nonzero(prompt.marks == 1)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (5, 11, 7, 13)


def test_disc_of_a_later_click_lies_above_but_not_on_the_earlier_pixel():
    prompt = prompt_for([Click(0, (10.0, 8.0), 1), Click(0, (11.0, 8.0), 2)], 1, SIZE)
    assert prompt.marks[8, 10] == 1
    assert prompt.marks[8, 11] == 0
    assert prompt.marks[8, 9] == 0


def test_background_of_a_mask_does_not_forbid_other_objects():
    mask = Mask.from_labels(0, np.pad(np.full((4, 4), 2, np.uint8), ((2, 14), (3, 17))))
    own, other = prompt_for([mask], 2, SIZE), prompt_for([mask], 3, SIZE)
    assert own.is_whole
    assert set(np.unique(other.marks)) == {0, IGNORE}
    assert np.array_equal(other.marks == 0, mask.labels == 2)


def test_box_forbids_its_outside_and_marks_a_core_as_a_guess():
    box = Box(0, (4.0, 2.0, 12.0, 9.0), 1)
    prompt = prompt_for([box], 1, SIZE)
    expected = np.zeros(SIZE, np.uint8)
    expected[2:9, 4:12] = IGNORE
    assert np.array_equal(prompt.exact, expected)
    core = rasterise(box, SIZE) == 1
    assert 1 <= core.sum() < 20
    assert np.array_equal(prompt.marks, np.where(core, 1, expected))
    assert (prompt_for([box], 2, SIZE).marks == IGNORE).all()
    assert prompt.boxed
    assert prompt.strength == BOX_STRENGTH


def test_the_core_of_a_box_never_contradicts_a_mask():
    box = Box(0, (4.0, 2.0, 12.0, 9.0), 1)
    whole = Mask.from_labels(0, np.eye(*SIZE, dtype=np.uint8))
    prompt = prompt_for([whole, box], 1, SIZE)
    assert prompt.is_whole
    assert np.array_equal(prompt.marks, prompt.exact)


def test_who_is_spoken_of():
    mask = Mask.from_labels(0, np.array([[0, 1, 7, IGNORE]], np.uint8))
    assert [i for i in range(1, 9) if speaks_of(mask, i)] == [1, 7]
    assert [i for i in range(1, 9) if speaks_of(Click(0, (0.0, 0.0), 4, positive=False), i)] == [4]
    assert all(speaks_of(Click(0, (0.0, 0.0), 0), i) for i in (1, 254))
    assert all(speaks_of(Scribble(0, ((0.0, 0.0),), 0), i) for i in (1, 254))
    assert not speaks_of(Box(0, (0.0, 0.0, 2.0, 2.0), 3), 2)


def test_marks_of_a_scaled_frame_are_drawn_anew_so_that_a_click_never_vanishes():
    references = [Click(0, (301.5, 200.5), 1), Click(0, (20.5, 20.5), 2)]
    prompt = prompt_for(references, 1, (480, 640), (48, 64))
    assert prompt.exact.shape == (480, 640)
    assert prompt.exact[200, 301] == 1
    assert (prompt.exact != IGNORE).sum() == 2
    assert prompt.marks.shape == (48, 64)
    assert prompt.marks[20, 30] == 1
    assert prompt.marks[2, 2] == 0


@given(
    height=st.integers(8, 400),
    width=st.integers(8, 400),
    scale=st.floats(0.1, 1.0),
    x=st.floats(0, 1, exclude_max=True),
    y=st.floats(0, 1, exclude_max=True),
)
def test_scaled_references_stay_inside_the_scaled_frame(height, width, scale, x, y):
    work_hw = (max(1, int(height * scale)), max(1, int(width * scale)))
    click = Click(0, (x * width, y * height), 1)
    labels = rasterise(scaled(click, (height, width), work_hw), work_hw)
    assert (labels == 1).sum() == 1
    stroke = Scribble(0, (click.point_xy, (0.0, 0.0)), 1)
    assert (rasterise(scaled(stroke, (height, width), work_hw), work_hw) == 1).any()


def test_a_mask_without_objects_says_that_all_are_gone():
    empty = Mask.from_labels(0, np.zeros(SIZE, np.uint8))
    silent = Mask.from_labels(0, np.full(SIZE, IGNORE, np.uint8))
    assert speaks_of(empty, 3)
    assert not speaks_of(silent, 3)
    assert (prompt_for([empty], 3, SIZE).exact == 0).all()


def test_a_box_counts_more_than_a_click_and_less_than_a_mask():
    box = prompt_for([Box(0, (4, 4, 16, 16), 1)], 1, SIZE)
    click = prompt_for([Click(0, (8, 8), 1)], 1, SIZE)
    mask = prompt_for([Mask.from_labels(0, np.ones(SIZE, np.uint8))], 1, SIZE)
    assert click.strength < box.strength < mask.strength
