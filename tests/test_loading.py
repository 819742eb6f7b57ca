"""Checkpoints to runtimes."""

import json
import pickle

import pytest
import torch

from pixelkin.checkpoint import save_checkpoint
from pixelkin.errors import PixelkinError
from pixelkin.loading import has_graphs, load, load_model, weights_digest
from pixelkin.models.retrieval_model import small_model
from pixelkin.runtime import EagerRuntime


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return small_model().state_dict()


@pytest.fixture
def folder(tmp_path, state):
    save_checkpoint(tmp_path / "model", state, {"architecture": "small"}, "# card\n")
    return tmp_path / "model"


def stamp(folder) -> None:
    (folder / "graphs.sha256").write_text(weights_digest(folder) + "\n")


def test_weights_arrive(folder, state):
    loaded = load_model(folder).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_torch_runs_where_there_are_no_graphs(folder):
    for engine in ("auto", "torch"):
        runtime = load(folder, device="cpu", engine=engine)
        assert isinstance(runtime, EagerRuntime)
        assert not runtime.model.training


def test_graphs_that_are_asked_for_must_be_there(folder):
    with pytest.raises(PixelkinError, match="no exported graphs of these weights; run") as caught:
        load(folder, device="cpu", engine="onnx")
    assert "\n" not in str(caught.value)


def test_other_architecture_is_named(folder):
    for config, name in (({"architecture": "huge"}, "'huge'"), ({}, "None")):
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(PixelkinError, match=f"architecture {name}: expected one of small"):
            load(folder, device="cpu")


def test_weights_of_another_network_are_refused(tmp_path):
    save_checkpoint(
        tmp_path / "m", {"weight": torch.zeros(2)}, {"architecture": "small"}, "# card\n"
    )
    with pytest.raises(PixelkinError, match="another architecture"):
        load(tmp_path / "m", device="cpu")


def test_pickle_under_the_name_is_never_run(folder, tmp_path):
    trap = tmp_path / "ran"

    class Trap:
        def __reduce__(self):
            return (open, (str(trap), "w"))

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(PixelkinError, match="pickle under another name"):
        load(folder, device="cpu")
    assert not trap.exists()


def test_missing_checkpoint_is_one_line(tmp_path):
    with pytest.raises(PixelkinError, match="there is no checkpoint at") as caught:
        load(tmp_path / "gone")
    assert "\n" not in str(caught.value)


def test_changed_weights_make_the_graphs_invalid(folder, state):
    (folder / "embed.onnx").touch()
    (folder / "answer.onnx").touch()
    assert not has_graphs(folder)
    stamp(folder)
    assert has_graphs(folder)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    assert not has_graphs(folder)


def test_no_weights_no_graphs(tmp_path):
    (tmp_path / "graphs.sha256").write_text("0\n")
    assert not has_graphs(tmp_path)


def test_deleted_graphs_fall_back_to_torch(folder):
    stamp(folder)
    assert isinstance(load(folder, device="cpu"), EagerRuntime)


def test_unknown_engine_is_an_error(folder):
    with pytest.raises(PixelkinError, match="tensorrt"):
        load(folder, device="cpu", engine="tensorrt")
