"""`pixelkin track` on a real clip: results equal the session's, mistakes are one line."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_commands import CLICK, FRAMES, HEIGHT, WIDTH, masks_of, one_line
from PIL import Image

from pixelkin.checkpoint import save_checkpoint
from pixelkin.cli import main
from pixelkin.errors import PixelkinError
from pixelkin.grouping.references import Box, Click
from pixelkin.loading import load
from pixelkin.masks import labels_from_segments, read_indexed_png, write_indexed_png
from pixelkin.media import open_clip
from pixelkin.results import read_coco_json
from pixelkin.video import ClipSession
from pixelkin.video.store import ArrayStore

# Results


def test_track_equals_the_session(clip, model, tmp_path, capsys):
    out = tmp_path / "cut"
    kinds = "png,overlay,cutout,cutout-png,coco"
    arguments = ["track", clip, "--click", "0:40,30", "--box", "3:10,10,60,60@2", "--out", out]
    arguments += ["--click", "2:90,70@-2", "--write", kinds, "--model", model, "--json"]
    assert main([*map(str, arguments), "--quiet", "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    done = json.loads(printed.out)
    assert set(done["outputs"]) == set(kinds.split(","))
    assert (done["frames"], done["objects"], done["references"]) == (FRAMES, [1, 2], 3)
    assert set(done["seconds"]) == {"load", "embed", "masks", *kinds.split(",")}
    assert all(spent >= 0 for spent in done["seconds"].values())
    assert done["fps"] > 0
    assert done["device"] == "torch on cpu"
    with open_clip(clip) as opened, ClipSession(load(model, device="cpu"), opened) as session:
        session.add(Box(3, (10, 10, 60, 60), 2), Click(0, (40, 30), 1))
        session.add(Click(2, (90, 70), 2, positive=False))
        expected = list(session.all_labels())
    written = masks_of(out / "masks")
    assert len(written) == FRAMES
    assert written[0][30, 40] == 1
    # The box of a random model may come out empty; the warning says so, and only then.
    warned = [line.split(" has no mask")[0] for line in printed.err.splitlines()]
    assert warned == ([] if 2 in written[3] else ["pixelkin: warning: object 2"])
    for ours, theirs in zip(written, expected, strict=True):
        assert (ours == theirs).all()
    coco = read_coco_json(out / "masks.json")
    for name, labels in zip(sorted(coco), expected, strict=True):
        assert (labels_from_segments(coco[name]) == labels).all()
    with open_clip(out / "overlay.mp4") as video:
        assert len(video) == FRAMES
        assert video.size_hw == (HEIGHT, WIDTH)
    alpha = np.asarray(Image.open(out / "cutout" / "00000.png"))[..., 3]
    assert ((alpha == 255) == (expected[0] > 0)).all()
    assert (out / "cutout.webm").stat().st_size > 0


def test_track_takes_a_mask_and_keeps_the_names_of_a_folder(folder, model, tmp_path, capsys):
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[20:50, 30:60] = 3
    write_indexed_png(tmp_path / "first.png", labels)
    arguments = ["track", folder, "--mask", f"0:{tmp_path / 'first.png'}", "--write", "png"]
    assert main([*map(str, arguments), "--out", str(tmp_path / "o"), "--model", str(model)]) == 0
    assert "5 frames" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "o" / "masks").iterdir())
    assert names == sorted(f"shot_{i + 7}.png" for i in range(FRAMES))
    assert (read_indexed_png(tmp_path / "o" / "masks" / "shot_7.png") == labels).all()
    one = ["track", folder / "shot_7.png", *CLICK, "--out", tmp_path / "one", "--model", model]
    assert main([*map(str, one)]) == 0
    told = capsys.readouterr()
    assert "shot_7.png: 1 frame, " in told.err
    assert "\n1 frame, " in told.out


def test_a_second_run_leaves_no_masks_of_the_first(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [
        "track",
        folder,
        *CLICK,
        "--write",
        "png,cutout-png",
        "--model",
        model,
        "--out",
        out,
    ]
    assert main([*map(str, arguments), "--quiet"]) == 0
    for other in ("notes.txt", ".hidden.png", "more.png/x.png"):
        (out / "masks" / other).parent.mkdir(exist_ok=True)
        (out / "masks" / other).write_text("")
    (out / "other").mkdir()
    (out / "other" / "a.png").write_text("")
    (folder / "shot_10.png").unlink()
    (folder / "shot_11.png").unlink()
    assert main([*map(str, arguments), "--quiet"]) == 0
    names = {"shot_7.png", "shot_8.png", "shot_9.png"}
    assert {path.name for path in (out / "cutout").iterdir()} == names
    left = {path.name for path in (out / "masks").iterdir()}
    assert left == names | {"notes.txt", ".hidden.png", "more.png"}
    assert (out / "other" / "a.png").is_file()
    # A clip that lies where the masks go loses no frame that cannot be read.
    clip = out / "cutout"
    whole = (clip / "shot_9.png").read_bytes()
    (clip / "shot_9.png").write_bytes(whole[: len(whole) // 2])
    again = ["track", clip, *CLICK, "--write", "cutout-png", "--model", model, "--out", out]
    assert "shot_9.png is damaged" in one_line(capsys, *again, "--quiet")
    assert (clip / "shot_9.png").is_file()


def test_track_takes_scribbles(clip, model, tmp_path, capsys):
    strokes = {"scribbles": [{"frame": 1, "points_xy": [[30, 20], [50, 40]], "object_id": 4}]}
    (tmp_path / "s.json").write_text(json.dumps(strokes))
    arguments = ["track", clip, "--scribble", tmp_path / "s.json", "--out", tmp_path / "o"]
    arguments += ["--write", "png", "--model", model, "--json", "--quiet"]
    assert main([str(a) for a in arguments]) == 0
    assert json.loads(capsys.readouterr().out)["objects"] == [4]
    assert read_indexed_png(tmp_path / "o" / "masks" / "00001.png")[30, 40] == 4


def test_an_object_that_vanishes_is_told(clip, model, tmp_path, capsys):
    arguments = ["track", clip, *CLICK, "--click", "0:40,30@2", "--click", "2:50,40@3"]
    arguments += ["--write", "png", "--model", model, "--out", tmp_path / "o", "--json", "--quiet"]
    assert main([str(a) for a in arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("pixelkin: warning: object 1 has no mask in frame 0, where it is")
    assert printed.err.count("\n") == 1
    assert 1 not in read_indexed_png(tmp_path / "o" / "masks" / "00000.png")
    json.loads(printed.out)


# Bad input


def bad_clips(kind: str, clip: Path, folder: Path, room: Path) -> Path:
    data = clip.read_bytes()
    (room / "cut.mp4").write_bytes(data[: len(data) * 2 // 3])
    (room / "empty.mp4").write_bytes(b"")
    (room / "text.mp4").write_text("not a video\n" * 50)
    (room / "none").mkdir()
    if kind == "sizes":
        Image.new("RGB", (WIDTH, HEIGHT - 2)).save(folder / "shot_9.png")
    places = {"missing": "no.mp4", "truncated": "cut.mp4", "empty": "empty.mp4"}
    places |= {"text": "text.mp4", "no frames": "none"}
    return folder if kind == "sizes" else room / places[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "no clip at"),
        ("truncated", "truncated"),
        ("empty", "is empty"),
        ("text", "not a video"),
        ("no frames", "holds no frames"),
        ("sizes", "expected 96×80 like shot_7.png"),
    ],
)
def test_bad_clip(kind, says, clip, folder, tmp_path, model, capsys):
    path = bad_clips(kind, clip, folder, tmp_path)
    out = tmp_path / "out"
    assert says in one_line(capsys, "track", path, *CLICK, "--out", out, "--model", model)
    assert not out.exists()


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        ([], "for example --click"),
        (["--click", "0:4,4@-1"], "for example --click"),
        (["--click", "0:4,4@0"], "mark only background"),
        (["--click", "0:96,4"], "96,4"),
        (["--click", "5:4,4"], "numbered 0 to 4"),
        (["--click", "0:4,4@255"], "object id 255 is out of range"),
        (["--click", "four"], "expected FRAME:X,Y"),
        (["--box", "0:9,9,4,4"], "is empty"),
        (["--mask", "0:small.png"], "is 50×40, expected 96×80"),
        (["--mask", "0:gone.png"], "no mask at"),
        (["--scribble", "gone.json"], "cannot read scribbles"),
        ([*CLICK, "--write", "png,overlai"], "did you mean overlay?"),
        ([*CLICK, "--budget-mb", "-1"], "--budget-mb is -1"),
        ([*CLICK, "--budget-mb", "0"], "--budget-mb is 0, expected 1 or more; try 512"),
        ([*CLICK, "--budget-mb", "inf"], "--budget-mb is inf, expected 1 or more; try 512"),
        ([*CLICK, "--budget-mb", "nan"], "--budget-mb is nan, expected 1 or more; try 512"),
        ([*CLICK, "--device", "cuda:77"], "'cuda:77' is not available here; use --device cpu\n"),
        (
            [*CLICK, "--device", "meta"],
            "'meta' is not available here, expected auto, cpu, cuda, mps",
        ),
    ],
)
def test_bad_reference_or_option(marks, says, clip, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_indexed_png(tmp_path / "small.png", np.ones((40, 50), np.uint8))
    error = one_line(
        capsys, "track", clip, "--out", "new/out", "--model", model, "--quiet", *marks
    )  # fmt: skip
    assert says in error
    assert [path.name for path in tmp_path.iterdir()] == ["small.png"]


def test_bad_model(clip, model, tmp_path, capsys):
    other, pickled, none = (tmp_path / name for name in ("other", "pickled", "none"))
    save_checkpoint(other, {"w": torch.ones(2)}, {"architecture": "small"}, "")
    save_checkpoint(none, {"w": torch.ones(2)}, {"architecture": "paper"}, "")
    pickled.mkdir()
    (pickled / "config.json").write_text('{"architecture": "small"}')
    (pickled / "model.safetensors").write_bytes(pickle.dumps({"w": [1.0]}))
    cases = {
        other: "of another architecture",
        none: "the architecture 'paper'",
        pickled: "is a pickle under another name",
        tmp_path / "gone": "there is no checkpoint at",
    }
    for place, says in cases.items():
        out = tmp_path / "new" / "out"
        error = one_line(capsys, "track", clip, *CLICK, "--out", out, "--model", place, "--quiet")
        assert says in error
        assert not out.parent.exists()


def test_full_disk_keeps_the_masks_written_before(clip, model, tmp_path, monkeypatch, capsys):
    calls, real = [], os.fsync

    def fill_up(handle: int) -> None:
        calls.append(handle)
        if len(calls) > 2:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fill_up)
    out = tmp_path / "out"
    arguments = ["track", clip, *CLICK, "--out", out, "--model", model, "--quiet"]
    assert "no space is left" in one_line(capsys, *arguments)
    written = sorted(str(p.relative_to(out)) for p in out.rglob("*"))
    assert written == ["masks", "masks/00000.png", "masks/00001.png"]
    assert len(masks_of(out / "masks")) == 2
    # Where nothing could be written, nothing is left.
    assert "no space" in one_line(capsys, *["new" if a is out else a for a in arguments])
    assert not Path("new").exists()


def test_damaged_clip_keeps_the_masks_of_the_frames_before(folder, model, tmp_path, capsys):
    whole = (folder / "shot_10.png").read_bytes()
    (folder / "shot_10.png").write_bytes(whole[: len(whole) // 2])
    arguments = ["track", folder, *CLICK, "--model", model, "--quiet"]
    error = one_line(capsys, *arguments, "--out", tmp_path / "out")
    assert "shot_10.png is damaged" in error
    assert "masks of frames 0 to 2 are in" in error
    assert len(masks_of(tmp_path / "out" / "masks")) == 3
    assert (tmp_path / "out" / "overlay.mp4").is_file()
    # References behind the damage help nobody.
    late = [folder, "--click", "4:40,30", "--model", model, "--quiet", "--out", tmp_path / "late"]
    assert "damaged" in one_line(capsys, "track", *late)
    assert not (tmp_path / "late").exists()


def test_full_temporary_disk_is_no_damage(clip, model, tmp_path, monkeypatch, capsys):
    real = ArrayStore.put

    def put(store: ArrayStore, key: tuple[str, int], arrays: object) -> None:
        if key == ("fields", 3):
            raise PixelkinError("no space is left on the disk")
        real(store, key, arrays)

    monkeypatch.setattr(ArrayStore, "put", put)
    out = tmp_path / "out"
    error = one_line(capsys, "track", clip, *CLICK, "--model", model, "--quiet", "--out", out)
    assert error == "pixelkin: error: no space is left on the disk\n"
    assert not out.exists()
