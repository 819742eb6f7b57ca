"""Semantic models through a folder and back."""

import json

import numpy as np
import pytest
import torch
from semantic_stand_ins import Padded

from pixelkin.errors import PixelkinError
from pixelkin.semantic import checkpoints
from pixelkin.semantic.checkpoints import (
    build_network,
    build_segmenter,
    is_semantic_model,
    load_semantic_network,
    load_semantic_segmenter,
    save_semantic_model,
)

CONFIG = {"architecture": "stand-in", "class_names": ["sky", "road"], "network": {"width": 6}}


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    monkeypatch.setitem(checkpoints.ARCHITECTURES, "stand-in", Padded)


def test_a_loaded_model_gives_the_same_classes(tmp_path):
    torch.manual_seed(3)
    model = build_network(CONFIG)
    save_semantic_model(model, tmp_path / "model", CONFIG, "# A card\n")
    assert is_semantic_model(tmp_path / "model")
    image = np.random.default_rng(0).integers(0, 256, (33, 50, 3), dtype=np.uint8)
    loaded = load_semantic_segmenter(tmp_path / "model", device="cpu", tile_px=0, flip=True)
    expected = build_segmenter(model, CONFIG, tile_px=0, flip=True).scores(image)
    assert loaded.class_names == ("sky", "road")
    np.testing.assert_allclose(loaded.scores(image), expected, rtol=0, atol=1e-6)
    trained = load_semantic_network(tmp_path / "model")
    again = build_segmenter(trained, CONFIG, tile_px=0, flip=True)
    assert np.array_equal(again.scores(image), expected)


def test_lists_of_the_file_become_tuples(monkeypatch):
    given = {}

    def build(classes, **options):
        given.update(options)
        return Padded(classes)

    monkeypatch.setitem(checkpoints.ARCHITECTURES, "other", build)
    build_network({**CONFIG, "architecture": "other", "network": {"widths": [1, 2]}})
    assert given == {"widths": (1, 2)}


def test_mistakes_are_told(tmp_path):
    with pytest.raises(PixelkinError, match="expected one of semantic_fcn"):
        build_network({"architecture": "semantic_unett", "class_names": ["a"]})
    with pytest.raises(PixelkinError, match="depth"):
        build_network({**CONFIG, "network": {"depth": 3}})
    model = build_network(CONFIG)
    save_semantic_model(model, tmp_path, CONFIG, "")
    wider = json.loads((tmp_path / "config.json").read_text()) | {"network": {"width": 7}}
    (tmp_path / "config.json").write_text(json.dumps(wider))
    with pytest.raises(PixelkinError, match="of another shape"):
        load_semantic_segmenter(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_names", "sky"),
        ("network", ["width"]),
        ("window_px", 0),
        ("window_hu", 250),
        ("window_hu", [250, -200]),
        ("window_hu", [0, 1, 2]),
        ("window_hu", ["-200", "250"]),
    ],
)
def test_a_damaged_configuration_names_file_and_key(tmp_path, key, value):
    save_semantic_model(build_network(CONFIG), tmp_path, {**CONFIG, key: value}, "")
    with pytest.raises(PixelkinError, match=rf"config\.json: {key} is"):
        load_semantic_segmenter(tmp_path)


def test_a_model_of_windows_is_given_no_more_at_a_time(tmp_path):
    windowed = {**CONFIG, "window_px": 32}
    save_semantic_model(build_network(CONFIG), tmp_path, windowed, "")
    assert load_semantic_segmenter(tmp_path, device="cpu").tile_px == 32
    assert load_semantic_segmenter(tmp_path, device="cpu", tile_px=0).tile_px == 32
    assert load_semantic_segmenter(tmp_path, device="cpu", tile_px=16).tile_px == 16


def test_a_model_of_volumes_keeps_its_window(tmp_path):
    save_semantic_model(build_network(CONFIG), tmp_path, {**CONFIG, "window_hu": [-100, 300.5]}, "")
    assert load_semantic_segmenter(tmp_path, device="cpu").window_hu == (-100, 300.5)
    other = load_semantic_segmenter(tmp_path, device="cpu", window_hu=(0, 50))
    assert other.window_hu == (0, 50)
    assert build_segmenter(build_network(CONFIG), CONFIG).window_hu is None
