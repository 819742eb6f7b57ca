"""The one error that reaches users."""


class PixelkinError(Exception):
    """A mistake in what the caller gave, or a failure of the machine, that a person can mend.

    The message is one line: what was got, what was expected, what to do. The command line prints
    it without a traceback and exits with status 1; library code lets it pass.
    """
