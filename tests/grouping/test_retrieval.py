"""Retrieval against brute force in float64."""

import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from pixelkin.errors import PixelkinError
from pixelkin.grouping.nearest import nearest
from pixelkin.grouping.references import Mask, label_cells
from pixelkin.grouping.retrieval import (
    ReferenceStore,
    append_confident,
    cell_centres,
    concatenate,
    decide,
    join_space_time,
    make_store,
    retrieve,
    smooth_in_time,
    spatio_temporal_bias,
    temporal_agreement,
    vote,
)
from pixelkin.structures import IGNORE


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(queries, references, k):
    """Sorted (squared distance, row) pairs of each query, plain loops in float64."""
    found = []
    for query in queries.double().tolist():
        pairs = []
        for row, reference in enumerate(references.double().tolist()):
            squared = sum((a - b) ** 2 for a, b in zip(query, reference, strict=True))
            pairs.append((squared, row))
        found.append(sorted(pairs)[:k])
    return found


@pytest.mark.parametrize("backend", ["faiss", "torch"])
@pytest.mark.parametrize(("rows", "k"), [(1, 1), (3, 5), (50, 1), (70, 5), (700, 5), (701, 3)])
def test_nearest_equals_brute_force(backend, rows, k):
    queries, references = random(23, 6), random(rows, 6, seed=1)
    distances, indices = nearest(queries, references, k=k, chunk=10, backend=backend)
    expected = brute_force(queries, references, k)
    assert distances.shape == indices.shape == (23, min(k, rows))
    assert indices.tolist() == [[row for _, row in pairs] for pairs in expected]
    np.testing.assert_allclose(
        distances, [[squared for squared, _ in pairs] for pairs in expected], atol=1e-5
    )


@given(
    st.integers(1, 40),
    st.integers(1, 400),
    st.integers(1, 9),
    st.integers(1, 7),
    st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_backends_agree_on_any_size(queries, rows, dimensions, k, seed):
    given_queries = random(queries, dimensions, seed=seed)
    references = random(rows, dimensions, seed=seed + 1)
    results = [
        nearest(given_queries, references, k=k, chunk=16, backend=name)[0]
        for name in ("faiss", "torch", "auto")
    ]
    exact = (given_queries[:, None].double() - references.double()).square().sum(2)
    expected = exact.sort(1).values[:, : min(k, rows)].float()
    for distances in results:
        assert torch.allclose(distances, expected, atol=1e-4)
        assert (distances.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_duplicates_are_at_distance_zero_and_all_found(backend):
    references = functional.normalize(random(400, 8), dim=1)
    references[100:105] = references[7]
    distances, indices = nearest(references[7:8], references, k=6, backend=backend)
    assert sorted(indices[0].tolist()) == [7, 100, 101, 102, 103, 104]
    assert (distances >= 0).all()
    assert distances.max() < 1e-5


@pytest.mark.parametrize(
    ("queries", "references", "k"),
    [((3, 4), (0, 4), 1), ((3, 4), (5, 4), 0), ((3, 4), (5, 3), 1), ((3,), (5, 3), 1)],
)
def test_nearest_refuses_what_it_cannot_search(queries, references, k):
    with pytest.raises(PixelkinError):
        nearest(torch.zeros(queries), torch.zeros(references), k=k)


def frame_embeddings(image):
    """Unit features at stride 16 of an untrained MobileNet, (1, D, h, w)."""
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv2_100", features_only=True, out_indices=(3,)).eval()
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return functional.normalize(net(pixels - 0.5)[0], dim=1)[0]


@pytest.mark.parametrize("backend", ["faiss", "torch"])
def test_label_map_of_a_real_frame_equals_brute_force(shared_data, backend):
    folder = shared_data / "davis2016"
    images, labels = [], []
    for index in (0, 9):
        name = f"libby/{index:05d}"
        images.append(np.array(Image.open(folder / "JPEGImages" / "480p" / f"{name}.jpg")))
        mask = np.array(Image.open(folder / "Annotations" / "480p" / f"{name}.png"))
        labels.append((mask > 0).astype(np.uint8))
    first, second = (frame_embeddings(image[:, :848]) for image in images)
    size_hw = (480, 848)
    cells = label_cells(
        [Mask.from_labels(0, labels[0][:, :848])], size_hw, stride=16, grid_hw=(30, 53)
    )
    store = make_store(first, torch.from_numpy(cells), t=0, stride=16)
    queries = second.flatten(1).T
    distances, indices = nearest(queries, store.embeddings, k=5, backend=backend)
    given_map = decide(vote(distances, indices, store.labels, objects=1).T.reshape(2, 30, 53))
    exact = (
        queries.double().square().sum(1, keepdim=True)
        + store.embeddings.double().square().sum(1)
        - 2 * queries.double() @ store.embeddings.double().T
    )
    neighbours = store.labels[exact.argsort(1)[:, :5]]
    expected = (neighbours.sum(1) >= 3).reshape(30, 53).to(torch.uint8)
    assert torch.equal(given_map, expected)
    assert 0 < int(expected.sum()) < expected.numel()
    scores = retrieve(second, store, t=9, stride=16, objects=1)
    assert torch.equal(decide(scores), expected)


def vote_loops(distances, indices, labels, weights, objects, temperature):
    result = []
    for row, columns in zip(distances.tolist(), indices.tolist(), strict=True):
        votes = [0.0] * (objects + 1)
        for squared, column in zip(row, columns, strict=True):
            share = 1.0 if temperature is None else math.exp((row[0] - squared) / temperature)
            votes[int(labels[column])] += share * float(weights[column])
        result.append([value / sum(votes) for value in votes])
    return result


@pytest.mark.parametrize("temperature", [None, 0.07, 3.0])
def test_vote_equals_plain_loops(temperature):
    distances = random(30, 5).abs().sort(1).values
    indices = torch.randint(0, 40, (30, 5), generator=torch.Generator().manual_seed(2))
    labels = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(3))
    weights = random(40, seed=4).abs() + 0.1
    scores = vote(distances, indices, labels, weights, objects=3, temperature=temperature)
    expected = vote_loops(distances, indices, labels, weights, 3, temperature)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    equal = vote(distances, indices, labels, objects=3, temperature=temperature)
    expected = vote_loops(distances, indices, labels, torch.ones(40), 3, temperature)
    np.testing.assert_allclose(equal, expected, atol=1e-6)


def test_far_queries_are_unknown():
    embeddings = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]).reshape(2, 1, 3)
    labels = torch.tensor([[0, 1, IGNORE]])
    store = make_store(embeddings, labels, t=0, stride=8)
    assert len(store) == 2
    scores = retrieve(embeddings, store, t=0, stride=8, objects=1, k=1, unknown_threshold=1.0)
    assert decide(scores).tolist() == [[0, 1, IGNORE]]
    assert scores[:, 0, 2].tolist() == [0, 0]
    known = retrieve(embeddings, store, t=0, stride=8, objects=1, k=1)
    assert decide(known)[0, 2] == 1


