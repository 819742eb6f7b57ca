"""`pixelkin evaluate` on small sets in the exact encodings, against loops over their files."""

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from semantic_cases import f_by_loops

from pixelkin.cli import main
from pixelkin.data.class_maps.bdd100k import LANE_CLASSES
from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES, TRAIN_LABELS
from pixelkin.semantic.checkpoints import (
    build_network,
    load_semantic_segmenter,
    save_semantic_model,
)

H, W = 32, 48
STEMS = ("ulm_000000_000019", "ulm_000001_000019")
CITY_PX = {"person": 3462.4756337644, "rider": 3930.4788056518, "car": 12794.0202738185,
           "truck": 27855.1264367816, "bus": 35732.1511111111, "train": 67583.7075812274,
           "motorcycle": 6298.7200839748, "bicycle": 4672.3249222261}  # fmt: skip
KITTI_PX = {"person": 872.75, "rider": 890.0, "car": 3310.775879, "truck": 2062.683105,
            "bus": 3248.315674, "train": 11109.5, "motorcycle": 1091.125,
            "bicycle": 912.851074}  # fmt: skip
CATEGORIES = {"flat": (0, 1), "construction": (2, 3, 4), "object": (5, 6, 7), "nature": (8, 9),
              "sky": (10,), "human": (11, 12), "vehicle": (13, 14, 15, 16, 17, 18)}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Callable[[Sequence[str]], Path]:
    """A small U-Net of random weights for some classes, no class of which it gives everywhere."""

    def of(class_names: Sequence[str]) -> Path:
        folder = tmp_path_factory.mktemp("model") / "random"
        config = {"architecture": "semantic_unet", "class_names": list(class_names),
                  "network": {"channels": 8}}  # fmt: skip
        torch.manual_seed(len(class_names))
        network = build_network(config)
        final = [one for one in network.modules() if isinstance(one, torch.nn.Conv2d)][-1]
        with torch.no_grad():
            # Evened out on noise, so that several classes win somewhere.
            network.eval()
            size = network.valid_size((H, W))
            logits = network(torch.rand(2, 3, *size))
            spread = logits.std(dim=(0, 2, 3))
            final.bias.copy_((final.bias - logits.mean(dim=(0, 2, 3))) / spread)
            final.weight /= spread[:, None, None, None]
        save_semantic_model(network, folder, config, "")
        return folder

    return of


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def blocks(rng: np.random.Generator, values: Sequence[int]) -> np.ndarray:
    return np.kron(rng.choice(values, (H // 8, W // 8)), np.ones((8, 8), np.int64))


def noise(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (H, W, 3), np.uint8)


def judged(model: Path, data: str, *options: str, capsys: Any) -> dict[str, float]:
    """What the command line prints as JSON."""
    capsys.readouterr()
    status = main(["evaluate", data, "--model", str(model), "--json", "--quiet", *options])
    text = capsys.readouterr()
    assert status == 0, text.err
    return json.loads(text.out)[str(model)]


# Cityscapes and KITTI


def write_streets(root: Path, *, instances: bool = True, kitti: bool = False) -> None:
    """Two streets with groups, void, and single objects of all kinds."""
    rng = np.random.default_rng(5)
    for n, stem in enumerate(STEMS):
        # Road, wall, sky, a caravan (left out), and all that is counted.
        labels = blocks(rng, [7, 12, 23, 24, 24, 25, 26, 26, 26, 27, 28, 29, 31, 32, 33, 0])
        numbers = blocks(rng, [0, 1, 2, 3])
        thing = labels >= 24
        if kitti:
            base = root / "training"
            save(base / "image_2" / f"{n}_10.png", noise(rng))
            save(base / "semantic" / f"{n}_10.png", labels.astype(np.uint8))
            ids = labels * 256 + numbers * thing
            if instances:
                save(base / "instance" / f"{n}_10.png", ids.astype(np.uint16))
            continue
        save(root / "leftImg8bit/val/ulm" / f"{stem}_leftImg8bit.png", noise(rng))
        maps = root / "gtFine/val/ulm"
        save(maps / f"{stem}_gtFine_labelIds.png", labels.astype(np.uint8))
        if instances:
            ids = np.where(thing & (numbers > 0), labels * 1000 + numbers, labels)
            save(maps / f"{stem}_gtFine_instanceIds.png", ids.astype(np.uint16))


def iiou_by_loops(stills: Sequence[Any], sizes: dict[str, float], per: int) -> dict[str, float]:
    """The published script's sums over label ids, instance ids and predicted classes.

    An instance is a value of the file whose number is not 0; its pixels weigh the average size of
    its class over its own.
    """
    train_of = {label: n for n, label in enumerate(TRAIN_LABELS.values())}
    name_of = dict(enumerate(TRAIN_LABELS))
    category_of = {n: one for one, members in CATEGORIES.items() for n in members}
    confusion = np.zeros((19, 19))
    found: dict[str, dict[str, float]] = {}
    for labels, ids, predicted in stills:
        objects: dict[int, list[int]] = {}
        for label, number, given in zip(labels.flat, ids.flat, predicted.flat, strict=True):
            if int(label) not in train_of:
                continue
            confusion[train_of[int(label)], given] += 1
            if number >= per and number % per:
                objects.setdefault(int(number), []).append(int(given))
        for number, pixels in objects.items():
            true = train_of[number // per]
            weight = sizes[name_of[true]] / len(pixels)
            for level, right in (
                (name_of[true], sum(p == true for p in pixels)),
                (category_of[true], sum(category_of[p] == category_of[true] for p in pixels)),
            ):
                sums = found.setdefault(level, {"tp": 0.0, "fn": 0.0})
                sums["tp"] += right * weight
                sums["fn"] += (len(pixels) - right) * weight
    values = {}
    for n, name in name_of.items():
        if name in sizes:
            wrong = confusion[:, n].sum() - confusion[n, n]
            sums = found.get(name, {"tp": 0.0, "fn": 0.0})
            total = sum(sums.values()) + wrong
            values[f"iIoU/{name}"] = sums["tp"] / total if total else math.nan
    for one in ("human", "vehicle"):
        inside = list(CATEGORIES[one])
        outside = [n for n in range(19) if n not in inside]
        wrong = sum(confusion[a, b] for a in outside for b in inside)
        sums = found[one]
        values[f"category_iIoU/{one}"] = sums["tp"] / (sum(sums.values()) + wrong)
    for key in ("iIoU", "category_iIoU"):
        rows = [v for name, v in values.items() if name.startswith(f"{key}/")]
        values[key] = float(np.nanmean(rows))
    return values


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


@pytest.mark.parametrize("name", ["cityscapes", "kitti"])
def test_iiou_equals_loops_over_the_files(model, tmp_path, capsys, name):
    write_streets(tmp_path, kitti=name == "kitti")
    network = model(CITYSCAPES_CLASSES)
    values = judged(network, f"{name}:{tmp_path}", capsys=capsys)
    segmenter = load_semantic_segmenter(network)
    if name == "kitti":
        base = tmp_path / "training"
        files = [(base / "image_2" / f"{n}_10.png", base / "semantic" / f"{n}_10.png",
                  base / "instance" / f"{n}_10.png") for n in range(2)]  # fmt: skip
        per, sizes = 256, KITTI_PX
    else:
        maps = tmp_path / "gtFine/val/ulm"
        files = [(tmp_path / "leftImg8bit/val/ulm" / f"{stem}_leftImg8bit.png",
                  maps / f"{stem}_gtFine_labelIds.png", maps / f"{stem}_gtFine_instanceIds.png")
                 for stem in STEMS]  # fmt: skip
        per, sizes = 1000, CITY_PX
    stills = [(read(m), read(i).astype(int), segmenter.segment(read(p))) for p, m, i in files]
    assert len(np.unique([found for _, _, found in stills])) > 5
    expected = iiou_by_loops(stills, sizes, per)
    assert sum(value > 0 for value in expected.values()) > 3
    for key, value in expected.items():
        assert values[f"cityscapes/{key}"] == pytest.approx(value, nan_ok=True), key
    for word in ("road", "sky", "wall"):
        assert math.isnan(values[f"cityscapes/iIoU/{word}"])
    assert math.isnan(values["cityscapes/category_iIoU/construction"])


@pytest.mark.parametrize("name", ["cityscapes", "kitti"])
def test_without_objects_there_is_no_iiou(model, tmp_path, capsys, name):
    write_streets(tmp_path, instances=False, kitti=name == "kitti")
    network = model(CITYSCAPES_CLASSES)
    values = judged(network, f"{name}:{tmp_path}", capsys=capsys)
    assert not any(key.startswith("cityscapes") for key in values)
    values = judged(network, f"{name}:{tmp_path}", "--measures", "cityscapes", capsys=capsys)
    assert "cityscapes/category_IoU" in values
    assert not any("iIoU" in key for key in values)


def test_objects_of_some_stills_only_are_told_before_any_work(model, tmp_path, capsys):
    write_streets(tmp_path)
    (tmp_path / "gtFine/val/ulm" / f"{STEMS[1]}_gtFine_instanceIds.png").unlink()
    network = model(CITYSCAPES_CLASSES)
    assert main(["evaluate", f"cityscapes:{tmp_path}", "--model", str(network), "--quiet"]) == 1
    told = capsys.readouterr().err
    assert "expected the ids of objects for all 2 stills, as 1 have them" in told
    values = judged(network, f"cityscapes:{tmp_path}", "--measures", "overlap", capsys=capsys)
    assert "overlap/mIoU" in values


# LiTS


def blob(rng: np.random.Generator) -> np.ndarray:
    labels = np.zeros((24, 18, 4), np.uint8)
    x, y = rng.integers(2, 6, 2)
    labels[x : x + 14, y : y + 10, 1:4] = 1
    labels[x + 3 : x + 9, y + 2 : y + 8, 2:3] = 2
    return labels


def write_volumes(root: Path) -> dict[str, tuple[float, float, float] | None]:
    """Three volumes, the last of which lost its spacing; name → spacing along z, y, x."""
    nibabel = pytest.importorskip("nibabel")
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    affines = {0: np.diag([0.7, 0.8, 2.5, 1]), 1: np.diag([-0.9, -0.6, 5, 1]), 28: np.eye(4)}
    for number, affine in affines.items():
        hounsfield = rng.integers(-300, 350, (24, 18, 4)).astype(np.int16)
        for kind, stored in (("volume", hounsfield), ("segmentation", blob(rng))):
            image = nibabel.Nifti1Image(stored, affine)
            image.set_sform(affine, 1)
            nibabel.save(image, root / f"{kind}-{number}.nii")
    return {"volume-0": (2.5, 0.8, 0.7), "volume-1": (5, 0.6, 0.9), "volume-28": None}


def surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with one outside the mask among their 18 neighbours."""
    padded = np.pad(mask, 1)
    steps = [s for s in np.ndindex(3, 3, 3) if 0 < np.abs(np.array(s) - 1).sum() < 3]
    return [v for v in zip(*(axis.tolist() for axis in mask.nonzero()), strict=True)
            if not all(padded[tuple(np.add(v, s))] for s in steps)]  # fmt: skip


def distances_mm(a: np.ndarray, b: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    one, other = (np.array(surface(mask)) * spacing for mask in (a, b))
    apart = np.sqrt(((one[:, None] - other[None]) ** 2).sum(-1))
    return np.concatenate([apart.min(axis=1), apart.min(axis=0)])


def test_volumes_are_judged_case_by_case_in_millimetres(model, tmp_path, capsys):
    spacings = write_volumes(tmp_path / "lits")
    network = model(("background", "liver", "tumour"))
    out = tmp_path / "out"
    data = f"lits:{tmp_path / 'lits'}"
    values = judged(network, data, "--out", str(out), capsys=capsys)
    from pixelkin.data.class_maps.lits import Lits

    slices = Lits(tmp_path / "lits")
    segmenter = load_semantic_segmenter(network)
    (table,) = out.glob("cases_*.csv")
    with open(table, newline="") as file:
        rows = {(row["case"], row["structure"]): row for row in csv.DictReader(file)}
    assert {case for case, _ in rows} == set(spacings)
    assert len(list(out.glob("confusion_*.png"))) == 1
    for structure, labels in {"liver": (1, 2), "tumour": (2,)}.items():
        dices, distances, common_all, total_all = [], [], 0, 0
        for number, (case, spacing) in enumerate(spacings.items()):
            stills = [slices[4 * number + z] for z in range(4)]
            truth = np.isin(np.stack([still.labels for still in stills]), labels)
            found = np.isin(np.stack([segmenter.segment(still.image) for still in stills]), labels)
            common, total = int((truth & found).sum()), int(truth.sum() + found.sum())
            assert common
            dices.append(2 * common / total)
            common_all, total_all = common_all + common, total_all + total
            row = {key: float(v) for key, v in list(rows[case, structure].items())[2:]}
            assert row["Dice"] == pytest.approx(dices[-1])
            assert row["VOE"] == pytest.approx(1 - common / (total - common))
            assert row["RVD"] == pytest.approx(found.sum() / truth.sum() - 1)
            if spacing is None:
                assert math.isnan(row["ASSD"])
                continue
            both = distances_mm(found, truth, spacing)
            assert row["ASSD"] == pytest.approx(both.mean())
            assert row["MSSD"] == pytest.approx(both.max())
            distances.append(both.mean())
        assert values[f"volumes/Dice_per_case/{structure}"] == pytest.approx(np.mean(dices))
        assert values[f"volumes/Dice_global/{structure}"] == pytest.approx(
            2 * common_all / total_all
        )
        assert values[f"volumes/ASSD/{structure}"] == pytest.approx(np.mean(distances))
        assert values[f"volumes/no_spacing/{structure}"] == 1


def test_volumes_stay_whole_when_some_are_held_out(model, tmp_path, capsys):
    write_volumes(tmp_path)
    network = model(("background", "liver"))
    out = tmp_path / "out"
    judged(network, f"lits-liver:{tmp_path}", "--validation", "0.5", "--out", str(out),
           capsys=capsys)  # fmt: skip
    (table,) = out.glob("cases_*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert 0 < len(rows) < 3
    assert {row["structure"] for row in rows} == {"liver"}


def test_stills_that_are_no_slices_have_no_volumes(model, tmp_path, capsys):
    write_streets(tmp_path)
    network = model(CITYSCAPES_CLASSES)
    tokens = ["evaluate", f"cityscapes:{tmp_path}", "--model", str(network), "--quiet"]
    assert main([*tokens, "--measures", "volumes"]) == 1
    assert "the stills of this data set are no slices" in capsys.readouterr().err


# BDD100K's lanes, SceneParse150


@pytest.mark.parametrize(
    ("name", "target"),
    [("bdd-lanes", "category"), ("bdd-lane-styles", "style"), ("bdd-lane-directions", "direction")],
)
def test_f1_of_lanes_equals_loops(model, tmp_path, capsys, name, target):
    rng = np.random.default_rng(1)
    truths, pictures = [], []
    for n in range(2):
        # A double white, solid, parallel, and a single yellow, dashed, vertical.
        lane = np.full((H, W), 255, np.uint8)
        lane[8 + n : 10 + n, 5:40] = 0b000010
        lane[20:30, 12 + n] = 0b110111
        pictures.append(tmp_path / f"images/100k/val/{n}.png")
        save(pictures[-1], noise(rng))
        save(tmp_path / f"labels/lane/masks/val/{n}.png", lane)
        codes = {"category": (2, 7, 8), "style": (0, 1, 2), "direction": (0, 1, 2)}[target]
        truths.append(np.select([lane == 0b000010, lane == 0b110111], codes[:2], codes[2]))
    network = model(LANE_CLASSES[target])
    values = judged(network, f"{name}:{tmp_path}", capsys=capsys)
    segmenter = load_semantic_segmenter(network)
    found = [segmenter.segment(read(path)) for path in pictures]
    for radius in (1, 2, 5):
        scores = []
        for index, one in enumerate(LANE_CLASSES[target][:-1]):
            per_still = [f_by_loops(f == index, t == index, radius)
                         for f, t in zip(found, truths, strict=True)]  # fmt: skip
            scores.append(np.mean(per_still))
            assert values[f"lanes/F1_{radius}px/{one}"] == pytest.approx(scores[-1])
        assert values[f"lanes/F1_{radius}px"] == pytest.approx(np.mean(scores))
    assert not any(key.endswith("px/background") for key in values)


def test_score_of_scene_parsing(model, tmp_path, capsys):
    rng = np.random.default_rng(2)
    lines = "".join(f"{n}\t0.1\t9\t9\tclass{n}, other\n" for n in range(1, 151))
    (tmp_path / "objectInfo150.txt").write_text(f"Idx\tRatio\tTrain\tVal\tName\n{lines}")
    for n in range(2):
        save(tmp_path / f"images/validation/{n}.png", noise(rng))
        labels = blocks(rng, [0, 1, 2, 77, 150])
        save(tmp_path / f"annotations/validation/{n}.png", labels.astype(np.uint8))
    network = model([f"class{n}" for n in range(1, 151)])
    values = judged(network, f"sceneparse:{tmp_path}", capsys=capsys)
    segmenter = load_semantic_segmenter(network)
    right = known = 0
    both, either = np.zeros(150), np.zeros(150)
    for n in range(2):
        truth = read(tmp_path / f"annotations/validation/{n}.png").astype(int) - 1
        found = segmenter.segment(read(tmp_path / f"images/validation/{n}.png"))
        counted = truth >= 0
        right, known = right + int((found == truth)[counted].sum()), known + int(counted.sum())
        for c in range(150):
            both[c] += ((truth == c) & (found == c)).sum()
            either[c] += (((truth == c) | (found == c)) & counted).sum()
    miou = np.mean([b / e for b, e in zip(both, either, strict=True) if e])
    assert values["overlap/mIoU"] == pytest.approx(miou)
    assert values["ade/score"] == pytest.approx((right / known + miou) / 2)
    assert {"boundary/F", "overlap/fwIoU", "overlap/class_accuracy"} <= values.keys()
