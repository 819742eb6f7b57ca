"""What every measure of instances counts from: pixel overlaps of one still's objects.

All counts are exact integers taken from run lengths; no mask is decoded. Measures that are defined
on label maps, in which objects of one side do not overlap, have the covered pixels taken away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import faster_coco_eval.core.mask as coco_mask
import numpy as np
from jaxtyping import Bool, Float, Int64

from pixelkin.errors import PixelkinError
from pixelkin.masks import rle_area
from pixelkin.structures import Instance, Instances


class AnnotatedStill(Protocol):
    """What is true of a still. `structures.InstanceSample` is one, and so is `Truth`."""

    @property
    def instances(self) -> tuple[Instance, ...]:
        """Annotated objects; they may overlap."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def ignore(self) -> bytes | None:
        """COCO counts of pixels that nobody labelled, or None."""


@dataclass(frozen=True)
class Truth:
    """The annotation of a still without its image.

    Attributes:
        instances: annotated objects; they may overlap.
        size_hw: height and width in pixels.
        ignore: COCO counts of pixels that nobody labelled, such as VOC's outlines; None: no such.
    """

    instances: tuple[Instance, ...]
    size_hw: tuple[int, int]
    ignore: bytes | None = None


@dataclass(frozen=True)
class Overlaps:
    """Pixel counts of F found objects against T true ones and C crowd regions.

    Attributes:
        common_px: of each found object with each true one.
        crowd_px: of each found object with each crowd region.
        void_px: of each found object with pixels that nobody labelled.
        found_px: of each found object.
        truth_px: of each true object.
        scores: of each found object.
        found_categories: of each found object.
        truth_categories: of each true object.
        crowd_categories: of each crowd region.
    """

    common_px: Int64[np.ndarray, "f t"]
    crowd_px: Int64[np.ndarray, "f c"]
    void_px: Int64[np.ndarray, " f"]
    found_px: Int64[np.ndarray, " f"]
    truth_px: Int64[np.ndarray, " t"]
    scores: Float[np.ndarray, " f"]
    found_categories: Int64[np.ndarray, " f"]
    truth_categories: Int64[np.ndarray, " t"]
    crowd_categories: Int64[np.ndarray, " c"]

    def iou(self) -> Float[np.ndarray, "f t"]:
        """Intersection over union, 0 for two empty masks."""
        union = self.found_px[:, None] + self.truth_px[None, :] - self.common_px
        ratio: np.ndarray = self.common_px / np.maximum(union, 1)
        return ratio

    def iou_without_void(self) -> Float[np.ndarray, "f t"]:
        """The same with void pixels taken out of the found objects."""
        return replace(self, found_px=self.found_px - self.void_px).iou()

    def of(self, found: Bool[np.ndarray, " f"], truth: Bool[np.ndarray, " t"]) -> Overlaps:
        """Only the found and the true objects that are marked."""
        return replace(
            self,
            common_px=self.common_px[found][:, truth],
            crowd_px=self.crowd_px[found],
            void_px=self.void_px[found],
            found_px=self.found_px[found],
            truth_px=self.truth_px[truth],
            scores=self.scores[found],
            found_categories=self.found_categories[found],
            truth_categories=self.truth_categories[truth],
        )

    def known(self) -> Overlaps:
        """Crowds and void cut out; found objects that lie by more than half in them are gone.

        For measures whose definition knows neither. Needs disjoint objects.
        """
        unknown_px = self.crowd_px.sum(axis=1) + self.void_px
        keep = 2 * unknown_px <= self.found_px
        cut = replace(self, found_px=self.found_px - unknown_px)
        return cut.of(keep, np.ones(len(self.truth_px), bool))


