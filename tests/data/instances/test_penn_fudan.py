from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkin.data.instances.penn_fudan import PennFudan
from pixelkin.errors import PixelkinError
from pixelkin.masks import paint_instances


def test_penn_fudan(shared_data: Path) -> None:
    data = PennFudan(shared_data / "penn_fudan")
    assert data.class_names == ("pedestrian",)
    assert len(data) == 78
    samples = [data[i] for i in range(len(data))]
    assert sum(len(sample.instances) for sample in samples) == 209
    for sample in samples[:10]:
        path = shared_data / "penn_fudan" / "PedMasks" / f"{sample.name}_mask.png"
        with Image.open(path) as mask:
            np.testing.assert_array_equal(paint_instances(sample).labels, np.array(mask))


def test_penn_fudan_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "PNGImages").mkdir()
    with pytest.raises(PixelkinError, match="PedMasks: expected the Penn-Fudan layout"):
        PennFudan(tmp_path)
