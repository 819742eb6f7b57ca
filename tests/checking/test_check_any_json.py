"""Whatever stands in a JSON, a check reports it and goes on."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_sets import coco_content, problems_of, write_coco
from test_check_panoptic_labelme import labelme_content, panoptic_content, write_panoptic

JUNK = st.sampled_from(
    [None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], [None],
     [{}], {"size": None}, {"size": [0, 5], "counts": ""}, {"size": [60, 80], "counts": [1, "a"]},
     {"size": [60, 80], "counts": "ü"}, {"size": [60, 80], "counts": None}, [1, 2], [[1, 2, 3]],
     "../..", "a\0b", [10**400] * 6, [[10**400] * 6]]
)  # fmt: skip


def paths_of(content: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found = []
    for key, value in inner:
        found.append((*here, key))
        if isinstance(value, dict | list):
            found += paths_of(value, (*here, key))
    return found


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    result = copy.deepcopy(content)
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


@pytest.mark.parametrize("name", ["coco", "panoptic", "labelme"])
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_junk_anywhere_never_stops_a_check(name: str, data: st.DataObject, tmp_path: Path) -> None:
    sound = {"coco": coco_content(), "panoptic": panoptic_content(), "labelme": labelme_content(1)}
    content = changed(
        sound[name], data.draw(st.sampled_from(paths_of(sound[name]))), data.draw(JUNK)
    )
    if name == "coco":
        path = write_coco(tmp_path, content)
    elif name == "panoptic":
        path = tmp_path / "panoptic.json"
        if not path.exists():
            write_panoptic(tmp_path, panoptic_content())
        path.write_text(json.dumps(content))
    else:
        path = tmp_path / "1.json"
        path.write_text(json.dumps(content))
    problems = problems_of(path, format=name)
    assert all(p.where and p.what and p.fix for p in problems)


def test_junk_in_a_coco_json_is_seen(tmp_path: Path) -> None:
    sound = coco_content()
    for path in paths_of(sound):
        # Text may be an id or a name; a list may not.
        junk = [1, "junk"] if path[-1] in ("id", "name") else "junk"
        content = changed(sound, path, junk)
        assert problems_of(write_coco(tmp_path, content), format="coco"), path
