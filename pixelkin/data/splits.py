"""Splits by name, the same on every machine and in every order."""

import difflib
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from pixelkin.errors import PixelkinError


def split_by_name(
    names: Sequence[str], *, validation: float, seed_text: str = "pixelkin"
) -> tuple[list[int], list[int]]:
    """Indices for training and for validation, ascending.

    A name is in validation where the first 64 bits of SHA-256 of `"<seed_text>/<name>"`, as a
    fraction, lie below `validation`. So membership depends on that name alone: not on the order,
    nor on which other names are there, and data added later moves nothing. A larger share keeps
    all of a smaller one. The share is met on average, not exactly.

    Args:
        names: unique names, as the loaders' `names`.
        validation: share in validation, 0 to 1.
        seed_text: another text draws another split.

    Raises:
        PixelkinError: `validation` is outside 0 to 1.
    """
    if not 0 <= validation <= 1:
        raise PixelkinError(f"validation is {validation}: expected a share from 0 to 1")
    train: list[int] = []
    held_out: list[int] = []
    for index, name in enumerate(names):
        digest = hashlib.sha256(f"{seed_text}/{name}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big")
        (held_out if drawn < validation * 2**64 else train).append(index)
    return train, held_out


def unknown_split(split: str, known: Iterable[str], *, where: Path) -> PixelkinError:
    """The one-line error for a split that `where` does not hold; names the nearest known one."""
    names = sorted(known)
    if not names:
        return PixelkinError(
            f"split {split!r} is unknown: {where} holds no split at all; check the path"
        )
    near = difflib.get_close_matches(split, names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listed = ", ".join(map(repr, names))
    return PixelkinError(f"split {split!r} is unknown in {where}: expected {listed}{hint}")
