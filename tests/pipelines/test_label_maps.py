"""From a photo to masks, step by step: each step is the composition of its parts."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.grouping.activation_maps import confident_regions, scaled_size, with_background
from pixelkin.grouping.affinity import affinities, half_plane_offsets
from pixelkin.grouping.dense_crf import dense_crf
from pixelkin.grouping.random_walk import one_step, transition, walk
from pixelkin.models.affinity_net import small_affinity_net
from pixelkin.models.tag_classifier import small_tag_classifier
from pixelkin.pipelines.weak_labels import maps
from pixelkin.pipelines.weak_labels.maps import (
    ActivationOptions,
    CrfOptions,
    RegionOptions,
    WalkOptions,
)
from pixelkin.structures import IGNORE

H, W = 64, 96
NO_CRF = CrfOptions(iterations=0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    picture = rng.integers(60, 90, (H, W, 3), dtype=np.uint8)
    picture[16:48, 24:56] += 120
    return picture


@pytest.fixture(scope="module")
def found() -> torch.Tensor:
    """Maps of two classes on the grid of cells, the maximum of each 1."""
    rough = torch.rand(2, H // 8, W // 8, generator=torch.Generator().manual_seed(1)) ** 2
    return rough / rough.amax((1, 2), keepdim=True)


@pytest.fixture(scope="module")
def affinity_net():
    torch.manual_seed(2)
    return small_affinity_net().eval()


# Labels


@given(st.data())
def test_numbers_of_classes_go_there_and_back(data):
    classes = data.draw(st.lists(st.integers(0, 253), unique=True, max_size=12))
    size = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    values = st.sampled_from([*range(len(classes) + 1), IGNORE])
    local = np.array(
        data.draw(st.lists(values, min_size=size[0] * size[1], max_size=size[0] * size[1]))
    ).reshape(size)
    labels = maps.numbered(local, classes)
    assert labels.dtype == np.uint8
    for place, label in zip(local.ravel(), labels.ravel(), strict=True):
        expected = {0: 0, IGNORE: IGNORE}.get(int(place))
        assert label == (classes[place - 1] + 1 if expected is None else expected)
    back = maps.unnumbered(labels, classes)
    assert back.dtype == np.int64
    np.testing.assert_array_equal(back, local)


def test_a_class_that_the_photo_has_not_is_neutral():
    labels = np.array([[0, 3, 7, 255]], np.uint8)
    np.testing.assert_array_equal(maps.unnumbered(labels, [6]), [[0, IGNORE, 1, IGNORE]])


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20))
def test_resized_labels_are_those_of_the_nearest_pixel(h, w, to_h, to_w):
    labels = np.random.default_rng(h * w).integers(0, 256, (h, w))
    bigger = maps.resized(labels, (to_h, to_w))
    assert bigger.dtype == np.uint8
    for y in range(to_h):
        for x in range(to_w):
            # Pixels whose middle lies between two are of either.
            rows, columns = ({int(v), int(np.ceil(v - 1))} for v in
                             ((y + 0.5) * h / to_h, (x + 0.5) * w / to_w))  # fmt: skip
            near = {labels[min(r, h - 1), min(c, w - 1)] for r in rows for c in columns}
            assert bigger[y, x] in near


# Reading activations


def test_maps_at_stride_16_hold_those_at_stride_32_at_every_second_cell():
    torch.manual_seed(3)
    coarse = small_tag_classifier(3).eval()
    fine = small_tag_classifier(3, output_stride=16).eval()
    fine.load_state_dict(coarse.state_dict())
    pixels = torch.rand(1, 3, 128, 192)
    with torch.inference_mode():
        few, many = coarse.activation_maps(pixels), fine.activation_maps(pixels)
    assert few.shape == (1, 3, 4, 6)
    assert many.shape == (1, 3, 8, 12)
    # Padding on one side puts a coarse cell on the second fine one of its two.
    scale = float(few.abs().max())
    assert float((many[:, :, 1::2, 1::2] - few).abs().max()) < 1e-5 * scale
    assert float((many[:, :, ::2, ::2] - few).abs().max()) > 1e-3 * scale


@pytest.fixture(scope="module")
def adding_classifier():
    """One whose maps are the image, blurred by as much as each cell sees, and nothing else."""
    classifier = small_tag_classifier(1, output_stride=16).eval()
    for module in classifier.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    for name, parameter in classifier.named_parameters():
        # Blocks add little to what they let through, so that nothing is cut off at 6.
        if "conv_pwl" in name:
            parameter.data *= 0.1
    classifier.mean.zero_()
    classifier.std.fill_(1)
    return classifier


@pytest.mark.parametrize(("x", "y"), [(192, 192), (161, 220), (235, 203)])
@pytest.mark.parametrize("flip", [False, True])
def test_activation_peaks_where_the_light_is(adding_classifier, x, y, flip):
    # Far from the border, where padding takes some of the light away.
    picture = np.zeros((384, 384, 3), np.uint8)
    picture[y - 8 : y + 8, x - 8 : x + 8] = 255
    options = ActivationOptions(scales=(1.0,), flip=flip)
    found = maps.activations(adding_classifier, picture, [0], options=options)[0]
    assert found.shape == (48, 48)
    assert found.max() == 1
    row, column = divmod(int(found.argmax()), 48)
    # Without the correction, all lies 7.5 px to the left of and above the light.
    assert abs((column + 0.5) * 8 - x) <= 8
    assert abs((row + 0.5) * 8 - y) <= 8
    peak = (found - 0.7).clamp_min(0)
    cells = (torch.arange(48) + 0.5) * 8
    assert float((peak.sum(0) * cells).sum() / peak.sum()) == pytest.approx(x, abs=2)
    assert float((peak.sum(1) * cells).sum() / peak.sum()) == pytest.approx(y, abs=2)


def test_activations_are_of_the_tagged_classes_in_their_order(image):
    torch.manual_seed(4)
    classifier = small_tag_classifier(4, output_stride=16).eval()
    options = ActivationOptions(scales=(0.5, 1.0))
    both = maps.activations(classifier, image, [3, 1], options=options)
    assert both.shape == (2, H // 8, W // 8)
    assert both.dtype == torch.float32
    assert float(both.min()) >= 0
    for place, one in enumerate([3, 1]):
        alone = maps.activations(classifier, image, [one], options=options)[0]
        torch.testing.assert_close(both[place], alone)
        assert float(alone.max()) in (0.0, 1.0)
    assert maps.activations(classifier, image, []).shape == (0, H // 8, W // 8)


# Regions, walk, labels: the parts by hand


def by_hand(scores: torch.Tensor, image: np.ndarray, crf: CrfOptions) -> torch.Tensor:
    if crf.iterations == 0:
        return F.interpolate(scores[None], image.shape[:2], mode="bilinear")[0]
    import cv2

    small = cv2.resize(
        image, None, fx=1 / crf.shrink, fy=1 / crf.shrink, interpolation=cv2.INTER_AREA
    )
    shares = F.interpolate(scores[None], small.shape[:2], mode="bilinear")[0]
    return dense_crf(
        shares / shares.sum(0), small, iterations=crf.iterations,
        gaussian_sxy_px=3 / crf.shrink, bilateral_sxy_px=80 / crf.shrink,
    )  # fmt: skip


@pytest.mark.parametrize("crf", [NO_CRF, CrfOptions(iterations=2, shrink=2)])
def test_regions_are_their_parts(image, found, crf):
    options = RegionOptions(alpha_foreground=2, alpha_background=12)
    generous = by_hand(with_background(found, alpha=2), image, crf)
    strict = by_hand(with_background(found, alpha=12), image, crf)
    expected = confident_regions(generous, strict).numpy()
    if crf.iterations:
        expected = expected.repeat(2, 0).repeat(2, 1)
    local = maps.regions(found, image, options=options, crf=crf)
    assert local.dtype == np.int64
    np.testing.assert_array_equal(local, expected)
    assert IGNORE in local
    assert {1, 2} & set(np.unique(local))


def test_a_photo_of_no_class_is_background_everywhere(image, affinity_net):
    none = torch.zeros(0, H // 8, W // 8)
    assert not maps.regions(none, image).any()
    scores = maps.walked(affinity_net, image, none)
    assert scores.shape == (1, H // 8, W // 8)
    labels = maps.label_map(scores, [], image, size_hw=(31, 47))
    assert labels.shape == (31, 47)
    assert not labels.any()


def test_the_walk_is_its_parts(image, found, affinity_net):
    options = WalkOptions(alpha=6, power=4, steps=20, radius=4)
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        features = affinity_net(pixels)
        offsets = half_plane_offsets(4)
        steps = transition(affinities(features, offsets)[0], offsets, power=4)
        expected = walk(steps, with_background(found, alpha=6), steps=20)
    scores = maps.walked(affinity_net, image, found, options=options)
    torch.testing.assert_close(scores, expected)
    assert scores.shape == (3, H // 8, W // 8)
    assert not torch.allclose(scores, with_background(found, alpha=6), atol=1e-3)


def test_one_step_takes_the_confident_cells(image, found, affinity_net):
    confident = np.full((H, W), IGNORE, np.int64)
    confident[:24], confident[40:48, :48], confident[40:48, 48:] = 0, 1, 2
    options = WalkOptions(method="one_step", power=2)
    scores = maps.walked(affinity_net, image, found, options=options, confident=confident)
    cells = torch.full((H // 8, W // 8), IGNORE)
    cells[:3], cells[5, :6], cells[5, 6:] = 0, 1, 2
    with torch.inference_mode():
        features = affinity_net(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0]
    torch.testing.assert_close(scores, one_step(features, cells, classes=3, power=2))
    with pytest.raises(ValueError, match="confident regions"):
        maps.walked(affinity_net, image, found, options=options)


@pytest.mark.parametrize("crf", [NO_CRF, CrfOptions(iterations=2, shrink=2)])
def test_a_label_map_is_its_parts(image, found, crf):
    scores = with_background(found, alpha=3)
    best = by_hand(scores, image, crf).argmax(0).numpy()
    numbers = np.array([0, 9, 5])
    labels = maps.label_map(scores, [8, 4], image, size_hw=(H, W), crf=crf)
    expected = numbers[best]
    if crf.iterations:
        expected = expected.repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(labels, expected)
    own = maps.label_map(scores, [8, 4], image, size_hw=(53, 71), crf=crf)
    assert own.shape == (53, 71)
    assert set(np.unique(own)) <= {0, 9, 5}


@settings(max_examples=30)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([64, 448]))
def test_working_sizes_fit_all_networks(h, w, long_side):
    size = scaled_size((h, w), long_side / max(h, w), multiple=maps.COPY_MULTIPLE)
    assert all(side > 0 and side % 32 == 0 for side in size)
    assert max(size) == long_side