class StillPair:
    """One still's truth and what was found in it, with the overlaps that measures share.

    Raises:
        PixelkinError: the sizes differ, counts are malformed, a score is not finite.
    """

    def __init__(self, truth: AnnotatedStill, found: Instances) -> None:
        if tuple(truth.size_hw) != tuple(found.size_hw):
            raise PixelkinError(
                f"truth is {truth.size_hw[1]}×{truth.size_hw[0]}, found objects are "
                f"{found.size_hw[1]}×{found.size_hw[0]}; give both in the still's own size"
            )
        self.truth = truth
        self.found = found
        self.size_hw: tuple[int, int] = (truth.size_hw[0], truth.size_hw[1])
        self._single = [one for one in truth.instances if not one.crowd]
        self._crowds = [one for one in truth.instances if one.crowd]
        self._scores = np.array(found.scores, np.float64)
        if not np.isfinite(self._scores).all():
            raise PixelkinError("a found object's score is not finite; expected one in [0, 1]")
        # Refused here, so that no measure has counted half a still.
        void = [] if truth.ignore is None else [truth.ignore]
        areas_px([*(one.rle for one in truth.instances), *found.rles, *void], self.size_hw)

    @cached_property
    def as_given(self) -> Overlaps:
        """Overlaps of the objects as they are, where an object may cover another."""
        crowds = [one.rle for one in self._crowds]
        return self._count(self.found.rles, [one.rle for one in self._single], crowds)

    @cached_property
    def truth_disjoint(self) -> Overlaps:
        """Overlaps where each pixel belongs to one true object: the smaller one lies on top.

        Crowds lie below. Objects on either side that have no pixel are gone.
        """
        return _with_pixels(self._count(self.found.rles, *self._disjoint_truth))

    @cached_property
    def disjoint(self) -> Overlaps:
        """The same with each pixel in at most one found object: the one of the highest score.

        Of equal scores the earlier object has the pixel.
        """
        order = np.argsort(-self._scores, kind="stable")
        rles = list(self.found.rles)
        for index, rle in zip(
            order, _disjoint([rles[i] for i in order], self.size_hw), strict=True
        ):
            rles[index] = rle
        return _with_pixels(self._count(rles, *self._disjoint_truth))

    @cached_property
    def _disjoint_truth(self) -> tuple[list[bytes], list[bytes]]:
        """Run lengths of single objects and of crowds, as `masks.paint_instances` stacks them."""
        areas = areas_px([one.rle for one in self._single], self.size_hw)
        bottom_up = sorted(range(len(areas)), key=lambda i: -areas[i])
        top_down = bottom_up[::-1]
        stack = [self._single[i].rle for i in top_down] + [one.rle for one in self._crowds]
        rles = _disjoint(stack, self.size_hw)
        single = [b""] * len(areas)
        for index, rle in zip(top_down, rles, strict=False):
            single[index] = rle
        return single, rles[len(areas) :]

    @cached_property
    def _void(self) -> bytes | None:
        """Unlabelled pixels that no instance and no crowd covers."""
        if self.truth.ignore is None or not self.truth.instances:
            return self.truth.ignore
        instances = [one.rle for one in self.truth.instances]
        return _without(self.truth.ignore, instances, self.size_hw)

    def _count(
        self, found: Sequence[bytes], single: Sequence[bytes], crowds: Sequence[bytes]
    ) -> Overlaps:
        size_hw = self.size_hw
        found_px = areas_px(found, size_hw)
        void = [] if self._void is None else [self._void]
        return Overlaps(
            common_px=_common_px(found, found_px, single, size_hw),
            crowd_px=_common_px(found, found_px, crowds, size_hw),
            void_px=_common_px(found, found_px, void, size_hw).sum(axis=1),
            found_px=found_px,
            truth_px=areas_px(single, size_hw),
            scores=self._scores,
            found_categories=np.array(self.found.categories, np.int64),
            truth_categories=np.array([one.category for one in self._single], np.int64),
            crowd_categories=np.array([one.category for one in self._crowds], np.int64),
        )


