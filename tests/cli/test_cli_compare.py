"""`pixelkin compare` from stills to table and figure: the command line is the API."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from pixelkin.assess import comparison
from pixelkin.cli import main
from pixelkin.semantic.checkpoints import (
    build_network,
    load_semantic_network,
    load_semantic_segmenter,
    save_semantic_model,
)
from pixelkin.semantic.scoring import evaluate_semantic

UNET, SEGNET = "unet:channels=2", "segnet:widths=2,2,2,2,2"
OWN = "channels, batch-norm, grey, weights, learning-rate"
BUDGET = ("--batch-size", "2", "--crop-px", "32", "--workers", "0")


@pytest.fixture(scope="module")
def stills(tmp_path_factory):
    """Ten rendered stills: a bright square on dark ground."""
    folder = tmp_path_factory.mktemp("rendered")
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for index in range(10):
        labels = np.zeros((48, 64), np.uint8)
        top, left = rng.integers(0, 20, 2)
        labels[top : top + 24, left : left + 24] = 1
        image = (40 + 160 * labels[..., None] + rng.integers(0, 30, (48, 64, 3))).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{index}.png")
    (folder / "classes.txt").write_text("ground\nsquare\n")
    return folder


def run(*tokens) -> int:
    return main(["compare", *map(str, tokens)])


def test_two_networks_and_a_model_in_one_table(stills, tmp_path, capsys, monkeypatch):
    """Trains, judges as users do, writes; the same command trains nothing anew."""
    out, data = tmp_path / "out", f"pngs:{stills}"
    asked = [UNET, SEGNET, "--data", data, "--out", out, "--steps", 2, "--seeds", 0, 1, *BUDGET]
    assert run(*asked) == 0
    table = capsys.readouterr().out
    assert table.splitlines()[0].split()[:3] == ["network", "mIoU", "±"]
    assert len(table.splitlines()) == 3
    document = json.loads((out / "compare.json").read_text())
    rows = {row["network"]: row for row in document["networks"]}
    assert set(rows) == {UNET, SEGNET}
    assert rows[UNET]["seeds"] == rows[UNET]["steps"] == 2
    assert rows[UNET]["training_seconds"] > 0
    with open(out / "compare.csv", newline="") as file:
        assert [row["network"] for row in csv.DictReader(file)] == list(rows)
    picture = np.asarray(Image.open(out / "compare.png"))
    assert picture.shape == (600, 900, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50

    # The numbers are those of the library on the stills that were held out.
    model = out / "trainings" / "unet_channels_2" / "seed1" / "model"
    segmenter = load_semantic_segmenter(model)
    trained = load_semantic_network(model)
    assert rows[UNET]["parameters"] == sum(p.numel() for p in trained.parameters())
    held_out = comparison_data(data)
    assert document["stills_judged"] == len(held_out) < 10
    expected = evaluate_semantic(segmenter, held_out, measures=["overlap"])["overlap/mIoU"]
    assert document["measures"][UNET][1]["overlap/mIoU"] == pytest.approx(expected)
    both = [one["overlap/mIoU"] for one in document["measures"][UNET]]
    assert rows[UNET]["mIoU"] == pytest.approx(np.mean(both))
    assert rows[UNET]["mIoU_spread"] == pytest.approx(np.std(both, ddof=1))

    monkeypatch.setattr(comparison, "run_training", lambda *a, **k: pytest.fail("trained anew"))
    assert run(*asked, "--json", "--quiet") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["measures"] == document["measures"]
    # Another budget is another comparison.
    asked[asked.index("--steps") + 1] = 3
    assert run(*asked) == 1
    assert " was trained with steps 2, now it is 3; compare with" in capsys.readouterr().err
    assert run(*asked, "--near-class", "0.5") == 1
    told = capsys.readouterr().err
    assert "with near-class 0.0 and steps 2, now they are 0.5 and 3; compare" in told
    # A trained model takes part as it is, judged on all the stills it is given.
    assert run(model, "--data", data, "--json", "--quiet") == 0
    alone = json.loads(capsys.readouterr().out)["networks"][0]
    assert alone["training_seconds"] is None


def test_a_model_of_other_classes_is_told_before_any_training(stills, tmp_path, capsys):
    config = {
        "architecture": "semantic_unet", "class_names": ["sky", "road"], "network": {"channels": 2},
    }  # fmt: skip
    save_semantic_model(build_network(config), tmp_path / "other", config, "")
    out = tmp_path / "out"
    tokens = (UNET, tmp_path / "other", "--data", f"pngs:{stills}", "--out", out, *BUDGET)
    assert run(*tokens) == 1
    assert "rename them, or choose" in capsys.readouterr().err
    assert not out.exists()


def comparison_data(data):
    from pixelkin.trainings.semantic_user_data import MapStills

    return MapStills().parts(data)[1]


def test_trainings_are_called_by_their_names(stills, capsys):
    asked = (UNET, "--data", f"pngs:{stills}", "--steps", 1, "--seeds", 3, 4, *BUDGET)
    assert run(*asked) == 0
    told = capsys.readouterr().err.splitlines()
    for seed in (3, 4):
        assert told.count(f"{UNET}, seed {seed}: done after 1 step") == 1
    # They may lie in a folder that is not kept.
    assert not any("/trainings/" in line for line in told)


@pytest.mark.parametrize(
    ("now", "told"),
    [
        ({"seed": 7}, "seed 1, now it is 7"),
        ({"data": "voc:V"}, "data pngs:M, now it is voc:V"),
        ({"seconds": 60.0}, "seconds none, now it is 60.0"),
        ({"options": {"widths": [2, 3], "grey": None}}, "widths none, now it is 2,3"),
        ({"options": {"widths": [], "grey": True}}, "grey none, now it is true"),
        # A plan of an older version, whose trainings knew an option less.
        ({"options": {"widths": [], "grey": None, "channels": 4}}, "channels none, now it is 4"),
        ({"seed": 2, "data": "x", "seconds": 3.0},
         "data pngs:M, seconds none and seed 1, now they are x, 3.0 and 2"),
    ],
)  # fmt: skip
def test_a_difference_of_plans_names_options_alone(now, told):
    plan = {"data": "pngs:M", "seconds": None, "seed": 1}
    plan |= {"options": {"widths": [], "grey": None}, "learning": {"steps": 2, "seed": 0}}
    assert comparison.difference(plan, plan | now) == told


def test_a_time_gives_the_steps(stills, tmp_path, capsys):
    out = tmp_path / "out"
    asked = (UNET, "--data", f"pngs:{stills}", "--out", out, "--seconds", "0.5", *BUDGET)
    assert run(*asked, "--json", "--quiet") == 0
    (row,) = json.loads(capsys.readouterr().out)["networks"]
    assert row["steps"] >= 1
    plan = json.loads((out / "trainings" / "unet_channels_2" / "seed0" / "plan.json").read_text())
    assert plan["steps"] == row["steps"]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["unett"], "did you mean unet"),
        (["mask-rcnn"], "finds objects"),
        (["unet", "unet"], "named twice"),
        ([], "nothing to compare"),
        (["unet:steps=3"], "unet:steps=3: steps is no option of one network alone; give --steps"),
        (["unet:chanels=3"], f"unet has no option chanels; did you mean channels? choose {OWN}\n"),
        (["unet:zzz=3"], f"unet:zzz=3: unet has no option zzz; choose {OWN}\n"),
        (["unet:channels"], f"'channels' is no option; expected KEY=VALUE with KEY one of {OWN}\n"),
        (["light:output-stride=8"], "light has no option output-stride, expected among backbone, "),
        (["unet", "--seed", "3"], "give --seeds"),
        (["unet", "--seeds", "1", "1"], "given once"),
        (["unet", "--seconds", "0"], "more than 0"),
        (["unet", "--validation", "0"], "leaves no still to judge"),
        (["unet", "--crop", "3"], "unet has no option crop; did you mean crop-px? known: images, "),
        (["unet", "light:channels=16"], "light:channels=16: light has no option channels"),
    ],
)
def test_mistakes_are_told_before_any_work(tokens, message, stills, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(*tokens, "--data", f"pngs:{stills}", "--out", out) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not out.exists()
