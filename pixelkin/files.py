"""Atomic writes: a file is there whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pixelkin.errors import PixelkinError

_REMEDY = {
    errno.ENOSPC: "no space is left on the disk; free some or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.EACCES: "the folder is not writable; change its permissions or choose another folder",
    errno.EPERM: "the folder is not writable; change its permissions or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EISDIR: "the path is a folder, a file was expected; choose another name",
}

_OLD = ".old"

_RANDOM = 8
"""Characters that `tempfile.mkdtemp` puts behind the prefix."""

_ROOM = re.compile(rf"\..{{0,40}}-[a-z0-9_]{{{_RANDOM}}}", re.DOTALL)
"""Names of the temporary folders of `atomic_path`."""


def write_error(path: Path, error: OSError) -> PixelkinError:
    """The one-line error for a failed write to `path`."""
    reason = _REMEDY.get(error.errno or 0, f"{error.strerror or error}; choose another folder")
    return PixelkinError(f"cannot write {path}: {reason}")


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there when the block ends well.

    The temporary name keeps the suffix of `path`, since encoders choose a format by it. Parent
    folders are made. When the block raises, the temporary file or folder is removed and whatever
    stood at `path` stays as it was. A failure to write becomes a `PixelkinError`.
    """
    final = Path(path)
    temporary: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=_room_prefix(final), dir=final.parent))
        temporary = room
        inner = room / final.name
        yield inner
        if inner.is_file():
            # A rename alone may reach the disk before the data does.
            with open(inner, "rb") as handle:
                os.fsync(handle.fileno())
        elif inner.is_dir() and final.is_dir():
            # A folder cannot replace a folder in one step: step the old one aside first.
            os.replace(final, room / _OLD)
        try:
            os.replace(inner, final)
        except BaseException:
            if (room / _OLD).exists():
                os.replace(room / _OLD, final)
            raise
    except OSError as error:
        raise write_error(final, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_unfinished(folder: str | os.PathLike[str], *, of: Collection[str] = ()) -> None:
    """Remove what `atomic_path` leaves in a folder when its process is killed.

    No other process may be writing there. What was to replace a FOLDER may be whole, and the only
    one there is: finish that first, as `engine.state.recover` does.

    Args:
        folder: may be missing. All files in it stay, and folders of other names.
        of: names of files in the folder, to look for theirs alone; else for all, in the folders
            below too.
    """
    beginnings = {_room_prefix(Path(name)) for name in of}
    for parent, folders, _ in os.walk(folder):
        rooms = [name for name in folders if _ROOM.fullmatch(name)]
        for room in rooms:
            if not of or room[:-_RANDOM] in beginnings:
                shutil.rmtree(Path(parent) / room, ignore_errors=True)
        folders[:] = [] if of else [name for name in folders if name not in rooms]


def _room_prefix(path: Path) -> str:
    return f".{path.stem[:40]}-"


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


class PartwiseWriter(ABC):
    """A file that is written part by part within a `with` block, and is there whole or not at all.

    When the block raises, nothing is left and a file that stood there stays. Every failure to write
    becomes a `PixelkinError`.

    Attributes:
        path: where the file is to be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stack = ExitStack()

    @abstractmethod
    def _open(self, temporary: Path, stack: ExitStack) -> None:
        """Open `temporary`, and leave to `stack` what must be closed whether or not all goes well.

        `_finish` has been called before `stack` closes where the block ended well.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Write the end."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._open(stack.enter_context(atomic_path(self.path)), stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()
