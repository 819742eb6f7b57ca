"""Runs that were stopped, or whose files are lost or damaged: each goes on, or says how."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rendered_photos import SIZE_HW, label, made, start_and_die, write_photos

from pixelkin.engine import loop
from pixelkin.errors import PixelkinError
from pixelkin.pipelines.weak_labels import Extent
from pixelkin.pipelines.weak_labels.workspace import Workspace

pytest.importorskip("lightning")


def test_a_killed_run_goes_on_and_gives_the_same(whole, root, tmp_path):
    # Besides: a photo without tags that is another one, and one that cannot be read.
    write_photos(tmp_path)
    Image.fromarray(np.full((*SIZE_HW, 3), 200, np.uint8)).save(tmp_path / "photos" / "a8.jpg")
    (tmp_path / "photos" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    out = tmp_path / "out"
    start_and_die(tmp_path, out, way="write", room="4_regions", after=4)
    assert len(list((out / "4_regions").rglob("[!.]*.png"))) >= 4
    assert not Workspace(out).is_done("regions")
    start_and_die(tmp_path, out, way="train", room="5_affinity", after=2)
    assert (out / "5_affinity" / "last.ckpt").is_dir()
    assert not Workspace(out).is_done("affinity")
    label(tmp_path, out)
    found, expected = made(out), made(whole)
    assert found.pop("predictions/a8.png") != b""
    del expected["predictions/a8.png"]
    found = {name: content for name, content in found.items() if "/." not in name}
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    text = (out / "problems.txt").read_text()
    assert "torn.png" in text
    assert "left out" in text


def test_a_training_killed_while_a_checkpoint_replaces_another_goes_on(whole, root, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    folder = out / "5_affinity"
    (folder / "DONE").unlink()
    room = folder / ".last-abcd1234"
    shutil.copytree(folder / "last.ckpt", room / "last.ckpt")
    (folder / "last.ckpt").rename(room / ".old")
    label(root, out, extent=Extent(only="affinity"))
    assert Workspace(out).is_done("affinity")
    assert not list(folder.glob(".*"))
    model = "5_affinity/model/model.safetensors"
    assert (out / model).read_bytes() == (whole / model).read_bytes()


@pytest.fixture
def full_disk(monkeypatch):
    """(room, after) → a disk that is full when `after` more files below the folder are written."""
    replace_file = os.replace

    def fill(room: str, *, after: int) -> None:
        written = []

        def put(source, target):
            written.extend([target] if room in str(target) else [])
            if len(written) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            replace_file(source, target)

        monkeypatch.setattr(os, "replace", put)

    return fill


@pytest.mark.parametrize(
    ("stage", "room", "after", "kept"),
    [
        ("walk", "labels", 3, 3),
        ("affinity", "last.ckpt", 0, 0),
        ("predictions", "predictions", 4, 4),
    ],
)
def test_a_full_disk_stops_in_order(
    until, whole, root, full_disk, monkeypatch, stage, room, after, kept
):
    out = until(stage)
    with monkeypatch.context():
        full_disk(room, after=after)
        with pytest.raises(PixelkinError, match="no space is left on the disk") as caught:
            label(root, out, extent=Extent(until=stage))
        monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert not Workspace(out).is_done(stage)
    if kept:
        assert len(list((out / room).rglob("*.png"))) == kept
    assert not list(out.rglob(".*"))
    label(root, out, extent=Extent(until=stage))
    expected = made(whole)
    assert all(expected[name] == content for name, content in made(out).items())
    assert Workspace(out).is_done(stage)


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 30 MB; skips where none can be made."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_really_full_disk(small_disk, root, whole):
    out = small_disk / "out"
    # The checkpoint with the optimiser's state takes 40 MB.
    with pytest.raises(PixelkinError, match="no space is left on the disk") as caught:
        label(root, out, extent=Extent(until="classifier"))
    assert "\n" not in str(caught.value)
    assert Workspace(out).is_done("photos")
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    label(root, out, extent=Extent(until="classifier"))
    assert Workspace(out).is_done("classifier")
    model = "2_classifier/model/model.safetensors"
    assert (out / model).read_bytes() == (whole / model).read_bytes()


def test_ctrl_c_in_a_training_saves_and_says_how_to_go_on(until, whole, root, monkeypatch):
    out, train_step = until("affinity"), loop.train_step

    def step(run, *arguments, **options):
        if run.progress.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return train_step(run, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step)
        with pytest.raises(PixelkinError, match=r"stage affinity at step 2; run the same command"):
            label(root, out, extent=Extent(only="affinity"))
    label(root, out, extent=Extent(only="affinity"))
    model = "5_affinity/model/model.safetensors"
    assert (out / model).read_bytes() == (whole / model).read_bytes()


def test_a_damaged_file_of_a_stage_says_how_to_make_it_anew(until, root):
    out = until("regions")
    (out / "3_activations" / "a1.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(PixelkinError, match=r"a1.npz cannot be read .* --again activations"):
        label(root, out, extent=Extent(until="regions"))
    label(root, out, extent=Extent(again="activations", until="regions"))
    assert Workspace(out).is_done("regions")


@pytest.mark.parametrize(
    ("path", "maker", "asked"),
    [("1_photos/a1.png", "photos", Extent(again="affinity")),
     ("1_photos/index.json", "photos", Extent()),
     ("1_photos/faults.json", "photos", Extent()),
     ("2_classifier/model/model.safetensors", "classifier", Extent(again="activations")),
     ("2_classifier/model/config.json", "classifier", Extent(again="network")),
     ("4_regions/a1.png", "regions", Extent(again="affinity")),
     ("5_affinity/model/model.safetensors", "affinity", Extent(again="walk")),
     ("labels/a1.png", "walk", Extent(again="network")),
     ("labels/a1.png", "walk", Extent()),
     ("7_network/model/model.safetensors", "network", Extent(again="predictions")),
     ("predictions/a1.png", "predictions", Extent())],
)  # fmt: skip
def test_every_damaged_file_names_the_stage_that_makes_it(
    whole, root, tmp_path, path, maker, asked
):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    content = (out / path).read_bytes()
    (out / path).write_bytes(content[: len(content) // 2])
    with pytest.raises(PixelkinError, match=f"; give --again {maker} to make it anew$") as caught:
        label(root, out, extent=asked)
    assert Path(path).name in str(caught.value)
    assert "\n" not in str(caught.value)
