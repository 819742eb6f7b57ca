"""Options that several verbs share, and how they are checked."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pixelkin.errors import PixelkinError
from pixelkin.files import write_error

if TYPE_CHECKING:
    from pixelkin.runtime import Runtime

Flag = Annotated[bool, Parameter(show_default=False)]
"""Off unless given."""


@Parameter(name="*")
@dataclass(frozen=True)
class Machine:
    """Which model runs, and where.

    Attributes:
        model: checkpoint folder or hub id; the model inside the package where left out.
        device: auto (a GPU where there is one), cpu, cuda, cuda:1 or mps.
        engine: onnx (the graphs beside the checkpoint), torch, or auto (onnx on a CPU).
    """

    model: str | None = None
    device: str = "auto"
    engine: Literal["auto", "onnx", "torch"] = "auto"

    def load(self) -> Runtime:
        """The model, ready to run."""
        from pixelkin.loading import load

        return load(self.model, device=self.device, engine=self.engine)


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """Check that `folder` can be written before any work; leave no empty folder after a failure.

    Files that were written before the failure stay. What was in `folder` before is not looked into:
    it may be somebody's home.
    """
    check_writable(folder)
    old = set(folder.iterdir()) if folder.is_dir() else set()
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    try:
        yield folder
    except BaseException:
        new = [path for path in folder.iterdir() if path not in old] if folder.is_dir() else []
        inside = [path for one in new for path in (one, *one.rglob("*")) if path.is_dir()]
        for path in (*sorted(inside, reverse=True), *made):
            # Refuses where something was written.
            with suppress(OSError):
                path.rmdir()
        raise


def check_writable(folder: Path) -> None:
    """Raise `PixelkinError` where files cannot be made in `folder`; leaves nothing there."""
    try:
        place = folder.absolute()
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryDirectory(prefix=".pixelkin-", dir=place):
            pass
    except OSError as error:
        raise write_error(folder, error) from error


def split_list(text: str, known: tuple[str, ...], what: str) -> list[str]:
    """Comma-separated names, each one of `known`, without repetition."""
    import difflib

    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise PixelkinError(f"{what} {name!r} is unknown; {hint}choose {', '.join(known)}")
    if not names:
        raise PixelkinError(f"no {what} is named; choose {', '.join(known)}")
    return names
