"""The discriminative loss against the paper's sums as plain loops."""

import math

import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.losses.discriminative import discriminative_loss
from pixelkin.structures import IGNORE, nth_instance_id

NAMES = ("variance", "distance", "regularisation")


def norm(vector):
    return math.sqrt(sum(value * value for value in vector))


def minus(first, second):
    return [a - b for a, b in zip(first, second, strict=True)]


def image_loops(pixels, ids, margin_variance, margin_distance):
    """The three sums of one image, as the paper writes them."""
    clusters = {}
    for pixel, label in zip(pixels, ids, strict=True):
        if label not in (0, IGNORE):
            clusters.setdefault(label, []).append(pixel)
    count = len(clusters)
    if count == 0:
        return [0.0, 0.0, 0.0]
    means = {
        label: [sum(values) / len(members) for values in zip(*members, strict=True)]
        for label, members in clusters.items()
    }
    variance = distance = regularisation = 0.0
    for label, members in clusters.items():
        pull = sum(
            max(0.0, norm(minus(means[label], pixel)) - margin_variance) ** 2 for pixel in members
        )
        variance += pull / len(members) / count
        regularisation += norm(means[label]) / count
        for other in clusters:
            if other != label:
                gap = 2 * margin_distance - norm(minus(means[label], means[other]))
                distance += max(0.0, gap) ** 2 / (count * (count - 1))
    return [variance, distance, regularisation]


def loops(embeddings, labels, margin_variance=0.5, margin_distance=1.5):
    images = [
        image_loops(
            image.flatten(1).T.tolist(), ids.flatten().tolist(), margin_variance, margin_distance
        )
        for image, ids in zip(embeddings, labels, strict=True)
    ]
    columns = zip(*images, strict=True)
    return dict(zip(NAMES, (sum(column) / len(images) for column in columns), strict=True))


def case(seed, *, images=3, dimensions=3, size_hw=(5, 6), ids=(0, 1, 2, 7, IGNORE, 4001)):
    generator = torch.Generator().manual_seed(seed)
    shape = (images, dimensions, *size_hw)
    embeddings = torch.randn(shape, generator=generator, dtype=torch.float64)
    place = torch.randint(len(ids), (images, *size_hw), generator=generator)
    return embeddings, torch.tensor(ids)[place]


def hand_case():
    values = torch.tensor([0.0, 2.0, *[10.0] * 6], dtype=torch.float64)
    ids = torch.tensor([1, 1, 2, 2, 2, 2, 2, 2])
    return values.reshape(1, 1, 1, 8), ids.reshape(1, 1, 8)


def test_by_hand():
    # A = {0, 2} has mean 1, and both lie 1 from it: (1 − .5)² = .25; B = {10}×6 has none.
    terms = discriminative_loss(*hand_case())
    assert terms["variance"].item() == pytest.approx(0.125)
    assert terms["distance"].item() == 0
    assert terms["regularisation"].item() == pytest.approx(5.5)
    total = terms["variance"] + terms["distance"] + 0.001 * terms["regularisation"]
    assert total.item() == pytest.approx(0.1305)


def test_variance_is_per_instance_and_not_per_pixel():
    embeddings, labels = hand_case()
    # A port divides the sum over all pixels by their number, so that large instances rule.
    means = torch.tensor([1.0] * 2 + [10.0] * 6, dtype=torch.float64)
    per_pixel = ((embeddings.flatten() - means).abs() - 0.5).relu().square().mean().item()
    variance = discriminative_loss(embeddings, labels)["variance"].item()
    assert per_pixel == pytest.approx(0.0625)
    assert variance != pytest.approx(per_pixel)
    # The size of a content instance does not matter at all.
    assert discriminative_loss(embeddings[..., :3], labels[..., :3])["variance"].item() == variance


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("margins", [(0.5, 1.5), (1.2, 0.7)])
def test_equals_plain_loops(seed, margins):
    embeddings, labels = case(seed)
    labels[1][labels[1] > 2] = 0
    given = {"margin_variance": margins[0], "margin_distance": margins[1]}
    expected = loops(embeddings, labels, *margins)
    terms = discriminative_loss(embeddings, labels, **given)
    assert min(expected.values()) > 0
    for name in NAMES:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-12)


