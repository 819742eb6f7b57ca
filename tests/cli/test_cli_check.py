"""What `pixelkin check` prints, and its exit status."""

import json
from pathlib import Path

import pytest
from PIL import Image
from small_sets import write_yolo
from tiny_class_map_sets import make_kitti, make_pngs

from pixelkin.checking.check import FORMATS
from pixelkin.cli.app import main
from pixelkin.cli.check import check
from pixelkin.errors import PixelkinError


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    root = write_yolo(tmp_path)
    boxes = "\n".join(f"0 0.5 0.5 0.{n} 0.2" for n in range(1, 6))
    crossing = "0 .1 .1 .6 .1 .6 .6 .1 .6 .2 .2 .5 .2 .5 .5 .2 .5"
    (root / "labels" / "2.txt").write_text(f"{crossing}\n{boxes}\n7 .1 .1 .2 .1 .2 .2\n")
    return root


def test_a_sound_set_is_one_line_and_status_0(tmp_path: Path, capsys) -> None:
    assert check(str(write_yolo(tmp_path))) == 0
    printed = capsys.readouterr().out
    assert printed == "no problem in 2 images, 2 objects (1 image without objects)\n"


def test_problems_stand_by_kind_errors_first_aligned_and_at_most_limit(
    faulty: Path, capsys
) -> None:
    assert check(str(faulty), limit=2) == 1
    assert capsys.readouterr().out == (
        "5 errors: use the labels for segmentation, not those for detection\n"
        "  labels/2.txt, line 2  is a box (class and 4 values), not a polygon\n"
        "  labels/2.txt, line 3  is a box (class and 4 values), not a polygon\n"
        "  … and 3 more\n"
        "\n"
        "1 error: correct the class, or add its name to the list of names\n"
        "  labels/2.txt, line 7  class 7 has no name; the names go to 1\n"
        "\n"
        "1 warning: draw a simple outline; an object with holes needs RLE or an index PNG\n"
        "  labels/2.txt, line 1  polygon crosses itself: 41% of it, covered twice, becomes a hole\n"
        "\n"
        "6 errors and 1 warning in 2 images, 9 objects\n"
    )


def test_limit_0_shows_all_and_a_negative_one_is_refused(faulty: Path, capsys) -> None:
    check(str(faulty), limit=0)
    printed = capsys.readouterr().out
    assert "more" not in printed
    assert printed.count("is a box") == 5
    with pytest.raises(PixelkinError, match="--limit is -1"):
        check(str(faulty), limit=-1)


def test_json_holds_every_problem(faulty: Path, capsys) -> None:
    assert check(f"yolo:{faulty}", limit=1, json=True) == 1
    done = json.loads(capsys.readouterr().out)
    assert (done["format"], done["images"], done["objects"]) == ("yolo", 2, 9)
    assert len(done["problems"]) == 7
    assert done["problems"][0] == {
        "where": "labels/2.txt, line 1",
        "what": "polygon crosses itself: 41% of it, covered twice, becomes a hole",
        "fix": "draw a simple outline; an object with holes needs RLE or an index PNG",
        "severity": "warning",
    }


def test_pixels_of_classes_are_counted(tmp_path: Path, capsys) -> None:
    make_pngs(tmp_path)
    Image.new("L", (6, 4), 255).save(tmp_path / "masks" / "b.png")
    Image.new("RGB", (6, 4), (9, 9, 9)).save(tmp_path / "images" / "b.png")
    (tmp_path / "classes.txt").write_text("road\nsky\nignore: 255\n")
    assert check(f"pngs:{tmp_path}") == 0
    assert capsys.readouterr().out == (
        "class             pixels    share   images\n"
        "road                  23  47.92 %        1\n"
        "sky                    1   2.08 %        1\n"
        "unknown               24  50.00 %\n"
        "\n"
        "no problem in 2 images, 24 pixels of 2 classes (1 image with unknown pixels only)\n"
    )
    assert check(f"pngs:{tmp_path}", json=True) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == {
        "pixels": {"road": 23, "sky": 1}, "images": {"road": 1, "sky": 1}, "unknown": 24,
    }  # fmt: skip


def test_faults_of_class_maps_by_the_command_line(tmp_path: Path, capsys) -> None:
    make_kitti(tmp_path)
    for name in ("b", "c"):
        Image.new("RGB", (6, 4), (1, 2, ord(name))).save(
            tmp_path / "training" / "image_2" / f"{name}.png"
        )
    Image.new("L", (6, 4), 99).save(tmp_path / "training" / "semantic" / "b.png")
    assert main(["check", str(tmp_path), "--quiet"]) == 1
    assert capsys.readouterr().out.startswith(
        "1 error: add the label file, or remove the image\n"
        "  training/image_2/c.png  has no label file: expected training/semantic/c.png\n"
        "\n"
        "1 error: use the file that the data set ships\n"
        "  training/semantic/b.png  holds 99 in 24 pixels: expected label ids 0 to 33, or 255 for"
    )


def test_help_names_all_formats(capsys) -> None:
    main(["check", "--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert [name for name in FORMATS if name not in words] == []


def test_maps_and_classes_that_lie_elsewhere(tmp_path: Path, capsys) -> None:
    root, maps, names = tmp_path / "photos", tmp_path / "labels", tmp_path / "names.txt"
    make_pngs(root)
    (root / "masks").rename(maps)
    (root / "classes.txt").rename(names)
    for classes in (str(names), "road, sky"):
        command = ["check", str(root), "--masks", str(maps), "--classes", classes, "--json"]
        assert main(command) == 0
        done = json.loads(capsys.readouterr().out)
        assert (done["format"], done["problems"]) == ("pngs-classes", [])
        assert list(done["classes"]["pixels"]) == ["road", "sky"]
    assert main(["check", str(root), "--masks", str(maps), "--classes", "lost.txt"]) == 1
    assert "no class list file lost.txt: check the path" in capsys.readouterr().err