def areas_px(rles: Sequence[bytes], size_hw: tuple[int, int]) -> Int64[np.ndarray, " n"]:
    """Pixels inside each mask; raises `PixelkinError` on malformed counts."""
    if not rles:
        return np.zeros(0, np.int64)
    try:
        return np.asarray(coco_mask.area(_rles(rles, size_hw)), np.int64)
    except (ValueError, RuntimeError):
        # One by one the mask that is at fault says so.
        return np.array([rle_area(rle, size_hw) for rle in rles], np.int64)


def _with_pixels(overlaps: Overlaps) -> Overlaps:
    return overlaps.of(overlaps.found_px > 0, overlaps.truth_px > 0)


def _common_px(
    found: Sequence[bytes],
    found_px: Int64[np.ndarray, " f"],
    others: Sequence[bytes],
    size_hw: tuple[int, int],
) -> Int64[np.ndarray, "f t"]:
    if not found or not others:
        return np.zeros((len(found), len(others)), np.int64)
    # As against a crowd the share is taken of the found object, so that whole pixels come back.
    share = coco_mask.iou(_rles(found, size_hw), _rles(others, size_hw), [1] * len(others))
    common_px: np.ndarray = np.rint(np.asarray(share) * found_px[:, None]).astype(np.int64)
    return common_px


def _disjoint(rles: Sequence[bytes], size_hw: tuple[int, int]) -> list[bytes]:
    """The masks without the pixels of those before them."""
    common_px = _common_px(rles, areas_px(rles, size_hw), rles, size_hw)
    result = list(rles)
    for index in range(len(rles)):
        above = np.flatnonzero(common_px[index, :index]).tolist()
        if above:
            result[index] = _without(rles[index], [rles[i] for i in above], size_hw)
    return result


def _without(rle: bytes, covers: Sequence[bytes], size_hw: tuple[int, int]) -> bytes:
    covered: bytes = coco_mask.merge(_rles(covers, size_hw))["counts"]
    pair = _rles([rle, _complement(covered)], size_hw)
    left: bytes = coco_mask.merge(pair, intersect=1)["counts"]
    return left


def _complement(counts: bytes) -> bytes:
    """Counts of the pixels outside: a run of no length is put before the first, or taken away.

    From the fourth run on, counts are written as differences from the run before last, which stay
    what they are; only the run that enters or leaves the first three is written anew.
    """
    first, at = _read_run(counts, 0)
    if first:
        second_end = _read_run(counts, at)[1] if at < len(counts) else at
        if second_end == len(counts):
            return _write_run(0) + counts
        third, rest = _read_run(counts, second_end)
        return _write_run(0) + counts[:second_end] + _write_run(third - first) + counts[rest:]
    runs: list[int] = []
    ends = [at]
    while len(runs) < 3 and ends[-1] < len(counts):
        run, end = _read_run(counts, ends[-1])
        runs.append(run)
        ends.append(end)
    if len(runs) < 3:
        return counts[at:]
    return counts[at : ends[2]] + _write_run(runs[2] + runs[0]) + counts[ends[3] :]


def _read_run(counts: bytes, at: int) -> tuple[int, int]:
    """The number at byte `at` (five bits a byte, lowest first, signed) and where the next is."""
    value, shift = 0, 0
    while True:
        bits = counts[at] - 48
        value |= (bits & 0x1F) << shift
        at, shift = at + 1, shift + 5
        if not bits & 0x20:
            return (value - (1 << shift) if bits & 0x10 else value), at


def _write_run(value: int) -> bytes:
    written = bytearray()
    while True:
        bits = value & 0x1F
        value >>= 5
        if value == (-1 if bits & 0x10 else 0):
            written.append(bits + 48)
            return bytes(written)
        written.append((bits | 0x20) + 48)


def _rles(rles: Sequence[bytes], size_hw: tuple[int, int]) -> list[dict[str, object]]:
    return [{"size": [int(size_hw[0]), int(size_hw[1])], "counts": rle} for rle in rles]
