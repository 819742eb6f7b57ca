import contextlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instance_cases import SIZE, dense, perfect, random_mask, random_stills, same
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pixelkin.errors import PixelkinError
from pixelkin.evaluation.instance import CocoAP, Truth
from pixelkin.masks import encode_rle, rle_area
from pixelkin.structures import Instance, Instances


def measured(pairs, classes, **options):
    measure = CocoAP([f"class {i}" for i in range(classes)], **options)
    for truth, found in pairs:
        measure.update(truth, found)
    return measure.compute()


def by_pycocotools(pairs, classes, max_dets=(1, 10, 100)):
    """What pycocotools says of the same stills, −1 as NaN."""
    images, truths, results = [], [], []
    for image, (truth, found) in enumerate(pairs, 1):
        height, width = truth.size_hw
        images.append({"id": image, "height": height, "width": width})
        for one in truth.instances:
            truths.append(
                {
                    "id": len(truths) + 1,
                    "image_id": image,
                    "category_id": one.category,
                    "iscrowd": int(one.crowd),
                    "area": rle_area(one.rle, truth.size_hw),
                    "segmentation": {"size": [height, width], "counts": one.rle},
                }
            )
        for rle, category, score in zip(found.rles, found.categories, found.scores, strict=True):
            results.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "score": score,
                    "segmentation": {"size": [height, width], "counts": rle},
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO()
        categories = [{"id": i, "name": f"class {i}"} for i in range(classes)]
        gt.dataset = {"images": images, "annotations": truths, "categories": categories}
        gt.createIndex()
        if results:
            dt = gt.loadRes(results)
        else:
            dt = COCO()
            dt.dataset = {"images": images, "annotations": [], "categories": categories}
            dt.createIndex()
        evaluator = COCOeval(gt, dt, "segm")
        evaluator.params.maxDets = list(max_dets)
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]

    def known(values):
        values = values[values > -1]
        return float(values.mean()) if values.size else math.nan

    wanted = {
        "AP": known(precision[..., 0, -1]),
        "AP50": known(precision[0, ..., 0, -1]),
        "AP75": known(precision[5, ..., 0, -1]),
        **{f"AP{k}": known(precision[..., a, -1]) for a, k in ((1, "s"), (2, "m"), (3, "l"))},
        **{f"AR{n}": known(recall[:, :, 0, i]) for i, n in enumerate(max_dets)},
        **{f"AR{k}": known(recall[..., a, -1]) for a, k in ((1, "s"), (2, "m"), (3, "l"))},
    }
    for k in range(classes):
        wanted[f"AP/class {k}"] = known(precision[:, :, k, 0, -1])
        wanted[f"AP50/class {k}"] = known(precision[0, :, k, 0, -1])
    return wanted


def assert_same(got, wanted):
    assert got.keys() == wanted.keys()
    for key, value in wanted.items():
        assert same(got[key], value, 1e-9), (key, got[key], value)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 3))
def test_equals_pycocotools_with_crowds_and_equal_scores(seed, ties, classes):
    pairs = random_stills(seed, classes=classes, ties=ties)
    assert_same(measured(pairs, classes), by_pycocotools(pairs, classes))


def test_all_scores_equal():
    pairs = [
        (t, Instances(f.size_hw, f.rles, f.categories, (0.5,) * len(f)))
        for t, f in random_stills(5, count=12, most=20)
    ]
    got = measured(pairs, 2)
    assert 0 < got["AP"] < 1
    assert_same(got, by_pycocotools(pairs, 2))


def test_max_dets_is_settable():
    pairs = random_stills(6, count=3, most=40, classes=1)
    assert any(len(found) > 12 for _, found in pairs)
    assert_same(measured(pairs, 1, max_dets=12), by_pycocotools(pairs, 1, (1, 10, 12)))
    few = measured(pairs, 1, max_dets=4)
    assert "AR4" in few
    assert "AR10" not in few
    assert few["AR4"] < measured(pairs, 1, max_dets=400)["AR400"]