def test_space_time_search_is_the_biased_search():
    generator = torch.Generator().manual_seed(0)
    embeddings, height, width = functional.normalize(random(6, 5, 7), dim=0), 5, 7
    store = ReferenceStore(
        functional.normalize(random(90, 6, seed=1), dim=1),
        torch.randint(0, 3, (90,), generator=generator),
        torch.rand(90, 2, generator=generator) * 56,
        torch.randint(0, 20, (90,), generator=generator).float(),
        torch.ones(90),
    )
    given_scores = retrieve(
        embeddings, store, t=4, stride=8, objects=2, k=5, temperature=0.5, sigmas=(30.0, 9.0)
    )
    votes = torch.zeros(3, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            pairs = []
            for row in range(90):
                squared = (embeddings[:, y, x] - store.embeddings[row]).double().square().sum()
                u, v = ((store.xy[row] - torch.tensor([x * 8 + 4, y * 8 + 4])) / 30).tolist()
                w = (float(store.t[row]) - 4) / 9
                pairs.append((float(squared) + u * u + v * v + w * w, row))
            pairs = sorted(pairs)[:5]
            for squared, row in pairs:
                votes[store.labels[row], y, x] += math.exp((pairs[0][0] - squared) / 0.5)
    np.testing.assert_allclose(given_scores, votes / votes.sum(0), atol=1e-4)


def test_bias_is_the_distance_of_the_joined_dimensions():
    xy, t = random(9, 2) * 50, random(9, seed=1) * 10
    other_xy, other_t = random(4, 2, seed=2) * 50, random(4, seed=3) * 10
    bias = spatio_temporal_bias(xy, t, other_xy, other_t, sigma_px=20, sigma_frames=math.inf)
    a, b = (
        join_space_time(torch.zeros(len(p), 3), p, s, sigma_px=20, sigma_frames=math.inf)
        for p, s in ((xy, t), (other_xy, other_t))
    )
    assert torch.allclose(bias, torch.cdist(a, b).square(), atol=1e-4)
    assert bias[1, 2].item() == pytest.approx(((xy[1] - other_xy[2]) / 20).square().sum().item())
    with pytest.raises(PixelkinError, match="above 0"):
        join_space_time(torch.zeros(9, 3), xy, t, sigma_px=0, sigma_frames=1)


def test_cell_centres():
    assert cell_centres((2, 3), 4).tolist() == [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6]]


