"""What networks of class maps start from: tensors by name, and what of them learns how fast."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.vgg import make_layers

from pixelkin.checkpoint import save_checkpoint
from pixelkin.errors import PixelkinError
from pixelkin.models.fcn import FCN
from pixelkin.semantic.checkpoints import build_network, save_semantic_model
from pixelkin.trainings import semantic_start
from pixelkin.trainings.semantic_networks import NetworkName, NetworkOptions, described
from pixelkin.trainings.semantic_start import start_network

NAMES = ("ground", "disc", "stripe")
THIN = {"widths": [4, 4, 8, 8, 8]}
THIN_FCN = {**THIN, "head_channels": 16}
BLOCKS = [4, 4, "M", 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]


def vgg16(folder: Path, *, batch_norm: bool = False) -> dict[str, torch.Tensor]:
    """A thin VGG16 as torchvision names it, as `pixelkin convert` would write it."""
    network = nn.Module()
    network.features = make_layers(BLOCKS, batch_norm=batch_norm)
    network.classifier = nn.Sequential(
        nn.Linear(392, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16)
    )
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.0)
    state = network.state_dict()
    save_checkpoint(folder, state, {}, "")
    return state


def trained(name: NetworkName, options: dict, folder: Path, names=NAMES) -> nn.Module:
    """A model whose tensors are nobody else's."""
    config = described(name, names, options)
    model = build_network(config)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.0)
    save_semantic_model(model, folder, config, "")
    return model


def equal_to(model: nn.Module, other: nn.Module) -> set[str]:
    theirs = other.state_dict()
    return {
        name
        for name, tensor in model.state_dict().items()
        if name in theirs and torch.equal(tensor, theirs[name])
    }


def test_vgg16_from_a_folder_fills_fcn_and_segnet(tmp_path):
    state = vgg16(tmp_path / "vgg")
    start = start_network(described("fcn32s", NAMES, THIN_FCN), str(tmp_path / "vgg"))
    assert start.start == str(tmp_path / "vgg")
    assert torch.equal(start.model.stages[0][0].weight, state["features.0.weight"])
    assert torch.equal(start.model.head[3].bias, state["classifier.3.bias"])
    assert {"stages.4.4.bias", "head.0.weight"} <= start.trained
    assert not {n for n in start.trained if n.startswith(("score", "ups", "mean", "std"))}
    plain = start_network(described("segnet", NAMES, THIN), str(tmp_path / "vgg"))
    assert torch.equal(plain.model.encoder[0][0].weight, state["features.0.weight"])
    assert "encoder.0.0.weight" in plain.trained
    assert "encoder.0.1.running_mean" not in plain.trained, "VGG16 has no batch normalisation"
    state = vgg16(tmp_path / "bn", batch_norm=True)
    normed = start_network(described("segnet", NAMES, THIN), str(tmp_path / "bn"))
    assert torch.equal(normed.model.encoder[0][1].running_mean, state["features.1.running_mean"])
    assert "encoder.0.1.running_mean" in normed.trained
    with pytest.raises(PixelkinError, match="unet does not stand on VGG16"):
        start_network(described("unet", NAMES, {"channels": 2}), str(tmp_path / "vgg"))


def test_vgg16_by_name_is_torchvisions_and_says_where_it_was_not_found(tmp_path, monkeypatch):
    state = vgg16(tmp_path / "vgg")
    monkeypatch.setattr(semantic_start, "_fetch_vgg16", lambda: state)
    start = start_network(described("fcn8s", NAMES, THIN_FCN), "vgg16")
    assert torch.equal(start.model.stages[0][0].weight, state["features.0.weight"])
    monkeypatch.undo()

    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(PixelkinError, match=r"convert vgg16-.*\.pth FOLDER, and give --weights FO"):
        start_network(described("fcn8s", NAMES, THIN_FCN), "vgg16")


@pytest.mark.parametrize(("coarse", "fine"), [("fcn32s", "fcn16s"), ("fcn16s", "fcn8s")])
def test_a_finer_fcn_starts_from_the_coarser_one(coarse, fine, tmp_path):
    other = trained(coarse, THIN_FCN, tmp_path / "model")
    start = start_network(described(fine, NAMES, THIN_FCN), str(tmp_path / "model"))
    assert isinstance(start.model, FCN)
    assert start.trained <= equal_to(start.model, other)
    assert {"stages.0.0.weight", "head.0.weight", "score.weight"} <= start.trained
    new = {name for name, _ in start.model.named_parameters()} - start.trained
    ups = len(other.ups)
    assert new == {
        f"skip_scores.{ups - 1}.weight", f"skip_scores.{ups - 1}.bias", f"ups.{ups - 1}.weight",
        f"ups.{ups}.weight",
    }  # fmt: skip
    trained(fine, THIN_FCN, tmp_path / "fine")
    with pytest.raises(PixelkinError, match="expected a larger stride"):
        start_network(described(coarse, NAMES, THIN_FCN), str(tmp_path / "fine"))
    with pytest.raises(PixelkinError, match="train the coarser network on the same data"):
        start_network(described(fine, ("a", "b", "c"), THIN_FCN), str(tmp_path / "model"))


