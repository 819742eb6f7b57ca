"""`pixelkin export` and `pixelkin convert`."""

import re

import torch
from clip_commands import one_line

from pixelkin.checkpoint import GRAPHS
from pixelkin.cli import main


def test_export_names_the_files_that_it_writes(model, monkeypatch, capsys):
    monkeypatch.setattr("pixelkin.export.export", lambda folder: 1e-6)
    assert main(["export", str(model)]) == 0
    named = set(re.findall(r"\w+\.onnx", capsys.readouterr().out))
    assert named == {name for name in GRAPHS if name.endswith(".onnx")}


def test_convert(tmp_path, capsys):
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "w.pth")
    out = tmp_path / "made"
    assert main(["convert", str(tmp_path / "w.pth"), str(out)]) == 0
    assert (out / "model.safetensors").is_file()
    capsys.readouterr()
    assert "is there already" in one_line(capsys, "convert", tmp_path / "w.pth", out)
    assert "no file" in one_line(capsys, "convert", tmp_path / "gone.pth", tmp_path / "x")
    assert not (tmp_path / "x").exists()
