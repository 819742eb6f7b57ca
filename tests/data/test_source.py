from pathlib import Path

import numpy as np
import pytest

from pixelkin.data.instances.nuclei import Nuclei
from pixelkin.data.source import (
    Case,
    InstanceSource,
    Subset,
    cases,
    object_ids,
    split_source,
)
from pixelkin.data.splits import split_by_name
from pixelkin.errors import PixelkinError
from pixelkin.structures import InstanceSample


class Numbered:
    """A source whose sample i has the name i; it counts what is read."""

    class_names = ("cat", "dog")

    def __init__(self, count: int) -> None:
        self.names = [f"photo{i}" for i in range(count)]
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> InstanceSample:
        self.read.append(index)
        return InstanceSample(np.zeros((2, 2, 3), np.uint8), (), self.names[index])

    def image_file(self, index: int) -> Path:
        return Path(f"{self.names[index]}.png")


def test_a_subset_keeps_the_contract_and_reads_lazily() -> None:
    whole = Numbered(5)
    part: InstanceSource = Subset(whole, [4, 1])
    assert part.names == ["photo4", "photo1"]
    assert part.class_names == ("cat", "dog")
    assert len(part) == 2
    assert whole.read == []
    assert part[1].name == "photo1"
    assert part[-2].name == "photo4"
    assert part.image_file(0) == Path("photo4.png")
    assert whole.read == [1, 4]
    with pytest.raises(IndexError):
        part[2]
    assert [sample.name for sample in Subset(part, [1])] == ["photo1"]


def test_the_split_is_that_of_the_names() -> None:
    whole = Numbered(200)
    train, validation = split_source(whole, validation=0.2)
    expected = split_by_name(whole.names, validation=0.2)
    assert train.names == [whole.names[i] for i in expected[0]]
    assert validation.names == [whole.names[i] for i in expected[1]]
    assert not set(train.names) & set(validation.names)
    assert len(train) + len(validation) == 200
    assert whole.read == []


def test_all_or_nothing_may_be_wanted_but_not_got_by_chance() -> None:
    assert len(split_source(Numbered(3), validation=0)[1]) == 0
    assert len(split_source(Numbered(3), validation=1)[0]) == 0
    with pytest.raises(PixelkinError, match="1 stills split into"):
        split_source(Numbered(1), validation=0.5)


def test_a_share_that_holds_out_none_is_told_with_one_that_does() -> None:
    whole = Numbered(4)
    with pytest.raises(PixelkinError, match=r"--validation 0\.\d$") as told:
        split_source(whole, validation=0.01)
    share = float(str(told.value).rsplit(maxsplit=1)[-1])
    assert all(len(part) for part in split_source(whole, validation=share))
    # The nearest: no tenth below it has a still.
    assert not split_by_name(whole.names, validation=share - 0.1)[1]
    with pytest.raises(PixelkinError, match=r"add some$"):
        split_source(Numbered(1), validation=0.5)


def test_nuclei_split(shared_data: Path) -> None:
    data = Nuclei(shared_data / "dsb2018")
    train, validation = split_source(data, validation=0.2)
    assert len(train) + len(validation) == len(data) == 211
    assert validation[0].name == validation.names[0]


class Slices(Numbered):
    """Volumes of 3 slices each; single objects are numbered like their still."""

    average_px = None

    def object_ids(self, index: int) -> np.ndarray:
        return np.full((2, 2), index)

    def cases(self) -> list[Case]:
        starts = range(0, len(self), 3)
        return [Case(f"volume{n}", range(s, s + 3), (2.0, 1, 1)) for n, s in enumerate(starts)]


def test_volumes_stay_on_one_side_of_a_split() -> None:
    whole = Slices(60)
    parts = split_source(whole, validation=0.3)
    names = [case.name for case in whole.cases()]
    for part, expected in zip(parts, split_by_name(names, validation=0.3), strict=True):
        found = cases(part)
        assert [case.name for case in found] == [names[number] for number in expected]
        stills = [part.names[place] for case in found for place in case.slices]
        assert stills == part.names == [f"photo{3 * n + k}" for n in expected for k in range(3)]
    assert len(parts[0]) + len(parts[1]) == 60
    with pytest.raises(PixelkinError, match="1 volumes split into"):
        split_source(Slices(3), validation=0.5)


def test_volumes_in_part_are_refused_and_objects_are_handed_on() -> None:
    whole = Slices(9)
    moved = Subset(whole, [6, 7, 8, 0, 1, 2])
    assert cases(moved) == [
        Case("volume0", range(3, 6), (2.0, 1, 1)), Case("volume2", range(3), (2.0, 1, 1))
    ]  # fmt: skip
    for wrong in ([0, 1], [1, 0, 2], [0, 1, 5, 2]):
        with pytest.raises(PixelkinError, match="of the 3 slices of volume0 are chosen"):
            cases(Subset(whole, wrong))
    ids = object_ids(moved, 1)
    assert ids is not None
    assert ids.tolist() == [[7, 7], [7, 7]]
    assert object_ids(Subset(Numbered(2), [1]), 0) is object_ids(Numbered(2), 0) is None
    assert cases(Subset(Numbered(2), [1])) == cases(Numbered(2)) == []
