import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from pixelkin.data.clips.ccp import read_classes
from pixelkin.errors import PixelkinError
from pixelkin.grouping.dense_crf import PermutohedralLattice, dense_crf

PAPER = ((3.0, None, 3.0), (80.0, 13.0, 10.0))


def kernel(image, sxy, srgb):
    """Every pair of pixels, normalised symmetrically."""
    height, width = image.shape[:2]
    y, x = np.divmod(np.arange(height * width), width)
    exponent = ((x[:, None] - x) ** 2 + (y[:, None] - y) ** 2) / (2 * sxy**2)
    if srgb is not None:
        colour = image.reshape(-1, 3).astype(float)
        exponent = exponent + ((colour[:, None] - colour) ** 2).sum(2) / (2 * srgb**2)
    similar = np.exp(-exponent)
    sums = similar.sum(1)
    return similar / np.sqrt(sums[:, None] * sums)


def exact(probabilities, image, *, kernels=PAPER, iterations=10):
    """Mean field by its definition, in float64."""
    evidence = np.log(np.maximum(probabilities.reshape(len(probabilities), -1), 1e-5))
    message = sum(compat * kernel(image, sxy, srgb) for sxy, srgb, compat in kernels)
    belief = np.exp(evidence) / np.exp(evidence).sum(0)
    for _ in range(iterations):
        energy = evidence + belief @ message
        belief = np.exp(energy - energy.max(0))
        belief /= belief.sum(0)
    return belief.reshape(probabilities.shape)


def unaries(classes, rng, *, sigma=2.5, noise=0.2):
    """A true map blurred as class activation is, with noise."""
    names = np.unique(classes)
    maps = np.stack([cv2.GaussianBlur((classes == one) * 1.0, (0, 0), sigma) for one in names])
    maps = maps + noise * rng.random(maps.shape)
    return maps / maps.sum(0)


def scene(rng, size=24):
    """A disc and a bar before a slope of grey, with noise of a camera's size."""
    y, x = np.mgrid[:size, :size]
    classes = np.zeros((size, size), int)
    classes[(x - 8) ** 2 + (y - 9) ** 2 < 30] = 1
    classes[15:20, 6:22] = 2
    colours = np.array([[90, 100, 110], [200, 60, 50], [60, 140, 200]])
    image = colours[classes] + 2 * x[..., None] + rng.normal(0, 5, (size, size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), classes


def test_smoothness_alone_is_exact():
    rng = np.random.default_rng(0)
    image = np.zeros((17, 24, 3), np.uint8)
    # 70 classes are more than OpenCV filters in one call.
    probabilities = rng.dirichlet(np.full(70, 0.1), (17, 24)).transpose(2, 0, 1)
    found = dense_crf(torch.from_numpy(probabilities), image, bilateral_compat=0)
    wanted = exact(probabilities, image, kernels=PAPER[:1])
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_quadratic_computation(seed):
    rng = np.random.default_rng(seed)
    image, classes = scene(rng)
    probabilities = unaries(classes, rng)
    found = dense_crf(torch.from_numpy(probabilities), image).numpy()
    wanted = exact(probabilities, image)
    # The field does something, or agreement would be cheap.
    assert (wanted.argmax(0) != probabilities.argmax(0)).mean() > 0.01
    assert (found.argmax(0) == wanted.argmax(0)).mean() >= 0.99
    assert np.abs(found - wanted).mean() < 0.01


def test_agrees_with_the_quadratic_computation_on_photos(shared_data):
    near, whole = [], []
    for path in sorted((shared_data / "ccp/annotations/pixel-level").glob("*.mat"))[:80:20]:
        photo = Image.open(shared_data / f"ccp/photos/{path.stem}.jpg").convert("RGB")
        for cut, sigma, agreeing in (
            (np.s_[200:296:4, 220:316:4], 2.5, near),
            (np.s_[100:580:20, 40:520:20], 1, whole),
        ):
            image = np.ascontiguousarray(np.asarray(photo)[cut])
            rng = np.random.default_rng(0)
            probabilities = unaries(read_classes(path)[cut], rng, sigma=sigma)
            found = dense_crf(torch.from_numpy(probabilities), image).numpy()
            wanted = exact(probabilities, image)
            agreeing.append((found.argmax(0) == wanted.argmax(0)).mean())
    assert min(near) >= 0.99
    # A person of 24 pixels' height with six garments: regions lie near the tipping point.
    assert np.mean(whole) >= 0.99
    assert min(whole) >= 0.98


@pytest.mark.parametrize(("dims", "tolerance"), [(1, 0.1), (2, 0.1), (3, 0.1), (5, 0.16)])
def test_lattice_filters_by_a_gaussian(dims, tolerance):
    rng = np.random.default_rng(dims)
    points = rng.random((300, dims)) * 3
    squared = ((points[:, None] - points) ** 2).sum(2)
    gauss = np.exp(-squared / 2)
    sums = gauss.sum(1)
    wanted = gauss / np.sqrt(sums[:, None] * sums)
    lattice = PermutohedralLattice(points)
    found = lattice.normalised()(np.eye(300, dtype=np.float32))
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < tolerance
    np.testing.assert_allclose(found, found.T, atol=1e-6)

    values = rng.random((300, 2)).astype(np.float32)
    means = lattice(values) / lattice(np.ones((300, 1), np.float32))
    np.testing.assert_allclose(means, gauss @ values / sums[:, None], atol=0.04)


def test_labels_have_no_order():
    rng = np.random.default_rng(1)
    image, classes = scene(rng)
    probabilities = torch.from_numpy(unaries(classes, rng))
    order = [2, 0, 1]
    torch.testing.assert_close(
        dense_crf(probabilities[order], image), dense_crf(probabilities, image)[order]
    )


def test_edges_of_a_block_are_drawn_to_the_picture():
    image = np.full((40, 60, 3), 40, np.uint8)
    image[10:30, 20:45] = (200, 180, 30)
    truth = image[:, :, 0] == 200
    wide = np.zeros((40, 60))
    wide[6:34, 14:51] = 1
    foreground = 0.1 + 0.7 * cv2.GaussianBlur(wide, (0, 0), 3)
    probabilities = torch.from_numpy(np.stack([1 - foreground, foreground]))
    before = probabilities.argmax(0).numpy() == 1
    after = dense_crf(probabilities, image).argmax(0).numpy() == 1
    assert (before != truth).sum() > 200
    assert (after == truth).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 30), (30, 1), (2, 3)])
