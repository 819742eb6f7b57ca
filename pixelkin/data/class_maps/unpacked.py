"""Packed files (`.gz`), unpacked once for all the parts that are read of them."""

import gzip
import mmap
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock

from pixelkin.errors import PixelkinError
from pixelkin.files import write_error

UNPACKED_BYTES = 4 << 30
"""Disk that unpacked files take in a process at most: sixteen volumes of 512×512×500 in 16 bits.
The last two stay whatever their size, a volume and its segmentation."""

_ALWAYS_KEPT = 2
_CHUNK_BYTES = 1 << 20

_Key = tuple[str, int, int]

_kept: OrderedDict[_Key, mmap.mmap] = OrderedDict()
_lock = Lock()


def unpacked(path: Path) -> mmap.mmap:
    """The bytes of a gzip file, unpacked where that has not been done yet.

    They lie in a file without a name in the system's folder for temporary files (`TMPDIR`), mapped
    into memory: a process holds no more of them in memory than it has just read, and the system
    removes the file with its last reader, however that ends. Of many files the longest unused go
    first, see `UNPACKED_BYTES`. A file that was written anew is unpacked anew.

    Raises:
        PixelkinError: the disk of temporary files is full or not writable.
        OSError, EOFError, zlib.error: the file is missing or corrupt.
    """
    there = path.stat()
    key = str(path.resolve()), there.st_mtime_ns, there.st_size
    with _lock:
        if key not in _kept:
            _kept[key] = _unpack(path)
        _kept.move_to_end(key)
        found = _kept[key]
        # A map that somebody still reads from lives on until they are done.
        while len(_kept) > _ALWAYS_KEPT and sum(map(len, _kept.values())) > UNPACKED_BYTES:
            _kept.popitem(last=False)
        return found


def _unpack(path: Path) -> mmap.mmap:
    with tempfile.TemporaryFile(prefix="pixelkin-") as room, gzip.open(path) as packed:
        while chunk := packed.read(_CHUNK_BYTES):
            try:
                room.write(chunk)
            except OSError as error:
                raise _no_room(path, error) from error
        try:
            room.flush()
        except OSError as error:
            raise _no_room(path, error) from error
        return mmap.mmap(room.fileno(), 0, access=mmap.ACCESS_READ)


def _no_room(path: Path, error: OSError) -> PixelkinError:
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return PixelkinError(
        f"{write_error(Path(tempfile.gettempdir()), error)}, by TMPDIR (there {path} is unpacked; "
        f"{free >> 20} MiB are free), or unpack it yourself with gunzip"
    )
