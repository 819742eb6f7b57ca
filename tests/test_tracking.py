"""One step of following: objects and items stay apart, and competition is soft aggregation."""

import math

import pytest
import torch
from tiny_model import TinyEmbedding

from pixelkin.grouping.evidence import discriminant, local_bias, parts_of
from pixelkin.models.mask_decoder import MaskDecoder
from pixelkin.tracking import (
    FrameCells,
    Question,
    as_parts,
    compete,
    frame_cells,
    predict,
    remember,
)


@pytest.fixture(scope="module")
def frame() -> FrameCells:
    torch.manual_seed(0)
    with torch.inference_mode():
        return frame_cells(TinyEmbedding()(torch.rand(2, 3, 48, 64)))


@pytest.fixture(scope="module")
def decoder() -> MaskDecoder:
    torch.manual_seed(1)
    return MaskDecoder().eval()


def question(frame: FrameCells, masks: torch.Tensor) -> Question:
    parts = parts_of(masks)
    memory = remember(frame, parts)
    return Question(
        memory.embeddings,
        memory.columns(),
        memory.embeddings,
        memory.columns(),
        local_bias(frame.grid_hw),
        parts,
        discriminant(memory),
    )


def test_cells_are_the_fields_in_rows():
    torch.manual_seed(0)
    fields = TinyEmbedding()(torch.rand(2, 3, 32, 48))
    frame = frame_cells(fields)
    assert frame.grid_hw == (2, 3)
    assert torch.equal(frame.embeddings[1, 4], fields.embeddings[1, :, 1, 1])
    assert frame.features.shape == (2, 6, 64 + 64 + 1)


def test_everything_remembered_is_known_unless_said_otherwise(frame):
    parts = torch.rand(2, 3, 12, 16)
    assert (remember(frame, parts).weights == 1).all()
    weights = torch.rand(2, 3, 12)
    assert remember(frame, parts, weights).weights is weights


@torch.inference_mode()
def test_each_object_of_each_item_is_as_if_alone(frame, decoder):
    masks = torch.rand(2, 3, 12, 16)
    together = predict(decoder, frame, question(frame, masks))
    assert together.shape == (2, 3, 12, 16)
    for b in range(2):
        one = FrameCells(
            frame.embeddings[b : b + 1],
            frame.features[b : b + 1],
            tuple(d[b : b + 1] for d in frame.details),
            frame.grid_hw,
        )
        for o in range(3):
            alone = predict(decoder, one, question(one, masks[b : b + 1, o : o + 1]))
            assert torch.allclose(alone[0, 0], together[b, o], atol=1e-4)


@torch.inference_mode()
def test_order_of_the_memory_does_not_matter(frame, decoder):
    asked = question(frame, torch.rand(2, 1, 12, 16))
    order = torch.randperm(12)
    shuffled = Question(
        asked.keys[:, order],
        asked.columns[:, order],
        asked.near_keys[:, order],
        asked.near_columns[:, order],
        asked.bias[:, order],
        asked.previous,
        asked.direction,
    )
    assert torch.allclose(
        predict(decoder, frame, asked), predict(decoder, frame, shuffled), atol=1e-4
    )


def test_soft_aggregation_against_loops():
    logits = torch.randn(2, 3, 4, 5) * 3
    got = compete(logits)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                p = [1 / (1 + math.exp(-float(v))) for v in logits[b, :, y, x]]
                background = math.prod(1 - v for v in p)
                odds = [background / (1 - background), *(v / (1 - v) for v in p)]
                for o in range(3):
                    expected = odds[o + 1] / sum(odds)
                    assert float(got[b, o, y, x]) == pytest.approx(expected, abs=1e-5)


def test_competition_stays_finite_and_one_object_has_no_rival():
    extreme = torch.tensor([-60.0, -12.0, 0.0, 12.0, 60.0])
    grid = torch.cartesian_prod(extreme, extreme).T[None, :, :, None]
    assert torch.isfinite(compete(grid)).all()
    assert (compete(grid).sum(dim=1) <= 1 + 1e-5).all()
    one = torch.randn(1, 1, 4, 4)
    assert torch.equal(compete(one), one.sigmoid())
    assert torch.equal(as_parts(one), parts_of(one.sigmoid()))
