"""The folder of a run: what is kept comes back, and another run is noticed."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.pipelines.weak_labels.workspace import STAGES, Workspace

FIRST_STAGE = {"seed": "classifier", "walk": "walk", "walk.radius": "affinity"}
DESCRIPTION = {"size": 64, "seed": 0, "walk": {"radius": 5, "steps": (8, 16), "power": 8.0}}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 4), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**31))
def test_maps_come_back(tmp_path_factory, count, h, w, seed):
    workspace = Workspace(tmp_path_factory.mktemp("run"))
    maps = torch.rand(count, h, w, generator=torch.Generator().manual_seed(seed))
    classes = list(range(3, 3 + 7 * count, 7))
    workspace.write_maps("walk", "in/a.b", maps, classes)
    found, which = workspace.read_maps("walk", "in/a.b")
    assert which == tuple(classes)
    assert found.dtype == torch.float32
    # Half precision has 11 binary digits.
    torch.testing.assert_close(found, maps, rtol=2**-11, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 and no more"])
def test_damaged_maps_are_one_line_with_the_remedy(tmp_path, content):
    workspace = Workspace(tmp_path)
    (tmp_path / "6_walk").mkdir()
    (tmp_path / "6_walk" / "a.npz").write_bytes(content)
    with pytest.raises(PixelkinError, match=r"a.npz cannot be read .*; delete this file") as it:
        workspace.read_maps("walk", "a")
    assert "\n" not in str(it.value)
    workspace.write_maps("walk", "b", torch.rand(2, 40, 40), [0, 1])
    path = tmp_path / "6_walk" / "b.npz"
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + b"?" * 50 + whole[250:]):
        path.write_bytes(damaged)
        with pytest.raises(PixelkinError, match="cannot be read"):
            workspace.read_maps("walk", "b")
    with pytest.raises(PixelkinError, match="cannot be read"):
        workspace.read_maps("walk", "missing")
    np.savez(path, other=np.zeros(1))
    with pytest.raises(PixelkinError, match="cannot be read"):
        workspace.read_maps("walk", "b")


def test_a_stage_is_done_when_it_says_so(tmp_path):
    workspace = Workspace(tmp_path)
    for stage, folders in STAGES.items():
        assert not workspace.is_done(stage)
        workspace.write_maps(stage, "a", torch.zeros(0, 1, 1), [])
        assert not workspace.is_done(stage)
        with pytest.raises(PixelkinError, match=f"x needs the stage {stage}, which is not compl"):
            workspace.require(stage, needed_by="x")
        workspace.finish(stage)
        assert workspace.is_done(stage)
        workspace.require(stage, needed_by="x")
        assert workspace.folder(stage) == tmp_path / folders[0]
    (tmp_path / "labels").mkdir()
    (tmp_path / "report").mkdir()
    (tmp_path / "mine.txt").touch()
    workspace.clear_from("walk")
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"1_photos", "2_classifier", "3_activations", "4_regions", "5_affinity",
                    "mine.txt"}  # fmt: skip


@pytest.mark.parametrize("stuck", ["6_walk", "labels", "report"])
def test_what_cannot_be_removed_is_told_and_nothing_passes_for_done(tmp_path, monkeypatch, stuck):
    workspace = Workspace(tmp_path)
    for stage in STAGES:
        workspace.finish(stage)
    for folder in ("labels", "report"):
        (tmp_path / folder).mkdir()
    rmtree = shutil.rmtree

    def remove(path, **options):
        if path.name == stuck:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove)
    with pytest.raises(PixelkinError, match=f"cannot write .*{stuck}: the folder is not writable"):
        workspace.clear_from("walk")
    assert [stage for stage in STAGES if workspace.is_done(stage)] == list(STAGES)[:5]
    assert (tmp_path / stuck).is_dir()


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path):
    workspace = Workspace(tmp_path)
    rooms = ["6_walk/.0435-ab_d1234", "labels/b/.x-12345678", "report/.00000_walk-abcdefgh",
             ".report-abcdefgh", ".problems-abcdefgh", "5_affinity/.DONE-abcdefgh"]  # fmt: skip
    # Not of the run, not of our names, or files.
    others = [".cache-abcdefgh", "notes/.x-12345678", "labels/.mine", "labels/.x-1234567"]
    for folder in (*rooms, *others):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "half.png").write_bytes(b"half")
    (tmp_path / "labels" / ".f-abcdefgh").write_bytes(b"a file")
    swap = tmp_path / "5_affinity" / ".last-abcdefgh"
    for folder in (swap / "last.ckpt", swap / ".old"):
        folder.mkdir(parents=True)
    workspace.remove_unfinished()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".*")}
    assert left == {*others, "labels/.f-abcdefgh"}
    assert (tmp_path / "5_affinity" / "last.ckpt").is_dir()


def test_a_run_goes_on_with_equal_options_alone(tmp_path):
    workspace = Workspace(tmp_path / "run")
    workspace.start(DESCRIPTION, first_stage=FIRST_STAGE)
    workspace.start(DESCRIPTION, first_stage=FIRST_STAGE)
    assert workspace.description() == json.loads(json.dumps(DESCRIPTION))
    workspace.finish("walk")
    walk = DESCRIPTION["walk"]
    for changed, says in [
        ({"size": 65}, "with size 64, now it is 65; .*--again photos"),
        ({"seed": "0"}, 'with seed 0, now it is "0"; .*--again classifier'),
        ({"walk": walk | {"radius": 4}}, "with walk.radius 5, now it is 4; .*--again affinity"),
        ({"walk": walk | {"power": 9.5}}, "with walk.power 8.0, now it is 9.5; .*--again walk"),
        ({"walk": walk | {"steps": (8, 17)}}, r"walk.steps \[8, 16\], now it is \[8, 17\]; "),
        ({"walk": walk | {"new": 1}}, "with walk.new null, now it is 1; .*--again walk"),
    ]:
        with pytest.raises(PixelkinError, match=says):
            workspace.start(DESCRIPTION | changed, first_stage=FIRST_STAGE)
    assert workspace.description()["size"] == 64
    assert workspace.is_done("walk")


def test_what_a_run_does_not_name_is_what_it_once_was(tmp_path):
    workspace = Workspace(tmp_path)
    workspace.start(DESCRIPTION, first_stage=FIRST_STAGE)
    unnamed = {"walk.new": [1, 2]}
    other = DESCRIPTION | {"walk": DESCRIPTION["walk"] | {"new": (1, 3)}}
    with pytest.raises(PixelkinError, match=r"walk.new \[1, 2\], now it is \[1, 3\]; .*--again wa"):
        workspace.start(other, first_stage=FIRST_STAGE, unnamed=unnamed)
    same = DESCRIPTION | {"walk": DESCRIPTION["walk"] | {"new": (1, 2)}}
    workspace.start(same, first_stage=FIRST_STAGE, unnamed=unnamed)
    # From now on it is what run.json says.
    with pytest.raises(PixelkinError, match=r"walk.new \[1, 2\], now it is \[1, 3\]"):
        workspace.start(other, first_stage=FIRST_STAGE, unnamed={"walk.new": [1, 3]})


@pytest.mark.parametrize(
    ("again", "allowed"),
    [("photos", ("size", "seed", "radius", "power")), ("classifier", ("seed", "radius", "power")),
     ("affinity", ("radius", "power")), ("walk", ("power",)), ("network", ())],
)  # fmt: skip
def test_again_takes_what_changes_nothing_before(tmp_path, again, allowed):
    walk = DESCRIPTION["walk"]
    changes = {
        "size": {"size": 65},
        "seed": {"seed": 1},
        "radius": {"walk": walk | {"radius": 4}},
        "power": {"walk": walk | {"power": 1.0}},
    }
    for name, changed in changes.items():
        workspace = Workspace(tmp_path / name)
        workspace.start(DESCRIPTION, first_stage=FIRST_STAGE)
        for stage in STAGES:
            workspace.finish(stage)
        if name in allowed:
            workspace.start(DESCRIPTION | changed, first_stage=FIRST_STAGE, again=again)
            done = [stage for stage in STAGES if workspace.is_done(stage)]
            assert done == list(STAGES)[: list(STAGES).index(again)]
            workspace.start(DESCRIPTION | changed, first_stage=FIRST_STAGE)
        else:
            with pytest.raises(PixelkinError, match="--again"):
                workspace.start(DESCRIPTION | changed, first_stage=FIRST_STAGE, again=again)
            assert all(workspace.is_done(stage) for stage in STAGES)


def test_a_damaged_run_file_is_one_line(tmp_path):
    (tmp_path / "run.json").write_text("{")
    workspace = Workspace(tmp_path)
    workspace.finish("walk")
    for again in (None, "walk"):
        with pytest.raises(PixelkinError, match=r"run.json cannot be read .*; give --again photos"):
            workspace.start(DESCRIPTION, first_stage=FIRST_STAGE, again=again)
    workspace.start(DESCRIPTION, first_stage=FIRST_STAGE, again="photos")
    assert not workspace.is_done("walk")
    assert workspace.description() == json.loads(json.dumps(DESCRIPTION))


@pytest.mark.parametrize("again", [None, "photos", "walk"])
@pytest.mark.parametrize("folder", ["labels", "predictions", "2_classifier", "report"])
def test_files_of_someone_else_are_neither_used_nor_removed(tmp_path, folder, again):
    (tmp_path / folder).mkdir()
    workspace = Workspace(tmp_path)
    # An empty folder holds nothing to be lost.
    workspace.start(DESCRIPTION, first_stage=FIRST_STAGE)
    (tmp_path / "run.json").unlink()
    (tmp_path / folder / "mine.png").write_bytes(b"drawn by hand")
    with pytest.raises(PixelkinError, match=f"holds the folder {folder}, but no run.json: .*choo"):
        workspace.start(DESCRIPTION, first_stage=FIRST_STAGE, again=again)
    assert (tmp_path / folder / "mine.png").read_bytes() == b"drawn by hand"
    assert not (tmp_path / "run.json").exists()


def test_long_values_are_cut_short(tmp_path):
    workspace = Workspace(tmp_path)
    names = [f"class {n}" for n in range(50)]
    workspace.start({"names": names}, first_stage={})
    with pytest.raises(PixelkinError, match=r"names .*…, now it is .*…; give the same") as caught:
        workspace.start({"names": names[::-1]}, first_stage={})
    assert len(str(caught.value)) < 400
