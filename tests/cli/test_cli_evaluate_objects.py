"""The newcomer's path on the command line: annotated photos → a model → its measures."""

import csv
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from disc_stills import CLASS_NAMES, write_disc_coco

from pixelkin.checkpoint import save_checkpoint
from pixelkin.cli import main
from pixelkin.cli.app import app
from pixelkin.cli.stills import seen_in_training
from pixelkin.data.instances.coco_json import CocoJson
from pixelkin.data.instances.sources import FORMATS
from pixelkin.data.source import split_source
from pixelkin.instances.checkpoints import build_network, save_instance_model
from pixelkin.trainings import TRAININGS

VERBS = [
    "track", "predict", "demo", "train", "label", "evaluate", "compare", "check", "export",
    "convert",
]  # fmt: skip


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def one_line(capsys, *arguments: object, status: int = 1) -> str:
    """The error of a command line that must fail."""
    found = run(*arguments)
    printed = capsys.readouterr()
    assert (found, printed.out) == (status, "")
    assert re.fullmatch(r"pixelkin: error: [^\n]+\n", printed.err)
    return printed.err


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[str, Path]:
    """`coco:ann.json` and the folder of its images."""
    path, images = write_disc_coco(tmp_path_factory.mktemp("discs"))
    return f"coco:{path}", images


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An instance model with random weights that knows other classes."""
    config = {"architecture": "instance_boundary", "class_names": ["nucleus"]}
    folder = tmp_path_factory.mktemp("model") / "random"
    save_instance_model(build_network(config), folder, config, "")
    return folder


def test_three_commands_from_annotated_photos_to_a_judged_model(data, tmp_path, capsys):
    pytest.importorskip("lightning")
    spec, images = data
    out = tmp_path / "run"
    training = ["train", "seeds", spec, "--images", images, "--out", out, "--steps", 3]
    training += ["--crop-px", 64, "--batch-size", 2, "--weights", "none", "--workers", 0]
    assert run(*training, "--validation", 0.3, "--accelerator", "cpu") == 0
    assert f"{out}: done after 3 steps" in capsys.readouterr().out
    config = json.loads((out / "run.json").read_text())["config"]
    source = CocoJson(spec.removeprefix("coco:"), images)
    kept, held_out = split_source(source, validation=0.3)
    assert (config["samples"], config["held_out"]) == (len(kept), len(held_out))
    assert config["class_names"] == list(CLASS_NAMES)

    model, found = out / "model", tmp_path / "found"
    arguments = ["predict", model, images, "--out", found, "--min-score", 0]
    assert run(*arguments, "--device", "cpu", "--quiet") == 0
    written = CocoJson(found / "instances.json", images)
    assert (len(written), written.class_names) == (len(source), CLASS_NAMES)
    capsys.readouterr()

    judging = ["evaluate", spec, "--images", images, "--model", model, "--validation", 0.3]
    assert run(*judging, "--device", "cpu", "--json", "--quiet") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (values,) = json.loads(printed.out).values()
    assert values["objects"] == 4 * len(held_out)
    assert 0 <= values["coco/AP"] <= 1
    asked = ["--device", "cpu", "--json", "--measures", "leaves"]
    assert run(*judging[:-2], *asked) == 0
    assert capsys.readouterr().err == (
        f"{model}: judging all {len(source)} images, {len(kept)} of which the model may have been "
        "trained on; add --validation 0.3 for the held-out ones\n"
    )
    with open(out / "metrics.csv", newline="") as handle:
        told = [row for row in csv.DictReader(handle) if row["val/AP"]]
    # What training said of the last step is what evaluation says of the model on disk.
    assert [row["step"] for row in told] == ["3"]
    assert float(told[0]["val/AP"]) == pytest.approx(values["coco/AP"], abs=1e-6)


def test_nothing_is_told_of_other_data_or_of_runs_that_say_nothing(data, tmp_path):
    source = CocoJson(data[0].removeprefix("coco:"), data[1])
    model = str(tmp_path / "model")
    known = {"validation": 0.25, "samples": 9, "held_out": 3, "class_names": list(CLASS_NAMES)}

    def told(**changes) -> str:
        (tmp_path / "run.json").write_text(json.dumps({"config": known | changes}))
        return seen_in_training(model, source)

    assert seen_in_training(model, source) == ""
    assert "judging all 12 images, 9 of which" in told()
    assert "add --validation 0.25 for" in told()
    for other in (
        {"samples": 8}, {"class_names": ["nucleus"]}, {"samples": 12, "held_out": 0},
        {"validation": None}, {"samples": "many"}, {"class_names": None},
    ):  # fmt: skip
        assert told(**other) == ""
    for text in ("[]", "{", "\xff"):
        (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
        assert seen_in_training(model, source) == ""


@pytest.mark.parametrize(
    ("training", "options", "says"),
    [
        ("discriminative", ["--seeds", 300], "option seeds is for seeds, and the .* discrimin"),
        ("discriminative", ["--cuts", 0.5], "option cuts is for seeds, and the method is discrim"),
        ("boundary", ["--dimensions", 4], "dimensions is for seeds and discriminative, and the"),
        ("mask-rcnn", ["--stride", 2], "for seeds, discriminative and boundary, and .* mask_rcnn"),
        ("boundary", ["--method", "seeds"], "has no option method"),
    ],
)
def test_options_of_another_method_are_refused(training, options, says, data, tmp_path, capsys):
    out = tmp_path / "run"
    asked = ["train", training, data[0], "--images", data[1], "--out", out]
    assert re.search(says, one_line(capsys, *asked, *options))
    assert not out.exists()


def test_evaluation_by_otsu_as_table_and_as_file(data, model, tmp_path, capsys):
    """Bright discs of one class: what Otsu finds; two classes are told to be unknown."""
    spec, images = data
    content = json.loads(Path(spec.removeprefix("coco:")).read_text())
    content["categories"] = content["categories"][:1]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 3]
    (tmp_path / "bright.json").write_text(json.dumps(content))
    asked = ["evaluate", f"coco:{tmp_path / 'bright.json'}", "--images", images, "--quiet"]
    out = tmp_path / "judged"
    asked += ["--device", "cpu", "--measures", "coco,leaves", "--out", out]
    assert run(*asked, "--model", f"otsu,{model}") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("otsu: 12 images, 24 objects, ")
    assert f"\n{model}: 12 images, 24 objects, " in printed
    written = json.loads((out / "measures.json").read_text())
    assert list(written["models"]) == ["otsu", str(model)]
    assert 0 <= written["models"]["otsu"]["coco/AP50"] <= 1
    assert "'coko' is unknown" in one_line(
        capsys, *asked[:-4], "--measures", "coko", "--model", "otsu"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "sedes", "DATA", "--out", "o"], "'sedes': did you mean seeds? choose seeds"),
        (["train", "maskrcnn", "DATA", "--out", "o"], "did you mean mask-rcnn?"),
        (["train", "magic", "DATA", "--out", "o"], "mask-rcnn, .*, or a .py file\n"),
        (["train", "seeds", "cocoo:ann.json", "--out", "o"], "'cocoo' is unknown: .* mean coco:"),
        (["train", "seeds", "coco:gone.json", "--out", "o"], "no file or folder gone.json"),
        (["train", "seeds", "--out", "o"], "seeds needs DATA, such as coco:annotations.json"),
        (
            ["train", "seeds", "DATA", "--out", "o", "--step", "3"],
            "^pixelkin: error: seeds has no option step; did "
            "you mean steps? known: data, images, .*, crop-px, ",
        ),
        (["train", "seeds", "DATA", "--out", "o", "--rotate", "perhaps"], "rotate"),
        (["train", "seeds", "DATA", "--out", "o", "--split", "val"], "takes no split"),
        (["train", "seeds", "DATA", "--out", "o", "--validation", "2"], "validation is 2"),
        (["evaluate", "DATA"], "no model to judge: give --model FOLDER"),
        (["evaluate", "DATA", "--model", "./gone"], "there is no checkpoint at"),
        (["evaluate", "cocoo:ann.json", "--model", "otsu"], "did you mean coco:ann.json?"),
        (["evaluate", "DATA", "--model", "otsu"], "the data has the class 'bright'"),
        (["evaluate", "DATA", "--model", "otsu", "--year", "2017"], "--year, .* are for clips"),
        (["evaluate", "DATA", "--model", "otsu", "--method", "flow"], "are for clips"),
        (["evaluate", "CLIPS", "--images", "x"], "--images, .* are for stills"),
        (["evaluate", "CLIPS", "--tile", "64"], "--tile are for stills"),
        (["predict", "./gone", "IMAGES", "--out", "o"], "there is no checkpoint at"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments, says, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    places = {"DATA": data[0], "IMAGES": data[1], "CLIPS": tmp_path / "clips"}
    images = ["--images", data[1]] if "DATA" in arguments else []
    asked = [places.get(word, word) for word in arguments]
    assert re.search(says.replace("?", r"\?"), one_line(capsys, *asked, *images))
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


def test_a_model_for_clips_judges_no_stills(data, tmp_path, capsys):
    save_checkpoint(tmp_path / "clips", {}, {"architecture": "small"}, "")
    arguments = ["evaluate", data[0], "--images", data[1], "--model", tmp_path / "clips"]
    assert "is a model for clips, expected one that finds instances" in one_line(capsys, *arguments)


# Help


def help_of(capsys, monkeypatch, *verb: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*verb, "--help"]) == 0
    return capsys.readouterr().out


def test_verbs_stand_in_the_order_of_their_use(capsys, monkeypatch):
    text = help_of(capsys, monkeypatch)
    assert re.findall(r"^│ ([a-z]+) ", text, re.MULTILINE) == VERBS


def paragraphs(text: str) -> list[str]:
    head = text.split("╭")[0]
    return [part for part in re.split(r"\n\s*\n", head) if part.strip()]


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_80_columns_and_breaks_no_line_early(verb, capsys, monkeypatch):
    text = help_of(capsys, monkeypatch, verb)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 80
    for paragraph in paragraphs(text):
        lines = [line.rstrip() for line in paragraph.splitlines()]
        if lines[0].startswith(" "):
            continue  # commands, one a line
        for line, following in pairwise(lines):
            assert len(line) + 1 + len(following.split()[0]) > 79, (line, following)


@pytest.mark.parametrize(
    "verb", [verb for verb in VERBS if verb not in ("demo", "export", "convert")]
)
def test_the_examples_of_help_are_valid(verb, capsys, monkeypatch):
    commands = []
    for paragraph in paragraphs(help_of(capsys, monkeypatch, verb)):
        if paragraph.startswith("Example: "):
            commands.append(" ".join(paragraph.removeprefix("Example: ").split()))
        elif paragraph.lstrip().startswith("pixelkin "):
            commands += paragraph.split("\n")
    assert any(command.strip().startswith(f"pixelkin {verb} ") for command in commands)
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "pixelkin"
        function, bound, _ = app.parse_args(words)
        assert function.__name__ == words[0]
        if function.__name__ == "train":
            assert bound.args[0] in TRAININGS


def test_help_names_every_training_and_format(capsys, monkeypatch):
    words = help_of(capsys, monkeypatch, "train").replace("\n", " ")
    assert ", ".join(FORMATS) in " ".join(words.split())
    for name in TRAININGS:
        assert re.search(rf"\b{name}\b", words)
