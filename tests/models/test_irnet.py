"""IRNet: its heads recomputed layer by layer, sizes, what is frozen, and a short training."""

import pytest
import torch
import torch.nn.functional as F

from pixelkin.errors import PixelkinError
from pixelkin.grouping.affinity import half_plane_offsets
from pixelkin.losses.affinity import affinity_labels
from pixelkin.losses.irnet import IRNET_WEIGHTS, irnet_losses
from pixelkin.models.affinity_net import LastLevels
from pixelkin.models.backbone import TimmBackbone
from pixelkin.models.irnet import IRNet, measure_displacement_mean, relations_of_image
from pixelkin.structures import IGNORE

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def authors_levels(name: str) -> LastLevels:
    return LastLevels(name, levels=5, output_stride=16)


def small(name: str = "resnet18", **options) -> IRNet:
    torch.manual_seed(0)
    options = {"boundary_width": 8, "displacement_width": 32} | options
    return IRNet(authors_levels(name), mean=MEAN, std=STD, **options).eval()


def layer(level: torch.nn.Module, features: torch.Tensor, size_hw) -> torch.Tensor:
    """1×1 convolution, group normalisation, upsampling, ReLU: by their formulas."""
    weight = level.convolution.weight[:, :, 0, 0]
    found = torch.einsum("oi,nihw->nohw", weight, features)
    n, c, h, w = found.shape
    groups = found.reshape(n, level.norm.num_groups, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, keepdim=True, unbiased=False)
    found = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(n, c, h, w)
    found = found * level.norm.weight.view(1, c, 1, 1) + level.norm.bias.view(1, c, 1, 1)
    return F.interpolate(found, size_hw, mode="bilinear").clamp_min(0)


