import math
from itertools import combinations

import pytest

from pixelkin.assess.name_places import Disc, place_names

ROOM = (80.0, 0.0, 900.0, 530.0)
CROWD = [
    Disc(665, 415, 6, (45, 19)),
    Disc(696, 422, 22, (54, 19)),
    Disc(699, 449, 26, (44, 19)),
    Disc(701, 454, 26, (52, 19)),
    Disc(716, 463, 28, (52, 19)),
    Disc(806, 162, 29, (114, 19)),
    Disc(728, 207, 28, (82, 19)),
]
"""Of a comparison on CamVid: three discs hide most of each other."""


def test_names_lie_on_no_disc_and_on_no_other_name() -> None:
    boxes = [place.box for place in place_names(CROWD, ROOM)]
    for left, top, right, bottom in boxes:
        assert left >= ROOM[0]
        assert top >= ROOM[1]
        assert right <= ROOM[2]
        assert bottom <= ROOM[3]
        for disc in CROWD:
            x, y = min(max(disc.x, left), right), min(max(disc.y, top), bottom)
            assert math.hypot(disc.x - x, disc.y - y) >= disc.radius
    for a, b in combinations(boxes, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3]


def test_a_name_is_nearest_to_its_own_disc_or_a_line_leads_there() -> None:
    places = place_names(CROWD, ROOM)
    for own, place in zip(CROWD, places, strict=True):
        left, top, right, bottom = place.box
        x, y = place.end_xy
        # The line ends at the name.
        assert left - 1e-9 <= x <= right + 1e-9
        assert top - 1e-9 <= y <= bottom + 1e-9
        gaps = {
            disc: math.hypot(
                disc.x - min(max(disc.x, left), right), disc.y - min(max(disc.y, top), bottom)
            ) - disc.radius
            for disc in CROWD
        }  # fmt: skip
        assert place.line or min(gaps, key=gaps.__getitem__) is own
    # Those whose middles lie under another one.
    assert all(places[i].line for i in (2, 3, 4))


def test_lines_do_not_cross() -> None:
    places = place_names(CROWD, ROOM)
    ends = [
        ((disc.x, disc.y), place.end_xy)
        for disc, place in zip(CROWD, places, strict=True)
        if place.line
    ]

    def turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
        return (b[0] - a[0]) * (c[1] - a[1]) > (b[1] - a[1]) * (c[0] - a[0])

    assert len(ends) >= 3
    for (a, b), (c, d) in combinations(ends, 2):
        assert not (turn(a, c, d) != turn(b, c, d) and turn(a, b, c) != turn(a, b, d))


def test_a_disc_alone_has_its_name_to_the_right_without_a_line() -> None:
    (place,) = place_names([Disc(300, 200, 20, (60, 18))], ROOM)
    assert place.box == (325, 191, 385, 209)
    assert not place.line


@pytest.mark.parametrize("x", [90, 890])
def test_at_the_edge_a_name_stays_in_the_room(x: float) -> None:
    (place,) = place_names([Disc(x, 200, 10, (60, 18))], ROOM)
    assert place.box[0] >= ROOM[0]
    assert place.box[2] <= ROOM[2]


def test_a_name_keeps_off_what_is_taken() -> None:
    (place,) = place_names([Disc(300, 200, 20, (60, 18))], ROOM, [(320, 150, 400, 250)])
    assert place.box[2] <= 320