def test_any_size(size_hw):
    probabilities = torch.rand(3, *size_hw)
    found = dense_crf(probabilities, np.zeros((*size_hw, 3), np.uint8))
    assert found.shape == probabilities.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.sum(0), torch.ones(size_hw))


def test_no_iteration_normalises():
    probabilities = torch.tensor([2.0, 0.0, 6.0]).reshape(3, 1, 1).expand(3, 4, 4)
    found = dense_crf(probabilities, np.zeros((4, 4, 3), np.uint8), iterations=0)
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.25, 0.0, 0.75]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("probabilities", "image", "options", "message"),
    [
        (torch.rand(2, 4, 5), np.zeros((4, 6, 3), np.uint8), {}, "expected uint8"),
        (torch.rand(2, 4, 5), np.zeros((4, 5, 3)), {}, "expected uint8"),
        (torch.rand(4, 5), np.zeros((4, 5, 3), np.uint8), {}, "float"),
        (torch.rand(0, 4, 5), np.zeros((4, 5, 3), np.uint8), {}, "empty"),
        (-torch.rand(2, 4, 5), np.zeros((4, 5, 3), np.uint8), {}, "negative"),
        (torch.full((2, 4, 5), torch.nan), np.zeros((4, 5, 3), np.uint8), {}, "no number"),
        (torch.rand(2, 4, 5), np.zeros((4, 5, 3), np.uint8), {"bilateral_srgb": 0}, "above 0"),
        (torch.rand(2, 4, 5), np.zeros((4, 5, 3), np.uint8), {"iterations": -1}, "0 or more"),
    ],
)
def test_mistakes_are_told(probabilities, image, options, message):
    with pytest.raises(PixelkinError, match=message):
        dense_crf(probabilities, image, **options)


def test_points_too_far_apart_are_told():
    with pytest.raises(PixelkinError, match="choose larger standard deviations"):
        PermutohedralLattice(np.array([[0.0] * 5, [1e5] * 5]))
