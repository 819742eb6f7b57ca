"""Fine-tuning on the first frame."""

import cv2
import numpy as np
import pytest
import torch

from pixelkin.baselines.class_balanced import class_balanced_bce
from pixelkin.baselines.contract import to_tensor
from pixelkin.baselines.finetune import augment, finetuned, object_mask
from pixelkin.baselines.masktrack import coarsen, deform_mask
from pixelkin.media import open_clip
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.side_output_net import SideOutputNet
from pixelkin.structures import IGNORE


@pytest.fixture(scope="module")
def frame(bikes_clip):
    with open_clip(bikes_clip) as clip:
        return cv2.resize(clip[0], (272, 160), interpolation=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((160, 272), np.uint8)
    cv2.ellipse(mask, (130, 80), (50, 35), 0, 0, 360, 1, -1)
    return mask


def network(*, mask_input):
    torch.manual_seed(0)
    backbone = TimmBackbone("tf_efficientnet_lite0", strides=(4, 8, 16))
    return SideOutputNet(backbone, mask_input=mask_input).eval()


@pytest.mark.parametrize("mask_input", [False, True])
def test_loss_on_the_first_frame_falls(frame, mask, mask_input):
    base = network(mask_input=mask_input)
    before = {k: v.clone() for k, v in base.state_dict().items()}
    deform = deform_mask if mask_input else None
    tuned = finetuned(base, frame, mask, steps=25, learning_rate=1e-2, seed=0, deform=deform)
    previous = torch.from_numpy(coarsen(mask))[None, None].float() if mask_input else None
    truth = torch.from_numpy(mask)[None] == 1

    def loss(net):
        with torch.inference_mode():
            logits = net(to_tensor(frame, torch.device("cpu")), previous)[:, 0]
        return float(class_balanced_bce(logits, truth, torch.ones_like(truth)))

    assert loss(tuned) < 0.75 * loss(base)
    assert not tuned.training
    for key, value in base.state_dict().items():
        assert torch.equal(value, before[key]), key
    changed = tuned.backbone.net.conv_stem.weight != base.backbone.net.conv_stem.weight
    assert changed.any()
    if mask_input:
        assert changed[:, 3].any()


def test_batch_statistics_stay(frame, mask):
    base = network(mask_input=False)
    tuned = finetuned(base, frame, mask, steps=1, learning_rate=1e-2, seed=0)
    for name, buffer in base.named_buffers():
        assert torch.equal(buffer, tuned.get_buffer(name)), name


def test_object_mask_tells_other_objects_from_unknown():
    labels = np.array([[0, 1, 2, IGNORE]], np.uint8)
    assert object_mask(labels, 2).tolist() == [[0, 0, 1, IGNORE]]


def test_image_and_mask_are_augmented_alike(mask):
    """A picture of the mask and the mask itself go the same way."""
    picture = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(8):
        image, moved = augment(picture, mask, rng)
        inner = cv2.erode(moved, np.ones((3, 3), np.uint8)) > 0
        outer = cv2.dilate(moved, np.ones((3, 3), np.uint8)) == 0
        assert image[inner].min() > 250
        assert image[outer].max() < 5
        areas.append(moved.sum() / mask.sum())
    assert 0.75**2 * 0.97 < min(areas) < 0.95
    assert 1.05 < max(areas) < 1.25**2 * 1.03
