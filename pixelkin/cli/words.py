"""Words of messages: numbers with their nouns, and the name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """`1 frame`, `12 frames`, `3 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question for the nearest of the `known` names, a space behind it; empty if none is."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]}? " if near else ""