def test_a_model_of_the_same_network_is_taken_on(tmp_path):
    """Of all its classes, or of others: then all but what has a number per class."""
    other = trained("segnet", THIN, tmp_path / "model")
    config = described("segnet", NAMES, THIN)
    start = start_network(config, str(tmp_path / "model"))
    assert equal_to(start.model, other) == set(other.state_dict())
    assert "encoder.0.0.weight" in start.trained
    assert "encoder.0.1.running_mean" not in start.trained, "its batch normalisation learns on"
    scores = {name for name in other.state_dict() if name.startswith("decoder.4.3.")}
    assert scores
    for names in (("a", "b", "c"), ("ground", "disc")):
        fresh = start_network(described("segnet", names, THIN), str(tmp_path / "model"))
        kept = equal_to(fresh.model, other)
        assert not kept & scores
        assert kept >= set(other.state_dict()) - scores
        assert not fresh.trained & scores
    with pytest.raises(PixelkinError, match="give the options of that model"):
        start_network(described("segnet", NAMES, {}), str(tmp_path / "model"))
    with pytest.raises(PixelkinError, match="is a segnet with widths"):
        start_network(described("unet", NAMES, {"channels": 2}), str(tmp_path / "model"))


@pytest.mark.parametrize(
    ("network", "options", "weights", "says"),
    [
        (
            "unet",
            {"channels": 2},
            "imagenet",
            "unet cannot start from 'imagenet', .* auto, none, or",
        ),
        ("segnet", THIN, "timm", "expected one of auto, none, vgg16, or the folder"),
        ("timm-fcn", {"backbone": "efficientnet_b0"}, "shipped", "of auto, none, timm, or the fol"),
        ("timm-fcn", {}, "runs/x", "no such folder: .* auto, none, shipped, imagenet, timm, or"),
    ],
)
def test_weights_that_do_not_fit_are_answered_by_those_that_do(network, options, weights, says):
    with pytest.raises(PixelkinError, match=says):
        start_network(described(network, NAMES, options), weights)


def test_a_checkpoint_wins_over_a_name_and_another_folder_does_not(tmp_path, monkeypatch):
    state = vgg16(tmp_path / "vgg16")
    (tmp_path / "auto").mkdir()
    monkeypatch.chdir(tmp_path)
    start = start_network(described("segnet", NAMES, THIN), "vgg16")
    assert torch.equal(start.model.encoder[0][0].weight, state["features.0.weight"])
    assert start_network(described("segnet", NAMES, THIN), "auto").start == "none"


def test_a_checkpoint_of_something_else_and_a_pickle_are_refused(tmp_path):
    save_checkpoint(tmp_path / "m", {"a": torch.zeros(1)}, {"architecture": "irnet"}, "")
    with pytest.raises(PixelkinError, match="no model that gives every pixel a class"):
        start_network(described("unet", NAMES, {"channels": 2}), str(tmp_path / "m"))
    (tmp_path / "vgg16.pth").write_bytes(b"PK\x03\x04")
    with pytest.raises(PixelkinError, match="convert it once with pixelkin convert FILE FOLDER"):
        start_network(described("segnet", NAMES, THIN), str(tmp_path / "vgg16.pth"))


@pytest.mark.parametrize(
    ("network", "options", "holds"),
    [
        ("unet", NetworkOptions(channels=2, batch_norm=False, grey=True), (False, 1)),
        ("unet", NetworkOptions(channels=2), (True, 3)),
    ],
)
def test_the_papers_unet_by_options(network, options, holds):
    model = build_network(described(network, NAMES, options.chosen()))
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    normed = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert (normed, first.in_channels) == holds


def test_options_of_the_other_networks():
    small = NetworkOptions(backbone="tf_efficientnet_lite0", channels=8)
    for separable in (True, False):
        options = NetworkOptions(small.backbone, channels=8, separable=separable).chosen()
        model = build_network(described("deeplab-v3-plus", NAMES, options))
        depthwise = [
            m for m in model.decoder.modules() if isinstance(m, nn.Conv2d) and m.groups > 1
        ]
        assert bool(depthwise) is separable
    patch = NetworkOptions(channels=3, head_channels=5)
    config = described("patch", NAMES, patch.chosen())
    assert config["network"] == {"width": 3, "hidden": 5}
    assert build_network(config).layers[-1].in_channels == 5
    for name, options, own in (
        ("segnet", NetworkOptions(separable=False), "widths"),
        ("fcn8s", NetworkOptions(channels=4), "widths, head-channels"),
        ("patch", NetworkOptions(batch_norm=False), "channels, head-channels"),
    ):
        with pytest.raises(PixelkinError, match=f"{name} has no option .* expected among {own}"):
            described(name, NAMES, options.chosen())
