"""The entry point: runs a verb, and turns every failure into one line and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from cyclopts import App, CycloptsError, Parameter

from pixelkin import __version__
from pixelkin.cli.check import check
from pixelkin.cli.compare import compare
from pixelkin.cli.convert import convert
from pixelkin.cli.demo import demo
from pixelkin.cli.evaluate import evaluate
from pixelkin.cli.label import label
from pixelkin.cli.misuse import misuse
from pixelkin.cli.models import export
from pixelkin.cli.predict import predict
from pixelkin.cli.track import track
from pixelkin.cli.train import train
from pixelkin.errors import PixelkinError

FAILED, MISUSED, INTERRUPTED, TERMINATED = 1, 2, 130, 143
"""Exit statuses beside 0: an error, a wrong command line, Ctrl-C, SIGTERM."""

app = App(
    name="pixelkin",
    version=__version__,
    help="Segment images and video by learned pixel similarity.",
    # Paragraphs flow to the terminal's width; as plain text they would keep the source's breaks.
    help_format="markdown",
    # Flags are off unless given: --no-json would only lengthen the help.
    default_parameter=Parameter(negative=()),
    print_error=False,
    exit_on_error=False,
    suppress_keyboard_interrupt=False,
    result_action="return_value",
)
_VERBS: tuple[Callable[..., int], ...] = (
    track, predict, demo, train, label, evaluate, compare, check, export, convert,
)  # fmt: skip
for _place, _verb in enumerate(_VERBS):
    app.command(_verb, sort_key=_place)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    No traceback is shown unless the environment sets PIXELKIN_DEBUG=1.

    Args:
        tokens: arguments without the program's name; None takes those of the process.
    """
    given = list(sys.argv[1:] if tokens is None else tokens)
    debug = os.environ.get("PIXELKIN_DEBUG", "") not in ("", "0")
    try:
        with _terminated_in_order(), warnings.catch_warnings():
            if not debug:
                # Warnings of libraries are for programmers, and would look like our errors.
                warnings.simplefilter("ignore")
            status = app(given)
        # A full disk or a closed pipe may show only here.
        sys.stdout.flush()
    except Exception as error:
        if debug and not isinstance(error, BrokenPipeError):
            raise
        return _tell(error, given)
    except KeyboardInterrupt:
        print("pixelkin: interrupted", file=sys.stderr)
        return INTERRUPTED
    return int(status or 0)


def _tell(error: Exception, given: list[str]) -> int:
    """Print the one line of an error; returns the exit status."""
    if isinstance(error, BrokenPipeError):
        # The reader has left, as `| head` does; the interpreter must not try once more at its end.
        _close_stdout()
        return FAILED
    status, text = FAILED, str(error)
    if isinstance(error, CycloptsError):
        verbs = {verb.__name__: verb for verb in _VERBS}
        status, text = MISUSED, misuse(error, given, verbs)
    elif isinstance(error, MemoryError):
        text = "out of memory; give a smaller clip or a smaller --budget-mb"
    elif isinstance(error, OSError) and error.filename is None:
        text = f"cannot write the output: {error.strerror or error}; choose another place for it"
        _close_stdout()
    elif not isinstance(error, PixelkinError):
        text = (
            f"{type(error).__name__}: {text or 'no message'}; this is unexpected, please report "
            "it (PIXELKIN_DEBUG=1 shows the traceback)"
        )
    with suppress(OSError):
        print(f"pixelkin: error: {' '.join(text.split())}", file=sys.stderr)
    return status


def _close_stdout() -> None:
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that temporary files go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
