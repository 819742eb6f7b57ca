"""Data sets in memory, and what plain loops say was lost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pixelkin.masks import decode_rle, encode_rle
from pixelkin.results.conversion.convert import write_class_maps, write_instances
from pixelkin.results.conversion.report import Report
from pixelkin.results.conversion.targets import Target
from pixelkin.structures import Instance, InstanceSample

CLASSES = ("cat", "dog")


class Memory:
    """Stills that are in memory."""

    def __init__(self, samples: Sequence, class_names: tuple[str, ...] = CLASSES) -> None:
        self.names = [sample.name for sample in samples]
        self.class_names = class_names
        self._samples = list(samples)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int):
        return self._samples[index]

    def image_file(self, index: int) -> None:
        return None


def picture(size_hw: tuple[int, int]) -> np.ndarray:
    return np.arange(size_hw[0] * size_hw[1] * 3, dtype=np.uint8).reshape(*size_hw, 3)


def still(
    masks: Sequence[np.ndarray],
    *,
    crowd: Sequence[bool] = (),
    ignore: np.ndarray | None = None,
    name: str = "a",
    size_hw: tuple[int, int] = (0, 0),
) -> InstanceSample:
    """Masks of classes 0, 1, 0, 1 …"""
    size_hw = masks[0].shape if masks else size_hw
    flags = list(crowd) or [False] * len(masks)
    instances = tuple(
        Instance(encode_rle(mask), n % 2, flag)
        for n, (mask, flag) in enumerate(zip(masks, flags, strict=True))
    )
    unknown = None if ignore is None else encode_rle(ignore)
    return InstanceSample(picture(size_hw), instances, name, unknown)


@st.composite
def stills(draw: st.DrawFn) -> InstanceSample:
    """Up to four random masks with holes and parts, that overlap and may be empty or crowds."""
    size_hw = draw(st.tuples(st.integers(2, 9), st.integers(2, 9)))
    count = draw(st.integers(0, 4))
    masks = [draw(hnp.arrays(bool, size_hw)) for _ in range(count)]
    crowd = [draw(st.booleans()) for _ in range(count)]
    ignore = draw(st.none() | hnp.arrays(bool, size_hw))
    return still(masks, crowd=crowd, ignore=ignore, size_hw=size_hw)


def converted(source: Memory, format: str, folder: Path) -> Report:
    """What the report says of the source written in a format."""
    report = Report("instances", "memory", format)
    write_instances(source, Target(format, folder), report)
    return report


def converted_maps(source: Memory, format: str, folder: Path) -> Report:
    """The same of class maps."""
    report = Report("class maps", "memory", format)
    write_class_maps(source, Target(format, folder), report)
    return report


def decoded(sample: InstanceSample) -> list[np.ndarray]:
    return [decode_rle(one.rle, sample.size_hw) for one in sample.instances]


def counted(was: np.ndarray, now: np.ndarray) -> tuple[int, int, int]:
    """Pixels that were, are missing, and are added, one after the other."""
    pixels = missing = added = 0
    for y in range(was.shape[0]):
        for x in range(was.shape[1]):
            pixels += bool(was[y, x])
            missing += bool(was[y, x] and not now[y, x])
            added += bool(now[y, x] and not was[y, x])
    return pixels, missing, added


def on_top(sample: InstanceSample, *, crowds: bool) -> list[list[int | None]]:
    """Of every pixel the instance that is seen: single ones before crowds, small before large."""
    masks = decoded(sample)
    areas = [int(mask.sum()) for mask in masks]
    height, width = sample.size_hw
    seen: list[list[int | None]] = [[None] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            best = None
            for index, one in enumerate(sample.instances):
                if not masks[index][y, x] or (one.crowd and not crowds):
                    continue
                rank = (one.crowd, areas[index], -index)
                if best is None or rank < best[0]:
                    best = rank, index
            seen[y][x] = None if best is None else best[1]
    return seen
