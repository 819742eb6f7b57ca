import numpy as np
import pytest
import torch

from pixelkin.errors import PixelkinError
from pixelkin.structures import ClipBatch, Sample, Segments, check_object_id


@pytest.mark.parametrize("object_id", [1, 254])
def test_ids_in_range_pass(object_id):
    assert check_object_id(object_id) == object_id
    assert Segments((2, 2), {object_id: b""}).object_ids == [object_id]


@pytest.mark.parametrize("object_id", [-1, 0, 255, 256])
def test_ids_out_of_range_are_one_line(object_id):
    for make in (lambda: check_object_id(object_id), lambda: Segments((2, 2), {object_id: b""})):
        with pytest.raises(PixelkinError, match=f"object id {object_id} is out of range") as caught:
            make()
        assert "\n" not in str(caught.value)


def test_object_ids_ascend():
    assert Segments((1, 1), {7: b"", 2: b"", 254: b""}).object_ids == [2, 7, 254]


def test_sample_names_sizes_that_differ():
    with pytest.raises(PixelkinError, match=r"cat: image is 4×3, labels are 5×3"):
        Sample(np.zeros((3, 4, 3), np.uint8), np.zeros((3, 5), np.int64), "cat")


def test_batch_moves_whole():
    batch = ClipBatch(
        torch.zeros(1, 2, 3, 4, 5),
        torch.zeros(1, 2, 4, 5, dtype=torch.int64),
        torch.zeros(1, 4, 5, dtype=torch.uint8),
    ).to("meta")
    assert {batch.images.device.type, batch.labels.device.type, batch.prompts.device.type} == {
        "meta"
    }
