"""Names of models, trainings, methods and formats: what is meant is said where another is given."""

import re

import numpy as np
import pytest
from clip_commands import CLICK, one_line
from PIL import Image

from pixelkin.checkpoint import save_checkpoint

INSIDE = "nuclei, nuclei-discriminative, pedestrians, pedestrians-discriminative, otsu"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with photos, and with models of all three kinds, which hold no weights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / "a.png")
    for name, architecture in (
        ("objects", "instance_seeds"), ("classes", "semantic_light"), ("clips", "small"),
    ):  # fmt: skip
        save_checkpoint(tmp_path / name, {}, {"architecture": architecture}, "")
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / "davis" / kind / "480p" / "car").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict", "pedestrian", "photos"],
         f"no model 'pedestrian': did you mean pedestrians? choose .* inside: {INSIDE}$"),
        (["predict", "magic", "photos"], "no model 'magic': choose a checkpoint folder, a hub id"),
        (["evaluate", "coco:x.json", "--model", "nucleii"], "'nucleii': did you mean nuclei?"),
        (["predict", "photos", "pedestrians"], "pedestrians is a model, and stands behind photos: "
         "MODEL stands before IMAGES; write pixelkin predict pedestrians photos$"),
        (["predict", "photos", "objects"], "write pixelkin predict objects photos$"),
        (["track", "photos", *CLICK, "--model", "nuclei"], "^nuclei finds objects in photos "
         r"\(pixelkin predict\); track needs a model for clips; leave --model out$"),
        (["track", "photos", *CLICK, "--model", "otsu"], "^otsu finds objects in photos"),
        (["track", "photos", *CLICK, "--model", "objects"], "^objects finds objects in photos"),
        (["track", "photos", *CLICK, "--model", "classes"],
         r"^classes gives every pixel of a photo a class \(pixelkin predict\); track needs"),
        (["demo", "--model", "nuclei"], "demo needs a model for clips; leave --model out$"),
        (["evaluate", "davis", "--model", "nuclei"], "davis holds clips, which need a model for"),
        (["evaluate", "davis", "--method", "pixelkinn"], "did you mean pixelkin? choose pixelkin,"),
        (["evaluate", "camvid:x", "--model", "pedestrians"], "^pedestrians finds objects, and "
         "camvid holds class maps: expected annotated objects, such as coco:annotations.json, or a "
         "model that gives every pixel a class$"),
        (["evaluate", "cocoo:x", "--model", "pedestrians"], "'cocoo' is unknown"),
        (["train", "seeds", "camvid:x"], "^seeds learns to find objects, and camvid holds class "
         "maps: .*, or a training of classes, such as light$"),
        (["train", "light", "camvidd:x"], "'camvidd' is unknown"),
        (["train", "coco:x.json", "seeds"], "seeds is a training, and stands behind coco:x.json: "
         ".*; write pixelkin train seeds coco:x.json$"),
        (["train", "sedes", "photos"], "no training 'sedes': did you mean seeds? choose seeds, "),
        (["train", "seeds"], "^seeds needs DATA, such as coco:annotations.json; write it"),
        (["train", "unet"], "^unet needs DATA, such as camvid:CamVid; write it behind the name$"),
    ],
)  # fmt: skip
def test_the_other_name_is_told_before_any_work(arguments, says, place, capsys):
    before = sorted(place.rglob("*"))
    error = one_line(capsys, *arguments, "--out", "new").removeprefix("pixelkin: error: ")
    assert re.search(says.replace("?", r"\?"), error.rstrip("\n"))
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize(
    ("model", "says"),
    [("objects", "objects finds objects in photos"), ("classes", "classes gives every pixel of")],
)
def test_only_models_for_clips_are_exported(model, says, place, capsys):
    error = one_line(capsys, "export", model)
    assert says in error
    assert "; only models for clips are exported; choose one of those\n" in error


def test_a_folder_of_the_name_of_a_model_is_taken_for_images(place, capsys):
    """The name is the user's first: nothing says that the model inside is meant."""
    (place / "photos").rename(place / "nuclei")
    assert "nuclei/config.json is missing" in one_line(
        capsys, "predict", "nuclei", "nuclei", "--out", "new"
    )
