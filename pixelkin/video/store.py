"""Arrays within a memory budget: the most recent in memory, the rest in a file."""

import os
import tempfile
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pixelkin.errors import PixelkinError
from pixelkin.files import write_error

Arrays = tuple[np.ndarray, ...]


class _Slot(NamedTuple):
    offset: int
    record: "_Record"


@dataclass(frozen=True)
class _Record:
    """What a slot holds. Slots of one kind share one: a long clip has thousands of slots."""

    size: int
    forms: tuple[tuple[tuple[int, ...], str], ...]


class ArrayStore:
    """A dictionary of small tuples of arrays that never holds more than `budget_bytes` in memory.

    What is least recently used goes to an unnamed temporary file, which vanishes with the process,
    however it ends. Reads and writes go through `pread`/`pwrite`: a memory map would count as
    resident memory.

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
        self._in_memory: OrderedDict[Hashable, Arrays] = OrderedDict()
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
        """Keep `arrays` under `key`; what was there is replaced."""
        self.discard(key)
        self._in_memory[key] = arrays
        self.memory_bytes += _size(arrays)
        while self.memory_bytes > self.budget_bytes and len(self._in_memory) > 1:
            self._spill()

    def get(self, key: Hashable) -> Arrays | None:
        """The arrays under `key`, or None. Those in the file come back as copies and stay there."""
        arrays = self._in_memory.get(key)
        if arrays is not None:
            self._in_memory.move_to_end(key)
            return arrays
        slot = self._in_file.get(key)
        if slot is None or self._file is None:
            return None
        # Copied once more, since torch takes no read-only memory without complaint.
        data = bytearray(os.pread(self._file, slot.record.size, slot.offset))
        found, start = [], 0
        for shape, kind in slot.record.forms:
            count = int(np.prod(shape))
            array = np.frombuffer(data, kind, count=count, offset=start).reshape(shape)
            found.append(array)
            start += array.nbytes
        return tuple(found)

    def discard(self, key: Hashable) -> None:
        """Forget `key`; its room in the file is used again."""
        arrays = self._in_memory.pop(key, None)
        if arrays is not None:
            self.memory_bytes -= _size(arrays)
        slot = self._in_file.pop(key, None)
        if slot is not None:
            self._free.setdefault(slot.record.size, []).append(slot.offset)

    def close(self) -> None:
        """Forget everything, and give the file back."""
        self._in_memory.clear()
        self._in_file.clear()
        self._free.clear()
        self.memory_bytes = self.file_bytes = 0
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _spill(self) -> None:
        key, arrays = self._in_memory.popitem(last=False)
        size = _size(arrays)
        self.memory_bytes -= size
        free = self._free.get(size) or []
        try:
            if self._file is None:
                with tempfile.TemporaryFile(dir=self.directory) as handle:
                    self._file = os.dup(handle.fileno())
            offset = free[-1] if free else self.file_bytes
            place = offset
            for array in arrays:
                view = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                while len(view):
                    written = os.pwrite(self._file, view, place)
                    view, place = view[written:], place + written
        except OSError as error:
            # Nothing is lost: the arrays go back, over budget, and the caller decides.
            self._in_memory[key] = arrays
            self.memory_bytes += size
            raise write_error(
                Path(self.directory or tempfile.gettempdir()) / "embeddings", error
            ) from error
        if free:
            free.pop()
        self.file_bytes = max(self.file_bytes, place)
        forms = tuple((array.shape, array.dtype.str) for array in arrays)
        record = _Record(size, forms)
        self._in_file[key] = _Slot(offset, self._records.setdefault(record, record))


def _size(arrays: Arrays) -> int:
    return sum(array.nbytes for array in arrays)
