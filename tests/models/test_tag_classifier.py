"""The tag classifier: its scores are the means of its activation maps."""

import math

import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.tag_classifier import TagClassifier, tag_loss

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


@pytest.fixture(scope="module")
def net() -> TagClassifier:
    torch.manual_seed(0)
    backbone = TimmBackbone("resnet18", strides=(8,), output_stride=8)
    return TagClassifier(backbone, 5, mean=MEAN, std=STD).eval()


@torch.inference_mode()
def test_scores_are_the_means_of_the_maps(net):
    images = torch.rand(2, 3, 48, 72)
    maps = net.activation_maps(images)
    assert maps.shape == (2, 5, 6, 9)
    torch.testing.assert_close(net(images), maps.mean((2, 3)))
    seen = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    features = net.backbone(seen)[-1]
    expected = torch.einsum("oi,nihw->nohw", net.classifier.weight[:, :, 0, 0], features)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_dropout_takes_whole_channels_in_training_alone(net):
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(net(images), net(images))
    net.dropout.train()
    try:
        dropped = net.dropout(torch.ones(1, 400, 3, 3))
        assert set(dropped.unique().tolist()) == {0.0, 2.0}
        assert torch.equal(dropped.amin((2, 3)), dropped.amax((2, 3)))
        assert not torch.equal(net(images), net(images))
        # The maps are to be looked at: nothing is dropped from them.
        assert torch.equal(net.activation_maps(images), net.activation_maps(images))
    finally:
        net.dropout.eval()


def test_loss_equals_loops():
    torch.manual_seed(1)
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    tags = torch.rand(3, 4) < 0.5
    costs = []
    for i in range(3):
        for c in range(4):
            probability = 1 / (1 + math.exp(-logits[i, c].item()))
            costs.append(-math.log(probability if tags[i, c] else 1 - probability))
    assert tag_loss(logits, tags).item() == pytest.approx(sum(costs) / 12, rel=1e-12)
    assert torch.autograd.gradcheck(lambda x: tag_loss(x, tags), (logits,))


def test_classifier_mistakes_are_one_line(net):
    for call, message in (
        (lambda: net(torch.rand(1, 3, 30, 32)), "32×30.*pad it to 32×32"),
        (lambda: net.activation_maps(torch.rand(1, 3, 30, 32)), "32×30"),
        (lambda: TagClassifier(net.backbone, 0, mean=MEAN, std=STD), "0 classes"),
        (lambda: tag_loss(torch.zeros(2, 3), torch.zeros(2, 2)), r"\(2, 3\) for tags \(2, 2\)"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
