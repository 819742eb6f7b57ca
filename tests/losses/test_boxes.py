"""Targets of box networks against loops, and the losses of Mask R-CNN."""

import numpy as np
import pytest
import torch
from torchvision.ops import masks_to_boxes

from pixelkin.errors import PixelkinError
from pixelkin.losses.boxes import box_targets, mask_rcnn_losses
from pixelkin.models.mask_rcnn import mask_rcnn
from pixelkin.structures import IGNORE, InstanceBatch


def batch_of(labels, categories):
    labels = torch.as_tensor(labels)
    return InstanceBatch(torch.rand(len(labels), 3, *labels.shape[1:]), labels, categories)


def test_targets_against_loops():
    rng = np.random.default_rng(0)
    labels = np.zeros((3, 20, 30), np.int64)
    for n in range(2):
        for label in (1, 2, 254, 256, 300):
            y, x, h, w = rng.integers([0, 0, 1, 1], [14, 24, 7, 7])
            labels[n, y : y + h, x : x + w] = label
        labels[n, 0, :4] = IGNORE
    categories = torch.from_numpy(rng.integers(0, 5, (3, 299)))
    for n, target in enumerate(box_targets(batch_of(labels, categories))):
        ids = sorted(set(labels[n].ravel().tolist()) - {0, IGNORE})
        assert (len(ids) > 3) == (n < 2)
        assert target["boxes"].shape == (len(ids), 4)
        assert target["boxes"].dtype == torch.float32
        assert target["masks"].shape == (len(ids), 20, 30)
        assert target["masks"].dtype == torch.uint8
        for i, label in enumerate(ids):
            ys, xs = np.nonzero(labels[n] == label)
            expected = [xs.min() - 0.5, ys.min() - 0.5, xs.max() + 0.5, ys.max() + 0.5]
            assert target["boxes"][i].tolist() == expected
            place = label - 1 if label < IGNORE else label - 2
            assert target["labels"][i] == categories[n, place] + 1
            assert (target["masks"][i].numpy() == (labels[n] == label)).all()
        if ids:
            inclusive = masks_to_boxes(target["masks"])
            half = torch.tensor([-0.5, -0.5, 0.5, 0.5])
            torch.testing.assert_close(target["boxes"], inclusive + half)


@pytest.mark.parametrize("categories", [[[0, -1]], [[0]]])
def test_an_instance_without_category_is_told(categories):
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, 0, 0], labels[0, 4, 4] = 1, 2
    with pytest.raises(PixelkinError, match="label 2 has no category"):
        box_targets(batch_of(labels, torch.tensor(categories)))


def test_five_finite_losses_also_where_nothing_is_annotated():
    torch.manual_seed(0)
    model = mask_rcnn(2, channels=8, proposals=50, regions_per_image=16).train()
    labels = torch.zeros(2, 64, 64, dtype=torch.int64)
    labels[0, 10:30, 20:40] = 1
    batch = batch_of(labels, torch.tensor([[1], [-1]]))
    losses = mask_rcnn_losses(model, batch)
    assert set(losses) == {"proposal", "proposal_box", "class", "box", "mask"}
    assert all(value.isfinite() and value.ndim == 0 for value in losses.values())
    assert float(losses["mask"].detach()) > 0
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    nothing = mask_rcnn_losses(model, batch_of(labels[1:], torch.tensor([[-1]])))
    assert float(nothing["mask"].detach()) == float(nothing["box"].detach()) == 0
    assert float(nothing["proposal"].detach()) > 0


def test_evaluation_mode_is_told():
    model = mask_rcnn(1, channels=8).eval()
    with pytest.raises(PixelkinError, match="train"):
        mask_rcnn_losses(model, batch_of(torch.zeros(1, 32, 32).long(), torch.tensor([[-1]])))