def perturbed(truth, seed):
    """Shifted and eaten masks, some missing, some twice, some of another class."""
    rng = np.random.default_rng(seed)
    rles, categories = [], []
    for one, mask in zip(
        truth.instances, dense([o.rle for o in truth.instances], truth.size_hw), strict=True
    ):
        for _ in range(rng.choice([0, 1, 1, 2])):
            shift = rng.integers(-1 - mask.shape[0] // 60, 2 + mask.shape[0] // 60, 2)
            rles.append(encode_rle(np.roll(mask, tuple(shift), (0, 1))))
            categories.append(one.category if rng.random() < 0.9 else 0)
    scores = np.round(rng.random(len(rles)), 1)
    return Instances(truth.size_hw, tuple(rles), tuple(categories), tuple(scores.tolist()))


def test_equals_pycocotools_on_coco_with_its_crowds(shared_data):
    folder = shared_data / "coco_mini" / "panoptic_segmentation" / "annotations"
    table = json.loads((folder / "panoptic_train2017.json").read_text())
    pairs = []
    # The stills with crowds, and some without.
    rows = sorted(
        table["annotations"], key=lambda a: -sum(s["iscrowd"] for s in a["segments_info"])
    )
    rows = rows[:14]
    used = {s["category_id"] for row in rows for s in row["segments_info"]}
    ids_of_things = [c["id"] for c in table["categories"] if c["isthing"] and c["id"] in used]
    things = {category: i for i, category in enumerate(ids_of_things)}
    for seed, row in enumerate(rows):
        with Image.open(folder / "panoptic_train2017" / row["file_name"]) as png:
            ids = np.asarray(png.convert("RGB")).astype(np.int64) @ [1, 256, 65536]
        instances = tuple(
            Instance(encode_rle(ids == s["id"]), things[s["category_id"]], bool(s["iscrowd"]))
            for s in row["segments_info"]
            if s["category_id"] in things
        )
        truth = Truth(instances, ids.shape)
        pairs.append((truth, perturbed(truth, seed)))
    assert sum(one.crowd for truth, _ in pairs for one in truth.instances) == 6
    got = measured(pairs, len(things))
    assert 0.05 < got["AP"] < 0.95
    assert_same(got, by_pycocotools(pairs, len(things)))


def test_equals_pycocotools_on_penn_fudan(shared_data):
    pairs = []
    for seed, path in enumerate(sorted((shared_data / "penn_fudan" / "PedMasks").glob("*"))[:20]):
        with Image.open(path) as png:
            ids = np.asarray(png)
        instances = tuple(Instance(encode_rle(ids == k)) for k in np.unique(ids) if k)
        truth = Truth(instances, ids.shape)
        pairs.append((truth, perturbed(truth, seed)))
    got = measured(pairs, 1)
    assert 0.05 < got["AP"] < 0.95
    assert_same(got, by_pycocotools(pairs, 1))


def test_edges():
    truth, found = random_stills(3, count=1, crowds=False, ignore=False)[0]
    assert len(truth.instances) > 1
    nothing = Instances(SIZE)
    assert measured([(truth, nothing)], 2)["AP"] == 0
    assert measured([(truth, perfect(truth))], 2)["AP"] == 1
    for empty in ([], [(Truth((), SIZE), found)], [(Truth((), SIZE), nothing)]):
        assert all(math.isnan(value) for value in measured(empty, 2).values())


def test_objects_in_a_crowd_do_not_count():
    region = random_mask(np.random.default_rng(1))
    crowd = Truth((Instance(encode_rle(region), crowd=True),), SIZE)
    inside = Instances(SIZE, (encode_rle(region),) * 3, (0,) * 3, (0.9,) * 3)
    assert math.isnan(measured([(crowd, inside)], 1)["AP"])
    one = Truth((Instance(encode_rle(region)),), SIZE)
    assert measured([(crowd, inside), (one, perfect(one))], 1)["AP"] == 1
    # Without a crowd the same objects are false positives, ahead of the right one.
    bare = Truth((), SIZE)
    low = Instances(SIZE, (encode_rle(region),), (0,), (0.5,))
    assert measured([(bare, inside), (one, low)], 1)["AP"] == pytest.approx(1 / 4)


def test_max_dets_below_one_is_refused():
    with pytest.raises(PixelkinError, match="max_dets is 0"):
        CocoAP(["object"], max_dets=0)
