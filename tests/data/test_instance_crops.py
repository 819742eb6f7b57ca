"""Crops as items of the engine, and their batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pixelkin.data.instance_crops import InstanceCrops, collate_instances
from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.transforms import RandomWindow
from pixelkin.engine.batches import StepSampler, load_batches
from pixelkin.errors import PixelkinError
from pixelkin.masks import paint_instances
from pixelkin.structures import IGNORE, InstanceBatch, InstanceSample, Sample, nth_instance_id


def still(seed: int, count: int = 30) -> Sample:
    """`count` squares of 10×10 pixels, some of which lie on others."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((80, 100), np.int64)
    for index in range(count):
        y, x = rng.integers(0, 70), rng.integers(0, 90)
        labels[y : y + 10, x : x + 10] = nth_instance_id(index)
    image = rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)
    categories = tuple(int(c) for c in rng.integers(0, 5, count))
    return Sample(image, labels, f"still {seed}", categories)


def test_items_are_the_stills_in_turn() -> None:
    stills = [still(i) for i in range(3)]
    crops = InstanceCrops(stills, lambda sample: sample, repeats=4)
    assert len(crops) == 12
    assert [crops[i].name for i in (0, 4, 11)] == ["still 0", "still 1", "still 2"]
    with pytest.raises(IndexError):
        crops[12]


def test_scraps_become_ignored() -> None:
    crops = InstanceCrops([still(0)], RandomWindow((40, 40), near_instance=1.0), min_pixels=25)
    np.random.seed(0)
    lost = 0
    for _ in range(20):
        labels = crops[0].labels
        ids, counts = np.unique(labels, return_counts=True)
        assert (counts[(ids != 0) & (ids != IGNORE)] >= 25).all()
        lost += int((labels == IGNORE).sum())
    assert lost > 0


def test_a_batch_is_its_items() -> None:
    samples = [still(1, count=3), still(2, count=300), still(3, count=0)]
    batch = collate_instances(samples)
    assert batch.images.dtype == torch.float32
    assert batch.labels.dtype == batch.categories.dtype == torch.int64
    assert batch.images.shape == (3, 3, 80, 100)
    assert batch.images.is_contiguous()
    assert batch.categories.shape == (3, 300)
    for n, sample in enumerate(samples):
        expected = sample.image.transpose(2, 0, 1).astype(np.float32) / 255
        np.testing.assert_array_equal(batch.images[n].numpy(), expected)
        np.testing.assert_array_equal(batch.labels[n].numpy(), sample.labels)
        for index in range(300):
            known = index < len(sample.categories)
            assert batch.categories[n, index] == (sample.categories[index] if known else -1)


def test_stills_without_classes_have_one() -> None:
    labels = np.zeros((4, 300), np.int64)
    labels[0, :257] = [nth_instance_id(i) for i in range(257)]
    labels[1, 0] = IGNORE
    bare = Sample(np.zeros((4, 300, 3), np.uint8), labels)
    few = Sample(bare.image, np.where(labels > 2, 0, labels))
    unknown = Sample(bare.image, np.where(labels > 1, IGNORE, labels))
    batch = collate_instances([bare, few, unknown])
    assert labels.max() == 258
    assert (batch.categories == 0).sum(1).tolist() == [257, 2, 1]
    assert batch.categories.shape == (3, 257)


def test_an_empty_batch_of_instances() -> None:
    nothing = Sample(np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64))
    assert collate_instances([nothing, nothing]).categories.shape == (2, 0)


def test_mistakes_are_refused() -> None:
    with pytest.raises(PixelkinError, match="0 stills"):
        InstanceCrops([], RandomWindow((4, 4)))
    small = RandomWindow((16, 16))(still(0))
    with pytest.raises(PixelkinError, match="sizes"):
        collate_instances([still(0), small])
    poor = Sample(small.image, np.full((16, 16), 4), "poor", (0, 0, 0))
    with pytest.raises(PixelkinError, match=r"poor has label 4 but 3 categories"):
        collate_instances([poor])


def batches(workers: int, samples: list[Sample], seed: int = 5) -> list[InstanceBatch]:
    crops = InstanceCrops(
        samples,
        RandomWindow((64, 64), scale=(0.7, 1.4), rotate_degrees=30, flip=True, near_instance=0.5),
    )
    sampler = StepSampler(len(crops), batch_size=4, start=0, steps=3, seed=seed)
    return list(
        load_batches(crops, sampler, collate=collate_instances, workers=workers, pin_memory=False)
    )


def test_the_engine_loads_the_same_batches_with_and_without_workers(shared_data: Path) -> None:
    data = Nuclei(shared_data / "dsb2018")
    items = [data[i] for i in range(6)]
    samples = [paint_instances(s) if isinstance(s, InstanceSample) else s for s in items]
    here, there, other = batches(0, samples), batches(2, samples), batches(0, samples, seed=6)
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(one.categories, two.categories)
    assert not torch.equal(here[0].images, other[0].images)
    known = {int(v) for s in samples for v in np.unique(s.labels)} | {IGNORE}
    assert all(set(batch.labels.unique().tolist()) <= known for batch in here)
