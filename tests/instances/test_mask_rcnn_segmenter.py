"""Pasted masks against loops, against the masks they come from, and against torchvision's paste."""

import math

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image, project_masks_on_boxes

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.instances.mask_rcnn import MaskRcnnSegmenter, paste_window
from pixelkin.losses.boxes import box_targets
from pixelkin.masks import decode_rle, paint_instances
from pixelkin.models.mask_rcnn import mask_rcnn
from pixelkin.structures import InstanceBatch

NUCLEUS_IMAGE = 3


def whole_mask(mask, box, size_hw, cut=0.5):
    window, (left, top) = paste_window(mask, box, size_hw, cut)
    whole = np.zeros(size_hw, bool)
    whole[top : top + window.shape[0], left : left + window.shape[1]] = window
    return whole


def paste_with_loops(mask, box, size_hw, cut):
    m = len(mask)
    x1, y1, x2, y2 = box
    whole = np.zeros(size_hw, bool)
    for y in range(size_hw[0]):
        for x in range(size_hw[1]):
            if not (x1 <= x <= x2 and y1 <= y <= y2):
                continue
            v = min(max((y - y1) / (y2 - y1) * m - 0.5, 0), m - 1)
            u = min(max((x - x1) / (x2 - x1) * m - 0.5, 0), m - 1)
            j, i = min(math.floor(v), m - 2), min(math.floor(u), m - 2)
            b, a = v - j, u - i
            value = (1 - b) * ((1 - a) * mask[j, i] + a * mask[j, i + 1])
            value += b * ((1 - a) * mask[j + 1, i] + a * mask[j + 1, i + 1])
            whole[y, x] = value >= cut
    return whole


@pytest.mark.parametrize(
    "box", [(2.3, 3.1, 11.9, 17.2), (-4.5, -2.5, 8.5, 9.5), (3, 4, 30, 40), (5.1, 5.1, 5.9, 5.9)]
)
def test_paste_against_loops(box):
    mask = np.random.default_rng(1).random((6, 6)).astype(np.float32)
    expected = paste_with_loops(mask, box, (20, 16), 0.41)
    assert (whole_mask(mask, np.array(box), (20, 16), 0.41) == expected).all()
    assert expected.any() == (box[0] != 5.1)


def test_boxes_outside_and_without_extent_give_nothing():
    mask = np.ones((4, 4), np.float32)
    for box in [(20, 2, 30, 9), (-9, -9, -1, -1), (3, 3, 3, 3), (6, 6, 2, 2)]:
        assert not whole_mask(mask, np.array(box, float), (10, 16)).any()


def test_real_nuclei_survive_the_mask_target_better_than_with_torchvisions_paste(shared_data):
    sample = paint_instances(Nuclei(shared_data / "dsb2018")[NUCLEUS_IMAGE])
    labels = torch.from_numpy(sample.labels)[None]
    count = len(sample.categories)
    batch = InstanceBatch(
        torch.zeros(1, 3, *labels.shape[1:]), labels, torch.zeros(1, count).long()
    )
    target = box_targets(batch)[0]
    projected = project_masks_on_boxes(
        target["masks"], target["boxes"], torch.arange(len(target["boxes"])), 28
    )
    size_hw = sample.labels.shape
    pasted = paste_masks_in_image(projected[:, None], target["boxes"], size_hw)[:, 0] >= 0.5

    def iou(a, b):
        return (a & b).sum() / (a | b).sum()

    truth = target["masks"].numpy().astype(bool)
    ours = [
        iou(truth[i], whole_mask(projected[i].numpy(), target["boxes"][i].numpy(), size_hw))
        for i in range(len(truth))
    ]
    theirs = [iou(truth[i], pasted[i].numpy()) for i in range(len(truth))]
    assert len(ours) > 10
    assert np.mean(ours) > 0.97
    assert np.mean(ours) > np.mean(theirs) + 0.02


def test_segment_gives_what_the_model_finds():
    torch.manual_seed(0)
    model = mask_rcnn(2, channels=8, proposals=50, max_detections=9)
    segmenter = MaskRcnnSegmenter(model, class_names=("a", "b"), min_score=0.0)
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    found = segmenter.segment(image)
    assert 0 < len(found) <= 9
    assert found.size_hw == (70, 90)
    assert list(found.scores) == sorted(found.scores, reverse=True)
    assert set(found.categories) <= {0, 1}
    assert all(decode_rle(rle, found.size_hw).any() for rle in found.rles)
    assert (
        len(MaskRcnnSegmenter(model, class_names=("a", "b"), min_score=0.999).segment(image)) == 0
    )


class OneDisc(torch.nn.Module):
    """Finds an ellipse that fills its box, in every image."""

    def __init__(self, box):
        super().__init__()
        self.roi_heads = torch.nn.Identity()
        self.box = box

    def forward(self, images):
        self.seen = images[0]
        y, x = (np.mgrid[:28, :28] + 0.5) / 14 - 1
        mask = torch.from_numpy((x**2 + y**2 <= 1).astype(np.float32))
        return [
            {
                "boxes": torch.tensor([self.box]),
                "masks": mask[None, None],
                "labels": torch.tensor([1]),
                "scores": torch.tensor([0.7]),
            }
        ]


@pytest.mark.parametrize("shrink", [1, 3])
def test_masks_of_a_shrunk_image_lie_where_the_object_is(shrink):
    model = OneDisc([4.5, 9.5, 24.5, 29.5])
    segmenter = MaskRcnnSegmenter(model, class_names=("disc",), shrink=shrink)
    size_hw = (40 * shrink - 1, 40 * shrink)
    found = segmenter.segment(np.full((*size_hw, 3), 51, np.uint8))
    assert model.seen.shape == (3, 40 - (shrink == 1), 40)
    torch.testing.assert_close(model.seen, torch.full_like(model.seen, 0.2))
    y, x = (np.mgrid[: size_hw[0], : size_hw[1]] + 0.5) / shrink - 0.5
    disc = (x - 14.5) ** 2 + (y - 19.5) ** 2 <= 100
    mask = decode_rle(found.rles[0], size_hw)
    assert (mask & disc).sum() / (mask | disc).sum() > 0.95
    # Odd and even sizes: the ellipse is as symmetric as its box, so its centre is exact.
    np.testing.assert_allclose([x[mask].mean(), y[mask].mean()], [14.5, 19.5], atol=0.02)
