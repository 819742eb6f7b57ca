"""The DAVIS Interactive protocol: curve, robot, scribble files, session."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import comb
from skimage.morphology import disk, opening

from pixelkin.errors import PixelkinError
from pixelkin.evaluation import interactive
from pixelkin.evaluation.interactive import (
    InteractiveResult,
    Scribble,
    Scribbles,
    area_under_curve,
    evaluate_interactive,
    frame_scores,
    read_scribbles,
    score_at,
    scribble_robot,
    worst_frame,
    write_scribbles,
)
from pixelkin.evaluation.video import boundary_accuracy, region_similarity


def test_curve_by_hand() -> None:
    times, scores = (10.0, 30.0, 80.0), (0.5, 0.7, 0.8)
    # Triangle to 10 s, two slanted strips, then the last score up to 100 s.
    by_hand = (10 * 0.5 / 2 + 20 * 0.6 + 50 * 0.75 + 20 * 0.8) / 100
    assert area_under_curve(times, scores, 100.0) == pytest.approx(by_hand)
    assert score_at(times, scores, 60.0) == pytest.approx(0.7 + 0.1 * 30 / 50)
    assert score_at(times, scores, 1e6) == 0.8
    assert score_at(times, scores, 5.0) == pytest.approx(0.25)
    assert area_under_curve((), (), 60.0) == score_at((), (), 60.0) == 0
    assert area_under_curve((0.0,), (1.0,), 60.0) == 1


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 1)), min_size=1, max_size=8),
    limit=st.floats(1, 500),
)
def test_area_against_a_fine_sum(points: list[tuple[float, float]], limit: float) -> None:
    times = np.cumsum([step for step, _ in points])
    scores = [score for _, score in points]
    grid = np.linspace(0, limit, 200_001)
    fine = np.interp(grid, [0, *times], [0, *scores]).mean()
    assert area_under_curve(tuple(times), scores, limit) == pytest.approx(fine, abs=1e-4)


def test_curve_mistakes() -> None:
    with pytest.raises(PixelkinError, match="2 times for 1"):
        area_under_curve((1.0, 2.0), (0.5,), 10.0)
    with pytest.raises(PixelkinError, match="ascend"):
        score_at((2.0, 1.0), (0.5, 0.6), 10.0)
    with pytest.raises(PixelkinError, match="time limit"):
        area_under_curve((1.0,), (0.5,), 0.0)


def test_robot_draws_along_a_bar() -> None:
    truth = np.zeros((100, 200), np.uint8)
    truth[40:60, 20:180] = 7
    (stroke,) = scribble_robot(np.zeros_like(truth), truth)
    assert stroke.object_id == 7
    assert stroke.path_xy.shape == (1000, 2)
    xy = stroke.pixels_xy(truth.shape)
    assert (truth[xy[:, 1], xy[:, 0]] == 7).all()
    assert np.ptp(xy[:, 0]) > 120
    assert np.abs(xy[100:-100, 1] - 49.5).max() <= 2


def test_robot_marks_missed_and_invented_pixels() -> None:
    truth = np.zeros((120, 160), np.uint8)
    truth[20:60, 20:60], truth[70:110, 90:150] = 1, 2
    found = truth.copy()
    found[70:110, 90:150] = 1  # object 2 taken for object 1
    found[5:15, 80:150] = 2  # object 2 invented on background
    strokes = scribble_robot(found, truth)
    assert [s.object_id for s in strokes] == [0, 2]
    for stroke in strokes:
        x, y = stroke.pixels_xy(truth.shape).T
        assert (truth[y, x] == stroke.object_id).all()
        assert (found[y, x] != stroke.object_id).all()
    assert [s.object_id for s in scribble_robot(found, truth, object_ids=[2])] == [2]
    truth[found != truth] = 255
    assert scribble_robot(found, truth) == []


def test_robot_draws_every_part_and_prunes_specks() -> None:
    truth = np.zeros((150, 300), np.uint8)
    truth[20:50, 20:280], truth[90:120, 100:180], truth[140:142, 5:7] = 1, 1, 1
    strokes = scribble_robot(np.zeros_like(truth), truth)
    assert len(strokes) == 2
    assert np.ptp(strokes[0].path_xy[:, 0]) > np.ptp(strokes[1].path_xy[:, 0])
    assert scribble_robot(truth, truth) == []
    # Too small to be opened: parts of 1, 3 and 4 pixels, of which only the last is long enough.
    few = np.zeros((40, 40), np.uint8)
    few[5, 5], few[10, 10:13], few[20, 20:24] = 1, 1, 1
    (stroke,) = scribble_robot(np.zeros_like(few), few)
    assert set(stroke.pixels_xy(few.shape)[:, 1]) == {20}
    # A thin line is opened by less than its area asks for, so that it is still drawn.
    line = np.zeros((100, 300), np.uint8)
    line[50:53, 10:290] = 1
    assert len(scribble_robot(np.zeros_like(line), line)) == 1


@pytest.mark.parametrize(("side_px", "radius_px"), [(100, 7), (20, 1), (300, 16)])
def test_opening_radius(side_px: int, radius_px: int) -> None:
    region = np.zeros((420, 420), bool)
    region[50 : 50 + side_px, 50 : 50 + side_px] = True
    region[20:23, 20:23] = True  # an area of 9 px does not change a radius above
    expected = opening(region, disk(radius_px))
    assert np.array_equal(interactive._open(region), expected)
    assert int(min(0.075 * np.sqrt(region.sum()), 16)) == radius_px


def test_longest_path_against_all_pairs() -> None:
    # A cross with arms of 9, 5, 4 and 2: the longest path joins the two longest arms.
    cross = np.zeros((30, 30), bool)
    cross[15, 6:15], cross[15, 16:21], cross[11:15, 15], cross[16:18, 15] = True, True, True, True
    cross[15, 15] = True
    path = interactive._longest_path(np.argwhere(cross))
    assert sorted(map(tuple, path)) == [(15, x) for x in range(6, 21)]
    ring = cv2.circle(np.zeros((60, 60), np.uint8), (30, 30), 20, 1, 1) > 0
    around = interactive._longest_path(np.argwhere(ring))
    assert len(around) > 0.9 * ring.sum()
    assert np.abs(np.diff(around, axis=0)).max() == 1


def test_bezier_against_binomials_and_stays_finite() -> None:
    points = np.random.default_rng(0).random((7, 2))
    t = np.linspace(0, 1, 1000)
    slow = sum(
        np.outer(comb(6, k) * t**k * (1 - t) ** (6 - k), point) for k, point in enumerate(points)
    )
    np.testing.assert_allclose(interactive._bezier(points), slow, atol=1e-12)
    long = interactive._bezier(np.stack([np.linspace(0, 1, 2500)] * 2, axis=1))
    np.testing.assert_allclose(long[:, 0], t, atol=1e-8)


def test_robot_on_real_frames(shared_data: Path) -> None:
    for name in ("bmx-trees", "libby", "horsejump-high"):
        folder = shared_data / "davis2016/Annotations/480p" / name
        truth = (cv2.imread(str(folder / "00020.png"), 0) > 0).astype(np.uint8)
        found = cv2.imread(str(shared_data / "davis2016_pml_masks" / name / "00020.png"), 0) > 0
        strokes = scribble_robot(found.astype(np.uint8), truth)
        again = scribble_robot(found.astype(np.uint8), truth)
        assert strokes
        for stroke, same in zip(strokes, again, strict=True):
            assert np.array_equal(stroke.path_xy, same.path_xy)
            x, y = stroke.pixels_xy(truth.shape).T
            # A Bézier curve cuts bends, so it may leave the error, yet it starts and ends in it.
            ends = [0, -1]
            assert (truth[y[ends], x[ends]] == stroke.object_id).all()
            assert (found[y[ends], x[ends]] != stroke.object_id).all()


@settings(max_examples=30, deadline=None)
@given(
    data=st.dictionaries(
        st.integers(0, 4),
        st.lists(
            st.tuples(
                arrays(float, st.tuples(st.integers(1, 5), st.just(2)), elements=st.floats(0, 1)),
                st.integers(0, 254),
                st.floats(0, 1e6),
            ),
            min_size=1,
            max_size=3,
        ),
        max_size=5,
    )
)
def test_scribbles_survive_the_file(
    data: dict[int, list[tuple[np.ndarray, int, float]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("scribbles") / "001.json"
    given_strokes = {
        k: [Scribble(p, i, start, start + 1.5) for p, i, start in v] for k, v in data.items()
    }
    write_scribbles(path, given_strokes, frame_count=5, sequence="drawn")
    plain = json.loads(path.read_text())
    assert plain["sequence"] == "drawn"
    assert len(plain["scribbles"]) == 5
    back = read_scribbles(path)
    assert back.keys() == given_strokes.keys()
    for frame, strokes in given_strokes.items():
        for a, b in zip(strokes, back[frame], strict=True):
            assert np.array_equal(a.path_xy, b.path_xy)
            assert (a.object_id, a.start_time, a.end_time) == (
                b.object_id,
                b.start_time,
                b.end_time,
            )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"scribbles": 3}',
        '{"scribbles": [[{"path": [[0.5]], "object_id": 1}]]}',
        '{"scribbles": [[{"path": [[0.5, 1.5]], "object_id": 1}]]}',
        '{"scribbles": [[{"path": [[0.5, 0.5]]}]]}',
        '{"scribbles": [[{"path": [[0.5, 0.5]], "object_id": "dog"}]]}',
        '{"scribbles": [[{"path": [[0.5, 0.5]], "object_id": 255}]]}',
        '{"scribbles": [["stroke"]]}',
        '{"scribbles": [[{"path": [[0.5, NaN]], "object_id": 1}]]}',
    ],
)
def test_broken_scribble_files_are_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "001.json"
    path.write_text(text)
    with pytest.raises(PixelkinError, match="no DAVIS scribbles"):
        read_scribbles(path)


def test_scribble_file_mistakes(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError, match="cannot read"):
        read_scribbles(tmp_path / "none.json")
    stroke = Scribble(np.zeros((1, 2)), 1)
    with pytest.raises(PixelkinError, match="frame 7"):
        write_scribbles(tmp_path / "a.json", {7: [stroke]}, frame_count=5, sequence="a")
    assert not (tmp_path / "a.json").exists()


def _clip() -> np.ndarray:
    truths = np.zeros((6, 80, 120), np.uint8)
    for i in range(6):
        truths[i, 20:60, 10 + 10 * i : 50 + 10 * i] = 1
        truths[i, 65:78, 20:100] = 2
    return truths


def _first(truths: np.ndarray) -> Scribbles:
    return {0: scribble_robot(np.zeros_like(truths[0]), truths[0], object_ids=[1, 2])}


class _Clock:
    """Seconds that pass only inside a prediction."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_perfect_predictor_scores_one() -> None:
    truths = _clip()
    result = evaluate_interactive(lambda _: truths, truths, _first(truths), clock=_Clock())
    assert result.scores == (1.0,)
    assert result.area == 1
    assert result.to_json()["J&F@60s"] == 1
    assert result.limit_s == 8 * 30 * 2
    assert json.loads(json.dumps(result.to_json()))["AUC"] == 1


