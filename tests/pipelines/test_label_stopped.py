"""Runs that were stopped, or whose files are lost or damaged: each goes on, or says how."""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
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
    # Nothing half-written is left of the killed ones.
    assert not list(out.rglob(".*"))
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
        with pytest.raises(PixelkinError, match=r"affinity at step 2; run .* \(without --ag"):
            label(root, out, extent=Extent(only="affinity"))
    label(root, out, extent=Extent(only="affinity"))
    model = "5_affinity/model/model.safetensors"
    assert (out / model).read_bytes() == (whole / model).read_bytes()


# Lost and damaged files


def times(out: Path) -> dict[str, int]:
    """When each file of the stages was written."""
    found = [path for path in out.glob("*/**/*") if path.is_file() and "report" not in path.parts]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


ONE_OF_EACH = [
    "1_photos/a0.png", "3_activations/a1.npz", "4_regions/a2.png", "6_walk/a3.npz",
    "labels/b/a6.png", "labels/labels.json", "predictions/a8.png",
]  # fmt: skip


def test_lost_files_are_made_anew_alone(whole, root, tmp_path):
    out, said = tmp_path / "out", []
    shutil.copytree(whole, out)
    before = times(out)
    for path in ONE_OF_EACH:
        (out / path).unlink()
    label(root, out, say=said.append)
    after = times(out)
    assert after.keys() == before.keys()
    # Both files of a photo, since one walk makes them; the file of all; and the marks.
    remade = {*ONE_OF_EACH, "6_walk/b/a6.npz", "labels/a3.png"}
    assert {path for path in after if after[path] != before[path]} - {
        f"{folder}/DONE" for folder in ("3_activations", "4_regions", "6_walk", "predictions")
    } == remade
    for path in remade:
        assert (out / path).read_bytes() == (whole / path).read_bytes()
    assert "stage 6 of 8: walk, of which files are missing (3): they are made anew" in said
    assert len([line for line in said if "made anew" in line]) == 4


def test_files_are_made_anew_only_as_far_as_the_stages_that_run(whole, root, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    for path in ("4_regions/a2.png", "predictions/a8.png"):
        (out / path).unlink()
    label(root, out, extent=Extent(only="walk"))
    assert (out / "4_regions" / "a2.png").is_file()
    assert not (out / "predictions" / "a8.png").exists()


def test_a_lost_copy_of_a_photo_that_is_another_by_now(whole, tmp_path):
    write_photos(tmp_path)
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "1_photos" / "a0.png").unlink()
    Image.new("RGB", (50, 40)).save(tmp_path / "photos" / "a0.png")
    with pytest.raises(PixelkinError, match=r"a0.png has 50 × 40 pixels, and had 96 × 64"):
        label(tmp_path, out)
    (tmp_path / "photos" / "a0.png").write_bytes(b"")
    with pytest.raises(PixelkinError, match=r"a0.png"):
        label(tmp_path, out)
    assert not (out / "1_photos" / "a0.png").exists()


def damaged(whole: Path, out: Path, path: str) -> Path:
    """A copy of the run in which a file is cut short."""
    shutil.copytree(whole, out)
    content = (out / path).read_bytes()
    (out / path).write_bytes(content[: len(content) // 2])
    return out


@pytest.mark.parametrize(
    ("path", "asked"),
    [("1_photos/a1.png", Extent(again="network", until="network")),
     ("3_activations/a1.npz", Extent(again="regions", until="regions")),
     ("4_regions/a1.png", Extent(again="affinity", until="affinity")),
     ("6_walk/a1.npz", Extent()),
     ("labels/a1.png", Extent(again="network", until="network")),
     ("labels/a1.png", Extent()),
     ("predictions/a1.png", Extent())],
)  # fmt: skip
def test_a_damaged_file_of_a_photo_is_deleted_and_made_anew_alone(
    whole, root, tmp_path, path, asked
):
    out = damaged(whole, tmp_path / "out", path)
    # The report reads it where its picture is not there.
    shutil.rmtree(out / "report")
    says = "; delete this file and run the same command again .without --again., which makes it"
    with pytest.raises(PixelkinError, match=f"{says} anew$") as caught:
        label(root, out, extent=asked)
    assert str(out / path) in str(caught.value)
    assert "\n" not in str(caught.value)
    before = times(out)
    (out / path).unlink()
    label(root, out, extent=replace(asked, again=None))
    assert (out / path).read_bytes() == (whole / path).read_bytes()
    after = times(out)
    kept = {"2_classifier/model/model.safetensors", "3_activations/a0.npz", "1_photos/a0.png"}
    assert all(after[name] == before[name] for name in kept)


@pytest.mark.parametrize(
    ("path", "maker", "asked"),
    [("1_photos/index.json", "photos", Extent()),
     ("2_classifier/model/model.safetensors", "classifier", Extent(again="activations")),
     ("2_classifier/model/config.json", "classifier", Extent(again="network")),
     ("5_affinity/model/model.safetensors", "affinity", Extent(again="walk")),
     ("7_network/model/model.safetensors", "network", Extent(again="predictions")),
     ("7_network/last.ckpt/state.safetensors", "network", Extent()),
     ("7_network/last.ckpt/state.json", "network", Extent())],
)  # fmt: skip
def test_a_damaged_file_of_all_photos_names_the_stage_that_makes_it(
    whole, root, tmp_path, path, maker, asked
):
    out = damaged(whole, tmp_path / "out", path)
    if "last.ckpt" in path:
        (out / "7_network" / "DONE").unlink()
    with pytest.raises(PixelkinError, match=f"; give --again {maker} to make it anew$") as caught:
        label(root, out, extent=asked)
    assert Path(path).name in str(caught.value) or Path(path).parent.name in str(caught.value)
    assert "\n" not in str(caught.value)
