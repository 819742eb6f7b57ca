"""The watershed of interiors and boundaries: known scenes, and its own targets turned back."""

import numpy as np
import pytest
import torch

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.errors import PixelkinError
from pixelkin.grouping.watershed import (
    WatershedGrouping,
    instances_from_labels,
    watershed_labels,
)
from pixelkin.losses.boundary import boundary_targets
from pixelkin.masks import decode_rle, paint_instances
from pixelkin.structures import IGNORE, InstanceFields


def fields_of(targets, stride, sure=6.0):
    logits = torch.nn.functional.one_hot(targets, 3).permute(0, 3, 1, 2) * sure
    return InstanceFields(logits[:, :0], logits, stride)


def decoded(found):
    return [decode_rle(rle, found.size_hw) for rle in found.rles]


@pytest.mark.parametrize("stride", [1, 2])
def test_targets_turn_back_into_real_nuclei(shared_data, stride):
    labels = paint_instances(Nuclei(shared_data / "dsb2018")[3]).labels[:240, :240]
    targets = boundary_targets(torch.from_numpy(labels)[None], stride=stride, boundary_px=1)
    assert not (targets == IGNORE).any()
    found = WatershedGrouping()(fields_of(targets, stride), labels.shape)
    masks = decoded(found)
    truth = [labels == i for i in np.unique(labels)[1:]]
    best = [max((t & m).sum() / (t | m).sum() for m in masks) for t in truth]
    assert len(truth) > 10
    assert np.mean(np.array(best) > 0.6) > 0.9
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert not (np.sum(masks, axis=0) > 1).any()


def test_two_seeds_divide_what_lies_between_and_a_part_without_seed_is_one():
    interior = np.zeros((20, 40))
    boundary = np.zeros((20, 40))
    interior[5:15, 4:14] = interior[5:15, 18:28] = 0.9
    boundary[5:15, 14:18] = 0.8
    boundary[2:6, 33:37] = 0.7
    labels = watershed_labels(interior, boundary, min_seed=0.5, min_foreground=0.5)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (labels > 0).sum() == 10 * 24 + 16
    left, right = labels[10, 8], labels[10, 22]
    assert left != right
    assert (labels[5:15, 4:15] == left).all()
    assert (labels[5:15, 17:28] == right).all()
    assert (labels[2:6, 33:37] == 3).all()


def test_score_is_the_mean_interior_probability_and_small_objects_go():
    targets = torch.zeros(1, 10, 12, dtype=torch.int64)
    targets[0, 1:6, 1:6] = 2
    targets[0, 2:5, 2:5] = 1
    targets[0, 8, 9:11] = 1
    fields = fields_of(targets, 1, sure=3.0)
    found = WatershedGrouping(min_px=3)(fields, (9, 12))
    assert found.size_hw == (9, 12)
    assert len(found) == 1
    mask = decoded(found)[0]
    assert (mask[1:6, 1:6]).all()
    assert mask.sum() == 25
    interior = fields.logits.softmax(1)[0, 1, :9].numpy()
    assert found.scores[0] == pytest.approx(interior[mask].mean(), rel=1e-5)
    assert len(WatershedGrouping(min_px=1)(fields, (9, 12))) == 2


def test_objects_of_a_label_map_come_best_first():
    labels = np.zeros((12, 20), np.int64)
    labels[1:4, 1:4], labels[5:9, 6:10], labels[0, 19], labels[2, 2] = 2, 7, 3, 0
    image = np.arange(240.0).reshape(12, 20) / 240
    found = instances_from_labels(
        labels, lambda window, mask: float(image[window][mask].mean()), min_px=2
    )
    first, second = decoded(found)
    assert (first == (labels == 7)).all()
    assert (second == (labels == 2)).all()
    np.testing.assert_allclose(found.scores, [image[labels == 7].mean(), image[labels == 2].mean()])
    ends = instances_from_labels(
        np.array([[1, 1, 0, 2]]), lambda window, mask: 3.0 if window[1].start else -3.0
    )
    assert ends.scores == (1.0, 0.0)


def test_nothing_found_and_wrong_fields():
    nothing = torch.zeros(1, 8, 8, dtype=torch.int64)
    assert len(WatershedGrouping()(fields_of(nothing, 2), (16, 16))) == 0
    with pytest.raises(PixelkinError, match="cover"):
        WatershedGrouping()(fields_of(nothing, 2), (17, 16))
    with pytest.raises(PixelkinError, match="boundary"):
        WatershedGrouping()(
            InstanceFields(torch.zeros(1, 0, 8, 8), torch.zeros(1, 2, 8, 8), 2), (8, 8)
        )
