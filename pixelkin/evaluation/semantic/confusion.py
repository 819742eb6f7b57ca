"""Confusion matrix of class maps, counted as they stream in."""

from __future__ import annotations

from typing import Any, NoReturn

import cv2
import numpy as np
from jaxtyping import Int64, Integer, UInt8
from torch import Tensor

from pixelkin.errors import PixelkinError
from pixelkin.structures import IGNORE

Labels = Integer[np.ndarray, "..."] | Integer[Tensor, "..."]
Indices = Integer[np.ndarray, "..."]
Counts = Int64[np.ndarray, "truth predicted"]
"""Pixels of each true class (row) that were given each class (column)."""

_BYTES = 256
_CHUNK = 1 << 24
"""The histogram comes as float32, which counts exactly up to here."""
_PART = 1 << 16


class ConfusionMatrix:
    """Counts pixels by true class and predicted class; `IGNORE` in the truth is left out.

    Args:
        classes: how many there are; labels are 0 … classes − 1. Where there are more than 255,
            255 is still `IGNORE` in the truth.

    Raises:
        PixelkinError: `classes` is below 1.
    """

    def __init__(self, classes: int) -> None:
        if classes < 1:
            raise PixelkinError(f"{classes} classes: expected 1 or more; give the number of names")
        self.classes = classes
        self._counts = np.zeros((classes, classes), np.int64)

    def update(self, truth: Labels, predicted: Labels) -> None:
        """Count maps in: arrays or tensors of integers, of one shape, which may be any.

        Raises:
            PixelkinError: shapes differ, values are not integers, or a label is out of range;
                nothing is counted then.
        """
        self._counts += count_pairs(truth, predicted, self.classes)

    def add(self, counts: Counts) -> None:
        """Count in what `count_pairs` or `compute` of another matrix gave."""
        if counts.shape != self._counts.shape:
            raise PixelkinError(
                f"counts of {' × '.join(map(str, counts.shape))} classes, expected "
                f"{self.classes} × {self.classes}; give both the same list of class names"
            )
        self._counts += counts

    def merge(self, other: ConfusionMatrix) -> None:
        """Count in all that `other` has counted, such as another process's part.

        Raises:
            PixelkinError: the numbers of classes differ.
        """
        self.add(other._counts)

    def compute(self) -> Counts:
        """Counts so far: rows are true classes, columns predicted ones."""
        return self._counts.copy()


def count_pairs(truth: Labels, predicted: Labels, classes: int) -> Counts:
    """The confusion matrix of one pair of maps; see `ConfusionMatrix.update`."""
    wanted, found = as_indices(truth, "truth"), as_indices(predicted, "prediction")
    check_same_shape(wanted, found)
    if classes > _BYTES:
        return _count_wide(wanted, found, classes)
    table = _histogram(*_as_bytes(wanted, found, classes))
    # All 256² pairs are counted, so that a label out of range shows without a pass of its own.
    _refuse_beyond(classes, table[:IGNORE].sum(axis=1), "truth", wanted)
    _refuse_beyond(classes, table[:IGNORE].sum(axis=0), "prediction", found)
    counts: Counts = np.ascontiguousarray(table[:classes, :classes])
    counts[IGNORE:] = 0
    return counts


def as_indices(values: Any, what: str) -> Indices:
    """`values` as an array of integers; `PixelkinError` where they are of another kind."""
    if isinstance(values, Tensor):
        if values.is_floating_point() or values.is_complex():
            _refuse_kind(what, str(values.dtype))
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    if array.dtype.kind not in "iu":
        _refuse_kind(what, str(array.dtype))
    return array


def check_same_shape(truth: np.ndarray, predicted: np.ndarray) -> None:
    """Raise `PixelkinError` where the shapes differ, and say how to mend it."""
    if truth.shape == predicted.shape:
        return
    advice = "scale the prediction to the truth without interpolation"
    for what, one, other in (("truth", truth, predicted), ("prediction", predicted, truth)):
        if one.ndim == other.ndim + 1 and one.shape[-1] in (3, 4):
            advice = f"the {what} looks like colours: turn them into class indices first"
        elif one.ndim == other.ndim + 1:
            advice = f"the {what} has an axis too many: take its argmax over classes first"
    raise PixelkinError(
        f"the truth has shape {truth.shape}, the prediction {predicted.shape}, expected one "
        f"shape; {advice}"
    )


