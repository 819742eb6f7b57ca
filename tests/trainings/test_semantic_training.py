"""A semantic network trained on stills in memory, judged and run as users do; parts by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from semantic_stand_ins import Padded, Unpadded
from tiny_class_map_sets import make_camvid, make_coco_stuff, make_lits

from pixelkin.data.semantic_crops import collate_semantic
from pixelkin.engine import parse_recipe_options, train
from pixelkin.errors import PixelkinError
from pixelkin.models.semantic_network import SemanticNetwork
from pixelkin.semantic.checkpoints import ARCHITECTURES, build_network, load_semantic_segmenter
from pixelkin.semantic.scoring import evaluate_semantic
from pixelkin.structures import IGNORE, Sample
from pixelkin.trainings import TRAININGS
from pixelkin.trainings.augmentation import Windows
from pixelkin.trainings.optimisation import Optimisation, batch_norms, parameter_groups
from pixelkin.trainings.semantic import (
    Balance,
    Hooks,
    input_px,
    median_frequency_weights,
    semantic_loss,
    semantic_training,
)
from pixelkin.trainings.semantic_networks import (
    NETWORKS,
    KnownNetwork,
    NetworkName,
    NetworkOptions,
    described,
)
from pixelkin.trainings.semantic_start import start_network
from pixelkin.trainings.semantic_user_data import MapStills, map_recipe, train_on_maps

NAMES = ("ground", "disc", "stripe")
COLOURS = np.array([[40, 90, 40], [200, 60, 60], [60, 60, 210]])


class Stills:
    """Coloured discs and stripes: what colour a pixel has is what it is."""

    class_names = NAMES

    def __init__(self, count: int, first: int = 0) -> None:
        self.names = [f"{index}" for index in range(first, first + count)]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(int(self.names[index]))
        labels = np.zeros((64, 80), np.int64)
        rows, columns = np.mgrid[:64, :80]
        top = rng.integers(0, 50)
        labels[top : top + 10] = 2
        y, x = rng.integers(16, 48, 2)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < 196] = 1
        image = COLOURS[labels] + rng.normal(0, 12, (64, 80, 3))
        labels[:2] = IGNORE
        return Sample(image.clip(0, 255).astype(np.uint8), labels, name=self.names[index])


@pytest.mark.parametrize("network", [Padded, Unpadded])
def test_from_stills_to_classes_by_tiles(network, tmp_path, monkeypatch):
    """Trains, shows, saves, loads; judges as in training; and tiles give what the whole gives."""
    monkeypatch.setitem(ARCHITECTURES, "stand-in", network)
    monkeypatch.setitem(NETWORKS, "stand-in", KnownNetwork("stand-in", 2e-2))
    shown = []
    training = train_on_maps(
        Stills(12), Stills(3, first=100), "stand-in",  # type: ignore[arg-type]
        optimisation=Optimisation(steps=80, batch_size=4, workers=0, ema_decay=0.8),
        windows=Windows(crop_px=48),
    )  # fmt: skip
    pictures = training.pictures
    assert pictures is not None
    result = train(
        replace(training, pictures=lambda model: shown.append(pictures(model)) or shown[-1]),
        out=tmp_path / "run",
        accelerator="cpu",
    )
    assert result.metrics["val/mIoU"] > 0.6
    assert {name: picture.shape for name, picture in shown[-1].items()} == dict.fromkeys(
        ("100", "101", "102"), (64, 240, 3)
    )
    assert any((tmp_path / "run" / "tensorboard").iterdir())
    segmenter = load_semantic_segmenter(tmp_path / "run" / "model", device="cpu")
    values = evaluate_semantic(segmenter, Stills(3, first=100))
    assert values["overlap/mIoU"] == pytest.approx(result.metrics["val/mIoU"])
    big = np.tile(Stills(1)[0].image, (2, 5, 1))
    whole = segmenter.scores(big)
    segmenter.tile_px = 100
    assert segmenter.exact_tiles
    assert np.abs(segmenter.scores(big) - whole).max() < 1e-4


def test_resumed_is_uninterrupted(tmp_path):
    def training():
        return train_on_maps(
            Stills(5), None, "segnet", options=NetworkOptions(widths=(2, 2, 2, 2, 2)),
            optimisation=Optimisation(steps=4, batch_size=2, workers=0),
            windows=Windows(crop_px=32),
        )  # fmt: skip

    train(training(), out=tmp_path / "a", accelerator="cpu")
    first = training()
    first.steps = 2
    train(first, out=tmp_path / "b", accelerator="cpu")
    train(training(), out=tmp_path / "b", resume=True, accelerator="cpu")
    ends = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in "ab"]
    assert ends[0] == ends[1]


def test_loss_by_plain_loops():
    torch.manual_seed(0)
    model = build_network(described("unet", NAMES, {"channels": 2})).eval()
    side = input_px(model, 4)
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            rng.integers(0, 256, (side, side, 3), dtype=np.uint8),
            rng.choice([0, 1, 2, IGNORE], (side, side)),
        )
        for _ in range(2)
    ]
    weigh = np.linspace(0, 2, side * side, dtype=np.float32).reshape(side, side)
    batch = collate_semantic(samples, weigh=lambda labels: weigh)
    class_weights = torch.tensor([0.5, 1.0, 3.0])
    with torch.no_grad():
        losses = semantic_loss(model, batch, class_weights=class_weights)
        logits = model(batch.images).double()
    margin, total, weights, right, known = model.margin_px, 0.0, 0.0, 0, 0
    for n, sample in enumerate(samples):
        for y in range(logits.shape[2]):
            for x in range(logits.shape[3]):
                label = sample.labels[margin + y, margin + x]
                if label == IGNORE:
                    continue
                weight = float(class_weights[label]) * float(weigh[margin + y, margin + x])
                total -= weight * float(F.log_softmax(logits[n, :, y, x], 0)[label])
                weights += weight
                right += int(logits[n, :, y, x].argmax()) == label
                known += 1
    assert float(losses["cross_entropy"]) == pytest.approx(total / weights, rel=1e-4)
    assert float(losses["accuracy"]) == pytest.approx(right / known)


def test_one_cell_for_batch_normalisation_is_told():
    config = {
        "architecture": "semantic_timm_fcn",
        "class_names": ["ground", "disc"],
        "network": {"backbone": "tf_efficientnet_lite0"},
    }
    model = build_network(config).train()
    labels = np.zeros((32, 32), np.int64)
    sample = Sample(np.zeros((32, 32, 3), np.uint8), labels)
    with pytest.raises(PixelkinError, match=r"batches of 1 window of 32×32 .*--batch-size 2"):
        semantic_loss(model, collate_semantic([sample]), class_weights=torch.ones(2))
    two = semantic_loss(model, collate_semantic([sample, sample]), class_weights=torch.ones(2))
    assert torch.isfinite(two["cross_entropy"])


def test_median_frequency_by_hand():
    """Eigen & Fergus: pixels of a class over known pixels of the stills that show it."""
    first = np.array([[0, 0, 0, 1]])
    second = np.array([[0, 0, 2, IGNORE]])
    samples = [Sample(np.zeros((1, 4, 3), np.uint8), labels) for labels in (first, second)]
    frequency = np.array([5 / 7, 1 / 4, 1 / 3])
    expected = [*(np.median(frequency) / frequency), 1.0]
    assert median_frequency_weights(samples, 4) == pytest.approx(expected)
    with pytest.raises(PixelkinError, match="label 2, expected 0 to 1"):
        median_frequency_weights(samples, 2)
    blank = [replace(samples[0], labels=np.full((1, 4), IGNORE))]
    with pytest.raises(PixelkinError, match="no pixel"):
        median_frequency_weights(blank, 2)


def test_what_is_trained_already_learns_slower_and_keeps_its_statistics():
    config = described("light", NAMES, {"widths": [4, 4, 4, 4]})
    started = start_network(config, "auto")
    assert started.start == "shipped"
    rates = Optimisation(learning_rate=1e-2, backbone_rate=0.25)
    groups = parameter_groups(started.model, started.trained, rates)
    assert [group["lr"] for group in groups] == [2.5e-3, 1e-2]
    slow, fast = ({id(parameter) for parameter in group["params"]} for group in groups)
    named = dict(started.model.named_parameters())
    assert id(named["backbone.net.blocks.6.0.conv_pw.weight"]) in fast, "not among the shipped"
    assert id(named["backbone.net.blocks.4.0.conv_pw.weight"]) in slow
    assert not named["backbone.net.conv_stem.weight"].requires_grad
    assert not named["backbone.net.blocks.4.0.bn1.weight"].requires_grad
    norms = batch_norms(started.model, started.trained)
    assert "backbone.net.blocks.4.0.bn1" in norms
    assert "backbone.net.blocks.6.0.bn1" not in norms
    model = started.model.train()
    batch = collate_semantic([Stills(1)[0], Stills(1, first=1)[0]])
    semantic_loss(model, batch, class_weights=torch.ones(3), frozen_norms=norms)
    assert not model.get_submodule(norms[0]).training
    assert model.get_submodule("backbone.net.blocks.6.0.bn1").training


def test_what_has_no_weights_starts_from_nothing():
    for name in ("unet", "segnet"):
        assert start_network(described(name, NAMES, {}), "auto").start == "none"


def test_every_name_of_the_command_line_makes_its_network():
    """With small options where there are some; sizes of windows fit."""
    for name in NETWORKS:
        options = {} if name in ("light", "timm-fcn") else None
        function = TRAININGS[name]
        arguments = parse_recipe_options(
            function, {"data": "pngs:x", "steps": "3", "crop-px": "64", "class-balance": "1"}
        )
        assert arguments["optimisation"].steps == 3
        assert arguments["balance"] == Balance(1.0)
        if options is not None:
            model: SemanticNetwork = build_network(described(name, NAMES, options))  # type: ignore[assignment]
            side = input_px(model, 70)
            assert model.valid_size((side, side)) == (side, side)
    with pytest.raises(PixelkinError, match="no option stepps"):
        parse_recipe_options(TRAININGS["unet"], {"data": "x", "stepps": "3"})


def test_far_taps_are_used_on_windows_of_the_size_they_learnt_on():
    def config(name: NetworkName, options: NetworkOptions) -> dict[str, Any]:
        return semantic_training(
            [Stills(1)[0]], name, class_names=NAMES, options=options, windows=Windows(crop_px=64)
        ).config

    small = NetworkOptions(backbone="tf_efficientnet_lite0", channels=8)
    assert config("deeplab-v3-plus", small)["window_px"] == 64
    assert "window_px" not in config("unet", NetworkOptions(channels=2))


def test_the_window_of_volumes_goes_with_the_model(tmp_path: Path):
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        make_lits(tmp_path / str(number))
    for kind in ("volume", "segmentation"):
        (tmp_path / "1" / f"{kind}-0.nii").rename(tmp_path / f"{kind}-1.nii")
    options = ["--channels=2", "--window=-100,300", "--validation=0", "--steps=1"]
    told = dict(option[2:].split("=") for option in options)
    arguments = parse_recipe_options(TRAININGS["unet"], {"data": f"lits:{tmp_path}", **told})
    training = TRAININGS["unet"](**arguments)
    assert training.config["window_hu"] == [-100, 300]
    training.save(training.model, tmp_path / "model")
    assert load_semantic_segmenter(tmp_path / "model", device="cpu").window_hu == (-100, 300)
    assert training.data[0].image.shape[2] == 3  # type: ignore[index]
    default = map_recipe(
        network="unet",
        data=f"lits:{tmp_path}",
        stills=MapStills(validation=0),
        options=NetworkOptions(channels=2),
    )
    assert default.config["window_hu"] == [-200, 250]
    make_camvid(tmp_path / "camvid")
    with pytest.raises(PixelkinError, match="takes no window"):
        MapStills(window=(0, 1)).parts(f"camvid:{tmp_path / 'camvid'}")


def test_options_that_a_network_has_not_are_refused():
    options = NetworkOptions(backbone="resnet50")
    with pytest.raises(PixelkinError, match="backbone"):
        semantic_training([Stills(1)[0]], "unet", class_names=NAMES, options=options, hooks=Hooks())
    with pytest.raises(PixelkinError, match="there is no semantic network 'u-net'"):
        described("u-net", NAMES, {})


def test_own_validation_part_is_held_out(shared_data: Path):
    data = f"camvid:{shared_data / 'camvid'}"
    train_part, held_out = MapStills().parts(data)
    own = MapStills().open(data, "val")
    assert held_out is not None
    assert held_out.names == own.names
    assert not set(train_part.names) & set(own.names)
    train_part, held_out = MapStills(validation=0.3).parts(data)
    assert held_out is not None
    assert not set(held_out.names) & (set(own.names) | set(train_part.names))
    assert MapStills(validation=0).parts(data)[1] is None
    with pytest.raises(PixelkinError, match="leave one out"):
        MapStills(judged="val", validation=0.1).parts(data)


def test_a_broken_validation_part_is_told_and_one_with_a_year_is_found(tmp_path: Path):
    make_camvid(tmp_path / "camvid")
    (tmp_path / "camvid" / "valannot" / "a.png").unlink()
    with pytest.raises(PixelkinError, match=r"a\.png"):
        MapStills().own_judges(f"camvid:{tmp_path / 'camvid'}")
    make_coco_stuff(tmp_path / "coco")
    own = MapStills().own_judges(f"coco-stuff:{tmp_path / 'coco'}")
    assert own is not None
    assert len(own) == 1
