"""The one error that reaches users."""

from collections.abc import Iterator
from contextlib import contextmanager


class PixelkinError(Exception):
    """A mistake in what the caller gave, or a failure of the machine, that a person can mend.

    The message is one line: what was got, what was expected, what to do. The command line prints
    it without a traceback and exits with status 1; library code lets it pass.
    """


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Let a `PixelkinError` end the program as it ends the command line: a line, and status 1.

    For the function `main` of a script, which it may decorate.
    """
    try:
        yield
    except PixelkinError as error:
        raise SystemExit(f"error: {error}") from None
