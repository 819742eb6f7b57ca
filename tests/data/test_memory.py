from pathlib import Path

import numpy as np
import pytest

from pixelkin.data.clips.synthetic_clips import shrink
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.memory import InMemory
from pixelkin.errors import PixelkinError
from pixelkin.masks import encode_rle, paint_instances
from pixelkin.structures import Instance, InstanceSample, Sample


class Few:
    """A source that counts how often it is read."""

    names = ("a", "b")
    class_names = ("cat", "dog")

    def __init__(self, samples: list[Sample | InstanceSample]) -> None:
        self.samples = samples
        self.reads = 0

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample | InstanceSample:
        self.reads += 1
        return self.samples[index]


def few() -> Few:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 30, 3), np.uint8)
    points = np.eye(360, dtype=bool)[:300].reshape(300, 12, 30)
    many = InstanceSample(
        image, tuple(Instance(encode_rle(p), i % 2) for i, p in enumerate(points)), "a"
    )
    painted = Sample(image, rng.integers(0, 256, (12, 30)), "b", (1,))
    return Few([many, painted])


def test_samples_are_those_of_the_source_read_once() -> None:
    source, seen = few(), []
    data = InMemory(source, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert source.reads == 2
    assert data.names == ["a", "b"]
    assert data.class_names == ("cat", "dog")
    assert len(data) == 2
    for sample, expected in ((data[0], paint_instances(source.samples[0])), (data[1], few()[1])):
        assert sample.labels.dtype == np.int64
        np.testing.assert_array_equal(sample.labels, expected.labels)
        np.testing.assert_array_equal(sample.image, expected.image)
        assert (sample.name, sample.categories) == (expected.name, expected.categories)
    assert data[0].labels.max() == 301
    assert source.reads == 2


def test_what_a_caller_does_stays_with_the_caller() -> None:
    source = few()
    data = InMemory(source)
    before = data[1].labels.copy()
    data[1].labels[:] = 7
    np.testing.assert_array_equal(data[1].labels, before)
    with pytest.raises(ValueError, match="read-only"):
        data[1].image[:] = 0
    source.samples[1].image[0] = 0


def test_prepared_samples_are_kept(tmp_path: Path) -> None:
    data = InMemory(few(), prepare=lambda sample: shrink(sample, longest_px=15))
    assert [data[i].labels.shape for i in range(2)] == [(6, 15)] * 2
    with pytest.raises(PixelkinError, match="no folder"):
        InMemory(Nuclei(tmp_path / "nowhere"))


def test_real_nuclei(shared_data: Path) -> None:
    source = Nuclei(shared_data / "dsb2018")
    source.names = source.names[:5]
    data = InMemory(source)
    for index in range(5):
        expected = paint_instances(source[index])
        np.testing.assert_array_equal(data[index].labels, expected.labels)
        assert data[index].categories == expected.categories
