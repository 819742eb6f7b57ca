"""What is said of a wrong command line, in the words of the help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping

from cyclopts import CycloptsError, MissingArgumentError, UnknownCommandError, UnusedCliTokensError

from pixelkin.cli.words import did_you_mean

Verbs = Mapping[str, Callable[..., int]]
"""Name → function of the verb, in the order of the help."""


def misuse(error: CycloptsError, given: list[str], verbs: Verbs) -> str:
    """One line: what is wrong with the tokens `given`, and where the help is."""
    if isinstance(error, UnknownCommandError):
        return f"{_no_verb(given[0], verbs)}; see pixelkin --help"
    verb = given[0] if given and given[0] in verbs else ""
    text = str(error).rstrip(".")
    if isinstance(error, UnusedCliTokensError) and verb:
        text = _too_many(error.unused_tokens or [], verb, verbs[verb])
    # Where the option is there, and its value is not, the parser's own text says so.
    elif isinstance(error, MissingArgumentError) and error.keyword is None and verb:
        text = _missing(error, verb, verbs[verb])
    return f"{text}; see pixelkin {verb} --help" if verb else f"{text}; see pixelkin --help"


def _no_verb(token: str, verbs: Verbs) -> str:
    choice = f"choose {', '.join(verbs)}"
    if token.startswith("-"):
        return f"{token} stands where a verb is expected: options stand after the verb; {choice}"
    return f"there is no verb {token!r}: {did_you_mean(token, verbs)}{choice}"


def _too_many(tokens: list[str], verb: str, function: Callable[..., int]) -> str:
    parameters = inspect.signature(function).parameters.values()
    names = [one.name.upper() for one in parameters if one.kind is one.POSITIONAL_ONLY]
    takes = f"takes {' and '.join(names)} beside options" if names else "takes options only"
    named = ", ".join(map(repr, tokens))
    count = "is one argument" if len(tokens) == 1 else f"are {len(tokens)} arguments"
    return f"{named} {count} too many: {verb} {takes}"


def _missing(error: MissingArgumentError, verb: str, function: Callable[..., int]) -> str:
    assert error.argument is not None
    # A misspelt option is reported as the one that is missing for it.
    wrong = [token for token in error.unused_tokens or [] if token.startswith("-")]
    text = f"has no option {wrong[0]}, and needs" if wrong else "needs"
    example = example_of(verb, function)
    return f"{verb} {text} {error.argument.name}" + (f", as in: {example}" if example else "")


def example_of(verb: str, function: Callable[..., int]) -> str:
    """The first command line that the help of a verb shows; empty where it shows none."""
    found = re.search(rf"^ *(?:Example: )?(pixelkin {verb} .+)$", function.__doc__ or "", re.M)
    return found[1].rstrip() if found else ""
