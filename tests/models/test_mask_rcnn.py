"""Mask R-CNN: images keep their size, the parts fit, and what it cannot do is told."""

import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.mask_rcnn import STRIDES, UnscaledTransform, mask_rcnn


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return mask_rcnn(3, channels=16, proposals=50, max_detections=7).eval()


def test_images_are_padded_by_their_edge_and_never_scaled():
    images = [torch.rand(3, 33, 20), torch.rand(3, 20, 64)]
    batch, targets = UnscaledTransform()(images)
    assert targets is None
    assert batch.tensors.shape == (2, 3, 64, 64)
    assert batch.image_sizes == [(64, 64)] * 2
    for image, padded in zip(images, batch.tensors, strict=True):
        h, w = image.shape[1:]
        torch.testing.assert_close(padded[:, :h, :w], image * 2 - 1)
        torch.testing.assert_close(padded[:, h:, :w], (image[:, -1:] * 2 - 1).expand(3, 64 - h, w))
        assert (padded[:, :, w:] == padded[:, :, w - 1 : w]).all()


def test_raw_masks_for_at_most_the_given_number(model):
    model.roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        # torchvision guesses strides from sizes, and is wrong for this one if not told better.
        small, large = model([torch.rand(3, 65, 97), torch.rand(3, 128, 70)])
    for found in (small, large):
        assert found["masks"].shape == (7, 1, 28, 28)
        assert found["boxes"].shape == (7, 4)
        assert (found["scores"].diff() <= 0).all()
        assert set(found["labels"].tolist()) <= {1, 2, 3}


def test_an_image_alone_or_in_a_batch_gives_the_same(model):
    model.roi_heads.score_thresh = 0.0
    images = [torch.rand(3, 64, 96), torch.rand(3, 64, 96)]
    with torch.inference_mode():
        together, alone = model(images)[1], model(images[1:])[0]
    torch.testing.assert_close(together["boxes"], alone["boxes"], atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(together["masks"], alone["masks"], atol=1e-3, rtol=1e-3)


def test_anchors_have_the_sizes_asked_for():
    model = mask_rcnn(
        1, channels=8, anchor_sizes_px=((8,), (16,), (32,), (64,)), aspect_ratios=(1.0, 4.0)
    )
    cells = model.rpn.anchor_generator.cell_anchors
    sizes = [[((b[2] - b[0]).item(), (b[3] - b[1]).item()) for b in level] for level in cells]
    assert sizes == [[(s, s), (s / 2, s * 2)] for s in (8, 16, 32, 64)]


def test_wrong_strides_and_anchors_are_told():
    with pytest.raises(PixelkinError, match="strides"):
        mask_rcnn(1, backbone=TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16)))
    with pytest.raises(PixelkinError, match="anchor sizes"):
        mask_rcnn(1, anchor_sizes_px=((8,), (16,), (32,)))
    with pytest.raises(PixelkinError, match="same number"):
        mask_rcnn(1, anchor_sizes_px=((8,), (16,), (32,), (64, 96)))
    assert STRIDES == (4, 8, 16, 32)
