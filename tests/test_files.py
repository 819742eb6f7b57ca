"""Atomic writes: on a disk that is full for real, in folders that cannot be written, on errors."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelkin.errors import PixelkinError
from pixelkin.files import PartwiseWriter, atomic_path, atomic_write, remove_unfinished, write_error


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB; only where the machine lets the test mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode != 0:
        pytest.skip("this machine does not let a test mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions bind: root, whom they do not bind, steps down for the block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def everything_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@given(st.binary(max_size=200) | st.text(max_size=50))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes | str
) -> None:
    folder = tmp_path_factory.mktemp("write")
    atomic_write(folder / "new" / "file.bin", data)
    expected = data.encode() if isinstance(data, str) else data
    assert (folder / "new" / "file.bin").read_bytes() == expected
    assert everything_in(folder) == ["new", "new/file.bin"]


def test_temporary_name_keeps_the_suffix_and_the_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "clip.tar.gz") as temporary:
        assert temporary.name == "clip.tar.gz"
        assert temporary.parent.parent == tmp_path
        temporary.write_text("x")
        assert not (tmp_path / "clip.tar.gz").exists()
    assert everything_in(tmp_path) == ["clip.tar.gz"]


def test_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_text("old")

    def write_and_fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["mask.png"]


def test_folder_replaces_folder_whole(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for text in ("first", "second"):
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            (temporary / f"{text}.txt").write_text(text)
    assert everything_in(tmp_path) == ["checkpoint", "checkpoint/second.txt"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "choose another folder"),
    ],
)
def test_failure_in_the_middle_is_told_and_tidied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")

    def fail(self: Path, data: bytes) -> int:
        with open(self, "wb") as handle:
            handle.write(data[:3])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(PixelkinError, match=remedy) as caught:
        atomic_write(path, "new and long")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["results.json"]


def test_failure_of_the_sync_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Network disks and quotas say only here that the data did not fit.
    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PixelkinError, match="no space"):
        atomic_write(tmp_path / "a.txt", "text")
    assert everything_in(tmp_path) == []


def test_full_disk(small_disk: Path) -> None:
    path = small_disk / "masks.bin"
    atomic_write(path, b"o" * 20_000)
    with pytest.raises(PixelkinError, match=r"masks\.bin: no space is left on the disk"):
        atomic_write(path, os.urandom(200_000))
    assert path.read_bytes() == b"o" * 20_000
    assert everything_in(small_disk) == ["masks.bin"]
    atomic_write(path, b"n" * 30_000)
    assert path.read_bytes() == b"n" * 30_000


def test_unwritable_folder(tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "a.txt").write_text("old")
    folder.chmod(0o500)
    try:
        with as_nobody(), pytest.raises(PixelkinError, match="the folder is not writable"):
            atomic_write(folder / "a.txt", "new")
    finally:
        folder.chmod(0o700)
    assert everything_in(folder) == ["a.txt"]
    assert (folder / "a.txt").read_text() == "old"


def test_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(PixelkinError, match="cannot write") as caught:
        atomic_write(tmp_path / "file" / "a.txt", "new")
    assert "\n" not in str(caught.value)
    assert everything_in(tmp_path) == ["file"]


def test_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(PixelkinError, match="the path is a folder"):
        atomic_write(tmp_path / "name", "new")
    assert everything_in(tmp_path) == ["name"]


def test_write_error_without_a_number_is_one_line() -> None:
    message = str(write_error(Path("a.bin"), OSError("something odd")))
    assert message == "cannot write a.bin: something odd; choose another folder"


def test_an_old_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    real, calls = os.replace, []

    def second_fails(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    new = tmp_path.parent / "new-folder"
    new.mkdir()

    def replace_folder():
        with atomic_path(folder) as temporary:
            real(new, temporary)

    with pytest.raises(PixelkinError, match="no space"):
        replace_folder()
    assert (folder / "old.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


class Lines(PartwiseWriter):
    """Lines of text, with their number at the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.done: list[str] = []

    def _open(self, temporary: Path, stack: ExitStack) -> None:
        self.temporary = temporary
        stack.callback(self.done.append, "closed")

    def write(self, line: str) -> None:
        with open(self.temporary, "a", encoding="utf-8") as handle:
            handle.write(f"{line}\n")

    def _finish(self) -> None:
        self.done.append("finished")
        self.write("end")


def test_parts_are_there_only_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.txt"
    with Lines(path) as lines:
        lines.write("one")
        assert not path.exists()
    assert path.read_text() == "one\nend\n"
    assert lines.done == ["finished", "closed"]
    with pytest.raises(ZeroDivisionError), Lines(path) as lines:  # noqa: PT012
        lines.write("two")
        raise ZeroDivisionError
    assert path.read_text() == "one\nend\n"
    assert lines.done == ["closed"]
    assert everything_in(path.parent) == ["lines.txt"]


def test_a_failure_at_the_end_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("old")
    with pytest.raises(PixelkinError, match="no space is left"), Lines(path) as lines:  # noqa: PT012
        lines.write("one")
        lines._finish = full_disk  # type: ignore[method-assign]
    assert lines.done == ["closed"]
    assert path.read_text() == "old"
    assert everything_in(tmp_path) == ["lines.txt"]


def full_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@given(st.sampled_from(["a.png", "x" * 60 + ".json", ".png", "a b-c.tar.gz", "é\n.txt"]))
def test_what_a_killed_process_leaves_is_found_by_its_name(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    """The room as `atomic_path` makes it while a file is being written."""
    for of in ((), (name,), ("other.png",)):
        folder = tmp_path_factory.mktemp("files")
        with ExitStack() as stack:
            atomic_path_of = stack.enter_context(atomic_path(folder / name))
            atomic_path_of.write_bytes(b"half")
            (room,) = folder.iterdir()
            remove_unfinished(folder, of=of)
            assert room.exists() == (of == ("other.png",))
            room.mkdir(exist_ok=True)
            atomic_path_of.write_bytes(b"whole")
    remove_unfinished(tmp_path_factory.getbasetemp() / "missing")
