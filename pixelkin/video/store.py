"""Arrays within a memory budget: the most recent in memory, the rest in a file."""

import ctypes
import os
import tempfile
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from pixelkin.errors import PixelkinError
from pixelkin.files import write_error

Arrays = tuple[np.ndarray, ...]
Buffer = UInt8[np.ndarray, " size"]


class _Slot(NamedTuple):
    offset: int
    record: "_Record"


TRIM_EVERY = 64
"""Spills between two times that freed memory is given back to the system."""


def trim_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it (glibc).

    Embedding allocates and frees large maps in several threads; glibc keeps the gaps, and a long
    clip's resident memory would creep up although nothing is held.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


@dataclass(frozen=True)
class _Record:
    """What a slot holds. Slots of one kind share one: a long clip has thousands of slots."""

    size: int
    forms: tuple[tuple[tuple[int, ...], str], ...]

    def arrays(self, data: bytearray) -> Arrays:
        """The arrays that `data` holds one after the other."""
        found, start = [], 0
        for shape, kind in self.forms:
            count = int(np.prod(shape))
            found.append(np.frombuffer(data, kind, count=count, offset=start).reshape(shape))
            start += found[-1].nbytes
        return tuple(found)


class ArrayStore:
    """A dictionary of small tuples of arrays that never holds more than `budget_bytes` in memory.

    What is least recently used goes to an unnamed temporary file, which vanishes with the process,
    however it ends. Reads and writes go through `pread`/`pwrite`: a memory map would count as
    resident memory. Buffers are used again rather than freed: allocators return little of what
    thousands of arrays of several sizes leave behind, and resident memory would creep up.

    Args:
        budget_bytes: upper bound of the arrays in memory.
        directory: where the temporary file lies; None takes the system's temporary folder.
    """

    def __init__(self, budget_bytes: int, *, directory: Path | None = None) -> None:
        if budget_bytes < 1:
            raise PixelkinError(
                f"the memory budget is {budget_bytes} bytes, expected 1 MB or more; raise it"
            )
        self.budget_bytes = budget_bytes
        self.directory = directory
        self.memory_bytes = 0
        self.file_bytes = 0
        self._in_memory: OrderedDict[Hashable, tuple[_Record, Buffer]] = OrderedDict()
        self._spare: dict[int, list[Buffer]] = {}
        self._spare_bytes = 0
        self._spilled = 0
        self._in_file: dict[Hashable, _Slot] = {}
        self._free: dict[int, list[int]] = {}
        self._records: dict[_Record, _Record] = {}
        self._file: int | None = None

    def __contains__(self, key: Hashable) -> bool:
        return key in self._in_memory or key in self._in_file

    def __len__(self) -> int:
        return len(self._in_memory) + len(self._in_file)

    def __iter__(self) -> Iterator[Hashable]:
        """All keys, in no particular order."""
        yield from self._in_memory
        yield from self._in_file

    def put(self, key: Hashable, arrays: Arrays) -> None:
        """Keep a copy of `arrays` under `key`; what was there is replaced."""
        self.discard(key)
        forms = tuple((array.shape, array.dtype.str) for array in arrays)
        record = _Record(sum(array.nbytes for array in arrays), forms)
        record = self._records.setdefault(record, record)
        try:
            buffer = self._take(record.size)
        except PixelkinError:
            # Nothing is lost: it is kept over budget, and the caller decides.
            self._keep(key, record, np.empty(record.size, np.uint8), arrays)
            raise
        self._keep(key, record, buffer, arrays)

    def get(self, key: Hashable) -> Arrays | None:
        """Copies of the arrays under `key`, or None. Those in the file stay there."""
        kept = self._in_memory.get(key)
        if kept is not None:
            self._in_memory.move_to_end(key)
            record, buffer = kept
            return record.arrays(bytearray(buffer))
        slot = self._in_file.get(key)
        if slot is None or self._file is None:
            return None
        return slot.record.arrays(bytearray(os.pread(self._file, slot.record.size, slot.offset)))

    def discard(self, key: Hashable) -> None:
        """Forget `key`; its room in memory or in the file is used again."""
        kept = self._in_memory.pop(key, None)
        if kept is not None:
            self._give_back(kept[1])
        slot = self._in_file.pop(key, None)
        if slot is not None:
            self._free.setdefault(slot.record.size, []).append(slot.offset)

    def _keep(self, key: Hashable, record: _Record, buffer: Buffer, arrays: Arrays) -> None:
        start = 0
        for array in arrays:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            buffer[start : start + flat.size] = flat
            start += flat.size
        self._in_memory[key] = (record, buffer)
        self.memory_bytes += record.size

    def _take(self, size: int) -> Buffer:
        """A buffer: one given back, or a new one within the budget, after spilling if need be."""
        while self._in_memory and self.memory_bytes + size > self.budget_bytes:
            self._spill()
        if self._spare.get(size):
            self._spare_bytes -= size
            return self._spare[size].pop()
        for other, buffers in self._spare.items():
            while buffers and self.memory_bytes + self._spare_bytes + size > self.budget_bytes:
                buffers.pop()
                self._spare_bytes -= other
        return np.empty(size, np.uint8)  # beyond the budget only where it is alone

    def _give_back(self, buffer: Buffer) -> None:
        self.memory_bytes -= buffer.size
        self._spare_bytes += buffer.size
        self._spare.setdefault(buffer.size, []).append(buffer)

    def close(self) -> None:
        """Forget everything, and give the file back."""
        self._in_memory.clear()
        self._in_file.clear()
        self._free.clear()
        self._spare.clear()
        self.memory_bytes = self.file_bytes = self._spare_bytes = 0
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _spill(self) -> None:
        key, (record, buffer) = next(iter(self._in_memory.items()))
        free = self._free.get(record.size) or []
        try:
            if self._file is None:
                with tempfile.TemporaryFile(dir=self.directory) as handle:
                    self._file = os.dup(handle.fileno())
            offset = place = free[-1] if free else self.file_bytes
            view = buffer.data
            while len(view):
                written = os.pwrite(self._file, view, place)
                view, place = view[written:], place + written
        except OSError as error:
            raise write_error(
                Path(self.directory or tempfile.gettempdir()) / "embeddings", error
            ) from error
        if free:
            free.pop()
        self.file_bytes = max(self.file_bytes, place)
        self._in_file[key] = _Slot(offset, record)
        del self._in_memory[key]
        self._give_back(buffer)
        self._spilled += 1
        if self._spilled % TRIM_EVERY == 0:
            trim_memory()
