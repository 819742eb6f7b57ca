"""The program: every failure is one line and a status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clip_commands import CLICK, one_line

from pixelkin.cli import main


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trak"], 'Did you mean "track"?'),
        (["track", "a.mp4", "--out", "o", "--clik", "0:1,2"], "Did you mean --click?"),
        (["track", "a.mp4", "--out", "o", "--negative", "0:1,2"], "--negative"),
        (["track", "--out", "o"], "see pixelkin track --help"),
        (["track", "a.mp4", "b.mp4", "--out", "o"], "b.mp4"),
        (["evaluate", "d", "--year", "2015"], "2016, 2017"),
        (["--bogus"], "--bogus"),
    ],
)
def test_misuse(arguments, says, capsys):
    assert says in one_line(capsys, *arguments, status=2)


def test_surprises_are_one_line_too(clip, monkeypatch, capsys):
    def surprise(*_: object) -> None:
        raise ValueError("a\nb")

    monkeypatch.setattr("pixelkin.media.open_clip", surprise)
    error = one_line(capsys, "track", clip, *CLICK, "--out", "o")
    assert "ValueError: a b; " in error
    assert "PIXELKIN_DEBUG=1" in error
    monkeypatch.setenv("PIXELKIN_DEBUG", "1")
    with pytest.raises(ValueError, match="a\nb"):
        main(["track", str(clip), *CLICK, "--out", "o"])


def test_ctrl_c(clip, monkeypatch, capsys):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pixelkin.media.open_clip", stop)
    assert main(["track", str(clip), *CLICK, "--out", "o"]) == 130
    assert capsys.readouterr().err == "pixelkin: interrupted\n"


def test_as_a_program(clip, tmp_path):
    program = [sys.executable, "-m", "pixelkin"]
    broken = tmp_path / "cut.mp4"
    broken.write_bytes(clip.read_bytes()[:-400])
    out = tmp_path / "out"
    done = subprocess.run(
        [*program, "track", broken, *CLICK, "--out", out], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert "truncated" in done.stderr
    assert not out.exists()
    # The reader of the help has gone before it comes.
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run([*program, "--help"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert gone.returncode == 1
    assert gone.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_on_a_full_disk():
    program = [sys.executable, "-m", "pixelkin", "--version"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("pixelkin: error: cannot write the output: No space left")
    assert done.stderr.count("\n") == 1
