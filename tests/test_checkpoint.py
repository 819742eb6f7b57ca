import errno
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from pixelkin import checkpoint
from pixelkin.checkpoint import (
    convert_pth,
    load_into,
    load_state,
    read_config,
    resolve,
    save_checkpoint,
)
from pixelkin.errors import PixelkinError

STATE = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
}


def one_line(excinfo: pytest.ExceptionInfo[PixelkinError], *words: str) -> None:
    text = str(excinfo.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "net", STATE, {"width": 8, "name": "é"}, "# card\n")
    return tmp_path / "net"


def test_what_is_saved_comes_back(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    back = load_state(folder)
    assert set(back) == set(STATE)
    for key, value in STATE.items():
        assert back[key].dtype == value.dtype
        assert torch.equal(back[key], value)
    assert read_config(folder) == {"width": 8, "name": "é"}
    assert (folder / "README.md").read_text() == "# card\n"
    assert resolve(folder / "model.safetensors") == folder


def test_tied_and_strided_tensors_are_saved(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "net", {"a": weight, "b": weight, "c": weight.T}, {}, "")
    back = load_state(tmp_path / "net")
    assert torch.equal(back["b"], weight)
    assert torch.equal(back["c"], weight.T)


def test_saving_again_replaces_the_folder(folder: Path) -> None:
    save_checkpoint(folder, {"other": torch.ones(1)}, {}, "")
    assert list(load_state(folder)) == ["other"]
    assert [p.name for p in folder.parent.iterdir()] == ["net"]


def test_a_full_disk_leaves_the_old_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the weights fit, the config does not
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PixelkinError) as excinfo:
        save_checkpoint(folder, {"other": torch.ones(1)}, {}, "")
    one_line(excinfo, "no space is left")
    assert set(load_state(folder)) == set(STATE)
    assert [p.name for p in folder.parent.iterdir()] == ["net"]


def test_values_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(PixelkinError) as excinfo:
        save_checkpoint(tmp_path / "net", {}, {"x": object()}, "")
    one_line(excinfo, "JSON")
    with pytest.raises(PixelkinError) as excinfo:
        save_checkpoint(tmp_path / "net", {"step": 3}, {}, "")  # type: ignore[dict-item]
    one_line(excinfo, "'step'", "int")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 4, 20, -1])
def test_cut_short(folder: Path, kept: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(PixelkinError) as excinfo:
        load_state(folder)
    one_line(excinfo, "damaged or cut short", "again")


def test_garbage(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(PixelkinError) as excinfo:
        load_state(folder)
    one_line(excinfo, "damaged")
    (folder / "config.json").write_text('{"width": ')
    with pytest.raises(PixelkinError) as excinfo:
        read_config(folder)
    one_line(excinfo, "config.json", "JSON")
    (folder / "config.json").write_text("[1]")
    with pytest.raises(PixelkinError) as excinfo:
        read_config(folder)
    one_line(excinfo, "list")


@pytest.mark.parametrize("new_zip_format", [True, False])
def test_pickle_under_the_weights_name(folder: Path, new_zip_format: bool) -> None:
    path = folder / "model.safetensors"
    torch.save(STATE, path, _use_new_zipfile_serialization=new_zip_format)
    with pytest.raises(PixelkinError) as excinfo:
        load_state(folder)
    one_line(excinfo, "pickle", "pixelkin convert FILE FOLDER")
    convert_pth(path, folder.parent / "converted")
    assert set(load_state(folder.parent / "converted")) == set(STATE)


def test_no_pickle_is_ever_run(folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("model.safetensors", "net.pth"):
        (folder / name).write_bytes(pickle.dumps({"weight": Bomb()}, protocol=2))
    for source in (folder, folder / "net.pth"):
        with pytest.raises(PixelkinError):
            load_state(source)
    with pytest.raises(PixelkinError) as excinfo:
        convert_pth(folder / "net.pth", tmp_path / "out")
    one_line(excinfo, "state_dict")
    assert not (tmp_path / "exploded").exists()
    pickle.loads((folder / "net.pth").read_bytes())
    assert (tmp_path / "exploded").exists(), "the bomb is real"


@pytest.mark.parametrize("wrap", [None, "state_dict", "model"])
def test_convert_pth(tmp_path: Path, wrap: str | None) -> None:
    torch.save({wrap: STATE, "epoch": 3} if wrap else STATE, tmp_path / "net.pth")
    with pytest.raises(PixelkinError) as excinfo:
        load_state(tmp_path)
    one_line(excinfo, "net.pth", "pixelkin convert")
    convert_pth(tmp_path / "net.pth", tmp_path / "net")
    back = load_state(tmp_path / "net")
    assert all(torch.equal(back[key], STATE[key]) for key in STATE)
    assert read_config(tmp_path / "net") == {}
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(PixelkinError) as excinfo:
        convert_pth(tmp_path / "list.pth", tmp_path / "list")
    one_line(excinfo, "no state dict")


def test_sources_that_are_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(PixelkinError) as excinfo:
        load_state("owner/name")
    one_line(excinfo, "owner/name", "no route", "network")
    for source in (tmp_path / "missing", "a/b/c", "./owner/name", "missing"):
        with pytest.raises(PixelkinError) as excinfo:
            resolve(source)
        one_line(excinfo, "there is no checkpoint")
    (tmp_path / "empty").mkdir()
    for read in (load_state, read_config):
        with pytest.raises(PixelkinError) as excinfo:
            read(tmp_path / "empty")
        one_line(excinfo, "is missing")


def test_hub_id_is_asked_only_where_no_folder_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, files = [], []

    def download(hub_id: str, *, allow_patterns: list[str]) -> str:
        asked.append(hub_id)
        files.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(folder.parent.parent)
    local = f"{folder.parent.name}/{folder.name}"
    assert resolve(local) == Path(local)
    assert asked == []
    assert read_config("owner/name")["width"] == 8
    assert asked == ["owner/name"]
    # Without its graphs a model from the hub runs in torch, which is slower on a CPU.
    assert {"model.safetensors", "embed.onnx", "answer.onnx", "graphs.sha256"} <= set(files)


def test_load_into_is_strict(folder: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = dict(model.state_dict())
    for key in list(state)[2:6]:
        del state[key]
    state["0.weight"] = torch.zeros(5, 3)
    state["extra.bias"] = torch.zeros(1)
    with pytest.raises(PixelkinError) as excinfo:
        load_into(model, state, source=folder)
    one_line(
        excinfo,
        str(folder),
        "checkpoint of another architecture",
        "4 missing (1.weight, 1.bias, 1.running_mean, …)",
        "1 unexpected (extra.bias)",
        "0.weight (5, 3) in the file and (4, 3) in the model",
        "config.json",
    )
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_load_into_copies_every_key() -> None:
    source, target = nn.Linear(3, 4), nn.Linear(3, 4)
    load_into(target, source.state_dict(), source="here")
    assert torch.equal(target.weight, source.weight)
    assert torch.equal(target.bias, source.bias)
    assert checkpoint.WEIGHTS == "model.safetensors"
