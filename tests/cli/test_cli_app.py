"""The program: every failure is one line and a status."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from clip_commands import CLICK, one_line

from pixelkin.cli import main

VERBS = "track, predict, demo, train, label, evaluate, compare, check, export, convert"
AFTER = f"stand after the verb; choose {VERBS}; see pixelkin --help"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trak", "few"], f"there is no verb 'trak': did you mean track? choose {VERBS}; see"),
        (["xyz"], f"there is no verb 'xyz': choose {VERBS}; see pixelkin --help"),
        (
            ["--click", "0:1,2", "track"],
            f"--click stands where a verb is expected: options {AFTER}",
        ),
        (["track", "a.mp4", "--out", "o", "--clik", "0:1,2"], "Did you mean --click?"),
        (["track", "a.mp4", "--out", "o", "--negative", "0:1,2"], "--negative"),
        (["track", "--out", "o"], "track needs CLIP, as in: pixelkin track clip.mp4 --click"),
        (["track", "a"], "track needs --out, as in: pixelkin track clip.mp4 --click"),
        (["track", "a", "-o", "o"], "track has no option -o, and needs --out, as in"),
        (["predict", "nuclei", "a"], "predict needs --out, as in: pixelkin predict run/model"),
        (["train", "seeds", "a"], "train needs --out, as in: pixelkin train seeds coco:ann.json"),
        (["label", "a"], "label needs --tags, as in: pixelkin label photos --tags tags.csv"),
        (["compare", "unet"], "compare needs --data, as in: pixelkin compare light unet segnet"),
        (["check"], "check needs DATA, as in: pixelkin check annotations/instances_train.json"),
        (["convert", "a"], "convert needs TARGET, as in: pixelkin convert coco:instances.json"),
        (["evaluate"], "evaluate needs ROOT, as in: pixelkin evaluate DAVIS --method"),
        (["export"], "export needs MODEL, as in: pixelkin export run/model; see pixelkin export"),
        (["track", "a", "--out"], '"track" parameter --out requires an argument; see'),
        (["label", "a", "--tags", "t", "-o"], '"label" parameter -o requires an argument; see'),
        (
            ["track", "a", "b", "--out", "o"],
            "'b' is one argument too many: track takes CLIP beside",
        ),
        (
            ["train", "a", "b", "c", "d", "--out", "o"],
            "'c', 'd' are 2 arguments too many: train "
            "takes RECIPE and DATA beside options; see pixelkin train --help",
        ),
        (["demo", "extra"], "'extra' is one argument too many: demo takes options only; see"),
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