def _refuse_kind(what: str, dtype: str) -> NoReturn:
    raise PixelkinError(
        f"the {what} holds {dtype}, expected integers that are class indices; "
        "take the argmax over classes of scores first"
    )


def _as_bytes(
    truth: Indices, found: Indices, classes: int
) -> tuple[UInt8[np.ndarray, " n"], UInt8[np.ndarray, " n"]]:
    wanted, given = _bytes(truth), _bytes(found)
    if wanted is None:
        _refuse_value(truth[(truth < 0) | (truth > IGNORE)][0], classes, "truth", truth)
    if given is None:
        wrong = ((found < 0) | (found >= _BYTES)) & (truth != IGNORE)
        if wrong.any():
            _refuse_value(found[wrong][0], classes, "prediction", found)
        # What stands where nobody knows the truth does not matter.
        given = np.where(truth == IGNORE, 0, found).astype(np.uint8).ravel()
    return wanted, given


def _bytes(values: Indices) -> UInt8[np.ndarray, " n"] | None:
    """The values as bytes; None where one does not fit."""
    if values.dtype == np.uint8:
        return values.ravel()
    # Negative numbers read as unsigned are huge: one look finds both ends of the range.
    unsigned = values.ravel().view(values.dtype.str.replace("i", "u"))
    found = np.empty(unsigned.size, np.uint8)
    most = np.iinfo(values.dtype).max
    # Checked and copied by parts that stay in the cache between the two.
    for start in range(0, unsigned.size, _PART):
        part = unsigned[start : start + _PART]
        if int(part.max()) > min(_BYTES - 1, most):
            return None
        found[start : start + _PART] = part
    return found


def _histogram(
    truth: UInt8[np.ndarray, " n"], found: UInt8[np.ndarray, " n"]
) -> Int64[np.ndarray, "256 256"]:
    total = np.zeros((_BYTES, _BYTES), np.int64)
    for start in range(0, truth.size, _CHUNK):
        parts = [values[None, start : start + _CHUNK] for values in (truth, found)]
        table = cv2.calcHist(parts, [0, 1], None, [_BYTES, _BYTES], [0, _BYTES, 0, _BYTES])
        total += table.astype(np.int64)
    return total


def _count_wide(truth: Indices, found: Indices, classes: int) -> Counts:
    known = truth != IGNORE
    wanted, given = truth[known].astype(np.int64), found[known].astype(np.int64)
    for what, values in (("truth", wanted), ("prediction", given)):
        wrong = (values < 0) | (values >= classes)
        if wrong.any():
            _refuse_value(values[wrong][0], classes, what, truth if what == "truth" else found)
    counts = np.zeros((classes, classes), np.int64)
    # Most of so many pairs never occur: a histogram over all of them would be mostly zeros.
    np.add.at(counts.reshape(-1), wanted * classes + given, 1)
    return counts


def _refuse_beyond(
    classes: int, pixels: Int64[np.ndarray, " labels"], what: str, values: Indices
) -> None:
    wrong = np.flatnonzero(pixels[classes:])
    if len(wrong):
        _refuse_value(classes + int(wrong[0]), classes, what, values)


def _refuse_value(value: int, classes: int, what: str, values: np.ndarray) -> NoReturn:
    unless = f", or {IGNORE} where it is unknown" if what == "truth" else ""
    advice = "map the labels to indices, or give all class names"
    if value == IGNORE:
        advice = f"only the truth may be {IGNORE}; divide a 0/{IGNORE} mask by {IGNORE}"
    elif values.ndim > 2 and values.shape[-1] in (3, 4):
        advice = "this looks like colours: turn them into class indices first"
    raise PixelkinError(
        f"label {value} in the {what} is out of range: expected 0 to {classes - 1}{unless}, "
        f"for {classes} {'class' if classes == 1 else 'classes'}; {advice}"
    )
