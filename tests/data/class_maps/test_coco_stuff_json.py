"""The JSON of COCO-Stuff gives the maps of its PNGs."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pixelkin.checking.check import check_data
from pixelkin.data.class_maps.coco_stuff import COCO_STUFF_IDS, CocoStuff
from pixelkin.data.class_maps.coco_stuff_json import OTHER_ID, CocoStuffJson, open_coco_stuff
from pixelkin.data.class_maps.place import Place
from pixelkin.data.class_maps.sources import open_semantic_source, semantic_parts
from pixelkin.errors import PixelkinError
from pixelkin.masks import encode_rle
from pixelkin.structures import IGNORE

NAME = "000000000139"
PERSON, CAR, GRASS, SKY, WOOD = 1, 3, 124, 157, 182
# Ids of a still: sky over grass, a person who hides a car, and one pixel that nobody labelled.
IDS = np.array(
    [
        [SKY, SKY, SKY, SKY, SKY, SKY],
        [SKY, PERSON, PERSON, CAR, CAR, WOOD],
        [GRASS, PERSON, PERSON, CAR, CAR, WOOD],
        [GRASS, GRASS, GRASS, GRASS, 0, GRASS],
    ]
)


def counts_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, the first of zeros, as COCO writes them in a list."""
    runs = [(value, len(list(run))) for value, run in itertools.groupby(mask.T.ravel().tolist())]
    return [0, *(n for _, n in runs)] if runs[0][0] else [n for _, n in runs]


def as_list(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": counts_of(mask)}


def as_string(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": encode_rle(mask).decode()}


def region(number: int, category: int, segmentation: Any, **more: Any) -> dict[str, Any]:
    # The files have area and bbox too, which nobody reads.
    return {"id": number, "image_id": 139, "category_id": category, "segmentation": segmentation,
            "area": 1.0, "bbox": [0, 0, 1, 1], "iscrowd": 0, **more}  # fmt: skip


def write_json(path: Path, regions: list[dict[str, Any]], size_hw: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"id": 139, "file_name": f"{NAME}.jpg", "height": size_hw[0], "width": size_hw[1]}
    ids = sorted({one["category_id"] for one in regions} | {GRASS})
    categories = [{"id": n, "name": f"class {n}", "supercategory": "other"} for n in ids]
    path.write_text(json.dumps({"images": [record], "annotations": regions, "info": {},
                                "licenses": [], "categories": categories}))  # fmt: skip
    return path


def stuff_regions(ids: np.ndarray) -> list[dict[str, Any]]:
    """As the files have them: a region for each kind of stuff, and one for all the rest."""
    kinds = [int(n) for n in np.unique(ids) if n > 90]
    found = [region(n, kind, as_string(ids == kind)) for n, kind in enumerate(kinds, start=1)]
    return [*found, region(99, OTHER_ID, as_string(ids <= 90))]


def write_set(root: Path, ids: np.ndarray = IDS) -> Path:
    image = root / "val2017" / f"{NAME}.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", ids.shape[::-1], (9, 99, 199)).save(image)
    return write_json(root / "annotations" / "stuff_val2017.json", stuff_regions(ids), ids.shape)


def png_labels(root: Path, ids: np.ndarray) -> np.ndarray:
    """What the reader of PNGs makes of the same map."""
    path = root / "stuffthingmaps" / "val2017" / f"{NAME}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(ids == 0, 255, ids - 1).astype(np.uint8)).save(path)
    return CocoStuff(root, "val2017")[0].labels


def test_stuff_alone_leaves_things_unknown(tmp_path: Path) -> None:
    data = CocoStuffJson(write_set(tmp_path))
    sample = data[0]
    assert (data.names, len(data)) == ([NAME], 1)
    assert sample.image.shape == (4, 6, 3)
    np.testing.assert_array_equal(sample.labels, png_labels(tmp_path, np.where(IDS > 90, IDS, 0)))
    assert data.class_names == CocoStuff(tmp_path, "val2017").class_names
    assert {data.class_names[n] for n in np.unique(sample.labels) if n != IGNORE} == {
        "grass", "sky-other", "wood",
    }  # fmt: skip


@pytest.mark.parametrize("written", [as_list, as_string])
def test_with_its_things_it_is_the_map_of_the_png(tmp_path: Path, written: Any) -> None:
    path = write_set(tmp_path)
    # The car goes on behind the person, and over grass that stuff has claimed.
    car = np.zeros(IDS.shape, bool)
    car[1:4, 1:5] = True
    car[3, 4] = False
    things = [
        region(1, PERSON, written(IDS == PERSON)),
        region(2, CAR, written(car), iscrowd=1),
    ]
    beside = write_json(tmp_path / "annotations" / "instances_val2017.json", things, IDS.shape)
    expected = png_labels(tmp_path, IDS)
    for order in (things, things[::-1]):
        write_json(beside, order, IDS.shape)
        np.testing.assert_array_equal(CocoStuffJson(path, things=beside)[0].labels, expected)
    # One file of both, as of the 10k images, says the same.
    both = [*stuff_regions(IDS), *(one | {"id": 500 + one["id"]} for one in things)]
    np.testing.assert_array_equal(
        CocoStuffJson(write_json(path, both, IDS.shape))[0].labels, expected
    )


def test_polygons_are_filled(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    square = [1, 1, 4, 1, 4, 3, 1, 3]
    write_json(path, [region(1, GRASS, [square])], IDS.shape)
    expected = np.zeros(IDS.shape, int)
    expected[1:3, 1:4] = GRASS
    np.testing.assert_array_equal(CocoStuffJson(path)[0].labels, png_labels(tmp_path, expected))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from((0, *COCO_STUFF_IDS)), min_size=12, max_size=12))