def _repairing(truths: np.ndarray, clock: _Clock, seconds: float) -> InteractiveResult:
    def predict(scribbles: Scribbles) -> list[np.ndarray]:
        clock.now += seconds
        return [t if i in scribbles else np.zeros_like(t) for i, t in enumerate(truths)]

    return evaluate_interactive(predict, truths, _first(truths), clock=clock)


def test_each_interaction_repairs_one_frame() -> None:
    truths = _clip()
    result = _repairing(truths, _Clock(), 10.0)
    assert result.times == tuple(10.0 * k for k in range(1, 7))
    assert sorted(result.frames) == list(range(6))
    assert result.frames[0] == 0
    np.testing.assert_allclose(result.scores, np.arange(1, 7) / 6)
    assert set(result.scribbles) == set(range(6))
    by_hand = (30 * 1 + (480 - 60)) / 480
    assert result.area == pytest.approx(by_hand)


def test_an_interaction_past_the_limit_does_not_count() -> None:
    result = _repairing(_clip(), _Clock(), 200.0)
    assert result.times == (200.0, 400.0)
    assert _repairing(_clip(), _Clock(), 500.0).area == 0


def test_predictor_sees_all_strokes_and_cannot_change_them() -> None:
    truths, seen = _clip(), []

    def predict(scribbles: Scribbles) -> list[np.ndarray]:
        seen.append(sorted(scribbles))
        for strokes in scribbles.values():
            strokes.clear()  # type: ignore[attr-defined]
        return [np.zeros_like(t) for t in truths]

    first = _first(truths)
    result = evaluate_interactive(predict, truths, first, max_interactions=3, clock=_Clock())
    assert [len(frames) for frames in seen] == [1, 2, 3]
    assert len(first[0]) == 2
    assert all(result.scribbles.values())
    assert result.scores == (0.0, 0.0, 0.0)


