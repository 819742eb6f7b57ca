"""The table of measures, of instances and of class maps."""

import math

from instance_cases import perfect, random_stills
from semantic_cases import NAMES, random_maps

from pixelkin.evaluation.instance import evaluate_instances
from pixelkin.evaluation.semantic import MEASURES, SemanticEvaluation, evaluate_maps
from pixelkin.evaluation.text_table import text_table


def test_instances():
    truth, _ = random_stills(3, count=1, crowds=False, ignore=False, classes=2)[0]
    values = evaluate_instances([(truth, perfect(truth))], ("a", "bicycle"), measures=["coco"])
    lines = text_table(values).splitlines()
    assert lines[0].split()[:3] == ["coco", "AP", "AP50"]
    assert lines[1].split()[:2] == ["1.000", "1.000"]
    assert "-" in lines[1].split()  # No large object is there.
    assert lines[3].split() == ["class", "coco/AP", "coco/AP50"]
    assert lines[5].split()[0] == "bicycle"
    assert len(set(map(len, lines[:2]))) == len(set(map(len, lines[3:]))) == 1
    assert text_table({}) == ""
    assert "-" in text_table({"coco/AP": math.nan})


def test_a_lone_class_says_nothing_new():
    values = {"coco/AP": 0.5, "coco/AP/nucleus": 0.5}
    assert "nucleus" in text_table(values)
    assert "nucleus" not in text_table(values, lone_class=False)
    two = {**values, "coco/AP/cell": 0.25}
    assert text_table(two, lone_class=False) == text_table(two)


def test_class_maps():
    truth, predicted = random_maps(2)
    evaluation = SemanticEvaluation(("road", "car", "sky", "traffic light"), measures=MEASURES[:3])
    evaluation.update(truth, predicted)
    values = evaluation.compute()
    lines = text_table(values).splitlines()
    assert lines[0].split()[:3] == ["overlap", "mIoU", "pixel_accuracy"]
    assert lines[1].split()[0] == f"{values['overlap/mIoU']:.3f}"
    start = next(i for i, line in enumerate(lines) if line.startswith("class"))
    assert lines[start].split()[1] == "overlap/IoU"
    assert len({len(line) for line in lines[start : start + 5]}) == 1
    row = lines[start + 4]
    assert row.startswith("traffic light")
    assert row.split()[2] == f"{values['overlap/IoU/traffic light']:.3f}"
    assert "cityscapes/category_IoU" in lines[start + 6]
    categories = [line.split()[0] for line in lines[start + 7 :]]
    assert categories == ["flat", "vehicle", "sky", "object"]
    assert len(lines[start + 7].split()) == 2  # no column of iIoU without instances
    assert text_table({}) == ""


def test_table_with_columns_that_have_gaps():
    truth, predicted = random_maps(2)
    values = evaluate_maps(
        [(truth, predicted)], NAMES, measures=["overlap", "lanes"], background=["road"]
    )
    lines = text_table(values).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("class"))
    assert lines[start + 1].split()[0] == "road"
    assert lines[start + 1].split()[-3:] == ["-", "-", "-"]
    assert lines[start + 2].split()[-1] == f"{values['lanes/F1_5px/car']:.3f}"