@torch.inference_mode()
def test_fields_equal_the_formula():
    net = small()
    images = torch.rand(2, 3, 48, 64)
    seen = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    maps = net.backbone(seen)
    assert [map_.shape[2] for map_ in maps] == [24, 12, 6, 3, 3]
    maps[0] = maps[0].unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    size_hw, middle_hw = (12, 16), (6, 8)
    parts = [
        layer(level, map_, size_hw) for level, map_ in zip(net.boundary.levels, maps, strict=True)
    ]
    last = net.boundary.join
    logits = torch.einsum("oi,nihw->nohw", last.weight[:, :, 0, 0], torch.cat(parts, 1)) + last.bias
    head = net.displacement
    coarse = [
        layer(level, map_, middle_hw) for level, map_ in zip(head.coarse, maps[2:], strict=True)
    ]
    middle = layer(head.middle, torch.cat(coarse, 1), size_hw)
    fine = [layer(level, map_, size_hw) for level, map_ in zip(head.fine, maps[:2], strict=True)]
    joined = layer(head.join, torch.cat([*fine, middle], 1), size_hw)
    displacement = torch.einsum("oi,nihw->nohw", head.last.weight[:, :, 0, 0], joined)
    found = net(images)
    torch.testing.assert_close(found.logits, logits[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.displacement, displacement, rtol=1e-4, atol=1e-4)


def test_the_authors_channels():
    net = IRNet(authors_levels("resnet50"), mean=MEAN, std=STD)
    assert net.backbone.channels == (64, 256, 512, 1024, 2048)
    assert net.backbone.strides == (2, 4, 8, 16, 16)
    assert net.multiple == 16
    head = net.displacement
    shapes = [
        (level.convolution.in_channels, level.convolution.out_channels, level.norm.num_groups)
        for level in (*net.boundary.levels, *head.fine, *head.coarse, head.middle, head.join)
    ]
    assert shapes == [
        *((c, 32, 4) for c in net.backbone.channels),
        (64, 64, 8),
        (256, 128, 16),
        (512, 256, 16),
        (1024, 256, 16),
        (2048, 256, 16),
        (768, 256, 16),
        (448, 256, 16),
    ]
    assert net.boundary.join.in_channels == 160


@pytest.mark.parametrize(
    ("backbone", "multiple"),
    [
        (lambda: authors_levels("tf_efficientnet_lite0"), 16),
        (lambda: TimmBackbone("tf_efficientnet_lite0", strides=(2, 4, 8, 16, 32)), 32),
        (lambda: TimmBackbone("resnet18", strides=(4, 16)), 16),
    ],
)
@torch.inference_mode()
def test_any_backbone_gives_stride_4(backbone, multiple):
    net = IRNet(backbone(), mean=MEAN, std=STD, boundary_width=8, displacement_width=32).eval()
    assert net.multiple == multiple
    found = net(torch.rand(2, 3, 64, 96))
    assert found.logits.shape == (2, 16, 24)
    assert found.displacement.shape == (2, 2, 16, 24)


def test_a_frozen_backbone_neither_learns_nor_changes_its_statistics():
    net = small().train()
    before = {name: value.clone() for name, value in net.backbone.state_dict().items()}
    found = net(torch.rand(2, 3, 32, 48))
    (found.logits.square().sum() + found.displacement.square().sum()).backward()
    assert all(p.grad is None for p in net.backbone.parameters())
    for head in (net.boundary, net.displacement):
        assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    assert all(
        torch.equal(net.backbone.state_dict()[name], value) for name, value in before.items()
    )
    free = small(freeze_backbone=False).train()
    free(torch.rand(2, 3, 32, 48)).logits.square().sum().backward()
    assert all(p.grad is not None for p in free.backbone.parameters())
    assert free.backbone.training


def test_the_training_mean_is_measured_saved_and_taken_away():
    net = small()
    generator = torch.Generator().manual_seed(0)
    batches = [
        torch.rand(2, 3, 32, 48, generator=generator),
        torch.rand(1, 3, 48, 64, generator=generator),
    ]
    raw = [net(images).displacement for images in batches]
    every = torch.cat([one.transpose(0, 1).flatten(1) for one in raw], dim=1)
    assert every.mean(1).abs().min() > 1e-3
    # Whatever an earlier measurement left behind.
    net.displacement_mean.fill_(7)
    found = measure_displacement_mean(net.train(), batches)
    assert not net.training
    torch.testing.assert_close(found, every.mean(1).detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        net(batches[0]).displacement, raw[0] - found.view(1, 2, 1, 1), rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(net.train()(batches[0]).displacement, raw[0], rtol=1e-4, atol=1e-6)
    other = small()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.displacement_mean.flatten(), found)


class OnMps(torch.Tensor):
    """A tensor of a device that knows no float64."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_the_mean_is_measured_on_a_device_without_float64(monkeypatch):
    net, forward = small(), IRNet.forward

    def on_mps(self, images):
        found = forward(self, images)
        return found._replace(displacement=found.displacement.as_subclass(OnMps))

    images = [torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))]
    expected = measure_displacement_mean(net, images)
    monkeypatch.setattr(IRNet, "forward", on_mps)
    assert torch.equal(measure_displacement_mean(net, images), expected)


@torch.no_grad()
def test_an_image_of_any_size_and_its_mirror_image():
    net = small()
    image = torch.rand(3, 45, 50, generator=torch.Generator().manual_seed(0))
    padded = F.pad(image[None], (0, 14, 0, 3), mode="replicate")
    plain, mirrored = net(padded), net(padded.flip(-1))
    found = relations_of_image(net, image)
    assert found.logits.shape == (1, 12, 13)
    assert found.displacement.shape == (1, 2, 12, 13)
    mean = (plain.logits + mirrored.logits.flip(-1)) / 2
    torch.testing.assert_close(found.logits, mean[..., :12, :13])
    torch.testing.assert_close(found.displacement, plain.displacement[..., :12, :13])
    assert not torch.allclose(found.logits, plain.logits[..., :12, :13], atol=1e-4)
    tiny = relations_of_image(net, image[:, :3, :3])
    assert tiny.logits.shape == (1, 1, 1)


def test_a_few_steps_learn_a_boundary_in_the_image():
    """Red beside blue: the network sees the boundary where the labels only say what lies apart."""
    net = small()
    images = torch.zeros(1, 3, 32, 64)
    images[:, 0, :, :32] = 1
    images[:, 2, :, 32:] = 1
    labels = torch.full((1, 8, 16), IGNORE)
    labels[..., 1:6] = 1
    labels[..., 10:15] = 2
    offsets = half_plane_offsets(7)
    kinds = affinity_labels(labels, offsets)
    heads = [*net.boundary.parameters(), *net.displacement.parameters()]
    optimizer = torch.optim.Adam(heads, lr=1e-2)
    net.train()
    course = []
    for _ in range(30):
        found = net(images)
        losses = irnet_losses(found.logits, found.displacement, kinds, offsets)
        loss = torch.stack([weight * losses[k] for k, weight in IRNET_WEIGHTS.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(float(loss.detach()))
    assert course[-1] < course[0] / 2
    boundary = net.eval()(images).logits[0].detach().sigmoid()
    assert (boundary[:, 6:10].amax(1) > 0.8).all()
    assert boundary[:, 1:6].mean() < 0.3
    assert boundary[:, 10:15].mean() < 0.3


def test_irnet_mistakes_are_one_line():
    net = small()
    for call, message in (
        (lambda: net(torch.rand(1, 3, 250, 131)), "131×250.*divisible by 16; pad it to 144×256"),
        (lambda: small(boundary_width=12), "widths 12 and 32: expected multiples of 8"),
        (lambda: small(displacement_width=16), "widths 8 and 16"),
        (lambda: small(stride=3), "multiples of 3"),
        (
            lambda: IRNet(LastLevels("resnet18"), mean=MEAN, std=STD),
            r"\(8, 8, 8\): expected some up to 4 and some beyond",
        ),
        (
            lambda: IRNet(TimmBackbone("resnet18", strides=(2, 4)), mean=MEAN, std=STD),
            r"\(2, 4\): expected some up to 4",
        ),
        (lambda: measure_displacement_mean(net, []), "no images"),
        (lambda: relations_of_image(small().train(), torch.rand(3, 32, 32)), "training mode"),
    ):
        with pytest.raises(PixelkinError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
