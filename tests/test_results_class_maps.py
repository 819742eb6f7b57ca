"""Class maps written and read again."""

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.class_maps.background import background_index
from pixelkin.masks import decode_rle, palette
from pixelkin.results.class_maps import (
    class_key,
    class_overlay,
    regions_of_classes,
    write_class_names,
    write_class_png,
)
from pixelkin.structures import IGNORE


@pytest.mark.parametrize("classes", [3, 255, 400])
def test_png_holds_the_indices(tmp_path, classes):
    labels = np.random.default_rng(0).integers(0, classes, (12, 17))
    labels[0, 0] = IGNORE
    write_class_png(tmp_path / "a.png", labels, classes=classes)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), labels)
        assert image.mode == ("P" if classes <= 255 else "I;16")


def test_every_class_has_a_colour_but_background_and_unknown():
    labels = np.repeat(np.array([[0, 1, 2, IGNORE]]), 9, axis=0).repeat(9, axis=1)
    image = np.full((9, 36, 3), 90, np.uint8)
    flat = class_overlay(image, labels, background=1, opacity=1.0)
    assert (flat[4, [13, 31]] == 90).all()
    assert np.array_equal(flat[4, 4], palette()[1])
    assert np.array_equal(flat[4, 22], palette()[3])
    assert (class_overlay(image, labels)[4, 13] != 90).any()


@pytest.mark.parametrize("classes", [1, 3, 20, 21, 60])
def test_the_key_shows_the_colours_of_the_overlay(classes):
    names = [f"class {index}" for index in range(classes)]
    key = class_key(names, background=classes - 1 if classes > 1 else None)
    labels = np.repeat(np.arange(classes)[None], 5, axis=0).repeat(5, axis=1)
    flat = class_overlay(np.zeros((*labels.shape, 3), np.uint8), labels, opacity=1.0)
    columns = -(-classes // 20)
    width = (key.shape[1] - 8) // columns
    for index in range(classes):
        square = key[8 + index % 20 * 24 : 32 + index % 20 * 24, 8 + index // 20 * width :][:, :24]
        tinted = classes == 1 or index < classes - 1
        assert (square[12, 12] == (flat[2, 5 * index + 2] if tinted else 255)).all()
        # A name stands beside it.
        text = key[8 + index % 20 * 24 : 32 + index % 20 * 24, 8 + index // 20 * width + 24 :]
        assert (text[:, : width - 30] < 100).any()
    assert key.shape[1] <= 1600


def test_the_key_leaves_out_what_is_nobodys():
    assert class_key(["sky", "", "road"]).shape == class_key(["sky", "road"]).shape
    assert class_key(["sky", "", "road"]).shape[0] == 2 * 24 + 16
    assert class_key([]).size


def test_regions_are_the_classes():
    labels = np.random.default_rng(1).integers(0, 4, (10, 11))
    labels[3] = IGNORE
    regions = regions_of_classes(labels, leave_out=[0])
    assert regions.categories == (1, 2, 3)
    for category, rle in zip(regions.categories, regions.rles, strict=True):
        assert np.array_equal(decode_rle(rle, (10, 11)), labels == category)


def test_names(tmp_path):
    write_class_names(tmp_path / "classes.txt", ["a b", "c", ""])
    assert (tmp_path / "classes.txt").read_text() == "0: a b\n1: c\n"
    assert background_index(["sky", "Background"]) == 1
    assert background_index(["sky"]) is None
