"""Segmenters judged: the truth is perfect, under any order of classes."""

import numpy as np
import pytest

from pixelkin.errors import PixelkinError
from pixelkin.instances.scoring import evaluate_segmenter
from pixelkin.masks import encode_rle
from pixelkin.structures import Instance, Instances, InstanceSample

SIZE_HW = (60, 80)


class Stills:
    """Two classes in turn, three objects a still, the last still with a crowd."""

    def __init__(self, class_names=("cat", "dog")):
        self.class_names = class_names

    def __len__(self):
        return 4

    def __getitem__(self, index):
        instances = [
            Instance(square(index + 2, 25 * n + 2), (index + n) % len(self.class_names))
            for n in range(3)
        ]
        if index == 3:
            instances.append(Instance(square(40, 40), 0, crowd=True))
        return InstanceSample(np.full((*SIZE_HW, 3), index, np.uint8), tuple(instances), f"{index}")


def square(top: int, left: int, side: int = 15) -> bytes:
    mask = np.zeros(SIZE_HW, bool)
    mask[top : top + side, left : left + side] = True
    return encode_rle(mask)


class Truth:
    """Returns what the stills hold, in its own order of classes, and what `more` adds."""

    def __init__(self, stills, class_names, more=Instances(SIZE_HW)):  # noqa: B008
        self.stills, self.class_names, self.more = stills, class_names, more

    def segment(self, image):
        true = [one for one in self.stills[int(image[0, 0, 0])].instances if not one.crowd]
        names = [self.stills.class_names[one.category] for one in true]
        if len(self.class_names) == 1:
            names = list(self.class_names) * len(true)
        return Instances(
            SIZE_HW,
            (*(one.rle for one in true), *self.more.rles),
            (*map(self.class_names.index, names), *self.more.categories),
            (*(0.9 - 0.1 * n for n in range(len(true))), *self.more.scores),
        )


def perfect(values: dict[str, float]) -> list[str]:
    """Names of the measures, all of which must be best."""
    asked = {name: value for name, value in values.items() if "/" in name}
    for name, value in asked.items():
        # NaN: a size that no object has. The one best object cannot be all three.
        if not np.isnan(value) and name != "coco/AR1":
            assert value == pytest.approx(0 if "DiC" in name else 1), name
    return list(asked)


@pytest.mark.parametrize("names", [("cat", "dog"), ("dog", "cat"), ("bird", "dog", "cow", "cat")])
def test_the_truth_is_perfect_whatever_the_order_of_classes(names):
    stills = Stills()
    measures = ["coco", "voc", "cityscapes"]
    values = evaluate_segmenter(Truth(stills, names), stills, measures=measures)
    assert values["coco/AP"] == values["coco/AP50/dog"] == pytest.approx(1)
    assert {name.split("/")[0] for name in perfect(values)} == set(measures)
    assert (values["objects"], values["objects_found"]) == (12, 12)
    assert values["seconds_per_image"] >= 0


def test_a_single_class_may_have_any_name():
    stills = Stills(("nucleus",))
    values = evaluate_segmenter(Truth(stills, ("cell",)), stills)
    kinds = {name.split("/")[0] for name in perfect(values)}
    assert {"coco", "voc", "cityscapes", "panoptic", "microscopy", "leaves"} <= kinds


def test_a_class_that_the_model_does_not_know_is_told_before_any_work():
    stills = Stills()
    segmenter = Truth(stills, ("cat", "cow"))
    segmenter.segment = lambda image: pytest.fail("work was done")
    with pytest.raises(PixelkinError, match="class 'dog', the model knows cat, cow; rename"):
        evaluate_segmenter(segmenter, stills)


def test_classes_that_the_stills_lack_do_not_count_and_false_ones_do():
    stills = Stills()
    wrong = square(42, 2)
    cow = Instances(SIZE_HW, (wrong,), (2,), (0.95,))
    values = evaluate_segmenter(Truth(stills, ("cat", "dog", "cow"), cow), stills)
    assert values["coco/AP"] == pytest.approx(1)
    assert values["objects_found"] == 12
    cat = Instances(SIZE_HW, (wrong,), (0,), (0.95,))
    values = evaluate_segmenter(Truth(stills, ("cat", "dog", "cow"), cat), stills)
    assert values["coco/AP/cat"] < 0.9
    assert values["coco/AP/dog"] == pytest.approx(1)
    assert values["objects_found"] == 16


def test_every_still_is_told_of_with_the_names_of_the_data():
    stills, seen, steps = Stills(), [], []
    evaluate_segmenter(
        Truth(stills, ("dog", "cat")),
        stills,
        measures=["coco"],
        progress=lambda done, total: steps.append((done, total)),
        seen=lambda still, found: seen.append((still.name, found.categories)),
    )
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert seen == [("0", (0, 1, 0)), ("1", (1, 0, 1)), ("2", (0, 1, 0)), ("3", (1, 0, 1))]


def test_more_than_max_dets_objects_are_lost():
    stills = Stills(("thing",))
    values = evaluate_segmenter(Truth(stills, ("thing",)), stills, measures=["coco"], max_dets=1)
    assert values["coco/AR1"] == pytest.approx(1 / 3)
