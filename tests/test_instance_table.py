"""The benchmarks of instances: what they count, which stills they judge by, what they write."""

import json
import runpy
import shlex
import sys
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pixelkin.data.source import Subset
from pixelkin.data.splits import split_by_name
from pixelkin.engine import load_recipe, parse_recipe_options
from pixelkin.errors import PixelkinError
from pixelkin.grouping.seed_instances import SeedGrouping
from pixelkin.masks import decode_rle, encode_rle
from pixelkin.models.instance_embedding import CUTS
from pixelkin.structures import Instance, InstanceFields, Instances, InstanceSample

# Benchmarks are programs, not a package. At the end, so that none of them hides a module.
sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import instance_ablations as ablations
import instance_pages as pages
import instances as contest_table

SQUARES = ((4, 4), (4, 20), (20, 4))


class Squares:
    """A source of stills with three bright squares each."""

    class_names = ("square",)

    def __init__(self, count: int) -> None:
        self.names = [f"still{number}" for number in range(count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        image = np.full((32, 40, 3), 10 + 3 * index, np.uint8)
        masks = np.zeros((3, 32, 40), bool)
        for mask, (top, left) in zip(masks, SQUARES, strict=True):
            mask[top : top + 8, left : left + 8] = True
            image[mask] = 200
        instances = tuple(Instance(encode_rle(mask)) for mask in masks)
        return InstanceSample(image, instances, self.names[index])


class Knowing(torch.nn.Module):
    """A segmenter that gives the first `known` true objects; its only parameter is unused."""

    class_names = ("object",)

    def __init__(self, known: int) -> None:
        super().__init__()
        self.known = known
        self.weight = torch.nn.Parameter(torch.zeros(7))

    @property
    def model(self) -> torch.nn.Module:
        return self

    def segment(self, image: np.ndarray) -> Instances:
        rles = tuple(one.rle for one in Squares(1)[0].instances[: self.known])
        return Instances((32, 40), rles, (0,) * len(rles), (0.9,) * len(rles))


@pytest.fixture
def contest(tmp_path: Path) -> contest_table.Contest:
    recipe = tmp_path / "recipe.py"
    recipe.write_text("VALIDATION = 0.4\n")
    return contest_table.Contest(
        "nuclei", "Squares", "nuclei", recipe, lambda _: Squares(20), ("coco", "panoptic"),
        window_px=24,
    )  # fmt: skip


@pytest.fixture
def held_out() -> list[str]:
    names = Squares(20).names
    return [names[i] for i in split_by_name(names, validation=0.4)[1]]


def write_run(folder: Path, *, judge: str = "validation", held_out: int = 3) -> None:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(b"0" * 20_000)
    config = {"judge": judge, "held_out": held_out, "steps": 5, "samples": 12}
    launch = {"time": "2026-01-01T00:00:00+00:00", "precision": "bf16-mixed"}
    (folder / "run.json").write_text(json.dumps({"config": config, "launches": [launch]}))
    (folder / "metrics.csv").write_text("step\n5\n")


def test_table_of_one_set(contest, held_out, tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    for name in ("nuclei_seeds_0", "nuclei_seeds_2", "nuclei_mask_rcnn_1"):
        write_run(runs / name, held_out=len(held_out))
    known = {"nuclei_seeds_0": 3, "nuclei_seeds_2": 1, "nuclei_mask_rcnn_1": 1}
    monkeypatch.setattr(
        contest_table, "load_segmenter", lambda path, device: Knowing(known[path.parent.name])
    )
    part = contest_table.judge_set(contest, tmp_path, runs, pictures=tmp_path / "pictures")

    assert part["split"]["held_out"] == len(held_out)
    assert part["split"]["held_out_objects"] == 3 * len(held_out)
    assert part["missing"] == [
        "nuclei_seeds_1",
        *(f"nuclei_discriminative_{seed}" for seed in range(3)),
        *(f"nuclei_boundary_{seed}" for seed in range(3)),
        "nuclei_mask_rcnn_0",
        "nuclei_mask_rcnn_2",
    ]
    assert list(part["methods"]) == ["seeds", "mask_rcnn", "otsu"]
    seeds = part["methods"]["seeds"]
    # One of three found at every threshold: precision 1 up to recall 1/3, of 101 points 34.
    values = [1.0, 34 / 101]
    assert [row["values"]["coco/AP50"] for row in seeds["runs"]] == pytest.approx(values)
    assert [row["seed"] for row in seeds["runs"]] == [0, 2]
    assert seeds["mean"]["coco/AP"] == pytest.approx(np.mean(values))
    assert seeds["standard_deviation"]["coco/AP"] == pytest.approx(np.std(values, ddof=1))
    assert (seeds["parameters"], seeds["megabytes"]) == (7, 0.02)
    assert part["methods"]["mask_rcnn"]["standard_deviation"]["coco/AP"] is None
    assert part["methods"]["otsu"]["mean"]["coco/AP50"] == pytest.approx(1)
    with Image.open(tmp_path / "pictures" / "nuclei.png") as picture:
        assert picture.width > picture.height > 0

    text = contest_table.markdown({"max_dets": 500, "sets": {"nuclei": part}})
    row = next(line for line in text.splitlines() if line.startswith("| seeds"))
    assert row.startswith("| seeds (Fathi et al. 2017) × 2 | 0.668 ± 0.469 |")
    assert "Seeds: +0.332 AP and +0.332 AP50 against Mask R-CNN" in text
    json.dumps(pages.plain({"sets": {"nuclei": part}}), allow_nan=False)


def test_a_model_that_may_have_seen_the_stills_is_refused(contest, held_out, tmp_path, monkeypatch):
    monkeypatch.setattr(contest_table, "load_segmenter", lambda path, device: Knowing(3))
    run = tmp_path / "nuclei_seeds_0"
    write_run(run, judge="development", held_out=len(held_out))
    with pytest.raises(PixelkinError, match="nuclei_seeds_0 holds out"):
        contest_table.judge_set(contest, tmp_path, tmp_path)


def test_stills_of_pictures_go_from_dark_to_bright():
    stills = [Squares(9)[i] for i in (5, 0, 8, 2, 3, 7, 1, 6, 4)]
    assert pages.choose_stills(stills, 3) == ("still1", "still4", "still7")


def test_sections_are_added_then_replaced(tmp_path):
    path = tmp_path / "zoo.md"
    path.write_text("# Zoo\n\nold\n")
    pages.write_section(path, "a", "first", heading="## A")
    pages.write_section(path, "b", "other", heading="## B")
    pages.write_section(path, "a", "second\nlines", heading="## A")
    assert path.read_text() == (
        "# Zoo\n\nold\n\n## A\n\n<!-- a:start -->\n\nsecond\nlines\n\n<!-- a:end -->\n\n"
        "## B\n\n<!-- b:start -->\n\nother\n\n<!-- b:end -->\n"
    )
    path.write_text(path.read_text().replace("<!-- a:end -->", ""))
    with pytest.raises(PixelkinError, match="mend the markers"):
        pages.write_section(path, "a", "third", heading="## A")


@dataclass
class Fixed:
    """What `fields_of` gives of a model: only its grouping is asked for."""

    grouping: SeedGrouping


def test_groupings_are_judged_on_the_same_fields(monkeypatch):
    still = Squares(1)[0]
    embeddings, logits = torch.zeros(1, 2, 32, 40), torch.zeros(1, len(CUTS), 2, 32, 40)
    logits[:, :, 0] = 9
    for number, (top, left) in enumerate(SQUARES):
        place = np.s_[..., top : top + 8, left : left + 8]
        embeddings[place] = 10 * (number + 1)
        logits[:, :, 0][place], logits[:, 2, 1][place] = 0, 3 - number
    fields = InstanceFields(embeddings, logits.flatten(1, 2), 1)
    stub = Fixed(SeedGrouping(cuts=CUTS, min_score=0.6)), [fields]
    monkeypatch.setattr(ablations, "fields_of", lambda *_: stub)
    monkeypatch.setattr(ablations, "development_stills", lambda *_: Kept([still]))

    def judged(**options):
        return ablations.judge_variant(Path(), Path(), ablations.Variant("s", "v", **options))

    whole = judged()
    assert (whole["AP"], whole["objects_found"], whole["masks"]) == (pytest.approx(1), 1, 3)
    few = judged(options={"seeds": 2})
    assert (few["objects_found"], few["masks"]) == (pytest.approx(2 / 3), 2)
    # Only the third cut has scores above one half.
    assert judged(cuts=(2,))["masks"] == judged(cuts=(0, 2))["masks"] == 3
    assert judged(cuts=(0, 1, 3))["masks"] == 0


class Kept:
    """Stills as the benchmark keeps them."""

    class_names = Squares.class_names

    def __init__(self, stills: list[InstanceSample]) -> None:
        self.stills = stills

    def __len__(self) -> int:
        return len(self.stills)


def test_middle_of_a_still():
    still = pages.middle_still(Squares(1)[0], 16)
    # Rows 8 to 23, columns 12 to 27: the lower half of one square.
    assert still.size_hw == (16, 16)
    assert [int(decode_rle(one.rle, (16, 16)).sum()) for one in still.instances] == [32]
    assert [one.crowd for one in still.instances] == [False]
    assert (still.image == Squares(1)[0].image[8:24, 12:28]).all()
    narrow = pages.middle_still(Squares(1)[0], 10)
    assert [int(decode_rle(one.rle, (10, 10)).sum()) for one in narrow.instances] == [5]
    assert [one.crowd for one in narrow.instances] == [True]


def test_logits_of_some_cuts():
    logits = torch.arange(2 * 12.0).view(2, 12, 1, 1)
    fields = InstanceFields(torch.zeros(2, 3, 1, 1), logits, 1)
    found = ablations.with_cuts(fields, (1, 3), 4).logits[..., 0, 0].tolist()
    assert found == [[3, 4, 5, 9, 10, 11], [15, 16, 17, 21, 22, 23]]


def test_commands_are_options_of_the_recipe():
    recipe = load_recipe(ablations.RECIPE)
    seen = []
    for line in ablations.commands():
        words = shlex.split(line)
        assert words[:3] == ["pixelkin", "train", "recipes/nuclei.py"]
        options = dict(zip((w[2:] for w in words[3::2]), words[4::2], strict=True))
        name = options.pop("out").removeprefix("RUNS/")
        assert options.pop("precision") == "bf16-mixed"
        shared = ("data", "judge", "method", "seed", "steps")
        knobs = [key.replace("-", "_") for key in options if key not in shared]
        parsed = parse_recipe_options(recipe, options)
        assert parsed["judge"] == "development"
        assert parsed["optimisation"].steps == ablations.STEPS
        groups = (asdict(value) for value in parsed.values() if is_dataclass(value))
        flat = {key: value for group in groups for key, value in group.items()} | parsed
        seen.append((name, {key: flat[key] for key in knobs}))
    assert [name for name, _ in seen] == list(ablations.TRAININGS)
    values = dict(seen)
    assert values["abl_d64"] == {"dimensions": 64}
    assert values["abl_cuts50"] == {"cuts": (0.5,)}
    assert values["abl_paperpairs"] == {"paper_pairs": True}
    assert values["abl_noplace"] == {"px_per_unit": 0}


def test_trainings_on_the_stills_that_judge_are_refused(tmp_path):
    write_run(tmp_path / "abl_d2", judge="development")
    jobs, missing = ablations.train_jobs(tmp_path)
    assert [job[0].parent.name for job in jobs] == ["abl_d2"]
    assert missing == [name for name in ablations.TRAININGS if name != "abl_d2"]
    write_run(tmp_path / "abl_k5", judge="validation")
    with pytest.raises(PixelkinError, match="abl_k5 was trained on stills"):
        ablations.train_jobs(tmp_path)


def test_development_stills_are_those_of_the_recipe(shared_data):
    data = shared_data / "dsb2018"
    recipe = runpy.run_path(str(ablations.RECIPE))["recipe"]
    given: list[Subset] = []
    recipe.__globals__["train_on"] = lambda train, held_out, *_, **__: given.extend(
        [train, held_out]
    )
    recipe(data=data, judge="development")
    train, held_out = given
    recipe(data=data)
    stills = ablations.development_stills(data)
    assert stills.names == held_out.names
    assert set(stills.names).isdisjoint([*train.names, *given[3].names])
