"""`pixelkin evaluate` on clips."""

import json
import re

import numpy as np
import pytest
from clip_commands import HEIGHT, WIDTH, one_line
from PIL import Image

from pixelkin.cli import main
from pixelkin.masks import write_indexed_png


def test_evaluate(frames, tmp_path, capsys):
    for index, frame in enumerate(frames):
        for kind, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
            (tmp_path / "d" / kind / "480p" / "car").mkdir(parents=True, exist_ok=True)
            path = tmp_path / "d" / kind / "480p" / "car" / f"{index:05}.{suffix}"
            labels = np.zeros((HEIGHT, WIDTH), np.uint8)
            labels[20:50, 20 + index : 60 + index] = 1
            if kind == "Annotations":
                write_indexed_png(path, labels)
            else:
                Image.fromarray(frame).save(path)
    root, out = str(tmp_path / "d"), tmp_path / "out"
    asked = ["evaluate", root, "--method", "copy", "--method", "flow", "--out", str(out)]
    assert main([*asked, "--json", "--quiet"]) == 0
    done = json.loads(capsys.readouterr().out)
    # A box of 40 columns, off by 1, 2 and 3 of them in the frames that count.
    assert done["copy"]["J mean"] == pytest.approx(np.mean([39 / 41, 38 / 42, 37 / 43]), abs=1e-5)
    assert (out / "flow" / "worst.png").is_file()
    (tmp_path / "d" / "JPEGImages" / "480p" / "dog").mkdir()
    assert f"{root} has no lists of sequences (ImageSets/2016/val.txt); leave --split" in one_line(
        capsys, "evaluate", root, "--split", "val"
    )
    (tmp_path / "d" / "ImageSets" / "2016").mkdir(parents=True)
    (tmp_path / "d" / "ImageSets" / "2016" / "val.txt").write_text("car\n")
    listed = ["evaluate", root, "--split", "val", "--method", "copy", "--json", "--quiet"]
    assert main(listed) == 0
    assert json.loads(capsys.readouterr().out)["copy"]["J mean"] == done["copy"]["J mean"]
    (tmp_path / "d" / "JPEGImages" / "480p" / "dog").rmdir()
    masks = ["evaluate", root, "--masks", str(tmp_path / "d" / "Annotations" / "480p")]
    assert main(masks) == 0
    printed = capsys.readouterr().out
    assert "1.000" in printed
    # No time was taken.
    assert re.search(r"\nT over all sequences \d\.\d{3}\n$", printed)
    assert main(["evaluate", root, "--method", "copy"]) == 0
    timed = r"\nT over all sequences \d\.\d{3}; \d+\.\d frames per second\n$"
    assert re.search(timed, capsys.readouterr().out)
    new = tmp_path / "new"
    for wrong, says in [
        (["--method", "magic"], "method 'magic' is unknown"),
        (["--method", "masktrack"], "needs a trained checkpoint"),
        (["--sequences", "cat"], "no sequence 'cat'"),
        (["--split", "vall"], "vall"),
        (["--method", "copy", "--method", "copy"], "would both be called copy"),
        (["--method", "osvos:a/b", "--method", "osvos:a_b"], "would both be called osvos_a_b"),
        (["--masks", tmp_path / "gone"], "there is no folder"),
        (["--masks", root, "--method", "copy"], "leave out --method"),
        (["--masks", root, "--device", "cpu"], "leave out --model, --device"),
        (["--masks", root, "--model", "x"], "leave out --model"),
        (["--scribbles", root], "add --interactive"),
        (["--interactive", "--method", "copy"], "leave out --method"),
    ]:
        assert says in one_line(capsys, "evaluate", root, "--out", new, *wrong)
        assert not new.exists()
    assert "JPEGImages" in one_line(capsys, "evaluate", tmp_path, "--method", "copy")
