"""Results of stills: what is written is read back the same, by our readers and by others."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage
from scipy.sparse.csgraph import minimum_spanning_tree

from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.data.instances.instance_png import index_instances
from pixelkin.data.instances.labelme import LabelMe
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.data.instances.yolo_seg import YoloSeg, read_objects
from pixelkin.data.reading import read_index_png
from pixelkin.errors import PixelkinError
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.results import (
    CocoWriter,
    instance_overlay,
    instances,
    labels_from_instances,
    write_instance_overlay,
    write_instance_png,
    write_labelme,
    write_yolo_labels,
    write_yolo_names,
)
from pixelkin.results.outlines import decode_window, edge_outlines
from pixelkin.structures import Instances, InstanceSample

few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
masks = sizes.flatmap(lambda size: hnp.arrays(bool, size))
RING = np.pad(~np.pad(np.ones((3, 3), bool), 1), 1, constant_values=True)
SPECKS = np.eye(9, dtype=bool)[::-1] & (np.arange(9) % 4 == 0)


def found_of(maps: list[np.ndarray], categories: tuple[int, ...] = ()) -> Instances:
    scores = tuple(1 - 0.5 * i / len(maps) for i in range(len(maps)))
    rles = tuple(encode_rle(mask) for mask in maps)
    return Instances(maps[0].shape, rles, categories or (0,) * len(maps), scores)


def found_in(sample: InstanceSample) -> Instances:
    count = len(sample.instances)
    rles = tuple(one.rle for one in sample.instances)
    return Instances(sample.size_hw, rles, (0,) * count, tuple(np.linspace(1, 0.5, count).tolist()))


def save_image(folder: Path, size_hw: tuple[int, int], name: str = "a.png") -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size_hw[::-1]).save(folder / name)
    return folder / name


def through_labelme(found: Instances, folder: Path) -> InstanceSample:
    image = save_image(folder, found.size_hw)
    room = folder / "labelme"
    write_labelme(room / "a.json", found, class_names=("x", "y"), image_path=image)
    return LabelMe(room, class_names=("x", "y"))[0]


def through_yolo(found: Instances, folder: Path) -> InstanceSample:
    save_image(folder, found.size_hw)
    write_yolo_names(folder / "yolo" / "data.yaml", ("x", "y"))
    write_yolo_labels(folder / "yolo" / "labels" / "a.txt", found)
    return YoloSeg(folder, folder / "yolo" / "labels")[0]


def decoded(sample: InstanceSample) -> list[np.ndarray]:
    return [decode_rle(one.rle, sample.size_hw) for one in sample.instances]


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


# Windows


@few
@given(masks)
@example(np.ones((1, 1), bool))
@example(np.ones((9, 5), bool))
@example(np.zeros((3, 4), bool))
@example(np.ones((700, 60), bool))
def test_a_window_is_what_the_whole_mask_holds(mask):
    window, (x, y) = decode_window(encode_rle(mask), mask.shape)
    back = np.zeros_like(mask)
    back[y : y + window.shape[0], x : x + window.shape[1]] = window
    assert np.array_equal(back, decode_rle(encode_rle(mask), mask.shape))
    assert np.array_equal(back, mask)
    assert window.size == 0 or (window[[0, -1]].any(1).all() and window[:, [0, -1]].any(0).all())


@pytest.mark.parametrize("counts", [b"", b"o", encode_rle(np.ones((4, 5)))])
def test_counts_of_another_size_are_refused(counts):
    with pytest.raises(PixelkinError, match="do not describe a 9×7 mask"):
        decode_window(counts, (7, 9))


# Polygons


@few
@given(st.lists(hnp.arrays(bool, (8, 11)), min_size=1, max_size=3))
@example([RING, SPECKS[:7, :7]])
def test_labelme_gives_masks_back(tmp_path_factory, maps):
    maps = [mask for mask in maps if mask.shape == maps[0].shape and mask.any()]
    if not maps:
        return
    found = found_of(maps, (1, 0, 1)[: len(maps)])
    sample = through_labelme(found, tmp_path_factory.mktemp("labelme"))
    assert [one.category for one in sample.instances] == list(found.categories)
    for mask, back in zip(maps, decoded(sample), strict=True):
        assert np.array_equal(back, mask)


def test_labelme_names_parts_scores_and_the_image(tmp_path):
    two = np.zeros((9, 9), bool)
    two[1:3, 1:3] = two[6:8, 5:8] = True
    image = save_image(tmp_path / "photos", (9, 9))
    path = tmp_path / "out" / "labelme" / "a.json"
    write_labelme(path, found_of([two, ~two, two & False]), class_names=("é",), image_path=image)
    content = json.loads(path.read_text("utf-8"))
    assert content["imagePath"] == "../../photos/a.png"
    assert [one["group_id"] for one in content["shapes"]] == [1, 1, None]
    assert [one["description"] for one in content["shapes"]][::2] == ["score 1.000", "score 0.833"]
    assert {one["label"] for one in content["shapes"]} == {"é"}


def test_outlines_lie_on_the_edges_of_pixels():
    (outline,) = edge_outlines(np.ones((2, 3), bool), (10, 20))
    low, high = outline.min(axis=0), outline.max(axis=0)
    assert (low.tolist(), high.tolist()) == ([10, 20], [13, 22])
    area = cv2.contourArea(outline.astype(np.float32))
    # The corners of the square are cut by 1/8 each.
    assert area == pytest.approx(6 - 4 / 8)
    assert len(outline) == 8


@few
@given(masks)
@example(RING)
@example(SPECKS)
@example(np.ones((1, 1), bool))
@example(np.ones((1, 2), bool))
def test_yolo_gives_masks_back_and_adds_lines_between_parts(tmp_path_factory, mask):
    if not mask.any():
        return
    folder = tmp_path_factory.mktemp("yolo")
    (back,) = decoded(through_yolo(found_of([mask], (1,)), folder))
    assert not (mask & ~back).any()
    # Oracle: what must be bridged is the tree of least length over parts and holes' rims.
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    if count == 1:
        filled = ndimage.binary_fill_holes(mask)
        assert np.array_equal(back, mask) or not np.array_equal(filled, mask)
    places = [np.argwhere(parts == i + 1) for i in range(count)]
    gaps = [
        [min(math.dist(a, b) for a in one for b in two) if one is not two else 0 for two in places]
        for one in places
    ]
    length = minimum_spanning_tree(np.array(gaps)).sum()
    rims = ndimage.label(~np.pad(mask, 1, constant_values=False))[1] - 1
    assert (back & ~mask).sum() <= math.ceil(length) + 2 * rims
    # Trainers cut coordinates off where we round them.
    (one,) = read_objects(folder / "yolo" / "labels" / "a.txt")
    cut = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(cut, [(one.points * mask.shape[::-1]).astype(np.int32)], (1,))
    assert np.array_equal(cut.astype(bool), back)


def test_yolo_says_that_nothing_was_found(tmp_path):
    assert through_yolo(Instances((5, 6)), tmp_path).instances == ()
    names = YoloSeg(tmp_path, tmp_path / "yolo" / "labels").class_names
    assert names == ("x", "y")


@pytest.mark.parametrize("kind", ["nuclei", "pedestrians"])
def test_real_masks_come_back_from_polygons(shared_data, tmp_path, kind):
    if kind == "nuclei":
        source = Nuclei(shared_data / "dsb2018")
        chosen = range(2, len(source), len(source) // 5)
    else:
        source = PennFudan(shared_data / "penn_fudan")
        chosen = range(3, len(source), len(source) // 4)
    exact = []
    for index in chosen:
        found = found_in(source[index])
        truth = [decode_rle(rle, found.size_hw) for rle in found.rles]
        room = tmp_path / str(index)
        for mask, back in zip(truth, decoded(through_labelme(found, room)), strict=True):
            assert iou(mask, back) > 0.98
            exact.append(np.array_equal(mask, back))
        for mask, back in zip(truth, decoded(through_yolo(found, room)), strict=True):
            assert iou(mask, back) > 0.98
    assert np.mean(exact) > 0.95


# COCO


def write_coco(path: Path, stills: Iterable[Instances], form: str = "dataset") -> None:
    with CocoWriter(path, class_names=("x", "y"), form=form) as coco:
        for number, found in enumerate(stills):
            coco.write(f"{number}.png", found)


@few
@given(st.lists(hnp.arrays(bool, (3, 7, 9)), max_size=3))
def test_coco_gives_masks_back(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("coco")
    stills = [found_of(list(maps), (0, 1, 1)) for maps in clips] or [Instances((7, 9))]
    write_coco(folder / "instances.json", stills)
    for number in range(len(stills)):
        save_image(folder, (7, 9), f"{number}.png")
    back = CocoJson(folder / "instances.json")
    assert back.class_names == ("x", "y")
    assert len(back) == len(stills)
    listed = json.loads((folder / "instances.json").read_text())["annotations"]
    for sample, found in zip(back, stills, strict=False):
        kept = [i for i in range(len(found)) if decode_rle(found.rles[i], (7, 9)).any()]
        assert [one.rle for one in sample.instances] == [found.rles[i] for i in kept]
        assert [one.category for one in sample.instances] == [found.categories[i] for i in kept]
        scores = {str(one["id"]): one["score"] for one in listed}
        assert [scores[one.key] for one in sample.instances] == [found.scores[i] for i in kept]


def test_pycocotools_takes_both_forms(tmp_path):
    pycoco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    stills = [found_of(list(rng.random((3, 40, 50)) > 0.6), (1, 0, 1)) for _ in range(2)]
    write_coco(tmp_path / "truth.json", stills)
    write_coco(tmp_path / "results.json", stills, "results")
    truth = pycoco.COCO(str(tmp_path / "truth.json"))
    for entry, (still, index) in zip(
        truth.dataset["annotations"], [(s, i) for s in stills for i in range(3)], strict=True
    ):
        mask = decode_rle(still.rles[index], still.size_hw)
        rows, columns = np.nonzero(mask)
        assert np.array_equal(truth.annToMask(entry), mask)
        assert entry["area"] == mask.sum()
        x, y, width, height = entry["bbox"]
        assert (x, x + width - 1) == (columns.min(), columns.max())
        assert (y, y + height - 1) == (rows.min(), rows.max())
    judged = evaluation.COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), "segm")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[0] == pytest.approx(1)


def test_coco_takes_the_ids_of_a_truth(tmp_path):
    with CocoWriter(tmp_path / "r.json", class_names=("x",), form="results") as coco:
        coco.write("a.png", found_of([RING]), image_id=397133)
    assert [one["image_id"] for one in json.loads((tmp_path / "r.json").read_text())] == [397133]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_half_a_coco_file_never_stays(tmp_path, error):
    path = tmp_path / "instances.json"
    path.write_text("old")

    def stills():
        yield found_of([RING])
        raise error

    with pytest.raises(error):
        write_coco(path, stills())
    assert [one.name for one in tmp_path.iterdir()] == ["instances.json"]
    assert path.read_text() == "old"


def test_a_category_without_a_name_is_refused(tmp_path):
    found = found_of([RING], (2,))
    with pytest.raises(PixelkinError, match="category 2, but there are 2 class names"):
        write_coco(tmp_path / "a.json", [found])
    with pytest.raises(PixelkinError, match="category 2"):
        write_labelme(tmp_path / "a.json", found, class_names=("x", "y"), image_path="a.png")
    assert list(tmp_path.iterdir()) == []


# Pictures


@few
@given(hnp.arrays(bool, (3, 6, 5)), st.permutations([0.9, 0.5, 0.2]))
def test_index_png_has_the_better_score_on_top(tmp_path_factory, maps, scores):
    found = Instances((6, 5), tuple(map(encode_rle, maps)), (0, 0, 0), tuple(scores))
    path = tmp_path_factory.mktemp("png") / "a.png"
    write_instance_png(path, found)
    with Image.open(path) as image:
        assert image.mode == "P"
    back = read_index_png(path)
    for y, x in np.ndindex(6, 5):
        here = [(scores[i], i + 1) for i in range(3) if maps[i][y, x]]
        assert back[y, x] == (max(here)[1] if here else 0)


@pytest.mark.parametrize(("count", "mode"), [(254, "P"), (255, "I;16"), (600, "I;16")])
def test_index_png_numbers_any_crowd(tmp_path, count, mode):
    maps = np.zeros((count, 25, 30), bool)
    maps[np.arange(count), np.arange(count) % 25, np.arange(count) // 25] = True
    found = found_of(list(maps))
    write_instance_png(tmp_path / "a.png", found)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
    back, ignore = index_instances(read_index_png(tmp_path / "a.png"), tmp_path, remedy="")
    assert ignore is None
    assert [one.rle for one in back] == list(found.rles)


def test_more_objects_than_ids_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(instances, "MAX_INDEX", 2)
    with pytest.raises(PixelkinError, match="3 objects were found, expected at most 1"):
        write_instance_png(tmp_path / "a.png", found_of([RING, RING, RING]))
    assert list(tmp_path.iterdir()) == []


def test_overlay_tints_inside_and_outlines_by_a_pixel():
    image = np.full((20, 30, 3), 100, np.uint8)
    square = np.zeros((20, 30), bool)
    square[5:12, 0:9] = True
    drawn = instance_overlay(image, found_of([square]), opacity=0.5)
    assert np.array_equal(drawn[~square], image[~square])
    core = np.zeros_like(square)
    core[6:11, 0:8] = True
    # Object 1 is red in the palette; the edge of the image is no outline.
    assert (drawn[square & ~core] == (255, 0, 0)).all()
    assert (drawn[core] == (178, 50, 50)).all()
    assert np.array_equal(instance_overlay(image, Instances((20, 30))), image)


def test_overlay_tells_neighbours_apart_in_a_real_crowd(shared_data, tmp_path):
    source = Nuclei(shared_data / "dsb2018")
    name = max(
        source.names, key=lambda n: len(list((shared_data / "dsb2018" / n / "masks").iterdir()))
    )
    sample = source[source.names.index(name)]
    found = found_in(sample)
    assert len(found) > 254
    write_instance_overlay(tmp_path / "a.png", sample.image, found)
    drawn, labels = np.array(Image.open(tmp_path / "a.png")), labels_from_instances(found)
    beside = (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] > 0) & (labels[:, 1:] > 0)
    same = (drawn[:, :-1] == drawn[:, 1:]).all(axis=2)[beside]
    assert beside.sum() > 50
    assert same.mean() < 0.02


def test_overlay_refuses_another_image():
    with pytest.raises(PixelkinError, match="the masks are 7×7, expected 9×8 like the image"):
        instance_overlay(np.zeros((8, 9, 3), np.uint8), found_of([RING]))
    with pytest.raises(PixelkinError, match="opacity is 2"):
        instance_overlay(np.zeros((7, 7, 3), np.uint8), found_of([RING]), opacity=2)
