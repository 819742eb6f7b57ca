"""The image file that a loader tells of a still is the one whose pixels it gives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_class_map_sets import CLASS_MAP_SETS, grid, picture
from tiny_instance_sets import INSTANCE_SETS, make_labelme, make_nuclei, make_panoptic

from pixelkin.data.class_maps.camvid import CamVidRgb
from pixelkin.data.class_maps.ccp import CcpSemantic
from pixelkin.data.class_maps.from_instances import PaintedClasses
from pixelkin.data.class_maps.panoptic import PanopticClasses
from pixelkin.data.class_maps.sources import SEMANTIC_FORMATS, open_semantic_source
from pixelkin.data.instances.labelme import LabelMe
from pixelkin.data.instances.sources import FORMATS, open_source
from pixelkin.data.memory import InMemory
from pixelkin.data.reading import read_image
from pixelkin.data.source import Source, Subset

FILELESS = {"lits", "lits-liver"}


def camvid_rgb(root: Path) -> Source[Any]:
    picture(root / "701_StillsRaw_full" / "a.png")
    grid(root / "LabeledApproved_full" / "a_L.png", 0, channels=3)
    return CamVidRgb(root)


def painted(root: Path) -> Source[Any]:
    make_nuclei(root)
    return PaintedClasses(open_source(f"nuclei:{root}"))


def panoptic_classes(root: Path) -> Source[Any]:
    make_panoptic(root)
    return PanopticClasses(open_source(f"panoptic:{root}"))  # type: ignore[arg-type]


def subset(root: Path) -> Source[Any]:
    for name in "ba":
        picture(root / "images" / f"{name}.png")
        grid(root / "masks" / f"{name}.png")
    return Subset(open_source(f"pngs:{root}"), [1, 0])


def opened(
    make: Callable[[Path], None], spec: str, open_: Callable[[str], Source[Any]]
) -> Callable[[Path], Source[Any]]:
    def of(root: Path) -> Source[Any]:
        make(root)
        return open_(f"{spec}:{root}")

    return of


BY_NAME = {
    **{f"instances {n}": opened(make, n, open_source) for n, make in INSTANCE_SETS.items()},
    **{f"maps {n}": opened(make, n, open_semantic_source) for n, make in CLASS_MAP_SETS.items()
       if n not in FILELESS},
}  # fmt: skip
OTHERS = [camvid_rgb, painted, panoptic_classes, subset]
LOADERS = BY_NAME | {make.__name__: make for make in OTHERS}


@pytest.mark.parametrize("name", LOADERS)
def test_the_file_told_is_the_one_whose_pixels_are_given(tmp_path: Path, name: str) -> None:
    source = LOADERS[name](tmp_path)
    files = [source.image_file(index) for index in range(len(source))]
    assert len(set(files)) == len(source) > 0
    for index, file in enumerate(files):
        assert file is not None
        pixels = source[index].image
        assert np.unique(pixels).size > 1
        np.testing.assert_array_equal(read_image(file), pixels)
    assert source.image_file(-1) == files[-1]


def test_no_format_is_left_out() -> None:
    tried = {name.split(" ", 1)[1] for name in BY_NAME}
    assert tried | FILELESS | {"ccp"} == {*FORMATS, *SEMANTIC_FORMATS}


def test_real_photos_with_pixel_labels(shared_data: Path) -> None:
    source = CcpSemantic(shared_data / "ccp")
    for index in (0, len(source) - 1):
        file = source.image_file(index)
        assert file is not None
        assert file.stem == source.names[index]
        np.testing.assert_array_equal(read_image(file), source[index].image)


@pytest.mark.parametrize("name", sorted(FILELESS))
def test_slices_of_volumes_are_no_files(tmp_path: Path, name: str) -> None:
    CLASS_MAP_SETS[name](tmp_path)
    assert open_semantic_source(f"{name}:{tmp_path}").image_file(0) is None


def test_what_is_in_memory_or_in_an_annotation_is_no_file(tmp_path: Path) -> None:
    make_nuclei(tmp_path)
    assert InMemory(open_source(f"nuclei:{tmp_path}")).image_file(0) is None
    make_labelme(tmp_path / "labelme")
    data = LabelMe(tmp_path / "labelme")
    (tmp_path / "labelme" / "a.png").rename(tmp_path / "labelme" / "b.png")
    assert data.image_file(0) is None
    moved = LabelMe(tmp_path / "labelme", tmp_path)
    picture(tmp_path / "a.png")
    assert moved.image_file(0) == tmp_path / "a.png"
