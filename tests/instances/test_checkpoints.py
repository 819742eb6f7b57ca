"""Instance models on disk: what is loaded finds what was saved."""

import json

import numpy as np
import pytest
import torch

from pixelkin.checkpoint import save_checkpoint
from pixelkin.errors import PixelkinError
from pixelkin.instances.checkpoints import (
    ARCHITECTURES,
    SHIPPED,
    build_network,
    build_segmenter,
    is_instance_model,
    load_instance_network,
    load_segmenter,
    save_instance_model,
)
from pixelkin.instances.tiling import dense_fields

# Options under which untrained networks find something, and one of them changed.
CASES = {
    "instance_seeds": (
        {"dimensions": 4, "ground_units": 2.0},
        {"cuts": [0.25, 0.9], "min_score": 0.0, "seeds": 30, "share_out": 1.0},
        {"seeds": 2},
    ),
    "instance_discriminative": (
        {"dimensions": 4, "px_per_unit": 2.0},
        {"min_foreground": 0.0, "bandwidth": 4.0},
        {"min_cells": 10_000},
    ),
    "instance_boundary": (
        {"dimensions": 0, "stride": 4},
        {"min_seed": 0.05, "min_foreground": 0.1},
        {"min_px": 20_000},
    ),
    "instance_mask_rcnn": (
        {"channels": 8, "proposals": 50, "max_detections": 9},
        {"min_score": 0.0},
        {"min_score": 0.999},
    ),
}


def config_of(architecture: str) -> dict:
    network, grouping, _ = CASES[architecture]
    return {
        "architecture": architecture,
        "class_names": ["a", "b"],
        "shrink": 2,
        "network": network,
        "grouping": grouping,
    }


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (95, 130, 3), dtype=np.uint8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_loaded_finds_what_was_saved(architecture, image, tmp_path):
    torch.manual_seed(1)
    config = config_of(architecture)
    model = build_network(config)
    save_instance_model(model, tmp_path / "model", config, "# card\n")
    assert is_instance_model(tmp_path / "model")
    loaded = build_segmenter(load_instance_network(tmp_path / "model"), config)
    assert loaded.class_names == ("a", "b")
    expected = build_segmenter(model, config).segment(image)
    assert len(expected) > 0
    assert loaded.segment(image) == expected
    changed = load_segmenter(tmp_path / "model", device="cpu", **CASES[architecture][2])
    assert len(changed.segment(image)) < len(expected)


@torch.inference_mode()
@pytest.mark.parametrize("name", SHIPPED)
def test_made_for_inference_a_shipped_network_says_the_same(name, image):
    expected = dense_fields(load_instance_network(name).eval(), image)
    found = dense_fields(load_segmenter(name, device="cpu").model, image)
    for field in ("embeddings", "logits"):
        values = getattr(expected, field)
        error = (getattr(found, field) - values).abs().max()
        assert error < 1e-4 * values.abs().max()


def test_two_dimensions_leave_no_room_for_a_ground(image):
    config = config_of("instance_seeds") | {"network": {"dimensions": 2, "ground_units": 2.0}}
    assert build_segmenter(build_network(config), config).segment(image).size_hw == (95, 130)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "boundary"
    config = config_of("instance_boundary")
    save_instance_model(build_network(config), folder, config, "")
    return folder


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_grouping_option_is_named(saved):
    with pytest.raises(PixelkinError) as error:
        load_segmenter(saved, device="cpu", seeds=4)
    assert "'seeds'" in one_line(error)
    assert "instance_boundary" in one_line(error)


def test_a_model_for_clips_is_no_instance_model(tmp_path):
    save_checkpoint(tmp_path / "clips", {"w": torch.ones(2)}, {"architecture": "small"}, "")
    assert not is_instance_model(tmp_path / "clips")
    with pytest.raises(PixelkinError, match="'small': expected one of instance_seeds") as error:
        load_segmenter(tmp_path / "clips", device="cpu")
    one_line(error)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "instance_sedes"}, "'instance_sedes': expected one of"),
        ({"class_names": None}, "does not describe an instance model"),
        ({"network": {"depth": 3}}, "'depth'"),
        ({"class_names": ["a"], "architecture": "instance_discriminative"}, "boundary"),
        ({"grouping": {"cuts": [0.5]}}, "'cuts'"),
        ({"network": {"dimensions": -3}}, "does not describe an instance model"),
        ({"shrink": "two"}, "config.json: shrink is 'two', expected a whole number .*; correct"),
        ({"shrink": 0}, "shrink is 0, expected a whole number from 1"),
        ({"shrink": True}, "shrink is True, expected a whole number from 1"),
        ({"shrink": 1.5}, "shrink is 1.5, expected a whole number from 1"),
        ({"class_names": "ab"}, "class_names is 'ab', expected a list of names"),
        ({"class_names": ["a", 3]}, r"class_names is \['a', 3\], expected a list of names"),
        ({"network": [4]}, r"network is \[4\], expected an object with its options"),
        ({"grouping": "seeds"}, "config.json: grouping is 'seeds', expected an object"),
    ],
)
def test_a_configuration_of_another_model_is_told(change, says, saved, tmp_path):
    folder = tmp_path / "boundary"
    folder.mkdir()
    config = json.loads((saved / "config.json").read_text()) | change
    (folder / "config.json").write_text(
        json.dumps({key: value for key, value in config.items() if value is not None})
    )
    (folder / "model.safetensors").symlink_to(saved / "model.safetensors")
    with pytest.raises(PixelkinError, match=says) as error:
        load_segmenter(folder, device="cpu")
    one_line(error)


def test_no_checkpoint_is_told(tmp_path):
    with pytest.raises(PixelkinError, match="there is no checkpoint at"):
        load_segmenter(tmp_path / "gone", device="cpu")