def test_images_do_not_meet():
    # The same ids in two images are four instances: the mean of the two images' own losses.
    embeddings, labels = case(7, images=2)
    together = discriminative_loss(embeddings, labels)
    apart = [discriminative_loss(embeddings[i : i + 1], labels[i : i + 1]) for i in range(2)]
    for name in NAMES:
        assert together[name].item() == pytest.approx(sum(part[name].item() for part in apart) / 2)


def test_many_ids():
    count = 600
    ids = torch.tensor([nth_instance_id(index) for index in range(count)])
    labels = ids.repeat(2)[torch.randperm(2 * count, generator=torch.Generator().manual_seed(1))]
    embeddings, _ = case(2, images=1, dimensions=2, size_hw=(1, 2 * count))
    terms = discriminative_loss(embeddings * 3, labels.reshape(1, 1, -1))
    expected = loops(embeddings * 3, labels.reshape(1, 1, -1))
    for name in NAMES:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-10)


@pytest.mark.parametrize("ids", [(0,), (IGNORE,), (0, IGNORE), (9,), (0, 9, IGNORE)])
def test_images_with_one_instance_or_none(ids):
    embeddings, labels = case(3, images=2, ids=ids)
    embeddings.requires_grad_()
    terms = discriminative_loss(embeddings, labels)
    sum(terms.values()).backward()
    assert terms["distance"].item() == 0
    for name, value in loops(embeddings.detach(), labels).items():
        assert terms[name].item() == pytest.approx(value)
    moved = embeddings.grad.abs().sum(1) > 0
    assert torch.equal(moved, labels == 9)


def test_an_image_without_instances_counts_in_the_mean():
    embeddings, labels = case(4, images=2)
    labels[1] = 0
    both = discriminative_loss(embeddings, labels)
    first = discriminative_loss(embeddings[:1], labels[:1])
    for name in NAMES:
        assert first[name] > 0
        assert both[name].item() == pytest.approx(first[name].item() / 2)


def test_gradient_is_finite_where_norms_are_zero():
    # Two instances, every pixel at the origin: all norms and distances are 0.
    embeddings = torch.zeros(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[[1, 1], [2, 2]]])
    terms = discriminative_loss(embeddings, labels, margin_variance=0.0)
    sum(terms.values()).backward()
    assert terms["distance"].item() == pytest.approx(9.0)
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    embeddings, labels = case(5, images=2, size_hw=(3, 4))
    embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda e: discriminative_loss(e, labels)[name], (embeddings,))


def test_descent_gathers_instances_and_parts_them():
    embeddings, labels = case(6, images=1, dimensions=2, size_hw=(8, 8), ids=(0, 1, 2, 3))
    embeddings.requires_grad_()
    optimizer = torch.optim.SGD([embeddings], lr=2.0)
    start = discriminative_loss(embeddings, labels)
    for _ in range(300):
        optimizer.zero_grad()
        terms = discriminative_loss(embeddings, labels)
        (terms["variance"] + terms["distance"]).backward()
        optimizer.step()
    assert start["variance"] + start["distance"] > 1
    assert terms["variance"] + terms["distance"] < 1e-3


def test_under_autocast_sums_are_float32():
    # 40,000 pixels near 3: a bfloat16 sum of them would stop growing near 1,000.
    embeddings = torch.full((1, 2, 200, 200), 3.0).to(torch.bfloat16).requires_grad_()
    labels = torch.ones(1, 200, 200, dtype=torch.int64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = discriminative_loss(embeddings, labels)
    assert all(value.dtype == torch.float32 for value in terms.values())
    assert terms["variance"].item() == 0
    assert terms["regularisation"].item() == pytest.approx(3 * math.sqrt(2), rel=1e-5)
    sum(terms.values()).backward()
    assert embeddings.grad.dtype == torch.bfloat16
    assert embeddings.grad.isfinite().all()


def test_refuses_what_does_not_belong_together():
    embeddings, labels = case(8)
    with pytest.raises(PixelkinError, match="expected"):
        discriminative_loss(embeddings, labels[:, 1:])
    with pytest.raises(PixelkinError, match="expected"):
        discriminative_loss(embeddings[:0], labels[:0])
    labels[0, 0, 0] = -1
    with pytest.raises(PixelkinError, match="label -1"):
        discriminative_loss(embeddings, labels)