def test_any_map_of_both_files_is_that_of_the_png(tmp_path_factory: Any, values: list[int]) -> None:
    root = tmp_path_factory.mktemp("any")
    ids = np.array(values).reshape(3, 4)
    path = write_set(root, ids)
    kinds = [int(n) for n in np.unique(ids) if 0 < n <= 90]
    things = [region(n, kind, as_string(ids == kind)) for n, kind in enumerate(kinds)]
    beside = write_json(root / "annotations" / "instances_val2017.json", things, ids.shape)
    found = CocoStuffJson(path, things=beside)[0].labels
    np.testing.assert_array_equal(found, png_labels(root, ids))


def test_a_place_is_opened_as_what_lies_there(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    ways = [Place(tmp_path, None, None, "val2017", None), Place(path, None, None, None, None)]
    alone = [open_coco_stuff(place) for place in ways]
    assert all(isinstance(one, CocoStuffJson) for one in alone)
    assert all((one[0].labels[1, 1:5] == IGNORE).all() for one in alone)
    things = [region(1, PERSON, as_string(IDS == PERSON))]
    write_json(tmp_path / "annotations" / "instances_val2017.json", things, IDS.shape)
    for one in map(open_coco_stuff, ways):
        assert (one[0].labels[1:3, 1:3] == 0).all()
    with pytest.raises(PixelkinError, match=r"'val' is unknown in .*did you mean 'val2017'"):
        open_coco_stuff(Place(tmp_path, None, None, "val", None))
    with pytest.raises(PixelkinError, match="takes no split: expected images"):
        open_coco_stuff(Place(path, None, None, "val2017", None))
    other = tmp_path / "elsewhere"
    (tmp_path / "val2017").rename(other)
    assert len(open_coco_stuff(Place(path, other, None, None, None))) == 1
    # The PNGs hold the things as well.
    other.rename(tmp_path / "val2017")
    png_labels(tmp_path, IDS)
    assert isinstance(open_coco_stuff(ways[0]), CocoStuff)


@pytest.mark.parametrize(
    ("regions", "match"),
    [
        ([region(7, 12, as_string(IDS == SKY))], "annotation 7 has category id 12, .* no class"),
        (
            [region(7, 184, as_string(IDS == SKY))],
            "annotation 7 .*id 184.*expected 1 to 182 in use, or",
        ),
        ([region(7, SKY, None)], "annotation 7 has no segmentation"),
        ([region(7, SKY, {"size": [4, 5], "counts": [20]})], "annotation 7 .*4"),
        (
            [region(1, SKY, as_string(IDS == SKY)), region(7, WOOD, as_string(IDS == SKY))],
            "annotation 7 claims 7 pixels as wood, which are sky-other already",
        ),
        ([region(7, SKY, as_list(IDS == SKY), image_id=5)], "annotation 7 is of image 5"),
    ],
)
def test_faults_name_file_and_annotation(tmp_path: Path, regions: Any, match: str) -> None:
    path = write_json(write_set(tmp_path), regions, IDS.shape)
    with pytest.raises(PixelkinError, match=rf"stuff_val2017\.json: {match}") as caught:
        CocoStuffJson(path)[0]
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    things = write_json(
        tmp_path / "annotations" / "instances_val2017.json",
        [region(1, SKY, as_string(IDS == SKY))],
        IDS.shape,
    )
    with pytest.raises(PixelkinError, match=r"instances_val2017\.json: .*157.*1 to 90 \(things\)"):
        CocoStuffJson(path, things=things)
    Image.new("RGB", (3, 3)).save(tmp_path / "val2017" / f"{NAME}.jpg")
    with pytest.raises(PixelkinError, match=r"image 139 is listed as 6×4, but .* is 3×3"):
        CocoStuffJson(path)[0]
    (tmp_path / "val2017" / f"{NAME}.jpg").unlink()
    with pytest.raises(PixelkinError, match=r"none of the 1 images of .*stuff_val2017\.json"):
        CocoStuffJson(path)
    path.write_text("[]")
    with pytest.raises(PixelkinError, match="holds a list: expected a COCO data set"):
        CocoStuffJson(path)


def test_the_command_line_s_name_opens_and_checks_it(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    # What else lies in COCO's folder of annotations.
    (tmp_path / "annotations" / "panoptic_val2017").mkdir()
    (tmp_path / "annotations" / "stuff_val2017_pixelmaps").mkdir()
    things = [region(1, PERSON, as_string(IDS == PERSON)), region(2, CAR, as_list(IDS == CAR))]
    write_json(tmp_path / "annotations" / "instances_val2017.json", things, IDS.shape)
    expected = png_labels(tmp_path, IDS)
    shutil.rmtree(tmp_path / "stuffthingmaps")
    assert semantic_parts(tmp_path) == ["val2017"]
    for source in (
        open_semantic_source(tmp_path, split="val2017"),
        open_semantic_source(f"coco-stuff:{path}"),
        open_semantic_source(f"coco-stuff:{path}", images=tmp_path / "val2017"),
    ):
        np.testing.assert_array_equal(source[0].labels, expected)
    for data, images in ((tmp_path, None), (Path(f"coco-stuff:{path}"), tmp_path / "val2017")):
        name, report = check_data(data, images=images)
        assert (name, report.problems, report.images) == ("coco-stuff", [], 1)
        assert report.classes is not None
        assert report.classes.unknown == 1
        counts = {name: n for name, n in report.classes.pixels.items() if n}
        assert counts == {"sky-other": 7, "person": 4, "car": 4, "wood": 2, "grass": 6}


def test_check_tells_all_faults_of_a_json(tmp_path: Path) -> None:
    path = write_set(tmp_path)
    sound = stuff_regions(IDS)
    write_json(path, [*sound, region(50, 12, None), region(51, 200, None)], IDS.shape)
    place = "annotations/stuff_val2017.json"
    told = check_data(tmp_path, format="coco-stuff")[1].problems
    assert [p.where for p in told] == [f"{place}: annotation {n}" for n in (50, 51)]
    assert all("which is no class of COCO-Stuff" in p.what for p in told)
    write_json(path, [*sound, region(52, WOOD, as_string(IDS == SKY))], IDS.shape)
    told = check_data(tmp_path, format="coco-stuff")[1].problems
    assert [p.where for p in told] == [place]
    assert told[0].what.startswith("annotation 52 claims 7 pixels as wood, which are sky-other")
    assert str(tmp_path) not in told[0].what
    content = json.loads(write_set(tmp_path).read_text())
    content["images"].append({"id": 140, "file_name": "lost.jpg", "height": 4, "width": 6})
    path.write_text(json.dumps(content))
    told = check_data(tmp_path, format="coco-stuff")[1].problems
    assert [p.where for p in told] == ["val2017/lost.jpg"]
    with pytest.raises(
        PixelkinError, match=r"no image file .*lost\.jpg: expected it as .*image 140"
    ):
        CocoStuffJson(path)
