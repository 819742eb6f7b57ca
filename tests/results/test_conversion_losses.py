"""What the report of a conversion says equals a comparison by plain loops."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from conversion_cases import Memory, converted, counted, decoded, on_top, still, stills
from hypothesis import given, settings

from pixelkin.data.reading import read_indices
from pixelkin.masks import decode_rle
from pixelkin.results.conversion.instance_formats import INSTANCE_WRITERS
from pixelkin.results.conversion.report import Report
from pixelkin.structures import IGNORE, InstanceSample

few = settings(max_examples=10, deadline=None)


def said(report: Report) -> dict[int, tuple[int, int, int]]:
    return {one.instance: (one.pixels, one.missing, one.added) for one in report.changed}


def gone(report: Report) -> list[int]:
    return [one.instance for one in report.vanished]


def expected(
    before: InstanceSample, now: dict[int, np.ndarray], *, crowds: bool
) -> tuple[dict[int, tuple[int, int, int]], list[int]]:
    """Changed and vanished instances, where `now` holds the masks that are left."""
    changed, vanished = {}, []
    for index, (one, mask) in enumerate(zip(before.instances, decoded(before), strict=True)):
        if one.crowd and not crowds:
            continue
        if index not in now:
            vanished.append(index)
        elif counted(mask, now[index])[1:] != (0, 0):
            changed[index] = counted(mask, now[index])
    return changed, vanished


def seen_masks(before: InstanceSample, *, crowds: bool) -> dict[int, np.ndarray]:
    top = np.array(on_top(before, crowds=crowds), object)
    return {n: top == n for n in range(len(before.instances)) if (top == n).any()}


@few
@given(before=stills())
@pytest.mark.parametrize("name", ["pngs", "panoptic"])
def test_formats_of_one_object_a_pixel(name: str, before: InstanceSample) -> None:
    crowds = name == "panoptic"
    with tempfile.TemporaryDirectory() as folder:
        report = converted(Memory([before]), name, Path(folder) / "set")
    changed, vanished = expected(before, seen_masks(before, crowds=crowds), crowds=crowds)
    assert said(report) == changed
    assert gone(report) == vanished
    assert len(report.crowds) == (0 if crowds else sum(one.crowd for one in before.instances))
    for one in report.changed:
        assert one.iou == (one.pixels - one.missing) / (one.pixels + one.added)


@few
@given(before=stills())
@pytest.mark.parametrize("name", ["yolo", "labelme"])
def test_polygons(name: str, before: InstanceSample) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = converted(Memory([before]), name, Path(folder) / "set")
        after = INSTANCE_WRITERS[name].read(Path(folder) / "set")[0]
    left = [
        index
        for index, (one, mask) in enumerate(zip(before.instances, decoded(before), strict=True))
        if mask.any() and not one.crowd
    ]
    now = dict(zip(left, decoded(after), strict=True))
    assert (said(report), gone(report)) == expected(before, now, crowds=False)
    assert len(report.crowds) == sum(one.crowd for one in before.instances)


@few
@given(before=stills())
@pytest.mark.parametrize("name", ["coco", "panoptic", "yolo", "labelme", "pngs"])
def test_unknown_pixels(name: str, before: InstanceSample) -> None:
    was = np.zeros(before.size_hw, bool)
    hidden = [] if before.ignore is None else [before.ignore]
    if name in ("labelme", "pngs"):
        hidden += [one.rle for one in before.instances if one.crowd]
    for rle in hidden:
        was |= decode_rle(rle, before.size_hw)
    with tempfile.TemporaryDirectory() as folder:
        report = converted(Memory([before]), name, Path(folder) / "set")
        after = INSTANCE_WRITERS[name].read(Path(folder) / "set")[0]
    now = np.zeros(before.size_hw, bool)
    if name == "coco" and before.ignore is not None:
        now = decoded(after)[-1]
    elif after.ignore is not None:
        now = decode_rle(after.ignore, before.size_hw)
    pixels, missing, added = counted(was, now)
    told = [(one.pixels, one.missing, one.added) for one in report.unknown]
    differs = missing or added or (name == "coco" and pixels)
    assert told == ([(pixels, missing, added)] if differs else [])


@few
@given(before=stills())
def test_coco_loses_nothing_but_that_nobody_knows(before: InstanceSample) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = converted(Memory([before]), "coco", Path(folder) / "set")
        after = INSTANCE_WRITERS["coco"].read(Path(folder) / "set")[0]
    kept = after.instances[: len(before.instances)]
    assert [(one.rle, one.category, one.crowd) for one in kept] == [
        (one.rle, one.category, one.crowd) for one in before.instances
    ]
    assert report.lossless == (not report.unknown)
    np.testing.assert_array_equal(after.image, before.image)


def squares(count: int) -> list[np.ndarray]:
    """Single pixels far enough apart."""
    masks = []
    for n in range(count):
        mask = np.zeros((40, 40), bool)
        mask[n // 40, n % 40] = True
        masks.append(mask)
    return masks


@pytest.mark.parametrize(("count", "mode"), [(254, "P"), (255, "I;16"), (300, "I;16")])
def test_many_objects_take_16_bits(tmp_path: Path, count: int, mode: str) -> None:
    unknown = np.zeros((40, 40), bool)
    unknown[39] = True
    report = converted(Memory([still(squares(count), ignore=unknown)]), "pngs", tmp_path / "set")
    found, ids = read_indices(tmp_path / "set/masks/a.png")
    assert found == mode
    assert not report.changed
    assert not report.vanished
    # Beyond 255 nothing tells unknown pixels from an object.
    assert (IGNORE in ids) == (count == 254)
    lost = [(one.pixels, one.missing) for one in report.unknown]
    assert lost == ([] if count == 254 else [(40, 40)])


def test_classes_that_have_no_place_are_counted(tmp_path: Path) -> None:
    source = Memory([still(squares(3))], ("cat", "dog", "bird"))
    report = converted(source, "pngs", tmp_path / "pngs")
    assert report.classes == {("cat", "object"): 2, ("dog", "object"): 1}
    assert report.classes_lost == ("bird",)
    report = converted(source, "labelme", tmp_path / "labelme")
    assert not report.classes
    assert report.classes_lost == ("bird",)
    assert not report.lossless
    text = report.as_text()
    assert "classes that are not listed any more: bird" in text


def test_text_shows_the_worst_and_counts_the_rest(tmp_path: Path) -> None:
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    corner = ring.copy()
    ring[3:5, 3:5] = False
    report = converted(Memory([still([corner, ring] * 4)]), "pngs", tmp_path / "set")
    # Of equals the last lies on top, and the smaller rings on what they leave of the squares.
    assert gone(report) == [0, 1, 2, 3, 4, 5]
    assert said(report) == {6: (49, 45, 0)}
    text = report.as_text()
    assert "6 objects gone" in text
    assert "and 1 more in the report" in text
    assert "cat 6: IoU 0.082, of 49 pixels 45 lost, 0 more" in text
