"""What a training tells: console with time left, metrics.csv, TensorBoard, run.json."""

import csv
import io
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from pixelkin.files import atomic_write, write_error

Row = dict[str, float]


class MetricsCsv:
    """`metrics.csv`, one row per logged step; new columns are added as they first appear.

    It holds nothing that depends on the machine's speed, so equal trainings give equal files.
    """

    def __init__(self, path: Path, *, keep_until: int) -> None:
        """Keep the rows of an existing file up to step `keep_until`; drop the others."""
        self.path = path
        self.columns = ["step"]
        self.rows: list[dict[str, str]] = []
        if keep_until and path.is_file():
            with open(path, encoding="utf-8", newline="") as handle:
                reader = csv.DictReader(handle)
                self.columns = list(reader.fieldnames or ["step"])
                # A killed process may leave half a row at the end; its step is not kept anyway.
                self.rows = [r for r in reader if r["step"].isdigit()]
        self.rows = [r for r in self.rows if int(r["step"]) <= keep_until]
        self._rewrite()

    def add(self, row: Row) -> None:
        """Append a row; its "step" is an integer."""
        self.rows.append({k: str(int(v)) if k == "step" else repr(v) for k, v in row.items()})
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
            return
        try:
            with open(self.path, "a", encoding="utf-8", newline="") as handle:
                handle.write(self._text(self.rows[-1:]))
        except OSError as error:
            raise write_error(self.path, error) from error

    def last(self) -> Row:
        """The last row, without its empty cells."""
        return {k: float(v) for k, v in self.rows[-1].items() if v} if self.rows else {}

    def _rewrite(self) -> None:
        atomic_write(self.path, ",".join(self.columns) + "\n" + self._text(self.rows))

    def _text(self, rows: list[dict[str, str]]) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        writer.writerows(rows)
        return text.getvalue()


class RunLog:
    """All outputs of one training process; a process that is not the first stays silent."""

    def __init__(
        self, out: Path, *, start: int, steps: int, batch_size: int, silent: bool = False
    ) -> None:
        self.start, self.steps, self.batch_size = start, steps, batch_size
        self.silent = silent
        self._began = time.perf_counter()
        self._mark = (start, self._began)
        if silent:
            return
        self.csv = MetricsCsv(out / "metrics.csv", keep_until=start)
        self._board = _tensorboard(out / "tensorboard", start)
        self._console = Console(highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        if self._console.is_terminal:
            columns = (BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task("", total=steps, completed=start)
            self._bar.start()

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leave the time of the block out of the speed of training."""
        began = time.perf_counter()
        yield
        step, mark = self._mark
        self._mark = step, mark + time.perf_counter() - began

    def tick(self, step: int) -> None:
        """Move the bar."""
        if not self.silent and self._bar is not None:
            self._bar.update(self._task, completed=step)

    def write(self, row: Row) -> None:
        """Report one row of numbers everywhere."""
        if self.silent:
            return
        self.csv.add(row)
        step = int(row["step"])
        numbers = {name: value for name, value in row.items() if name != "step"}
        now = time.perf_counter()
        if "loss" in row and step > self._mark[0]:
            speed = (step - self._mark[0]) * self.batch_size / max(now - self._mark[1], 1e-9)
            self._mark = (step, now)
        else:
            speed = 0.0
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(name, value, step)
            if speed:
                self._board.add_scalar("items_per_second", speed, step)
        self._say(step, numbers, speed, now)

    @property
    def shows_pictures(self) -> bool:
        """Whether pictures are shown anywhere."""
        return not self.silent and self._board is not None

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]]) -> None:
        """Show pictures in TensorBoard."""
        if self.shows_pictures:
            for name, picture in pictures.items():
                self._board.add_image(name, picture, step, dataformats="HWC")

    def _say(self, step: int, numbers: Row, speed: float, now: float) -> None:
        parts = [f"{name} {value:.4g}" for name, value in numbers.items()]
        if speed:
            parts.append(f"{speed:.3g} items/s")
        left = (self.steps - step) * (now - self._began) / max(step - self.start, 1)
        parts.append(f"ETA {_duration(left)}")
        line = "  ".join(parts)
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=line)
        if self._bar is None or any(name.startswith("val/") for name in numbers):
            self._console.print(f"step {step}/{self.steps}  {line}", markup=False)
            self._console.file.flush()

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.silent:
            self._console.print(line, markup=False)

    def close(self) -> None:
        """End the bar and flush TensorBoard."""
        if self.silent:
            return
        if self._bar is not None:
            self._bar.stop()
        if self._board is not None:
            self._board.close()


def _duration(seconds: float) -> str:
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}"


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What a killed run wrote after its checkpoint is hidden, as in metrics.csv.
    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)


def write_run(path: Path, *, config: dict[str, Any], options: dict[str, Any], start: int) -> None:
    """Write run.json: what was run, with what, from where; a resumed run adds a launch."""
    launches: list[Any] = []
    if start and path.is_file():
        try:
            launches = json.loads(path.read_text("utf-8"))["launches"]
        except (ValueError, KeyError):
            launches = []
    launch = {
        "from_step": start,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        **options,
    }
    document = {"config": config, "launches": [*launches, launch]}
    atomic_write(path, json.dumps(document, indent=2, default=str, ensure_ascii=False) + "\n")


def _versions() -> dict[str, str]:
    found = {"torch": str(torch.__version__)}
    for name in ("pixelkin", "torchvision", "timm", "numpy", "lightning"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _git_commit() -> str | None:
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
