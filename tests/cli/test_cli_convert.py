"""`pixelkin convert`: data sets from one format to another, and state dicts as before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from clip_commands import one_line
from PIL import Image
from small_sets import coco_content, write_coco, write_nuclei, write_pngs, write_yolo
from tiny_class_map_sets import CLASS_MAP_SETS

from pixelkin.cli import main
from pixelkin.data.class_maps.camvid import CAMVID_COLOURS
from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS, open_semantic_source
from pixelkin.data.instances.coco_panoptic import CocoPanoptic
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.data.instances.sources import open_source
from pixelkin.data.source import Subset
from pixelkin.results.conversion.convert import write_instances
from pixelkin.results.conversion.report import Report
from pixelkin.results.conversion.targets import Target

FORMATS = ("coco", "panoptic", "yolo", "labelme", "pngs")


def run(*arguments: object, status: int = 0) -> None:
    assert main(["convert", *map(str, arguments), "--quiet"]) == status


def contents(spec: object) -> list[tuple]:
    source = open_source(str(spec))
    return [
        (one.rle, source.class_names[one.category], one.crowd)
        for index in range(len(source))
        for one in source[index].instances
    ]


def losses(out: Path) -> dict:
    return json.loads(out.with_name(f"{out.stem}.convert_report.json").read_text())


@pytest.fixture(params=["coco", "yolo", "pngs", "nuclei"])
def origin(request, tmp_path: Path) -> str:
    root = tmp_path / "origin"
    root.mkdir()
    if request.param == "coco":
        return f"coco:{write_coco(root, coco_content())}"
    write = {"yolo": write_yolo, "pngs": write_pngs, "nuclei": write_nuclei}[request.param]
    return f"{request.param}:{write(root)}"


@pytest.mark.parametrize("name", FORMATS)
def test_every_pair_of_formats(origin: str, name: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    run(origin, f"{name}:{out}")
    before, after = contents(origin), contents(f"{name}:{out}")
    report = losses(out)
    single = [one for one in before if not one[2]]
    assert not report["losses"]["changed"]
    assert not report["losses"]["vanished"]
    if name in ("coco", "panoptic"):
        assert report["lossless"]
        assert after == before
    elif name == "pngs":
        assert [one[0] for one in after] == [one[0] for one in single]
        assert report["lossless"] == origin.startswith("pngs")
    else:
        assert after == single
        assert report["lossless"] == (single == before)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name}:{out}: ")
    assert ("nothing lost" in printed) == report["lossless"]


def test_there_and_back_is_bit_equal(tmp_path: Path) -> None:
    source = write_coco(tmp_path, coco_content())
    run(f"coco:{source}", f"panoptic:{tmp_path / 'there'}", "--copy-images", "--strict")
    run(f"panoptic:{tmp_path / 'there'}", f"coco:{tmp_path / 'back'}", "--copy-images", "--strict")
    first, last = open_source(f"coco:{source}"), open_source(f"coco:{tmp_path / 'back'}")
    assert last.names == first.names
    assert last.class_names == first.class_names
    assert contents(f"coco:{tmp_path / 'back'}") == contents(f"coco:{source}")
    for index in range(len(first)):
        np.testing.assert_array_equal(last[index].image, first[index].image)


def test_strict_fails_where_anything_is_lost(tmp_path: Path, capsys) -> None:
    source = write_coco(tmp_path, coco_content())
    run(f"coco:{source}", f"yolo:{tmp_path / 'a'}", "--strict", "--json", status=1)
    printed = json.loads(capsys.readouterr().out)
    assert printed == losses(tmp_path / "a")
    assert [one["why"] for one in printed["losses"]["crowds"]] == [
        "the format has no crowds; it is left out"
    ]
    run(f"coco:{source}", f"coco:{tmp_path / 'b.json'}", "--strict")
    assert losses(tmp_path / "b.json")["lossless"]


def test_images_are_referred_to_copied_or_linked(tmp_path: Path) -> None:
    source = write_yolo(tmp_path / "origin")
    original = source / "images" / "1.png"
    run(f"yolo:{source}", f"labelme:{tmp_path / 'refer'}")
    assert not list((tmp_path / "refer").glob("*.png"))
    assert json.loads((tmp_path / "refer/1.json").read_text())["imagePath"] == (
        "../origin/images/1.png"
    )
    run(f"yolo:{source}", f"pngs:{tmp_path / 'copy'}")
    run(f"yolo:{source}", f"pngs:{tmp_path / 'hard'}", "--link-images", "hard")
    run(f"yolo:{source}", f"pngs:{tmp_path / 'symbolic'}", "--link-images", "symbolic")
    copy, hard, symbolic = (tmp_path / n / "images/1.png" for n in ("copy", "hard", "symbolic"))
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)
    assert hard.samefile(original)
    assert not hard.is_symlink()
    assert symbolic.is_symlink()
    assert symbolic.resolve() == original.resolve()


def test_instances_are_painted_where_asked(tmp_path: Path) -> None:
    source = write_coco(tmp_path, coco_content())
    run(f"coco:{source}", f"pngs:{tmp_path / 'maps'}", "--class-maps", "--strict")
    maps = open_semantic_source(f"pngs:{tmp_path / 'maps'}")
    assert maps.class_names == ("background", "cat", "dog")
    expected = np.zeros((60, 80), int)
    expected[:5] = 255
    expected[20:30, 40:60] = 2
    np.testing.assert_array_equal(maps[1].labels, expected)
    assert (maps[0].labels[10:30, 10:30] == 1).all()
    # A folder with a class list is one of class maps.
    run(f"pngs:{tmp_path / 'maps'}", f"panoptic:{tmp_path / 'pan'}", "--strict")
    run(f"panoptic:{tmp_path / 'pan'}", f"pngs:{tmp_path / 'back'}", "--class-maps", "--strict")
    back = open_semantic_source(f"pngs:{tmp_path / 'back'}")
    np.testing.assert_array_equal(back[1].labels, expected)


def mkdir(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def write_maps(root: Path, values: tuple[int, ...], classes: str = "") -> None:
    for folder in ("images", "masks"):
        mkdir(root / folder)
    for value in values:
        Image.new("RGB", (6, 4), (value, 0, 0)).save(root / "images" / f"{value}.png")
        Image.new("L", (6, 4), value).save(root / "masks" / f"{value}.png")
    if classes:
        (root / "classes.txt").write_text(classes)


def test_class_maps_without_a_list_are_refused_not_merged(tmp_path: Path, capsys) -> None:
    write_maps(tmp_path / "set", (1, 2))
    out = tmp_path / "out"
    message = one_line(capsys, "convert", f"pngs:{tmp_path / 'set'}", f"pngs:{out}", "--class-maps")
    assert "no class list: expected" in message
    assert not out.exists()


def test_parts_of_class_maps_are_converted_by_name(tmp_path: Path, capsys) -> None:
    for part, values in (("train", (1, 2)), ("val", (2, 0))):
        write_maps(tmp_path / "set" / part, values, "road\nsky\ncar\n")
    spec, out = f"pngs:{tmp_path / 'set'}", tmp_path / "out"
    for options in ([], ["--class-maps"]):
        capsys.readouterr()
        message = one_line(capsys, "convert", spec, f"pngs:{out}", *options)
        assert "divided into train, val: expected to hear which" in message
        run(spec, f"pngs:{out}", "--split", "val", "--strict", *options)
        maps = open_semantic_source(f"pngs:{out}")
        assert (maps.names, maps.class_names) == (["0", "2"], ("road", "sky", "car"))
        assert [int(maps[n].labels[0, 0]) for n in range(2)] == [0, 2]
        shutil.rmtree(out)


@pytest.mark.parametrize(
    "name", [one for one in CLASS_MAP_SETS if SEMANTIC_FORMATS[one].parts and one != "pngs"]
)
def test_a_set_of_several_parts_is_not_cut_down_to_one_unasked(
    name: str, tmp_path: Path, capsys
) -> None:
    root, out = tmp_path / "set", tmp_path / "out"
    CLASS_MAP_SETS[name](root)
    parts = SEMANTIC_FORMATS[name].part_names(root)
    assert len(parts) == 2
    for options in ([], ["--class-maps"]):
        message = one_line(capsys, "convert", f"{name}:{root}", f"pngs:{out}", *options)
        assert f"is divided into {', '.join(parts)}: expected to hear which; give" in message
    assert not out.exists()
    run(f"{name}:{root}", f"pngs:{out}", "--class-maps", "--split", parts[1])
    assert losses(out)["stills"] == 1


def test_camvid_as_published_is_one_whole(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4)).save(mkdir(tmp_path / "set/701_StillsRaw_full") / "a.png")
    sky = Image.new("RGB", (6, 4), CAMVID_COLOURS["Sky"])
    sky.save(mkdir(tmp_path / "set/LabeledApproved_full") / "a_L.png")
    # Folders of another use have the names of parts.
    for part in ("train", "val"):
        mkdir(tmp_path / "set" / part)
    run(f"camvid:{tmp_path / 'set'}", f"pngs:{tmp_path / 'out'}", "--strict")
    assert losses(tmp_path / "out")["stills"] == 1


def test_voc_without_objects_is_one_of_class_maps(tmp_path: Path, capsys) -> None:
    source = write_coco(tmp_path, coco_content())
    run(f"coco:{source}", f"voc:{tmp_path / 'voc'}", "--class-maps")
    run(f"voc:{tmp_path / 'voc'}", f"pngs:{tmp_path / 'maps'}", "--strict")
    maps = open_semantic_source(f"pngs:{tmp_path / 'maps'}")
    assert maps.class_names == ("background", "cat", "dog")
    capsys.readouterr()
    assert main(["check", f"voc:{tmp_path / 'voc'}"]) == 0
    assert "cat" in (printed := capsys.readouterr().out)
    assert "aeroplane" not in printed
    message = one_line(capsys, "convert", f"voc:{tmp_path / 'voc'}", f"yolo:{tmp_path / 'x'}")
    assert "yolo holds no class maps" in message


def test_wrong_command_lines_are_one_line(tmp_path: Path, capsys) -> None:
    source = write_yolo(tmp_path / "set")
    spec, out = f"yolo:{source}", tmp_path / "out"
    wrong = {
        (f"yola:{source}", f"coco:{out}"): "did you mean yolo:",
        (spec, f"coko:{out}"): "did you mean coco:",
        (spec, str(out)): "expected FORMAT:PATH",
        (spec, f"voc:{out}"): "voc holds no instances",
        (spec, f"coco:{source}"): "FROM and TO are both",
        (spec, f"coco:{tmp_path}", "--force"): "would be replaced",
        (f"yolo:{tmp_path / 'gone'}", f"coco:{out}"): "no file or folder",
        (spec, f"coco:{out}", "--copy-images", "--link-images", "hard"): "exclude each other",
        (spec, f"coco:{tmp_path / 'x.json'}", "--copy-images"): "is a single file",
    }
    for arguments, message in wrong.items():
        assert message in one_line(capsys, "convert", *arguments), arguments
    assert not out.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_what_is_there_is_replaced_only_by_force(tmp_path: Path, capsys) -> None:
    source = write_yolo(tmp_path / "set")
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept.txt").write_text("mine")
    assert "is there already" in one_line(capsys, "convert", f"yolo:{source}", f"coco:{out}")
    assert (out / "kept.txt").read_text() == "mine"
    run(f"yolo:{source}", f"coco:{out}", "--force")
    assert [path.name for path in out.iterdir()] == ["instances.json"]


def test_a_fault_in_the_middle_leaves_nothing(tmp_path: Path, capsys) -> None:
    source = write_yolo(tmp_path / "set")
    (source / "labels/2.txt").write_text("0 0.1 0.1\n")
    assert "2.txt, line 1" in one_line(
        capsys, "convert", f"yolo:{source}", f"pngs:{tmp_path / 'out'}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_weights_take_no_options_of_data(tmp_path: Path, capsys) -> None:
    message = one_line(capsys, "convert", tmp_path / "w.pth", tmp_path / "x", "--strict")
    assert "takes no options" in message


def real(shared_data: Path, name: str):
    if name == "dsb2018":
        return Subset(Nuclei(shared_data / "dsb2018"), [3])
    if name == "penn_fudan":
        return Subset(PennFudan(shared_data / "penn_fudan"), [6])
    annotations = shared_data / "coco_mini/panoptic_segmentation/annotations"
    images = shared_data / "coco_mini/images/train2017"
    return Subset(CocoPanoptic(annotations / "panoptic_train2017.json", images), [0, 3])


@pytest.mark.parametrize("name", ["dsb2018", "penn_fudan", "coco_mini"])
def test_real_sets_there_and_back(name: str, shared_data: Path, tmp_path: Path) -> None:
    source = real(shared_data, name)
    report = Report("instances", name, "coco")
    write_instances(source, Target("coco", tmp_path / "coco"), report)
    assert report.lossless == (name != "coco_mini")
    assert not report.changed
    first = contents(f"coco:{tmp_path / 'coco'}")
    assert len(first) == report.instances + len(report.unknown)
    run(f"coco:{tmp_path / 'coco'}", f"panoptic:{tmp_path / 'there'}", "--strict")
    run(f"panoptic:{tmp_path / 'there'}", f"coco:{tmp_path / 'back'}", "--strict")
    assert contents(f"coco:{tmp_path / 'back'}") == first
    run(f"coco:{tmp_path / 'coco'}", f"pngs:{tmp_path / 'pngs'}")
    run(f"pngs:{tmp_path / 'pngs'}", f"coco:{tmp_path / 'again'}")
    # Nothing overlaps: masks are bit-equal; crowds have become unknown pixels.
    again = [one[0] for one in contents(f"coco:{tmp_path / 'again'}") if not one[2]]
    assert again == [one[0] for one in first if not one[2]]
