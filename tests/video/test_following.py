"""Paths and the follower: a mask is a function of its path, whatever was asked before."""

import numpy as np
import pytest
import torch
from tiny_model import moving_scene, tiny_runtime

from pixelkin.grouping.evidence import parts_of
from pixelkin.grouping.references import Click, Mask
from pixelkin.structures import IGNORE
from pixelkin.tracking import frame_cells
from pixelkin.video.following import SURE, Follower, FollowSettings, Path, Plan, _as_map
from pixelkin.video.prompting import Prompt, prompt_for
from pixelkin.video.store import ArrayStore


def prompt(marked: int) -> Prompt:
    marks = np.full((4, 40), IGNORE, np.uint8)
    marks.flat[:marked] = 1
    return Prompt(marks, marks)


def frames_of(path: Path) -> list[int]:
    return [frame for frame, _ in path.anchors]


def test_seed_is_the_frame_with_most_marks_and_of_equals_the_first():
    assert Plan(1, {9: prompt(3), 2: prompt(7), 5: prompt(7)}).seed == 2
    assert Plan(1, {9: prompt(8), 2: prompt(7)}).seed == 9


@pytest.mark.parametrize(
    ("frame", "anchors", "step"),
    [
        (10, [10], 1),  # the seed
        (12, [10], 1),
        (13, [10], 1),  # as near to 16: the one nearer the seed
        (14, [10, 16], -1),
        (16, [10, 16], 1),
        (99, [10, 16, 20], 1),
        (8, [10], -1),
        (7, [10], -1),  # as near to 4
        (6, [10, 4], 1),
        (4, [10, 4], 1),
        (0, [10, 4], -1),
    ],
)
def test_paths(frame, anchors, step):
    plan = Plan(1, {4: prompt(1), 10: prompt(9), 16: prompt(2), 20: prompt(3)})
    path = plan.path_to(frame)
    assert frames_of(path) == anchors
    if frame != path.start:
        assert path.step == step
        assert (frame - path.start) * path.step > 0


def test_path_by_definition_for_random_anchors():
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames = sorted(int(f) for f in rng.choice(30, size=rng.integers(1, 6), replace=False))
        plan = Plan(1, {f: prompt(int(rng.integers(1, 30))) for f in frames})
        for frame in range(30):
            path = plan.path_to(frame)
            nearest = min(abs(a - frame) for a in frames)
            assert abs(path.start - frame) == nearest
            low, high = sorted((plan.seed, path.start))
            passed = [a for a in frames if low <= a <= high]
            assert sorted(frames_of(path)) == passed
            assert frames_of(path)[0] == plan.seed
            steps = plan.approach(path)
            assert (steps is None) == (path.start == plan.seed)
            if steps is not None:
                assert steps.anchors == path.anchors[:-1]
                assert (path.start - steps.start) * steps.step > 0


def test_digest_changes_with_marks_alone():
    one = Plan(1, {0: prompt(3)})
    assert one.digests == Plan(1, {0: prompt(3)}).digests
    assert one.digests != Plan(1, {0: prompt(4)}).digests


def test_map_is_the_inverse_of_parts():
    values = torch.randn(1, 1, 12, 20)
    assert torch.equal(_as_map(parts_of(values), (3, 5)), values[0, 0])


def follower_on(clip, settings=None, store=None):
    runtime = tiny_runtime()
    cells = {}

    def cells_of(frame):
        if frame not in cells:
            with torch.inference_mode():
                cells[frame] = frame_cells(runtime.embed(clip[frame]))
        return cells[frame]

    return Follower(
        runtime, cells_of, store or ArrayStore(2**24), settings or FollowSettings(memory_every=2)
    )


def plan_on(clip, truth, *references) -> Plan:
    frames = sorted({r.frame for r in references})
    return Plan(
        1,
        {f: prompt_for([r for r in references if r.frame == f], 1, clip.size_hw) for f in frames},
    )


@pytest.mark.parametrize(
    "settings",
    [
        FollowSettings(),
        FollowSettings(memory_every=1, memory_frames=2, anchors=1),
        FollowSettings(memory_every=0),
        FollowSettings(memory_every=2, memory_frames=0, anchors=2),
    ],
)
def test_logits_do_not_depend_on_what_was_asked_before(settings):
    clip, truth = moving_scene(8)
    plan = plan_on(
        clip,
        truth,
        Click(2, (24.0, 20.0), 1),
        Mask.from_labels(5, (truth[5] == 1).astype(np.uint8)),
        Click(7, (44.0, 20.0), 1),
    )
    forward = follower_on(clip, settings)
    expected = {t: forward.logits(plan, t) for t in range(8)}
    mixed = follower_on(clip, settings)
    for t in (0, 7, 3, 6, 1, 5, 2, 4):
        assert np.array_equal(mixed.logits(plan, t), expected[t])
    for t in (6, 0):
        assert np.array_equal(follower_on(clip, settings).logits(plan, t), expected[t])


def test_marks_are_sure_in_the_logits():
    clip, truth = moving_scene(2)
    marks = (truth[0] == 1).astype(np.uint8)
    logits = follower_on(clip).logits(plan_on(clip, truth, Mask.from_labels(0, marks)), 0)
    assert logits.dtype == np.float16
    assert np.array_equal(logits, np.where(marks[::4, ::4] == 1, SURE, -SURE))


def test_a_later_anchor_changes_nothing_before_the_middle():
    clip, truth = moving_scene(8)
    seed = Mask.from_labels(0, (truth[0] == 1).astype(np.uint8))
    one = plan_on(clip, truth, seed)
    two = plan_on(clip, truth, seed, Click(6, (80.0, 50.0), 1))
    follower = follower_on(clip)
    before = [follower.logits(one, t) for t in range(8)]
    after = [follower.logits(two, t) for t in range(8)]
    for t in range(4):
        assert np.array_equal(before[t], after[t])
    assert any(not np.array_equal(before[t], after[t]) for t in range(4, 8))


def test_anchors_beyond_the_limit_are_forgotten_but_not_the_seed():
    clip, truth = moving_scene(8)
    plan = plan_on(
        clip,
        truth,
        Mask.from_labels(0, (truth[0] == 1).astype(np.uint8)),
        *(Click(f, (20.0 + 4 * f, 20.0), 1) for f in (2, 4, 6)),
    )
    path = plan.path_to(7)
    assert frames_of(path) == [0, 2, 4, 6]
    for limit, expected in ((1, [0]), (2, [0, 6]), (3, [0, 4, 6]), (9, [0, 2, 4, 6])):
        follower = follower_on(clip, FollowSettings(memory_every=0, anchors=limit))
        seen = []
        follower.logits(plan, 6)
        cells_of = follower.cells_of
        follower.cells_of = lambda f, seen=seen, real=cells_of: (seen.append(f), real(f))[1]
        follower._remembered(plan, path, 7)
        assert seen == expected
