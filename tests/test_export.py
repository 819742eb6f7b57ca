"""Exported graphs against torch, at sizes that were not traced."""

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_model import moving_scene

from pixelkin.checkpoint import save_checkpoint
from pixelkin.errors import PixelkinError
from pixelkin.export import TOLERANCE, export
from pixelkin.grouping.evidence import PARTS
from pixelkin.grouping.references import Click, Mask
from pixelkin.loading import has_graphs, load, load_model
from pixelkin.models.retrieval_model import small_model
from pixelkin.runtime import EagerRuntime, OnnxRuntime
from pixelkin.tracking import Question, frame_cells
from pixelkin.video import ClipSession

pytest.importorskip("onnx")


@pytest.fixture(scope="module", autouse=True)
def unchecked_shapes():
    """Tracing makes tensors of sizes, which the check of signatures rightly takes for a mistake."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("export") / "model"
    save_checkpoint(folder, small_model().state_dict(), {"architecture": "small"}, "# card\n")
    assert export(folder) <= TOLERANCE
    return folder


@pytest.fixture(scope="module")
def engines(folder):
    ours, theirs = load(folder, device="cpu"), load(folder, device="cpu", engine="torch")
    assert isinstance(ours, OnnxRuntime)
    assert isinstance(theirs, EagerRuntime)
    return ours, theirs


@pytest.mark.parametrize("size_hw", [(48, 80), (75, 50)])
@torch.inference_mode()
def test_graphs_equal_torch(engines, size_hw):
    ours, theirs = engines
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    a, b = ours.embed(image), theirs.embed(image)
    assert len(a.details) == len(b.details) == 3
    for x, y in zip((a.embeddings, *a.details), (b.embeddings, *b.details), strict=True):
        assert x.shape == y.shape
        assert (x - y).abs().max() <= TOLERANCE
    frame = frame_cells(b)
    q, d = frame.embeddings.shape[1:]
    for objects, cells in ((1, 3), (2, 2 * q)):
        keys = F.normalize(torch.randn(1, cells, d), dim=2)
        question = Question(
            keys,
            torch.rand(1, cells, objects * (PARTS + 2)),
            frame.embeddings,
            torch.rand(1, q, objects * (PARTS + 2)),
            -torch.rand(q, q),
            torch.rand(1, objects, q, PARTS),
            torch.randn(1, objects, frame.features.shape[2]),
        )
        x, y = ours.answer(frame, question), theirs.answer(frame, question)
        assert x.shape == y.shape == (1, objects, frame.grid_hw[0] * 4, frame.grid_hw[1] * 4)
        assert (x - y).abs().max() <= TOLERANCE


def test_sessions_answer_alike(engines):
    clip, truth = moving_scene(3)
    answers = []
    for runtime in engines:
        with ClipSession(runtime, clip) as session:
            session.add(Mask.from_labels(0, truth[0]), Click(2, (90.0, 5.0), 3))
            answers.append(np.stack(list(session.all_labels())))
    assert (answers[0] == answers[1]).mean() > 0.995


def test_exporting_leaves_the_weights_as_they_are(folder):
    state = load_model(folder).state_dict()
    torch.manual_seed(0)
    for key, value in small_model().state_dict().items():
        assert torch.equal(state[key], value)


def test_graphs_that_differ_are_not_kept(folder, tmp_path, monkeypatch):
    state = load_model(folder).state_dict()
    save_checkpoint(tmp_path / "m", state, {"architecture": "small"}, "# card\n")
    monkeypatch.setattr("pixelkin.export._write_graphs", lambda *_: None)
    monkeypatch.setattr("pixelkin.export._parity", lambda *_: float("nan"))
    with pytest.raises(PixelkinError, match="differ from torch by nan"):
        export(tmp_path / "m")
    assert not has_graphs(tmp_path / "m")
    assert not list((tmp_path / "m").glob("*.onnx"))
