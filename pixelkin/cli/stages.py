"""Seconds per stage, and a progress bar with the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")


class Stages:
    """What was done and how long it took; bars go to the standard error, where it is a terminal.

    Attributes:
        seconds: stage → seconds, in the order of the stages.
        quiet: whether nothing at all is shown.
        has_bars: whether bars are.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self.quiet = quiet
        console = Console(stderr=True)
        self.has_bars = console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description:>16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            disable=not self.has_bars,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A line of text on the standard error, above the bars."""
        if self.quiet:
            return
        if self._progress.disable:
            print(text, file=sys.stderr)
        else:
            self._progress.console.print(text, markup=False, highlight=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as stage `name`; several blocks add up."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def each(self, name: str, items: Sequence[T]) -> Iterator[T]:
        """The items, with a bar that moves as they are taken."""
        task = self._progress.add_task(name, total=len(items))
        for item in items:
            yield item
            self._progress.advance(task)

    def bar(self, name: str) -> Bar:
        """A bar whose length is told with each step."""
        return Bar(self._progress, name)


class Bar:
    """One bar, moved from outside."""

    def __init__(self, progress: Progress, name: str) -> None:
        self._progress = progress
        self._task = progress.add_task(name, total=None)

    def __call__(self, label: str, done: int, total: int) -> None:
        """Show `done` of `total`, named `label`."""
        self._progress.update(self._task, description=label, completed=done, total=total)
