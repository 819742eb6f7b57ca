"""`pixelkin label` as users call it."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from clip_commands import one_line
from PIL import Image

from pixelkin.cli import main
from pixelkin.cli.label import Effort, _Bars
from pixelkin.masks import read_indexed_png
from pixelkin.pipelines.weak_labels import Options

STEPS = ["--classifier-steps", "1", "--affinity-steps", "1", "--network-steps", "1"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Four photos of a bright square or disc, and their tags."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("labelled")
    (folder / "photos").mkdir()
    rows = []
    for number, tag in enumerate(("square", "disc", "square", "disc")):
        image = np.full((64, 64, 3), 60, np.uint8)
        if tag == "square":
            cv2.rectangle(image, (12, 12), (40, 40), (220, 30, 30), -1)
        else:
            cv2.circle(image, (32, 32), 15, (30, 40, 220), -1)
        Image.fromarray(image).save(folder / "photos" / f"p{number}.png")
        rows.append((f"p{number}.png", tag))
    with open(folder / "tags.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder


def needed(root: Path, out: Path) -> list[str]:
    return ["label", str(root / "photos"), "--tags", str(root / "tags.csv"), "--out", str(out)]


def words(root: Path, out: Path, *more: str) -> list[str]:
    return [
        *needed(root, out),
        "--long-side",
        "64",
        "--weights",
        "none",
        "--device",
        "cpu",
        *STEPS,
        *more,
    ]


def test_the_defaults_are_those_of_the_pipeline():
    told, own = Effort().options(), Options()
    assert told.network.steps == own.network.steps
    assert told.architecture == own.architecture
    assert told.classifier.steps == own.classifier.steps
    assert told.affinity.steps == own.affinity.steps
    assert told.long_side_px == own.long_side_px
    assert told.walk == own.walk


def test_the_help_says_what_goes_in_and_what_comes_out(capsys):
    assert main(["label", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for said in ("--tags", "--out", "-o", "--only", "--until", "--again", "--classes", "--no-crf",
                 "--one-step", "--quiet", "--weights", "tags.csv", "report.html",
                 "goes on with the same command", "classifier, activations, regions"):  # fmt: skip
        assert said in text


def test_wrong_options_are_one_line_and_leave_nothing(root, tmp_path, capsys):
    out = tmp_path / "out"
    for wrong, says in [
        (["--classifier-steps", "0"], "--classifier-steps is 0: expected 1 or more"),
        (["--long-side", "-3"], "--long-side is -3"),
        (["--workers", "-1"], "--workers is -1: expected 0 or more"),
        (["--device", "cdua"], "device 'cdua' is not available here"),
        (["--only", "walk", "--until", "walk"], "--only walk and --until walk are two answers"),
        (["--until", "wlak"], "there is no stage 'wlak': expected photos, classifier"),
        (["--classes", "sqare"], "did you mean square?"),
    ]:
        assert says in one_line(capsys, *needed(root, out), *wrong)
        assert not out.exists()
    for wrong, says in [
        (["--weights", "resnet"], "resnet"),
        (["--precision", "8"], "precision"),
        (["--walk"], "--walk"),
    ]:
        assert says in one_line(capsys, *needed(root, out), *wrong, status=2)
    missing = ["label", str(root / "photos"), "--out", str(out)]
    assert "--tags" in one_line(capsys, *missing, status=2)
    nowhere = ["label", str(root / "photos"), "--tags", str(root / "no.csv"), "--out", str(out)]
    assert "no tags at" in one_line(capsys, *nowhere)
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in one_line(capsys, *words(root, tmp_path / "file" / "out"))


def test_from_photos_to_a_network_and_its_report(root, tmp_path, capsys):
    pytest.importorskip("lightning")
    out = tmp_path / "out"
    assert main(words(root, out, "--until", "regions")) == 0
    printed = capsys.readouterr()
    assert f"{out}: stopped as asked; see {out / 'report.html'}" in printed.out
    assert "4 photos, 4 with tags, 2 classes" in printed.err
    for line in ("stage 1 of 8: photos", "stage 2 of 8: classifier"):
        assert line in printed.err
    assert f"{out / '2_classifier'}: done after 1 step\n" in printed.out
    assert "step 1/1" in printed.out
    # The rest in silence, but for where the result is.
    assert main(words(root, out, "--quiet")) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out == f"{out}: all stages done; see {out / 'report.html'}\n"
    for number in range(4):
        labels = read_indexed_png(out / "labels" / f"p{number}.png")
        assert labels.shape == (64, 64)
        assert set(np.unique(labels)) <= {0, (2, 1)[number % 2]}
    assert (out / "report.html").is_file()
    # Nothing is left to do; another option is refused.
    assert main(words(root, out)) == 0
    assert "stage" not in capsys.readouterr().err.replace("stages", "")
    said = one_line(capsys, *words(root, out, "--one-step", "--quiet"))
    assert "walk.method" in said
    assert "--again walk" in said


def test_ctrl_c_between_trainings_says_how_to_go_on(root, tmp_path):
    pytest.importorskip("lightning")
    script = (
        "import os, signal, sys\n"
        # Whoever runs the tests in the background may have it ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pixelkin.cli import main\n"
        "from pixelkin.pipelines.weak_labels import photos\n"
        "read = photos.read_image\n"
        "def interrupted(path):\n"
        "    if path.stem == 'p2':\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return read(path)\n"
        "photos.read_image = interrupted\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", script, *words(root, out)],
        capture_output=True, text=True, timeout=400, check=False,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
    assert "run the same command again (without --again) to go on" in done.stderr
    assert done.stderr.endswith("pixelkin: interrupted\n")
    assert [path.name for path in (out / "1_photos").iterdir()] != []
    assert not list(out.rglob(".*"))


def test_a_bar_is_there_while_a_stage_tells_how_far_it_is(capsys):
    with _Bars(quiet=False) as bars:
        bars.say("before")
        for stage in ("activations", "regions"):
            for done in range(4):
                bars.report(stage, done, 3)
                # Behind it stays no bar that a training's own would run into.
                assert (bars._stages is None) == (done == 3)
            bars.say(f"after {stage}")
    assert capsys.readouterr().err == "before\nafter activations\nafter regions\n"
    with _Bars(quiet=True) as bars:
        bars.report("walk", 0, 3)
        bars.say("nothing")
    assert bars._stages is None
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_line_a_minute_says_how_far_a_stage_is(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for quiet in (False, True):
        with _Bars(quiet=quiet) as bars:
            for stage, seconds in (("regions", 25.0), ("walk", 1.0)):
                for done in range(101):
                    bars.report(stage, done, 100)
                    now[0] += seconds
    lines = capsys.readouterr().err.splitlines()
    # Three photos in 75 s, so 97 in 2425 s; then the next three; a hundred in 100 s: one line.
    assert lines[:2] == ["regions 3/100  ETA 0:40:25", "regions 6/100  ETA 0:39:10"]
    assert lines[-1] == "walk 60/100  ETA 0:00:40"
    assert len(lines) == 33 + 1
