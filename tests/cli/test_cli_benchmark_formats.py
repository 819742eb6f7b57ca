"""`pixelkin predict --format cityscapes|kitti|bdd-lanes`: files as the benchmarks take them."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixelkin.cli.map_options import MapOptions
from pixelkin.cli.predict import predict
from pixelkin.data.class_maps.bdd100k import LANE_CLASSES, lane_labels
from pixelkin.data.class_maps.cityscapes import CITYSCAPES_CLASSES, TRAIN_LABELS, train_ids
from pixelkin.errors import PixelkinError
from pixelkin.results.benchmark_maps import cityscapes_order, write_lane_bytes
from pixelkin.semantic.checkpoints import (
    build_network,
    load_semantic_segmenter,
    save_semantic_model,
)


def save_model(folder, class_names, seed=0):
    """A small U-Net with random weights that gives many classes."""
    torch.manual_seed(seed)
    config = {
        "architecture": "semantic_unet",
        "class_names": list(class_names),
        "network": {"channels": 2},
    }
    network = build_network(config)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    network.score.bias.data.zero_()
    save_semantic_model(network, folder, config, "")
    return str(folder)


@pytest.fixture
def street(tmp_path):
    rng = np.random.default_rng(2)
    path = tmp_path / "aachen_000000_000019_leftImg8bit.png"
    Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)
    return path


def test_label_ids_by_the_names_of_the_model_s_classes(street, tmp_path):
    names = CITYSCAPES_CLASSES[::-1]
    model, out = save_model(tmp_path / "model", names), tmp_path / "out"
    predict(model, street, out=out, format="png,cityscapes,kitti", quiet=True)
    image = np.asarray(Image.open(street))
    found = load_semantic_segmenter(model).segment(image)
    expected = np.array([TRAIN_LABELS[names[index]] for index in found.ravel()])
    assert len(np.unique(expected)) > 1
    for kind in ("cityscapes", "kitti"):
        with Image.open(out / kind / street.name) as written:
            assert written.mode == "L"
            ids = np.asarray(written)
        assert np.array_equal(ids.ravel(), expected)
        assert np.array_equal(train_ids(ids, street), len(names) - 1 - found)


def test_lane_bytes_of_three_models_and_of_one(street, tmp_path):
    models = {
        target: save_model(tmp_path / target, names, seed)
        for seed, (target, names) in enumerate(LANE_CLASSES.items())
    }
    options = MapOptions(lane_styles=models["style"], lane_directions=models["direction"])
    options_of = {"whole": options, "alone": MapOptions()}
    image = np.asarray(Image.open(street))
    found = {t: load_semantic_segmenter(m).segment(image) for t, m in models.items()}
    for name, given in options_of.items():
        out = tmp_path / name
        predict(
            models["category"], street, out=out, format="bdd-lanes", averaging=given, quiet=True
        )
        with Image.open(out / "bdd-lanes" / street.name) as written:
            assert written.mode == "L"
            packed = np.asarray(written)
        category = lane_labels(packed, "category", street)
        assert np.array_equal(category, found["category"])
        marks = category != 8
        assert marks.any()
        for target in ("style", "direction"):
            there = lane_labels(packed, target, street)[marks]
            expected = np.where(found[target] == 2, 0, found[target])[marks]
            assert np.array_equal(there, expected if name == "whole" else 0 * expected)


def test_bytes_hold_what_the_loops_say(tmp_path):
    values = np.stack(np.meshgrid(range(9), range(3), range(3), indexing="ij"), axis=-1)
    category, style, direction = values.reshape(9, 9, 3).astype(np.uint8).transpose(2, 0, 1)
    write_lane_bytes(tmp_path / "a.png", category, style, direction)
    with Image.open(tmp_path / "a.png") as written:
        found = np.asarray(written)
    for place in np.ndindex(9, 9):
        c, s, d = int(category[place]), int(style[place]) % 2, int(direction[place]) % 2
        assert found[place] == (255 if c == 8 else c + 16 * s + 32 * d)


def test_models_of_other_classes_are_refused(street, tmp_path):
    out = tmp_path / "out"
    other = save_model(tmp_path / "other", ["road", "sky"])
    lanes = save_model(tmp_path / "lanes", LANE_CLASSES["category"])
    for model, kind, options, reason in (
        (other, "cityscapes", {}, "knows no 'sidewalk': expected the 19 classes of Cityscapes"),
        (lanes, "kitti", {}, "has a class 'crosswalk': expected the 19 classes"),
        (other, "bdd-lanes", {}, "has a class 'road': expected the 9 classes of the category"),
        (lanes, "bdd-lanes", {"lane_styles": lanes}, "expected the 3 classes of the style"),
        (lanes, "png", {"lane_styles": lanes}, "--lane-styles is for --format bdd-lanes"),
        (other, "cityscape", {}, "did you mean cityscapes"),
    ):
        with pytest.raises(PixelkinError, match=reason):
            predict(
                model, street, out=out, format=kind, averaging=MapOptions(**options), quiet=True
            )
    assert not out.exists()


def test_every_name_of_the_classes_counts():
    assert cityscapes_order(CITYSCAPES_CLASSES).tolist() == list(range(19))
    with pytest.raises(PixelkinError, match="knows no 'bicycle'"):
        cityscapes_order(CITYSCAPES_CLASSES[:-1])