def confident_frame():
    """6×8 cells: the left half background, the right object 1; one doubtful, one unknown cell."""
    scores = torch.zeros(2, 6, 8)
    scores[0, :, :4] = 1
    scores[1, :, 4:] = 1
    scores[:, 2, 6] = torch.tensor([0.4, 0.6])
    scores[:, 0, 0] = 0
    return scores, random(5, 6, 8)


def test_confident_cells_are_appended():
    scores, embeddings = confident_frame()
    store = make_store(embeddings, torch.full((6, 8), IGNORE), t=0, stride=4)
    grown = append_confident(store, embeddings, scores, t=3, stride=4, limit=1000)
    expected = []
    for y in range(6):
        for x in range(8):
            rows, columns = range(max(y - 1, 0), min(y + 2, 6)), range(max(x - 1, 0), min(x + 2, 8))
            seen = {int(decide(scores)[i, j]) for i in rows for j in columns}
            if len(seen) == 1 and IGNORE not in seen and float(scores[:, y, x].max()) >= 0.95:
                expected.append((x * 4 + 2, y * 4 + 2, seen.pop()))
    found = [
        (*xy, label) for xy, label in zip(grown.xy.tolist(), grown.labels.tolist(), strict=True)
    ]
    assert found == expected
    assert {label for *_, label in expected} == {0, 1}
    assert set(grown.t.tolist()) == {3.0}
    x, y, _ = expected[-1]
    assert torch.equal(grown.embeddings[-1], embeddings[:, y // 4, x // 4])


def test_appending_is_bounded_and_keeps_what_the_user_gave():
    scores, embeddings = confident_frame()
    labels = torch.full((6, 8), IGNORE)
    labels[0, :3] = 1
    store = given_store = make_store(embeddings, labels, t=0, stride=4)
    for t in range(1, 30):
        longer = append_confident(
            store, embeddings, scores, t=t, stride=4, limit=6, capacity=20, keep=len(given_store)
        )
        assert len(longer) <= min(len(store) + 6, 20)
        store = longer
    assert len(store) == 20
    assert torch.equal(store.embeddings[:3], given_store.embeddings)
    assert store.t[3:].min() >= 26
    again = append_confident(
        given_store, embeddings, scores, t=1, stride=4, limit=6, capacity=20, keep=3
    )
    assert again.labels[:3].tolist() == [1, 1, 1]
    assert sorted(again.labels[3:].tolist()) == [0, 0, 0, 1, 1, 1]


def test_store_edits():
    a = make_store(random(5, 2, 2), torch.tensor([[0, 1], [IGNORE, 2]]), t=1, stride=8, weight=2)
    b = make_store(random(5, 2, 2, seed=1), torch.tensor([[1, 1], [1, 1]]), t=2, stride=8)
    both = concatenate([a, b])
    assert both.labels.tolist() == [0, 1, 2, 1, 1, 1, 1]
    assert both.weights.tolist() == [2, 2, 2, 1, 1, 1, 1]
    assert torch.equal(both.rows(slice(3, None)).embeddings, b.embeddings)
    with pytest.raises(PixelkinError, match="equally many"):
        ReferenceStore(a.embeddings, b.labels, a.xy, a.t, a.weights)
    with pytest.raises(PixelkinError, match="same grid"):
        make_store(random(5, 2, 2), torch.zeros(2, 3), t=0, stride=8)


def test_smoothing_follows_agreement():
    now, before = torch.rand(2, 3, 4), torch.rand(2, 3, 4)
    still = torch.ones(3, 4)
    still[1, 2] = 0
    smooth = smooth_in_time(now, before, weight=0.25, agreement=still)
    for index in np.ndindex(2, 3, 4):
        w = 0.25 * float(still[index[1:]])
        assert float(smooth[index]) == pytest.approx((1 - w) * now[index] + w * before[index])
    assert torch.equal(smooth_in_time(now, before, weight=0), now)
    with pytest.raises(PixelkinError, match="below 1"):
        smooth_in_time(now, before, weight=1)


def test_agreement_is_one_where_nothing_changes():
    embeddings = functional.normalize(random(4, 3, 3), dim=0)
    other = embeddings.clone()
    other[:, 1, 1] *= -1
    agreement = temporal_agreement(embeddings, other, temperature=0.5)
    assert agreement[0, 0] == 1
    assert agreement[1, 1].item() == pytest.approx(math.exp(-4 / 0.5), rel=1e-4)