def test_frame_scores_and_worst_frame() -> None:
    truths = _clip()
    found = truths.copy()
    found[3] = np.roll(found[3], 8, axis=1)
    found[5, 20:60] = 0
    truths[2, :10], found[2, :10] = 255, 1
    scores = frame_scores(found, truths)
    for i in range(6):
        values = []
        for k in (1, 2):
            mask, truth = (found[i] == k) & (truths[i] != 255), truths[i] == k
            values += [region_similarity(mask, truth), boundary_accuracy(mask, truth)]
        assert scores[i] == pytest.approx(np.mean(values))
    assert scores[2] == 1
    assert worst_frame(scores, ()) == np.argmin(scores)
    assert worst_frame(scores, {int(np.argmin(scores))}) == np.argsort(scores)[1]
    assert worst_frame(scores, range(6)) is None


def test_session_mistakes() -> None:
    truths = _clip()
    with pytest.raises(PixelkinError, match="5 predicted label maps for 6 frames"):
        evaluate_interactive(lambda _: truths[:5], truths, _first(truths))
    with pytest.raises(PixelkinError, match=r"frame 0: .* \(80, 60\)"):
        evaluate_interactive(lambda _: truths[:, :, :60], truths, _first(truths))
    with pytest.raises(PixelkinError, match=r"frames \[\]"):
        evaluate_interactive(lambda _: truths, truths, {})
    with pytest.raises(PixelkinError, match="no object"):
        evaluate_interactive(lambda _: truths, np.zeros_like(truths), _first(truths))
    with pytest.raises(PixelkinError, match="same size"):
        scribble_robot(truths[0], truths[0, :40])
