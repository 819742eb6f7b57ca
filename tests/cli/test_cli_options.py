"""Output folders: checked before any work, and not looked into."""

import os

import pytest
from clip_commands import CLICK, one_line

from pixelkin.cli.options import output_folder


def test_unwritable_folder_is_told_before_any_work(clip, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pixelkin.loading.load", lambda *a, **k: pytest.fail("work was done"))
    (tmp_path / "file").write_text("x")
    error = one_line(capsys, "track", clip, *CLICK, "--out", tmp_path / "file" / "out")
    assert "a file, not a folder" in error
    room = tmp_path / "closed"
    room.mkdir(mode=0o500)
    user = os.geteuid()
    if user == 0:
        tmp_path.chmod(0o755)
        os.seteuid(65534)
    try:
        os.listdir(room.parent)
    except PermissionError:
        os.seteuid(user)
        return
    try:
        error = one_line(capsys, "track", clip, *CLICK, "--out", room / "out")
    finally:
        os.seteuid(user)
    assert "not writable" in error or "cannot read" in error
    assert not list(room.iterdir())


def test_an_output_folder_is_not_searched(tmp_path, monkeypatch):
    (tmp_path / "old" / "deep").mkdir(parents=True)
    looked, real = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or real(path))
    real_list = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: looked.append(str(path)) or real_list(path))

    def fail() -> None:
        with output_folder(tmp_path):
            (tmp_path / "new" / "empty").mkdir(parents=True)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    monkeypatch.undo()
    assert str(tmp_path) in looked
    assert not [path for path in looked if path.startswith(str(tmp_path / "old"))]
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old" / "deep").is_dir()
